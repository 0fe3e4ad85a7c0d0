/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <time.h>

#include "activation.h"
#include "confirmation.h"
#include "control.h"
#include "err.h"
#include "health.h"
#include "hook.h"
#include "journal-id.h"
#include "linking.h"
#include "log.h"
#include "outcome.h"
#include "shared.h"
#include "time-text.h"
#include "unit-files.h"
#include "unit-status.h"
#include "update-lock.h"

/* How long the old release is watched after going back: long enough to see a crash at start, short
 * enough that the report is not late. */
#define REVERT_BAKE_MAX_USEC (UINT64_C(2) * 1000000)

/* How often it is tried to switch back on a disk that is full or read-only, and for how long. */
#define SWITCH_AGAIN_USEC     (UINT64_C(1) * 1000000)
#define SWITCH_AGAIN_MAX_USEC (UINT64_C(3600) * 1000000)

/* Outcomes of Step.run(). */
enum {
        STEP_DONE,
        STEP_UNDER_WAY, /* step_ended() comes later, from the event loop */
};

/* A way is a list of steps, in their order. After a crash it goes on with the first step of the
 * phase that was saved: each step can be done again. */
typedef struct Step {
        Phase phase;                         /* saved before the step */
        bool (*needed)(const Activation *a); /* NULL: always */
        /* Gives back an outcome, or a negative errno and why: -EBADMSG is the release's own fault.
         */
        int (*run)(Activation *a, char **reterr);
} Step;

struct Activation {
        Site *site;
        const Step *step; /* the one that is under way */
        bool watch_only;  /* the units' jobs were done before a crash: watch them */
        Health *health;
        Confirmation *confirmation;
        UpdateLock *update_lock;
        Linking *linking;
        HookRun *hooks;
        sd_bus_slot *running_slot;
        sd_event_source *again_source; /* tries once more to switch back */
        uint64_t again_until_usec;
        sd_event_source *done_source;
        Result result;
        int error;
        char *reason;
        activation_done_t done;
        activation_changed_t changed;
        void *userdata;
};

static void advance(Activation *a);

Activation *activation_free(Activation *a)
{
        if (!a)
                return NULL;
        health_free(a->health);
        confirmation_free(a->confirmation);
        update_lock_free(a->update_lock);
        linking_free(a->linking);
        hook_run_free(a->hooks);
        sd_bus_slot_unref(a->running_slot);
        sd_event_source_disable_unref(a->again_source);
        sd_event_source_disable_unref(a->done_source);
        free(a->reason);
        free(a);
        return NULL;
}

static State *state_of(const Activation *a)
{
        return a->site->state;
}

static const char *app_of(const Activation *a)
{
        return a->site->config->app;
}

