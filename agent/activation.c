/* SPDX-License-Identifier: Apache-2.0 */
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#include "activation.h"
#include "err.h"
#include "fd.h"
#include "log.h"
#include "units.h"

/* How long the old release is watched after going back: long enough to see a crash at start, short
 * enough that the report is not late. */
#define REVERT_BAKE_MAX_USEC (UINT64_C(2) * 1000000)

struct Activation {
        Site site;
        UnitRun *run;
        sd_event_source *done_source;
        Result result;
        char *reason; /* why it goes back, or failed */
        activation_done_t done;
        activation_log_t log;
        void *userdata;
};

static void revert(Activation *a);

Activation *activation_free(Activation *a)
{
        if (!a)
                return NULL;
        unit_run_free(a->run);
        sd_event_source_unref(a->done_source);
        free(a->reason);
        free(a);
        return NULL;
}

static void say(Activation *a, int level, const char *format, ...) _printf_(3, 4);

static void say(Activation *a, int level, const char *format, ...)
{
        _cleanup_free_ char *text = NULL;
        va_list ap;

        va_start(ap, format);
        if (vasprintf(&text, format, ap) < 0)
                text = NULL;
        va_end(ap);
        a->log(level, strempty(text), a->userdata);
}

static int on_done(sd_event_source *source, void *userdata)
{
        Activation *a = userdata;

        (void) source;
        a->done(a->result, a->reason, a->userdata);
        return 0;
}

static int record_success(State *s)
{
        int r = state_set(&s->last_good, s->pending.release);

        if (r < 0 || s->pending.action != ACTION_DEPLOY)
                return r;
        /* A newer deployment that runs settles what was before it. */
        s->pinned_deployment = s->failed_deployment = 0;
        r = state_set(&s->pinned, NULL);
        if (r >= 0)
                r = state_set(&s->pinned_by, NULL);
        if (r >= 0)
                r = state_set(&s->failed, NULL);
        return r < 0 ? r : state_set(&s->failed_reason, NULL);
}

static int record_failure(State *s, const char *reason)
{
        int r;

        if (s->pending.action != ACTION_DEPLOY)
                return 0;
        s->failed_deployment = s->pending.deployment;
        s->failed_sec = time(NULL);
        r = state_set(&s->failed, s->pending.release);
        return r < 0 ? r : state_set(&s->failed_reason, strempty(reason));
}

/* The outcome in the state: what is live, what was good, what is not to be tried again. */
static int record(Activation *a)
{
        State *s = a->site.state;
        bool back = a->result != RESULT_DONE && s->pending.action == ACTION_DEPLOY;
        int r = a->result == RESULT_DONE ? record_success(s) : record_failure(s, a->reason);

        s->deployment = MAX(s->deployment, s->pending.deployment);
        if (r >= 0)
                r = state_set(&s->current, back ? s->pending.from : s->pending.release);
        return r < 0 ? r : state_end(s, a->result, a->reason);
}

static void end(Activation *a, Result result)
{
        int r;

        a->result = result;
        r = record(a);
        if (r >= 0)
                r = state_move(a->site.state, PHASE_IDLE, a->site.state_dir_fd);
        if (r < 0)
                say(a, LOG_ERR, "can't save the state: %s; a restart would repeat this step",
                    strerror(-r));
        r = sd_event_source_set_enabled(a->done_source, SD_EVENT_ONESHOT);
        if (r < 0)
                say(a, LOG_ERR, "can't end the activation: %s", strerror(-r));
}

/* Why it went wrong is kept from the first error on. */
static void set_reason(Activation *a, const char *reason)
{
        if (!a->reason)
                a->reason = strdup(reason);
}

static int link_current(Activation *a, const char *release)
{
        char target[STRLEN("releases/") + NAME_MAX + 1];

        if (!release) {
                if (unlinkat(a->site.root_fd, "current", 0) < 0 && errno != ENOENT)
                        return -errno;
                return fsync(a->site.root_fd) < 0 ? -errno : 0;
        }
        (void) snprintf(target, sizeof(target), "releases/%s", release);
        return symlink_replace_at(target, a->site.root_fd, "current");
}

/* The way back */

static void on_reverted(int result, const char *reason, void *userdata)
{
        Activation *a = userdata;
        _cleanup_(unit_run_freep) UnitRun *ended = TAKE_PTR(a->run); /* owns reason */
        const char *from = a->site.state->pending.from;

        if (result < 0) {
                say(a, LOG_CRIT,
                    "the release before, %s, does not run either: %s; look at its units",
                    from ? from : "none", reason);
                end(a, RESULT_FAILED);
                return;
        }
        if (from)
                say(a, LOG_WARNING, "back on release %s", from);
        else
                say(a, LOG_WARNING, "there was no release before: the units are stopped");
        end(a, RESULT_REVERTED);
}

static int run_old_units(Activation *a)
{
        static const UnitRunCallbacks callbacks = { .done = on_reverted };
        const State *s = a->site.state;
        const char *from = s->pending.from;
        const Installed *i = state_find_release(s, from ? from : s->pending.release);
        Activate activate = i ? i->activate : (Activate){ .deadline_usec = DEADLINE_DEFAULT_USEC };

        activate.bake_usec = MIN(activate.bake_usec, REVERT_BAKE_MAX_USEC);
        return unit_run_start(a->site.bus, a->site.event, &activate,
                              from ? UNIT_RUN_ALL : UNIT_RUN_STOP, &callbacks, a, &a->run);
}

