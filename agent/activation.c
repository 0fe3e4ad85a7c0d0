/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <time.h>

#include "activation.h"
#include "err.h"
#include "log.h"
#include "units.h"

/* How long the old release is watched after going back: long enough to see a crash at start, short
 * enough that the report is not late. */
#define REVERT_BAKE_MAX_USEC (UINT64_C(2) * 1000000)

struct Activation {
        Site *site;
        UnitRun *run;
        sd_event_source *done_source;
        Result result;
        int error;
        char *reason;
        activation_done_t done;
        activation_changed_t changed;
        void *userdata;
};

Activation *activation_free(Activation *a)
{
        if (!a)
                return NULL;
        unit_run_free(a->run);
        sd_event_source_disable_unref(a->done_source);
        free(a->reason);
        free(a);
        return NULL;
}

static State *state_of(const Activation *a)
{
        return a->site->state;
}

static int on_done(sd_event_source *source, void *userdata)
{
        Activation *a = userdata;
        ActivationResult result = { a->result, a->error, a->reason };

        (void) source;
        a->done(&result, a->userdata);
        return 0;
}

static int move(Activation *a, Phase next)
{
        int r;

        state_move(state_of(a), next);
        r = site_save(a->site);
        a->changed(a->userdata);
        return r;
}

static int record_success(State *s)
{
        s->down = false;
        if (s->pending.action == ACTION_DEPLOY) {
                /* A newer deployment that runs settles what was before it. */
                state_unpin(s);
                state_forget_failure(s);
        }
        return state_set(&s->last_good, s->pending.release);
}

static int record_failure(Activation *a)
{
        State *s = state_of(a);
        int r;

        s->down = a->result == RESULT_FAILED;
        if (s->pending.action != ACTION_DEPLOY)
                return 0;
        s->failed_deployment = s->pending.deployment;
        s->failed_sec = time(NULL);
        r = state_set(&s->failed, s->pending.release);
        return r < 0 ? r : state_set(&s->failed_reason, strempty(a->reason));
}

/* A release chosen by hand stays, until the channel makes a newer deployment. */
static int record_pin(State *s)
{
        int r = state_set(&s->pinned, s->pending.release);

        if (r >= 0)
                r = state_set(&s->pinned_by, s->pending.by);
        s->pinned_deployment = MAX(s->deployment, s->pending.deployment);
        s->pinned_sec = time(NULL);
        return r;
}

/* The outcome in the state: what is live (the link knows), what was good, what is not to be tried
 * again. */
static int record(Activation *a)
{
        State *s = state_of(a);
        int r = 0;

        /* A deployment that touched nothing is as if it had not been. */
        if (a->error == 0) {
                s->deployment = MAX(s->deployment, s->pending.deployment);
                r = a->result == RESULT_DONE ? record_success(s) : record_failure(a);
                if (r >= 0 && s->pending.action == ACTION_ROLLBACK)
                        r = record_pin(s);
        }
        if (r >= 0)
                r = site_reconcile(a->site);
        /* A link that is not ours is nothing that can be recorded. */
        if (r == -EINVAL)
                r = state_set(&s->current, NULL);
        return r < 0 ? r : state_end(s, a->result, a->reason);
}

static void announce(Activation *a, Result result, int error)
{
        int r;

        a->result = result;
        a->error = error;
        r = sd_event_source_set_enabled(a->done_source, SD_EVENT_ONESHOT);
        if (r < 0)
                site_log(a->site, LOG_CRIT, "App %s: the event loop is broken: %s",
                         a->site->config->app, strerror(-r));
}

static void end(Activation *a, Result result, int error)
{
        int r;

        a->result = result;
        a->error = error;
        r = record(a);
        if (r >= 0)
                r = site_save(a->site);
        if (r < 0)
                site_log(a->site, LOG_ERR,
                         "App %s: the end of this could not be saved; a restart would repeat it",
                         a->site->config->app);
        announce(a, result, error);
}

/* The way back */