static int move(Activation *a, Phase next)
{
        int r;

        state_move(state_of(a), next);
        r = site_save(a->site);
        a->changed(a->userdata);
        return r;
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

/* The units of the old release or of both, with a NULL at the end; borrowed. */
static int names_of_units(const Activation *a, bool both, char ***ret)
{
        const State *s = state_of(a);
        const Pending *p = &s->pending;
        Activate old = activate_of(s, p->from, p->release),
                 to = activate_of(s, p->release, p->from);
        char **names = calloc(old.n_units + to.n_units + 1, sizeof(char *));
        size_t n = 0;

        if (!names)
                return -ENOMEM;
        for (size_t i = 0; p->from && i < old.n_units; i++)
                names[n++] = old.units[i].name;
        for (size_t i = 0; both && i < to.n_units; i++)
                names[n++] = to.units[i].name;
        *ret = names;
        return 0;
}

/* The units that ran before the switch. Where systemd was not asked, as for a rollback by hand:
 * those that the old release has. Borrowed; *ret_own is to be freed. */
static int ran_before(const Activation *a, char *const **ret, char ***ret_own)
{
        int r = 0;

        *ret = state_of(a)->pending.ran;
        if (!*ret) {
                r = names_of_units(a, false, ret_own);
                *ret = *ret_own;
        }
        return r;
}

/* The end */

static int on_done(sd_event_source *source, void *userdata)
{
        Activation *a = userdata;
        ActivationResult result = { a->result, a->error, a->reason };

        (void) source;
        a->done(&result, a->userdata);
        return 0;
}

static void announce(Activation *a, Result result, int error)
{
        int r;

        a->result = result;
        a->error = error;
        r = sd_event_source_set_enabled(a->done_source, SD_EVENT_ONESHOT);
        if (r < 0)
                site_log(a->site, LOG_CRIT, "App %s: the event loop is broken: %s", app_of(a),
                         strerror(-r));
}

/* The outcome is in the state, or can't be (r < 0). */
static void end(Activation *a, Result result, int error, int r)
{
        if (r >= 0)
                r = site_save(a->site);
        if (r < 0)
                site_log(a->site, LOG_ERR,
                         "App %s: the end of this could not be saved; a restart would repeat it",
                         app_of(a));
        announce(a, result, error);
}

static void end_after_switch(Activation *a, Result result)
{
        end(a, result, 0, outcome_after_switch(a->site, result, a->reason));
}

/* Nothing has changed. */
static void not_begun(Activation *a, int error, const char *reason)
{
        State *s = state_of(a);
        Result result;

        a->reason = strdup(reason);
        /* What a rollback was to replace may be half-done: the state on disk still has it. */
        if (s->pending.action == ACTION_ROLLBACK) {
                announce(a, RESULT_FAILED, error);
                return;
        }
        result = outcome_result_before_switch(error);
        site_event(a->site, result == RESULT_DEFERRED ? LOG_NOTICE : LOG_ERR,
                   result == RESULT_DEFERRED ? JOURNAL_PUT_OFF : JOURNAL_FAILED,
                   "App %s: release %s %s before the switch, release %s stays: %s", app_of(a),
                   s->pending.release, result_to_string(result), s->current ? s->current : "none",
                   reason);
        end(a, result, outcome_is_final(error) ? 0 : error,
            outcome_before_switch(s, error, a->reason));
}

/* Hooks */

static void step_ended(Activation *a, int result, const char *reason);

static void on_hooks_done(int result, const char *reason, void *userdata)
{
        Activation *a = userdata;
        _cleanup_(hook_run_freep) HookRun *ended = TAKE_PTR(a->hooks); /* owns reason */

        (void) ended;
        /* Nothing stops the way back; the log has what went wrong on it. */
        if (result < 0 && state_of(a)->phase == PHASE_REVERTING) {
                site_log(a->site, LOG_ERR, "App %s: going back, but %s", app_of(a), reason);
                result = 0;
        }
        step_ended(a, result, reason);
}

static int run_hooks(Activation *a, CommandKind kind)
{
        int r = hook_run_start(a->site, kind, on_hooks_done, a, &a->hooks);

        return r < 0 ? r : STEP_UNDER_WAY;
}

/* Of the release that goes live, or did not stay. */
static const Activate *hooks_of(const Activation *a)
{
        const State *s = state_of(a);

        return &state_find_release(s, s->pending.release)->activate;
}

static bool has_pre_hooks(const Activation *a)
{
        return hooks_of(a)->n_pre > 0;
}

static bool has_post_hooks(const Activation *a)
{
        return hooks_of(a)->n_post > 0;
}

static bool has_revert_hooks(const Activation *a)
{
        return hooks_of(a)->n_revert > 0;
}

static bool has_commands(const Activation *a)
{
        const Activate *h = hooks_of(a);

        return h->n_pre + h->n_post + h->n_revert + h->n_commands > 0;
}

static int check_users(Activation *a, char **reterr)
{
        int r = command_check_users(a->site, hooks_of(a), reterr);

        return r < 0 ? r : STEP_DONE;
}

static int run_pre_hooks(Activation *a, char **reterr)
{
        (void) reterr;
        return run_hooks(a, COMMAND_PRE);
}

static int run_post_hooks(Activation *a, char **reterr)
{
        (void) reterr;
        return run_hooks(a, COMMAND_POST);
}

static int run_revert_hooks(Activation *a, char **reterr)
{
        (void) reterr;
        return run_hooks(a, COMMAND_REVERT);
}

/* The way back */

static int not_back(const Activation *a, int error, char **reterr)
{
        const char *from = state_of(a)->pending.from;

        return fail_errno(reterr, error, "can't put 'current' back to release %s",
                          from ? from : "none");
}

/* Full or read-only: nobody but us brings the old release back when it has got well. */
static bool disk_may_heal(int error)
{
        return error == -ENOSPC || error == -EDQUOT || error == -EROFS || error == -EIO;
}

static int on_switch_again(sd_event_source *source, uint64_t usec, void *userdata)
{
        Activation *a = userdata;
        _cleanup_free_ char *err = NULL;
        int r = site_switch(a->site, state_of(a)->pending.from);

        if (r < 0 && disk_may_heal(r) && usec < a->again_until_usec) {
                r = sd_event_source_set_time_relative(source, SWITCH_AGAIN_USEC);
                if (r >= 0)
                        r = sd_event_source_set_enabled(source, SD_EVENT_ONESHOT);
                if (r >= 0)
                        return 0;
        }
        step_ended(a, r < 0 ? not_back(a, r, &err) : 0, err);
        return 0;
}

static int switch_back_later(Activation *a, int error, char **reterr)
{
        _cleanup_free_ char *err = NULL;
        uint64_t now;
        int r = sd_event_now(a->site->event, CLOCK_BOOTTIME, &now);

        if (r >= 0)
                r = sd_event_add_time_relative(a->site->event, &a->again_source, CLOCK_BOOTTIME,
                                               SWITCH_AGAIN_USEC, 0, on_switch_again, a);
        if (r < 0)
                return not_back(a, error, reterr);
        a->again_until_usec = now + SWITCH_AGAIN_MAX_USEC;
        (void) not_back(a, error, &err);
        site_event(a->site, LOG_CRIT, JOURNAL_DOWN,
                   "App %s: %s; it is tried again until it can be done", app_of(a), strempty(err));
        return STEP_UNDER_WAY;
}

static int switch_back(Activation *a, char **reterr)
{
        int r = site_switch(a->site, state_of(a)->pending.from);

        if (r < 0 && disk_may_heal(r))
                return switch_back_later(a, r, reterr);
        return r < 0 ? not_back(a, r, reterr) : STEP_DONE;
}

static int old_units_failed(Activation *a, int error, const char *reason, char **reterr)
{
        const char *from = state_of(a)->pending.from;

        return fail(reterr, error, "release %s does not run either: %s; look at its units",
                    from ? from : "none", reason);
}

static void on_old_units_done(int result, const char *reason, void *userdata)
{
        Activation *a = userdata;
        _cleanup_(health_freep) Health *ended = TAKE_PTR(a->health); /* owns reason */
        _cleanup_free_ char *err = NULL;

        (void) ended;
        if (result < 0)
                result = old_units_failed(a, result, reason, &err);
        else if (reason)
                site_log(a->site, LOG_WARNING, "App %s: the units of release %s are up, but %s",
                         app_of(a), strempty(state_of(a)->pending.from), reason);
        step_ended(a, result, err);
}

static int run_old_units(Activation *a, char **reterr)
{
        static const UnitRunCallbacks callbacks = { .done = on_old_units_done };
        const State *s = state_of(a);
        const char *from = s->pending.from;
        Activate old = activate_of(s, from, s->pending.release);
        Activate bad = activate_of(s, s->pending.release, from);
        const Installed *i = from ? state_find_release(s, from) : NULL;
        CommandPlace place = { .site = a->site,
                               .release = from,
                               .serial = i ? i->serial : 0,
                               .activate = from ? &old : NULL };
        _cleanup_(unit_plan_done) UnitPlan plan = {};
        _cleanup_free_ char **own = NULL;
        char *const *ran;
        int r = ran_before(a, &ran, &own);

        if (r >= 0)
                r = unit_plan_back(from ? &old : NULL, &bad, ran, &plan);
        if (r >= 0)
                r = unit_files_plan(a->site, &(UnitFiles){ from, &old },
                                    &(UnitFiles){ s->pending.release, &bad }, true, &plan);
        plan.bake_usec = MIN(plan.bake_usec, REVERT_BAKE_MAX_USEC);
        if (r >= 0)
                r = health_start(&place, &plan, UNIT_RUN_ALL, HEALTH_REPORTED, &callbacks, a,
                                 &a->health);
        return r < 0 ? old_units_failed(a, r, strerror(-r), reterr) : STEP_UNDER_WAY;
}

static const Step back[] = {
        {PHASE_REVERTING,  NULL, switch_back },
        { PHASE_REVERTING,     NULL, run_old_units },
        { PHASE_REVERTING, has_revert_hooks, run_revert_hooks },
        {}
};

static void end_of_way_back(Activation *a)
{
        const char *from = state_of(a)->pending.from;

        if (from)
                site_event(a->site, LOG_WARNING, JOURNAL_UNDONE, "App %s: back on release %s",
                           app_of(a), from);
        else
                site_event(a->site, LOG_WARNING, JOURNAL_UNDONE,
                           "App %s: there was no release before: the units are stopped", app_of(a));
        end_after_switch(a, RESULT_REVERTED);
}

/* NOLINTNEXTLINE(misc-no-recursion): once in an activation */
static void revert(Activation *a)
{
        /* Where the phase can't be saved (the log says so) the way back is still the better way. */
        (void) move(a, PHASE_REVERTING);
        a->step = back;
        advance(a);
}

/* Something has changed already. */
/* NOLINTNEXTLINE(misc-no-recursion): once in an activation */
static void gone_wrong(Activation *a, const char *reason)
{
        State *s = state_of(a);
        int r = state_set(&a->reason, reason);

        if (s->pending.action == ACTION_ROLLBACK) {
                site_event(a->site, LOG_ERR, JOURNAL_DOWN,
                           "App %s: rolled back to release %s, but %s", app_of(a),
                           s->pending.release, reason);
                end_after_switch(a, RESULT_FAILED);
                return;
        }
        site_event(a->site, LOG_ERR, JOURNAL_TAKEN_BACK, "App %s: release %s is taken back: %s",
                   app_of(a), s->pending.release, reason);
        if (r >= 0)
                r = state_set(&s->pending.reason, reason);
        if (r < 0)
                site_log(a->site, LOG_ERR, "App %s: the reason is lost: %s", app_of(a),
                         strerror(-r));
        revert(a);
}

/* The way forward */

static bool switched(const Activation *a)
{
        _cleanup_free_ char *live = NULL;

        return site_read_current(a->site, &live) == 0 &&
               streq_ptr(live, state_of(a)->pending.release);
}

/* By this transaction, before a crash. */
static bool switched_before(const Activation *a)
{
        const Pending *p = &state_of(a)->pending;

        return switched(a) && !streq_ptr(p->from, p->release);
}

static uint64_t confirm_usec(const Activation *a)
{
        const State *s = state_of(a);

        return activate_of(s, s->pending.release, s->pending.from).confirm_usec;
}

static int switch_release(Activation *a, char **reterr)
{
        const char *release = state_of(a)->pending.release;
        int r = 0;

        /* What is there after the switch may be of this release. */
        if (confirm_usec(a) > 0 && !switched_before(a))
                r = control_forget_confirmation(a->site->root_fd, reterr);
        if (r < 0)
                return r;
        r = site_switch(a->site, release);
        if (r < 0 && !switched(a))
                return fail_errno(reterr, r, "can't switch 'current'");
        site_log(a->site, LOG_INFO, "App %s: switched to release %s", app_of(a), release);
        return STEP_DONE;
}

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
        _cleanup_(health_freep) Health *ended = TAKE_PTR(a->health); /* owns reason */

        (void) ended;
        step_ended(a, result, reason);
}

