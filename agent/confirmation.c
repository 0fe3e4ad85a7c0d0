/* SPDX-License-Identifier: Apache-2.0 */
#include "confirmation.h"
#include "clock.h"
#include "control.h"
#include "err.h"
#include "log.h"
#include "time-text.h"

#define STEP_USEC (UINT64_C(500) * 1000)

struct Confirmation {
        Site *site;
        sd_event_source *source;
        char *complaint; /* about the application's way, logged once */
        confirmation_done_t done;
        void *userdata;
};

void confirmation_take_up(Site *site)
{
        Pending *p = &site->state->pending;
        uint64_t now = clock_usec(CLOCK_REALTIME) / 1000, left;

        if (p->confirm_until_msec == 0)
                return;
        left = p->confirm_until_msec > now ? p->confirm_until_msec - now : 0;
        p->confirm_boot_msec = clock_usec(CLOCK_BOOTTIME) / 1000 + MIN(left, p->confirm_msec);
}

/* Who confirmed it, or NULL. */
static const char *confirmed_by(const Site *site, char **reterr)
{
        const Pending *p = &site->state->pending;

        if (p->confirmed_by)
                return p->confirmed_by;
        return control_is_confirmed(site->root_fd, p->release, reterr) > 0 ? "the application"
                                                                           : NULL;
}

bool confirmation_is_overdue(const Site *site, char **ret_reason)
{
        const Pending *p = &site->state->pending;
        char limit[DURATION_TEXT_SIZE];

        if (p->confirm_until_msec == 0 ||
            clock_usec(CLOCK_BOOTTIME) / 1000 < p->confirm_boot_msec || confirmed_by(site, NULL))
                return false;
        err_set(ret_reason, "nobody confirmed it within %s",
                duration_format(p->confirm_msec * 1000, limit));
        return true;
}

Confirmation *confirmation_free(Confirmation *c)
{
        if (!c)
                return NULL;
        sd_event_source_disable_unref(c->source);
        free(c->complaint);
        free(c);
        return NULL;
}

/* A control directory that others may write to is said once. */
static void complain(Confirmation *c, const char *err)
{
        if (!err || streq_ptr(c->complaint, err))
                return;
        site_log(c->site, LOG_WARNING, "App %s: in %s: %s", c->site->config->app,
                 c->site->config->root, err);
        free(c->complaint);
        c->complaint = strdup(err);
}

/* Kept, whatever becomes of the application's file: a crash after this does not take it back. */
static void confirmed(Confirmation *c, const char *by)
{
        Pending *p = &c->site->state->pending;

        site_log(c->site, LOG_NOTICE, "App %s: release %s is confirmed by %s", c->site->config->app,
                 p->release, by);
        if (!p->confirmed_by && state_set(&p->confirmed_by, by) >= 0)
                (void) site_save(c->site);
        c->done(0, NULL, c->userdata);
}

static int on_time(sd_event_source *source, uint64_t usec, void *userdata)
{
        Confirmation *c = userdata;
        _cleanup_free_ char *err = NULL, *reason = NULL;
        const char *by = confirmed_by(c->site, &err);
        int r;

        (void) usec;
        complain(c, err);
        if (by) {
                confirmed(c, by);
                return 0;
        }
        if (confirmation_is_overdue(c->site, &reason)) {
                c->done(-ETIMEDOUT, strempty(reason), c->userdata);
                return 0;
        }
        r = sd_event_source_set_time_relative(source, STEP_USEC);
        return r < 0 ? r : sd_event_source_set_enabled(source, SD_EVENT_ONESHOT);
}

int confirmation_start(Site *site, uint64_t confirm_usec, confirmation_done_t done, void *userdata,
                       Confirmation **ret)
{
        _cleanup_(confirmation_freep) Confirmation *c = calloc(1, sizeof(Confirmation));
        Pending *p = &site->state->pending;
        int r;

        if (!c)
                return -ENOMEM;
        *c = (Confirmation){ .site = site, .done = done, .userdata = userdata };
        r = sd_event_add_time_relative(site->event, &c->source, CLOCK_BOOTTIME, 0, 0, on_time, c);
        if (r < 0)
                return r;
        if (p->confirm_until_msec == 0) {
                p->confirm_msec = confirm_usec / 1000;
                p->confirm_until_msec = clock_usec(CLOCK_REALTIME) / 1000 + p->confirm_msec;
                p->confirm_boot_msec = clock_usec(CLOCK_BOOTTIME) / 1000 + p->confirm_msec;
                /* Where it can't be saved (the log says so) the time begins anew after a crash. */
                (void) site_save(site);
        }
        *ret = TAKE_PTR(c);
        return 0;
}

int confirmation_give(Site *site, const char *by, char **reterr)
{
        State *s = site->state;
        _cleanup_free_ char *before = NULL;
        int r;

        if (s->pending.confirm_until_msec == 0 || s->phase == PHASE_REVERTING)
                return fail(reterr, -ENOENT, "no release of app %s waits to be confirmed",
                            site->config->app);
        before = TAKE_PTR(s->pending.confirmed_by);
        r = state_set(&s->pending.confirmed_by, by);
        if (r >= 0)
                r = site_save(site);
        if (r >= 0)
                return 0;
        free(s->pending.confirmed_by);
        s->pending.confirmed_by = TAKE_PTR(before);
        return fail_errno(reterr, r, "can't save that it is confirmed");
}