static void on_reverted(int result, const char *reason, void *userdata)
{
        Activation *a = userdata;
        _cleanup_(unit_run_freep) UnitRun *ended = TAKE_PTR(a->run); /* owns reason */
        const char *from = state_of(a)->pending.from, *app = a->site->config->app;

        (void) ended;
        if (result < 0) {
                site_log(a->site, LOG_CRIT,
                         "App %s: release %s does not run either: %s; look at its units", app,
                         from ? from : "none", reason);
                end(a, RESULT_FAILED, 0);
                return;
        }
        if (from)
                site_log(a->site, LOG_WARNING, "App %s: back on release %s", app, from);
        else
                site_log(a->site, LOG_WARNING,
                         "App %s: there was no release before: the units are stopped", app);
        end(a, RESULT_REVERTED, 0);
}

/* How a release goes live. After the state file was lost that is not known of those on disk (serial
 * 0): then as the other release of the transaction does. */
static Activate activate_of(const State *s, const char *release, const char *other)
{
        const Installed *i = release ? state_find_release(s, release) : NULL;
        const Installed *o = other ? state_find_release(s, other) : NULL;

        if ((!i || i->serial == 0) && o)
                i = o;
        return i ? i->activate : (Activate){ .deadline_usec = DEADLINE_DEFAULT_USEC };
}

static int run_old_units(Activation *a)
{
        static const UnitRunCallbacks callbacks = { .done = on_reverted };
        const State *s = state_of(a);
        const char *from = s->pending.from;
        Activate activate = activate_of(s, from, s->pending.release);

        activate.bake_usec = MIN(activate.bake_usec, REVERT_BAKE_MAX_USEC);
        return unit_run_start(a->site->bus, a->site->event, &activate,
                              from ? UNIT_RUN_ALL : UNIT_RUN_STOP, &callbacks, a, &a->run);
}

static void revert(Activation *a)
{
        State *s = state_of(a);
        const char *from = s->pending.from;
        int r;

        /* Where the phase can't be saved (the log says so) the way back is still the better way. */
        (void) move(a, PHASE_REVERTING);
        r = site_switch(a->site, from);
        if (r < 0) {
                site_log(a->site, LOG_CRIT, "App %s: can't put 'current' back to release %s: %s",
                         a->site->config->app, from ? from : "none", strerror(-r));
                end(a, RESULT_FAILED, 0);
                return;
        }
        r = run_old_units(a);
        if (r < 0)
                on_reverted(r, strerror(-r), a);
}

/* Something has changed already. */
static void gone_wrong(Activation *a, const char *reason)
{
        State *s = state_of(a);
        int r = state_set(&a->reason, reason);

        if (s->pending.action == ACTION_ROLLBACK) {
                site_log(a->site, LOG_ERR, "App %s: rolled back to release %s, but %s",
                         a->site->config->app, s->pending.release, reason);
                end(a, RESULT_FAILED, 0);
                return;
        }
        site_log(a->site, LOG_ERR, "App %s: release %s is taken back: %s", a->site->config->app,
                 s->pending.release, reason);
        if (r >= 0)
                r = state_set(&s->pending.reason, reason);
        if (r < 0)
                site_log(a->site, LOG_ERR, "App %s: the reason is lost: %s", a->site->config->app,
                         strerror(-r));
        revert(a);
}

/* Nothing has changed. */
static void not_begun(Activation *a, int error, const char *what)
{
        (void) fail_errno(&a->reason, error, "%s", what);
        /* What a rollback was to replace may be half-done: the state on disk still has it. */
        if (state_of(a)->pending.action == ACTION_ROLLBACK)
                announce(a, RESULT_FAILED, error);
        else
                end(a, RESULT_FAILED, error);
}

/* The way forward */

static int on_started(void *userdata)
{
        Activation *a = userdata;

        /* Where it can't be saved (the log says so), a restart begins with restarting once more. */
        if (state_of(a)->phase != PHASE_BAKING)
                (void) move(a, PHASE_BAKING);
        return 0;
}

static void on_units_done(int result, const char *reason, void *userdata)
{
        Activation *a = userdata;
        _cleanup_(unit_run_freep) UnitRun *ended = TAKE_PTR(a->run); /* owns reason */

        (void) ended;
        if (result < 0) {
                gone_wrong(a, reason);
                return;
        }
        site_log(a->site, LOG_NOTICE, "App %s: release %s is live", a->site->config->app,
                 state_of(a)->pending.release);
        end(a, RESULT_DONE, 0);
}