static int plan_forward(Activation *a, UnitPlan *ret)
{
        const State *s = state_of(a);
        const char *from = s->pending.from;
        Activate to = activate_of(s, s->pending.release, from);
        Activate old = activate_of(s, from, s->pending.release);
        _cleanup_free_ char **own = NULL;
        _cleanup_(unit_plan_done) UnitPlan plan = {};
        char *const *ran;
        int r = ran_before(a, &ran, &own);

        if (r >= 0)
                r = unit_plan_forward(&to, from ? &old : NULL, ran, &plan);
        if (r >= 0)
                r = unit_files_plan(a->site, &(UnitFiles){ s->pending.release, &to },
                                    &(UnitFiles){ from, &old }, s->pending.attempts > 0, &plan);
        if (r < 0)
                return r;
        *ret = plan;
        plan = (UnitPlan){};
        return 0;
}

static int run_units(Activation *a, char **reterr)
{
        static const UnitRunCallbacks callbacks = { .started = on_started, .done = on_units_done };
        const State *s = state_of(a);
        bool by_hand = s->pending.action == ACTION_ROLLBACK;
        Activate to = activate_of(s, s->pending.release, s->pending.from);
        CommandPlace place = { .site = a->site,
                               .release = s->pending.release,
                               .previous = s->pending.from,
                               .serial = s->pending.serial,
                               .activate = by_hand ? NULL : &to };
        _cleanup_(unit_plan_done) UnitPlan plan = {};
        int r = plan_forward(a, &plan);

        /* Who rolls back by hand looks on; a bake and probes would only keep them waiting. */
        if (by_hand)
                plan.bake_usec = 0;
        if (r >= 0)
                r = health_start(&place, &plan, a->watch_only ? UNIT_RUN_WATCH : UNIT_RUN_ALL,
                                 HEALTH_NEEDED, &callbacks, a, &a->health);
        if (r == -EHOSTDOWN)
                return fail(reterr, r, "there is no connection to systemd");
        return r < 0 ? r : STEP_UNDER_WAY;
}