static void revert(Activation *a)
{
        State *s = a->site.state;
        int r = state_move(s, PHASE_REVERTING, a->site.state_dir_fd);

        /* Without a saved phase the way back is still the better way: a restart would begin again.
         */
        if (r < 0)
                say(a, LOG_ERR, "can't save the state: %s", strerror(-r));
        r = link_current(a, s->pending.from);
        if (r < 0) {
                say(a, LOG_CRIT, "can't put 'current' back to release %s: %s",
                    s->pending.from ? s->pending.from : "none", strerror(-r));
                end(a, RESULT_FAILED);
                return;
        }
        r = run_old_units(a);
        if (r < 0)
                on_reverted(r, strerror(-r), a);
}

/* From here on something may have changed. */
static void gone_wrong(Activation *a, const char *reason)
{
        State *s = a->site.state;

        set_reason(a, reason);
        if (s->pending.action == ACTION_ROLLBACK) {
                say(a, LOG_ERR, "rolled back to release %s, but: %s", s->pending.release, reason);
                end(a, RESULT_FAILED);
                return;
        }
        say(a, LOG_ERR, "release %s is taken back: %s", s->pending.release, reason);
        revert(a);
}

/* The way forward */

static int on_started(void *userdata)
{
        Activation *a = userdata;

        if (a->site.state->phase == PHASE_BAKING)
                return 0;
        return state_move(a->site.state, PHASE_BAKING, a->site.state_dir_fd);
}

static void on_units_done(int result, const char *reason, void *userdata)
{
        Activation *a = userdata;
        _cleanup_(unit_run_freep) UnitRun *ended = TAKE_PTR(a->run); /* owns reason */

        if (result < 0) {
                gone_wrong(a, reason);
                return;
        }
        say(a, LOG_NOTICE, "release %s is live", a->site.state->pending.release);
        end(a, RESULT_DONE);
}

static void run_units(Activation *a, UnitRunMode mode)
{
        static const UnitRunCallbacks callbacks = { .started = on_started, .done = on_units_done };
        const State *s = a->site.state;
        Activate activate = state_find_release(s, s->pending.release)->activate;
        int r;

        /* Who rolls back by hand looks on; a bake would only keep them waiting. */
        if (s->pending.action == ACTION_ROLLBACK)
                activate.bake_usec = 0;
        r = unit_run_start(a->site.bus, a->site.event, &activate, mode, &callbacks, a, &a->run);
        if (r == -EHOSTDOWN)
                gone_wrong(a, "no connection to systemd");
        else if (r < 0)
                gone_wrong(a, strerror(-r));
}

static void switch_release(Activation *a)
{
        State *s = a->site.state;
        int r = state_move(s, PHASE_SWITCHING, a->site.state_dir_fd);

        if (r >= 0)
                r = link_current(a, s->pending.release);
        if (r >= 0)
                r = state_move(s, PHASE_RESTARTING, a->site.state_dir_fd);
        if (r < 0) {
                _cleanup_free_ char *reason = NULL;

                (void) fail_errno(&reason, r, "can't switch 'current'");
                gone_wrong(a, strempty(reason));
                return;
        }
        say(a, LOG_INFO, "switched to release %s", s->pending.release);
        run_units(a, UNIT_RUN_ALL);
}

static int go_on(Activation *a)
{
        switch (a->site.state->phase) {
        case PHASE_IDLE:
        case PHASE_FETCHING:
        case PHASE_SWITCHING:
                switch_release(a);
                return 0;
        case PHASE_RESTARTING:
                run_units(a, UNIT_RUN_ALL);
                return 0;
        case PHASE_BAKING:
                run_units(a, UNIT_RUN_WATCH);
                return 0;
        case PHASE_REVERTING:
                set_reason(a, "the agent was stopped while it took the release back");
                revert(a);
                return 0;
        default:
                return -EINVAL;
        }
}

int activation_start(const Site *site, activation_done_t done, activation_log_t log, void *userdata,
                     Activation **ret)
{
        _cleanup_(activation_freep) Activation *a = calloc(1, sizeof(Activation));
        State *s = site->state;
        int r;

        if (!a)
                return -ENOMEM;
        if (!state_find_release(s, s->pending.release))
                return -ENOENT;
        *a = (Activation){ .site = *site, .done = done, .log = log, .userdata = userdata };
        r = sd_event_add_defer(site->event, &a->done_source, on_done, a);
        if (r < 0)
                return r;
        r = sd_event_source_set_enabled(a->done_source, SD_EVENT_OFF);
        if (r < 0)
                return r;
        if (s->phase > PHASE_FETCHING && s->phase != PHASE_REVERTING &&
            s->pending.attempts > ATTEMPTS_MAX && s->pending.action == ACTION_DEPLOY) {
                gone_wrong(a, "the agent or the host went down each time it was tried");
                r = 0;
        } else
                r = go_on(a);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(a);
        return 0;
}