static void run_units(Activation *a, UnitRunMode mode)
{
        static const UnitRunCallbacks callbacks = { .started = on_started, .done = on_units_done };
        const State *s = state_of(a);
        Activate activate = activate_of(s, s->pending.release, s->pending.from);
        int r;

        /* Who rolls back by hand looks on; a bake would only keep them waiting. */
        if (s->pending.action == ACTION_ROLLBACK)
                activate.bake_usec = 0;
        r = unit_run_start(a->site->bus, a->site->event, &activate, mode, &callbacks, a, &a->run);
        if (r < 0)
                gone_wrong(a, r == -EHOSTDOWN ? "there is no connection to systemd" : strerror(-r));
}

static bool switched(Activation *a)
{
        _cleanup_free_ char *live = NULL;

        return site_read_current(a->site, &live) == 0 &&
               streq_ptr(live, state_of(a)->pending.release);
}

static void restart_units(Activation *a)
{
        /* A phase that can't be saved now is repeated after a crash, which does no harm. */
        (void) move(a, PHASE_RESTARTING);
        run_units(a, UNIT_RUN_ALL);
}

static void switch_release(Activation *a)
{
        State *s = state_of(a);
        int r = move(a, PHASE_SWITCHING);

        if (r < 0) {
                not_begun(a, r, "can't save the state");
                return;
        }
        r = site_switch(a->site, s->pending.release);
        if (r < 0 && !switched(a)) {
                not_begun(a, r, "can't switch 'current'");
                return;
        }
        site_log(a->site, LOG_INFO, "App %s: switched to release %s", a->site->config->app,
                 s->pending.release);
        restart_units(a);
}

/* After a crash: the link may have changed already, and then this is not the beginning. */
static void switch_again(Activation *a)
{
        if (switched(a))
                restart_units(a);
        else
                switch_release(a);
}

static void bake_again(Activation *a)
{
        if (site_is_marked_running(a->site))
                run_units(a, UNIT_RUN_WATCH);
        else
                restart_units(a);
}

static void go_on(Activation *a)
{
        State *s = state_of(a);

        if (s->phase != PHASE_REVERTING && s->pending.attempts >= ATTEMPTS_MAX &&
            s->pending.action == ACTION_DEPLOY) {
                gone_wrong(a, "the agent or the host went down each time it was tried");
                return;
        }
        switch (s->phase) {
        case PHASE_SWITCHING:
                switch_again(a);
                return;
        case PHASE_RESTARTING:
                run_units(a, UNIT_RUN_ALL);
                return;
        case PHASE_BAKING:
                bake_again(a);
                return;
        case PHASE_REVERTING:
                a->reason = strdup(s->pending.reason ? s->pending.reason
                                                     : "the reason was lost in a crash");
                revert(a);
                return;
        default:
                switch_release(a);
        }
}

int activation_check(const Site *site, char **reterr)
{
        const State *s = site->state;
        const Pending *p = &s->pending;

        if (!state_find_release(s, p->release))
                return fail(reterr, -ENOENT, "release %s is not on this host", p->release);
        if (!bus_get(site->bus) && (activate_of(s, p->release, p->from).n_units > 0 ||
                                    activate_of(s, p->from, p->release).n_units > 0))
                return fail(reterr, -EHOSTDOWN,
                            "units can't be restarted: no connection to systemd over D-Bus");
        return 0;
}

int activation_start(Site *site, activation_done_t done, activation_changed_t changed,
                     void *userdata, Activation **ret)
{
        _cleanup_(activation_freep) Activation *a = calloc(1, sizeof(Activation));
        int r;

        if (!a)
                return -ENOMEM;
        *a = (Activation){ .site = site, .done = done, .changed = changed, .userdata = userdata };
        r = sd_event_add_defer(site->event, &a->done_source, on_done, a);
        if (r < 0)
                return r;
        r = sd_event_source_set_enabled(a->done_source, SD_EVENT_OFF);
        if (r < 0)
                return r;
        go_on(a);
        if (!site_is_marked_running(site)) {
                r = site_mark_running(site);
                if (r < 0)
                        site_log(site, LOG_WARNING, "App %s: can't mark this boot: %s",
                                 site->config->app, strerror(-r));
        }
        *ret = TAKE_PTR(a);
        return 0;
}