static bool needs_systemd(Activate a)
{
        return a.n_units + a.n_unit_files + a.n_pre + a.n_post + a.n_commands > 0;
}

/* On the way forward or back. */
static bool has_work_for_systemd(const State *s, const char *release, const char *from)
{
        return needs_systemd(activate_of(s, release, from)) ||
               needs_systemd(activate_of(s, from, release));
}

static bool deploys_with_systemd(const Activation *a)
{
        const Pending *p = &state_of(a)->pending;

        return p->action == ACTION_DEPLOY && has_work_for_systemd(state_of(a), p->release, p->from);
}

/* It may be long since it was asked, or a crash ago. Where the link has moved already, the units
 * wait for systemd. */
static bool switches_with_systemd(const Activation *a)
{
        return deploys_with_systemd(a) && !switched_before(a);
}

/* One that waits for its turn when the host comes up does not run yet, but will. */
static bool is_up(const char *active_state, const char *job)
{
        return streq(job, "start") || streq(job, "restart") ||
               (!streq(active_state, "inactive") && !streq(active_state, "failed") &&
                !streq(active_state, "deactivating"));
}

/* Rows of ListUnitsByNames() come in the order of the names, which may be aliases: the active state
 * is the fourth, the type of its job the last but one. Leaves in `names` those that run. */
