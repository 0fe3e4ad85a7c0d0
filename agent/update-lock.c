/* SPDX-License-Identifier: Apache-2.0 */
#include <time.h>

#include "clock.h"
#include "control.h"
#include "err.h"
#include "log.h"
#include "time-text.h"
#include "update-lock.h"

#define STEP_USEC (UINT64_C(500) * 1000)

struct UpdateLock {
        Site *site;
        sd_event_source *source;
        update_lock_done_t done;
        void *userdata;
};

bool update_lock_is_held(Site *s)
{
        _cleanup_free_ char *err = NULL;
        char limit[DURATION_TEXT_SIZE];
        int r;

        if (s->config->update_lock_usec == 0)
                return false;
        r = control_is_locked(s->root_fd, &err);
        if (r < 0)
                site_log(s, LOG_WARNING, "App %s: in %s: %s", s->config->app, s->config->root,
                         err_text(r, err));
        if (r <= 0) {
                s->held_off = (HeldOff){};
                return false;
        }
        if (s->held_off.since_usec == 0)
                s->held_off = (HeldOff){ .since_usec = clock_usec(CLOCK_BOOTTIME),
                                         .since_sec = time(NULL) };
        if (clock_usec(CLOCK_BOOTTIME) - s->held_off.since_usec < s->config->update_lock_usec)
                return true;
        if (!s->held_off.overruled)
                site_log(
                        s, LOG_WARNING,
                        "App %s: the application has held updates off for %s, and is not waited for any longer",
                        s->config->app, duration_format(s->config->update_lock_usec, limit));
        s->held_off.overruled = true;
        return false;
}

char *update_lock_text(const Site *s)
{
        char since[TIME_TEXT_SIZE], limit[DURATION_TEXT_SIZE], *text = NULL;

        err_set(&text,
                "the application holds updates off since %s (%s/control/update.lock), for %s at most",
                time_format_utc(s->held_off.since_sec, since), s->config->root,
                duration_format(s->config->update_lock_usec, limit));
        return text;
}

UpdateLock *update_lock_free(UpdateLock *l)
{
        if (!l)
                return NULL;
        sd_event_source_disable_unref(l->source);
        free(l);
        return NULL;
}

static int on_time(sd_event_source *source, uint64_t usec, void *userdata)
{
        UpdateLock *l = userdata;
        int r;

        (void) usec;
        if (!update_lock_is_held(l->site)) {
                l->done(l->userdata);
                return 0;
        }
        r = sd_event_source_set_time_relative(source, STEP_USEC);
        return r < 0 ? r : sd_event_source_set_enabled(source, SD_EVENT_ONESHOT);
}

int update_lock_wait(Site *site, update_lock_done_t done, void *userdata, UpdateLock **ret)
{
        _cleanup_(update_lock_freep) UpdateLock *l = calloc(1, sizeof(UpdateLock));
        int r;

        if (!l)
                return -ENOMEM;
        *l = (UpdateLock){ .site = site, .done = done, .userdata = userdata };
        r = sd_event_add_time_relative(site->event, &l->source, CLOCK_BOOTTIME, STEP_USEC, 0,
                                       on_time, l);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(l);
        return 0;
}