static int read_running(sd_bus_message *m, char **names)
{
        const char *state, *job;
        size_t i = 0, n = 0;
        int r = sd_bus_message_enter_container(m, 'a', "(ssssssouso)");

        while (r >= 0 && (r = sd_bus_message_read(m, "(ssssssouso)", NULL, NULL, NULL, &state, NULL,
                                                  NULL, NULL, NULL, &job, NULL)) > 0) {
                if (!names[i])
                        return -EBADMSG;
                if (is_up(state, job))
                        names[n++] = names[i];
                i++;
        }
        if (r < 0 || names[i])
                return r < 0 ? r : -EBADMSG;
        names[n] = NULL;
        return 0;
}

/* Saved before the switch: the way back must know it after a crash as well. What systemd can't say
 * is no obstacle. */
static int remember_running(Activation *a, sd_bus_message *m)
{
        _cleanup_free_ char **names = NULL;
        int r = names_of_units(a, true, &names);

        if (r < 0)
                return r;
        r = sd_bus_message_is_method_error(m, NULL) ? -EBADMSG : read_running(m, names);
        if (r < 0) {
                site_log(a->site, LOG_WARNING,
                         "App %s: systemd does not say which units run: those of the release "
                         "before are taken for it",
                         app_of(a));
                return 0;
        }
        r = pending_set_ran(&state_of(a)->pending, names);
        return r < 0 ? r : site_save(a->site);
}

static int on_running(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
        Activation *a = userdata;
        bool silent = bus_error_is_passing(sd_bus_message_get_error(m));
        int r = 0;

        (void) error;
        /* What was saved before a crash holds: on a host that comes up they may not run yet. */
        if (!silent && state_of(a)->phase == PHASE_SWITCHING && !state_of(a)->pending.ran)
                r = remember_running(a, m);
        if (silent)
                step_ended(
                        a, -EHOSTDOWN,
                        "neither units nor hooks can be run: systemd does not answer over D-Bus");
        else
                step_ended(a, r, r < 0 ? "can't remember which units run" : NULL);
        return 1;
}

/* Where D-Bus or systemd hangs, a switch would leave the link on one release and the processes on
 * another. Which units run is what the way back needs to know. */
static int ask_systemd(Activation *a, char **reterr)
{
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL;
        _cleanup_free_ char **names = NULL;
        sd_bus *bus = bus_get(a->site->bus);
        int r = bus ? names_of_units(a, true, &names) : -EHOSTDOWN;

        a->running_slot = sd_bus_slot_unref(a->running_slot);
        if (r >= 0)
                r = sd_bus_message_new_method_call(bus, &m, SD1_NAME, SD1_PATH, SD1_MANAGER,
                                                   "ListUnitsByNames");
        if (r >= 0)
                r = sd_bus_message_append_strv(m, names);
        if (r >= 0)
                r = sd_bus_call_async(bus, &a->running_slot, m, on_running, a, 0);
        return r < 0 ? fail(reterr, -EHOSTDOWN, "there is no connection to systemd")
                     : STEP_UNDER_WAY;
}

/* The application holds updates off */

static bool is_held_off(const Activation *a)
{
        return update_lock_is_held(a->site);
}

static void on_let_go(void *userdata)
{
        Activation *a = userdata;

        a->update_lock = update_lock_free(a->update_lock);
        step_ended(a, 0, NULL);
}

static int wait_for_application(Activation *a, char **reterr)
{
        _cleanup_free_ char *text = update_lock_text(a->site);

        (void) reterr;
        site_log(a->site, LOG_NOTICE, "App %s: %s", app_of(a), strempty(text));
        int r = update_lock_wait(a->site, on_let_go, a, &a->update_lock);
        return r < 0 ? r : STEP_UNDER_WAY;
}

/* Somebody has to confirm the release */

static bool must_be_confirmed(const Activation *a)
{
        return confirm_usec(a) > 0;
}

static void on_confirmation(int result, const char *reason, void *userdata)
{
        Activation *a = userdata;
        _cleanup_free_ char *why = reason ? strdup(reason) : NULL;

        a->confirmation = confirmation_free(a->confirmation);
        a->health = health_free(a->health);
        step_ended(a, result, why);
}

static void on_watch_ended(int result, const char *reason, void *userdata)
{
        Activation *a = userdata;
        _cleanup_(health_freep) Health *ended = TAKE_PTR(a->health); /* owns reason */

        (void) ended;
        /* Where there is nothing to watch, the watch ends at once, and the waiting goes on. */
        if (result >= 0)
                return;
        a->confirmation = confirmation_free(a->confirmation);
        step_ended(a, result, reason);
}

/* For as long as a confirmation may take the units are watched. */
static int watch_units(Activation *a)
{
        static const UnitRunCallbacks callbacks = { .done = on_watch_ended };
        CommandPlace place = { .site = a->site, .release = state_of(a)->pending.release };
        _cleanup_(unit_plan_done) UnitPlan plan = {};
        int r = plan_forward(a, &plan);

        plan.bake_usec = 2 * DEADLINE_MAX_USEC;
        plan.deadline_usec = 2 * plan.bake_usec;
        return r < 0 ? r
                     : health_start(&place, &plan, UNIT_RUN_WATCH, HEALTH_NEEDED, &callbacks, a,
                                    &a->health);
}

static int wait_for_confirmation(Activation *a, char **reterr)
{
        int r = confirmation_start(a->site, confirm_usec(a), on_confirmation, a, &a->confirmation);

        if (r >= 0)
                r = watch_units(a);
        if (r < 0) {
                a->confirmation = confirmation_free(a->confirmation);
                return fail_errno(reterr, r, "can't wait for it to be confirmed");
        }
        site_event(a->site, LOG_NOTICE, JOURNAL_UNCONFIRMED,
                   "App %s: release %s is up, and waits to be confirmed: slipway confirm %s",
                   app_of(a), state_of(a)->pending.release, app_of(a));
        a->changed(a->userdata);
        return STEP_UNDER_WAY;
}

static const Installed *installed_of(const Activation *a)
{
        return state_find_release(state_of(a), state_of(a)->pending.release);
}

static bool has_shared_links(const Activation *a)
{
        const Installed *i = installed_of(a);

        return i && i->activate.n_shared > 0;
}

static bool has_unit_files(const Activation *a)
{
        const Installed *i = installed_of(a);

        return i && i->activate.n_unit_files > 0;
}

static int check_unit_files(Activation *a, char **reterr)
{
        int r = unit_files_check(a->site, installed_of(a), reterr);

        return r < 0 ? r : STEP_DONE;
}

static void on_linked(int result, const char *reason, void *userdata)
{
        Activation *a = userdata;
        _cleanup_(linking_freep) Linking *ended = TAKE_PTR(a->linking); /* owns reason */

        (void) ended;
        step_ended(a, result, reason);
}

/* What was just unpacked has its links; one that was here may be deployed anew with others. */
static int link_shared(Activation *a, char **reterr)
{
        const Site *site = a->site;
        const Installed *i = installed_of(a);
        int r = shared_make(site->config->root, site->root_fd, &i->activate, reterr);

        if (r < 0)
                return r;
        r = linking_is_done(site->releases_fd, i->release, &i->activate);
        if (r < 0)
                return fail_errno(reterr, r, "can't look for the links to shared/");
        if (r > 0)
                return STEP_DONE;
        r = linking_start(site->event, &site->unpack, site->releases_fd, i, on_linked, a,
                          &a->linking, reterr);
        return r < 0 ? r : STEP_UNDER_WAY;
}

/* Since it began. What somebody makes live by hand goes on. */
static bool is_held(const Activation *a)
{
        const State *s = state_of(a);

        return pending_is_by_channel(&s->pending) && hold_is_on(&s->hold, time(NULL));
}

static int stay(Activation *a, char **reterr)
{
        (void) a;
        return fail(reterr, -ECANCELED, "held by an administrator");
}

static const Step forward[] = {
        {PHASE_FETCHING,        deploys_with_systemd, ask_systemd },
        { PHASE_WAITING,          is_held_off, wait_for_application },
        { PHASE_PREPARING,        has_commands, check_users },
        { PHASE_PREPARING, has_unit_files, check_unit_files },
        { PHASE_PREPARING,      has_shared_links, link_shared },
        { PHASE_PREPARING,          has_pre_hooks, run_pre_hooks },
        { PHASE_PREPARING,      is_held_off, wait_for_application },
        { PHASE_PREPARING,     is_held, stay },
        { PHASE_SWITCHING,      switches_with_systemd, ask_systemd },
        { PHASE_SWITCHING,          NULL, switch_release },
        { PHASE_RESTARTING,      NULL, run_units }, /* and PHASE_BAKING */
        { PHASE_CONFIRMING,        must_be_confirmed, wait_for_confirmation },
        { PHASE_FINISHING,      has_post_hooks, run_post_hooks },
        {     }
};

/* A rollback has nothing to prepare and nothing to finish: it must not wait, nor fail, for more
 * than the units, and nobody may hold it off. */
static bool is_needed(const Activation *a, const Step *step)
{
        if (state_of(a)->pending.action == ACTION_ROLLBACK && step->phase != PHASE_SWITCHING &&
            step->phase != PHASE_RESTARTING)
                return false;
        return !step->needed || step->needed(a);
}

static void end_of_way_forward(Activation *a)
{
        site_event(a->site, LOG_NOTICE, JOURNAL_LIVE, "App %s: release %s is live", app_of(a),
                   state_of(a)->pending.release);
        end_after_switch(a, RESULT_DONE);
}

/* Going the way */

/* NOLINTNEXTLINE(misc-no-recursion): at most once a way */
static void step_failed(Activation *a, int error, const char *reason)
{
        Phase phase = state_of(a)->phase;

        if (phase == PHASE_REVERTING) {
                site_event(a->site, LOG_CRIT, JOURNAL_DOWN, "App %s: %s", app_of(a), reason);
                end_after_switch(a, RESULT_FAILED);
        } else if (phase <= PHASE_SWITCHING)
                not_begun(a, error, reason);
        else
                gone_wrong(a, reason);
}

/* The phase is saved, then the step is begun. */
static int take_step(Activation *a, char **reterr)
{
        const Step *step = a->step;
        int r = 0;

        if (state_of(a)->phase < step->phase)
                r = move(a, step->phase);
        /* Before the switch a phase that can't be saved is a reason not to begin. One that can't be
         * saved later is repeated after a crash, which does no harm. */
        if (r < 0 && step->phase <= PHASE_SWITCHING)
                return fail_errno(reterr, r, "can't save the state");
        return step->run(a, reterr);
}

/* NOLINTNEXTLINE(misc-no-recursion): forward, then back */
static void advance(Activation *a)
{
        int r = STEP_DONE;

        for (; a->step->run; a->step++) {
                _cleanup_free_ char *err = NULL;

                if (is_needed(a, a->step))
                        r = take_step(a, &err);
                if (r < 0)
                        step_failed(a, r, err_text(r, err));
                if (r != STEP_DONE)
                        return;
        }
        if (state_of(a)->phase == PHASE_REVERTING)
                end_of_way_back(a);
        else
                end_of_way_forward(a);
}

/* The end of a step that was under way. Negative: it failed. */
static void step_ended(Activation *a, int result, const char *reason)
{
        if (result < 0) {
                step_failed(a, result, err_text(result, reason));
                return;
        }
        a->step++;
        advance(a);
}

/* Beginnings */

/* What was live before a restart of the host has to come up again, and is watched anew. */
static void go_way(Activation *a)
{
        Phase phase = state_of(a)->phase;

        if (phase > PHASE_RESTARTING && !site_is_marked_running(a->site)) {
                (void) move(a, PHASE_RESTARTING);
                phase = PHASE_RESTARTING;
        }
        a->watch_only = phase == PHASE_BAKING;
        if (a->watch_only)
                phase = PHASE_RESTARTING;
        while (a->step->run && a->step->phase < phase)
                a->step++;
        advance(a);
}

static void go_on(Activation *a)
{
        State *s = state_of(a);
        bool tired = s->pending.attempts >= ATTEMPTS_MAX && s->pending.action == ACTION_DEPLOY;
        const char *why = "the agent or the host went down each time it was tried";
        _cleanup_free_ char *overdue = NULL;

        a->step = forward;
        if (!site_is_marked_running(a->site))
                confirmation_take_up(a->site);
        if (s->phase == PHASE_REVERTING) {
                a->reason = strdup(s->pending.reason ? s->pending.reason
                                                     : "the reason was lost in a crash");
                revert(a);
        } else if (tired && s->phase >= PHASE_SWITCHING)
                gone_wrong(a, why);
        else if (s->phase <= PHASE_CONFIRMING && confirmation_is_overdue(a->site, &overdue))
                gone_wrong(a, strempty(overdue));
        else if (tired)
                not_begun(a, -EBADMSG, why);
        else
                go_way(a);
}

bool activation_runs_hooks(const Activation *a)
{
        return a->hooks;
}

char *activation_waits_for(const Activation *a)
{
        const char *complaint = a->health ? health_complaint(a->health) : NULL;
        const Pending *p = &state_of(a)->pending;
        char until[TIME_TEXT_SIZE], *text = NULL;

        if (a->update_lock)
                return update_lock_text(a->site);
        if (a->confirmation)
                err_set(&text, "it has to be confirmed until %s: slipway confirm %s",
                        time_format_utc(p->confirm_until_msec / 1000, until), app_of(a));
        else if (complaint)
                text = strdup(complaint);
        return text;
}

int activation_check(const Site *site, const char *release, const char *from, char **reterr)
{
        const State *s = site->state;

        if (!state_find_release(s, release))
                return fail(reterr, -ENOENT, "release %s is not on this host", release);
        if (!bus_get(site->bus) && has_work_for_systemd(s, release, from))
                return fail(
                        reterr, -EHOSTDOWN,
                        "neither units nor hooks can be run: no connection to systemd over D-Bus");
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
