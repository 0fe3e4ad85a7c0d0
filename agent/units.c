/* SPDX-License-Identifier: Apache-2.0 */
#include <stdint.h>
#include <stdio.h>

#include "clock.h"
#include "err.h"
#include "journal-tail.h"
#include "log.h"
#include "unit-status.h"
#include "units.h"

#define OWNER_MATCH                                                                 \
        "type='signal',sender='org.freedesktop.DBus',path='/org/freedesktop/DBus'," \
        "interface='org.freedesktop.DBus',member='NameOwnerChanged',arg0='" SD1_NAME "'"

/* Before systemd is asked again when it was away, and at most. */
#define AGAIN_MIN_USEC (UINT64_C(50) * 1000)
#define AGAIN_MAX_USEC (UINT64_C(2) * 1000000)

/* What is left of the deadline, at least, when systemd is back. */
#define LEFT_MIN_USEC (UINT64_C(10) * 1000000)

/* systemd answers after it has read all unit files, and has run its generators. */
#define RELOAD_TIMEOUT_USEC (UINT64_C(90) * 1000000)

/* The change of unit files, in its order. Each can be done again. */
typedef enum FilesStep {
        FILES_UNLINK,
        FILES_LINK,
        FILES_RELOAD,
        FILES_DONE,
} FilesStep;

/* A unit that has to run in the end. */
typedef struct Watched {
        UnitRun *run;
        const char *name;
        char *path;            /* of its bus object */
        uint32_t n_restarts;   /* what counts as no restart since */
        sd_id128_t invocation; /* the run that is watched */
        uint64_t begun_usec;   /* when that began, CLOCK_REALTIME */
        bool baseline;         /* these three are known */
        bool left_alone;       /* it did not run, and its last job leaves it so */
        bool final;            /* was read after the end of the bake */
        sd_bus *held_on;       /* the connection that keeps systemd from unloading it */
        sd_bus_slot *changed_slot, *read_slot;
} Watched;

/* The step whose job is under way. */
typedef struct Step {
        char *path;     /* of its unit's bus object */
        char *job_path; /* once it is known */
        const char *job_error;
        sd_id128_t invocation_before;
        bool asked; /* for the job */
        sd_bus_slot *call_slot, *read_slot;
} Step;

struct UnitRun {
        Bus *buses;
        BusWatch watch;
        sd_bus *bus; /* NULL: lost */
        sd_event *event;
        UnitPlan plan;
        UnitRunMode mode;
        UnitRunCallbacks callbacks;
        void *userdata;
        Watched *watched;
        size_t n_watched;
        size_t at; /* in plan.steps */
        FilesStep files;
        Step step;
        bool baking, bake_over, ending;
        bool away; /* the bus or systemd does not answer: nothing is judged */
        uint64_t away_since_usec, again_delay_usec;
        sd_bus_slot *subscribe_slot, *removed_slot, *owner_slot, *files_slot;
        sd_event_source *deadline_source, *bake_source, *end_source, *again_source;
        JournalTail *tail;
        int result;
        char *reason;
};

static int next_job(UnitRun *r);
static int change_files(UnitRun *r);
static int on_before(sd_bus_message *m, void *userdata, sd_bus_error *error);

/* Everything that hangs on the connection. */
static void forget_calls(UnitRun *r)
{
        for (size_t i = 0; i < r->n_watched; i++) {
                r->watched[i].changed_slot = sd_bus_slot_unref(r->watched[i].changed_slot);
                r->watched[i].read_slot = sd_bus_slot_unref(r->watched[i].read_slot);
        }
        r->subscribe_slot = sd_bus_slot_unref(r->subscribe_slot);
        r->removed_slot = sd_bus_slot_unref(r->removed_slot);
        r->owner_slot = sd_bus_slot_unref(r->owner_slot);
        r->files_slot = sd_bus_slot_unref(r->files_slot);
        r->step.call_slot = sd_bus_slot_unref(r->step.call_slot);
        r->step.read_slot = sd_bus_slot_unref(r->step.read_slot);
}

static void step_done(Step *s)
{
        sd_bus_slot_unref(s->call_slot);
        sd_bus_slot_unref(s->read_slot);
        free(s->path);
        free(s->job_path);
        *s = (Step){};
}

static void let_go(Watched *w)
{
        if (w->held_on && w->held_on == w->run->bus)
                (void) sd_bus_call_method_async(w->held_on, NULL, SD1_NAME, w->path, SD1_UNIT,
                                                "Unref", NULL, NULL, NULL);
        w->held_on = sd_bus_unref(w->held_on);
}

/* systemd unloads what neither runs nor failed, and with it what is known of its last run. A
 * reference lasts no longer than the connection; nothing waits for an answer, the order is kept. */
static int hold(Watched *w)
{
        int k;

        if (w->held_on == w->run->bus)
                return 0;
        k = sd_bus_call_method_async(w->run->bus, NULL, SD1_NAME, w->path, SD1_UNIT, "Ref", NULL,
                                     NULL, NULL);
        if (k < 0)
                return k;
        sd_bus_unref(w->held_on);
        w->held_on = sd_bus_ref(w->run->bus);
        return 0;
}

UnitRun *unit_run_free(UnitRun *r)
{
        if (!r)
                return NULL;
        bus_unwatch(r->buses, &r->watch);
        forget_calls(r);
        for (size_t i = 0; i < r->n_watched; i++) {
                let_go(&r->watched[i]);
                free(r->watched[i].path);
        }
        free(r->watched);
        step_done(&r->step);
        journal_tail_free(r->tail);
        sd_event_source_unref(r->again_source);
        sd_event_source_unref(r->deadline_source);
        sd_event_source_unref(r->bake_source);
        sd_event_source_unref(r->end_source);
        unit_plan_done(&r->plan);
        sd_bus_unref(r->bus);
        sd_event_unref(r->event);
        free(r->reason);
        free(r);
        return NULL;
}

static const ActivateUnit *step_unit(const UnitRun *r)
{
        return &r->plan.steps[r->at];
}

/* The end */

static int on_end(sd_event_source *source, void *userdata)
{
        UnitRun *r = userdata;

        (void) source;
        /* Nothing of r may be used after this: done() may free it. */
        r->callbacks.done(r->result, r->result < 0 ? err_text(r->result, r->reason) : NULL,
                          r->userdata);
        return 0;
}

static void end_soon(UnitRun *r)
{
        (void) sd_event_source_set_enabled(r->end_source, SD_EVENT_ONESHOT);
}

/* Ends the run from the event loop, once: callers up the stack may still use r. Takes `reason`. */
static void finish(UnitRun *r, int result, char *reason)
{
        if (r->ending) {
                free(reason);
                return;
        }
        r->ending = true;
        r->result = result;
        r->reason = reason;
        end_soon(r);
}

static void finish_error(UnitRun *r, int error, const char *what, const char *unit, const char *why)
{
        char *reason = NULL;

        err_set(&reason, "%s: %s: %s", unit, what, why);
        finish(r, error, reason);
}

/* One line of them all: a reason has no line breaks. */
static char *join_lines(const char *lines)
{
        char *joined = malloc(3 * strlen(lines) + 1), *p = joined;

        for (; joined && *lines; lines++)
                p = *lines == '\n' ? stpcpy(p, " | ") : (*p = *lines, p + 1);
        if (joined)
                *p = 0;
        return joined;
}

static void on_tail(const char *lines, void *userdata)
{
        UnitRun *r = userdata;
        _cleanup_free_ char *joined = lines ? join_lines(lines) : NULL;
        char *longer = NULL;

        if (joined)
                err_set(&longer, "%s; its last lines: %s", strempty(r->reason), joined);
        if (longer) {
                free(r->reason);
                r->reason = longer;
        }
        end_soon(r);
}

/* Of the run that a unit is in, or was last. */
static JournalRun last_run(const UnitStatus *s)
{
        return (JournalRun){ .invocation = s->invocation,
                             .unit = strempty(s->id),
                             .begun_usec = s->begun_usec };
}

/* As finish_error(), with what this run of the unit wrote last. */
static void finish_with_tail(UnitRun *r, int error, const char *what, const char *unit,
                             const char *why, JournalRun run)
{
        if (r->ending)
                return;
        finish_error(r, error, what, unit, why);
        if (journal_tail_start(r->event, &run, on_tail, r, &r->tail) >= 0)
                (void) sd_event_source_set_enabled(r->end_source, SD_EVENT_OFF);
}

/* When the bus or systemd is away */

/* Nothing is judged from now on, until systemd was asked again. */
static void interrupt(UnitRun *r)
{
        int k;

        if (r->ending)
                return;
        if (!r->away) {
                log_info("systemd does not answer; its units are asked again");
                r->away = true;
                r->away_since_usec = clock_usec(CLOCK_BOOTTIME);
                r->again_delay_usec = AGAIN_MIN_USEC;
        }
        forget_calls(r);
        k = sd_event_source_set_time_relative(r->again_source, r->again_delay_usec);
        if (k >= 0)
                k = sd_event_source_set_enabled(r->again_source, SD_EVENT_ONESHOT);
        if (k < 0)
                finish_error(r, k, "can't be asked again", "systemd", strerror(-k));
        r->again_delay_usec = MIN(r->again_delay_usec * 2, AGAIN_MAX_USEC);
}

/* It answers again: the time that it was away does not count. */
static void come_back(UnitRun *r)
{
        uint64_t now = clock_usec(CLOCK_BOOTTIME), at = now;

        if (!r->away)
                return;
        r->away = false;
        (void) sd_event_source_get_time(r->deadline_source, &at);
        at = MAX(at + (now - r->away_since_usec), now + LEFT_MIN_USEC);
        (void) sd_event_source_set_time(r->deadline_source, at);
        (void) sd_event_source_set_enabled(r->deadline_source, SD_EVENT_ONESHOT);
}

/* Whether an answer says anything about the unit. */
static bool is_answer(UnitRun *r, sd_bus_message *m)
{
        if (bus_error_is_passing(sd_bus_message_get_error(m))) {
                interrupt(r);
                return false;
        }
        come_back(r);
        return true;
}

/* What comes of a call that was made with result k. */
static int check_sent(UnitRun *r, int k)
{
        if (k != -ENOTCONN && k != -ECONNRESET && k != -ESHUTDOWN)
                return k;
        interrupt(r);
        return 0;
}

/* Reading a unit */

/* The plan knows which units the release before had, not which of them ran. */
static bool is_left_alone(const Watched *w, const UnitStatus *s)
{
        const UnitPlan *p = &w->run->plan;
        const ActivateUnit *last = NULL;

        for (size_t i = 0; i < p->n_steps; i++)
                if (streq(p->steps[i].name, w->name))
                        last = &p->steps[i];
        return last && last->action == UNIT_TRY_RESTART &&
               streq(strempty(s->active_state), "inactive");
}

static void judge(Watched *w, const UnitStatus *s)
{
        UnitRun *r = w->run;
        JournalRun run = last_run(s);
        _cleanup_free_ char *what = NULL;
        bool restarted;

        if (!w->baseline) {
                /* Otherwise it counts from 0: ask_for_job() sets the counter back. */
                if (r->mode == UNIT_RUN_WATCH)
                        w->n_restarts = s->n_restarts;
                w->invocation = s->invocation;
                w->begun_usec = s->begun_usec;
                w->left_alone = is_left_alone(w, s);
                w->baseline = true;
        }
        if (w->left_alone)
                return;
        restarted = s->n_restarts > w->n_restarts;
        if (unit_status_is_well(s) && !restarted)
                return;
        what = unit_status_describe(s);
        /* What it said when it died stands in the journal of that run. */
        if (restarted) {
                run.invocation = w->invocation;
                run.begun_usec = w->begun_usec;
        }
        finish_with_tail(r, -EIO,
                         restarted ? "it died and was restarted by systemd" : "it did not stay up",
                         w->name, strempty(what), run);
}

static bool all_read(const UnitRun *r)
{
        for (size_t i = 0; i < r->n_watched; i++)
                if (!r->watched[i].final)
                        return false;
        return true;
}

static int on_read(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
        Watched *w = userdata;
        UnitRun *r = w->run;
        UnitStatus s;
        int k;

        (void) error;
        if (!is_answer(r, m))
                return 1;
        if (sd_bus_message_is_method_error(m, NULL)) {
                finish_error(r, -EIO, "can't read its state", w->name,
                             sd_bus_message_get_error(m)->message);
                return 1;
        }
        k = unit_status_read(m, &s);
        if (k < 0) {
                finish_error(r, k, "can't read its state", w->name, strerror(-k));
                return 1;
        }
        judge(w, &s);
        w->final = r->bake_over;
        if (all_read(r))
                finish(r, 0, NULL);
        return 1;
}

static int read_unit(UnitRun *r, const char *path, sd_bus_message_handler_t handler, void *userdata,
                     sd_bus_slot **slot)
{
        *slot = sd_bus_slot_unref(*slot);
        return check_sent(r, r->bus ? unit_status_ask(r->bus, path, handler, userdata, slot)
                                    : -ENOTCONN);
}

static void read_watched(Watched *w)
{
        int k = read_unit(w->run, w->path, on_read, w, &w->read_slot);

        if (k < 0)
                finish_error(w->run, k, "can't read its state", w->name, strerror(-k));
}

static void read_all(UnitRun *r)
{
        for (size_t i = 0; i < r->n_watched && !r->ending; i++)
                read_watched(&r->watched[i]);
}

static int on_changed(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
        Watched *w = userdata;

        (void) m;
        (void) error;
        /* A read that is under way at the end of the bake decides; do not replace it. */
        if (w->run->baking && !w->run->ending && !w->run->bake_over)
                read_watched(w);
        return 0;
}

/* The bake */

static int on_bake_end(sd_event_source *source, uint64_t usec, void *userdata)
{
        UnitRun *r = userdata;

        (void) source;
        (void) usec;
        r->bake_over = true;
        if (r->n_watched == 0)
                finish(r, 0, NULL);
        if (!r->away)
                read_all(r);
        return 0;
}

static int begin_bake(UnitRun *r)
{
        int k;

        r->baking = true;
        if (r->callbacks.started) {
                k = r->callbacks.started(r->userdata);
                if (k < 0)
                        return k;
        }
        /* Each unit is read now, for the first verdict and the counter, and again at each change.
         */
        read_all(r);
        return sd_event_add_time_relative(r->event, &r->bake_source, CLOCK_BOOTTIME,
                                          r->plan.bake_usec, 0, on_bake_end, r);
}

/* The jobs */

static int read_step(UnitRun *r, sd_bus_message_handler_t handler)
{
        return read_unit(r, r->step.path, handler, r, &r->step.read_slot);
}

static int on_job_failed_read(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
        UnitRun *r = userdata;
        _cleanup_free_ char *what = NULL;
        UnitStatus s = {};

        (void) error;
        if (!is_answer(r, m))
                return 1;
        if (!sd_bus_message_is_method_error(m, NULL) && unit_status_read(m, &s) >= 0)
                what = unit_status_describe(&s);
        finish_with_tail(r, -EIO, r->step.job_error, step_unit(r)->name,
                         what ? what : "no more is known", last_run(&s));
        return 1;
}

static void job_ended(UnitRun *r, const char *job_result)
{
        const char *unit = step_unit(r)->name;
        int k;

        free(r->step.job_path);
        r->step.job_path = NULL;
        r->step.job_error = job_result_describe(job_result);
        if (r->step.job_error) {
                k = read_step(r, on_job_failed_read);
                if (k < 0)
                        finish_error(r, -EIO, r->step.job_error, unit, job_result);
                return;
        }
        r->at++;
        k = next_job(r);
        if (k < 0)
                finish_error(r, k, "can't go on after it", unit, strerror(-k));
}

static int on_job_removed(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
        UnitRun *r = userdata;
        const char *path, *unit, *job_result;
        uint32_t id;

        (void) error;
        if (sd_bus_message_read(m, "uoss", &id, &path, &unit, &job_result) < 0)
                return 0;
        if (!r->ending && r->step.job_path && streq(path, r->step.job_path))
                job_ended(r, job_result);
        return 0;
}

static int on_job_queued(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
        UnitRun *r = userdata;
        const char *path;

        (void) error;
        if (!is_answer(r, m))
                return 1;
        /* What is not there needs no stopping. */
        if (step_unit(r)->action == UNIT_STOP &&
            sd_bus_message_is_method_error(m, SD1_NAME ".NoSuchUnit")) {
                job_ended(r, "done");
                return 1;
        }
        if (sd_bus_message_is_method_error(m, NULL)) {
                finish_error(r, -EIO, "systemd refused the job", step_unit(r)->name,
                             sd_bus_message_get_error(m)->message);
                return 1;
        }
        if (sd_bus_message_read(m, "o", &path) < 0 || !(r->step.job_path = strdup(path)))
                finish_error(r, -ENOMEM, "can't follow its job", step_unit(r)->name, "bad answer");
        return 1;
}

static const char *job_method(UnitAction action)
{
        static const char *const methods[_UNIT_ACTION_MAX] = {
                [UNIT_RESTART] = "RestartUnit",
                [UNIT_RELOAD] = "ReloadUnit",
                [UNIT_RELOAD_OR_RESTART] = "ReloadOrRestartUnit",
                [UNIT_TRY_RESTART] = "TryRestartUnit",
                [UNIT_START] = "StartUnit",
                [UNIT_STOP] = "StopUnit",
        };

        return methods[action];
}

/* Follows the changes of the unit's object. */
static int match_unit(Watched *w)
{
        w->changed_slot = sd_bus_slot_unref(w->changed_slot);
        return sd_bus_match_signal_async(w->run->bus, &w->changed_slot, SD1_NAME, w->path,
                                         "org.freedesktop.DBus.Properties", "PropertiesChanged",
                                         on_changed, NULL, w);
}

static int match_other(Watched *w, const char *name)
{
        char *path;
        int k = unit_path(name, &path);

        if (k < 0)
                return k;
        free(w->path);
        w->path = path;
        return check_sent(w->run, match_unit(w));
}

/* What has to be known from before the job. */
static int note_before(UnitRun *r, const UnitStatus *s)
{
        const char *name = step_unit(r)->name;
        int k = 0;

        r->step.invocation_before = s->invocation;
        for (size_t i = 0; i < r->n_watched && k >= 0; i++)
                /* An alias has signals under its canonical name only. */
                if (streq(r->watched[i].name, name) && s->id && !streq(s->id, name))
                        k = match_other(&r->watched[i], s->id);
        return k;
}

static int ask_for_job(UnitRun *r)
{
        const ActivateUnit *u = step_unit(r);
        int k;

        r->step.call_slot = sd_bus_slot_unref(r->step.call_slot);
        /* A release that crashed may have used up the unit's start limit (systemd.unit(5),
         * StartLimitBurst=): ours is a new try. It also sets NRestarts to 0, whatever the unit's
         * state (service_reset_failed() in systemd's src/core/service.c). Nothing waits for an
         * answer: the order is kept, and a unit that is not loaded has nothing to reset. */
        k = sd_bus_call_method_async(r->bus, NULL, SD1_NAME, SD1_PATH, SD1_MANAGER,
                                     "ResetFailedUnit", NULL, NULL, "s", u->name);
        if (k >= 0)
                k = sd_bus_call_method_async(r->bus, &r->step.call_slot, SD1_NAME, SD1_PATH,
                                             SD1_MANAGER, job_method(u->action), on_job_queued, r,
                                             "ss", u->name, "replace");
        r->step.asked = true;
        return check_sent(r, k);
}

static int on_before(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
        UnitRun *r = userdata;
        UnitStatus s;
        int k = 0;

        (void) error;
        if (!is_answer(r, m))
                return 1;
        if (!sd_bus_message_is_method_error(m, NULL) && unit_status_read(m, &s) >= 0)
                k = note_before(r, &s);
        if (k >= 0 && !r->away)
                k = ask_for_job(r);
        if (k < 0)
                finish_error(r, k, "can't ask systemd", step_unit(r)->name, strerror(-k));
        return 1;
}

/* NOLINTNEXTLINE(misc-no-recursion): once after the files */
static int next_job(UnitRun *r)
{
        int k;

        step_done(&r->step);
        if (r->at == r->plan.n_before_files && r->files != FILES_DONE)
                return change_files(r);
        if (r->at >= r->plan.n_steps)
                return begin_bake(r);
        k = unit_path(step_unit(r)->name, &r->step.path);
        return k < 0 ? k : read_step(r, on_before);
}

/* The unit files */

static int on_files_changed(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
        UnitRun *r = userdata;
        int k;

        (void) error;
        if (!is_answer(r, m))
                return 1;
        if (sd_bus_message_is_method_error(m, NULL) && r->files == FILES_UNLINK)
                log_warning("systemd can't remove the links of unit files that are gone: %s",
                            sd_bus_message_get_error(m)->message);
        else if (sd_bus_message_is_method_error(m, NULL)) {
                finish_error(r, -EIO,
                             r->files == FILES_LINK ? "can't link unit files"
                                                    : "can't read its unit files again",
                             "systemd", sd_bus_message_get_error(m)->message);
                return 1;
        }
        r->files++;
        k = next_job(r);
        if (k < 0)
                finish_error(r, k, "can't be asked", "systemd", strerror(-k));
        return 1;
}

static int append_files(const UnitRun *r, sd_bus_message *m)
{
        int k = 0;

        switch (r->files) {
        case FILES_UNLINK:
                k = sd_bus_message_append_strv(m, r->plan.unlinked);
                return k < 0 ? k : sd_bus_message_append(m, "b", false);
        case FILES_LINK:
                k = sd_bus_message_append_strv(m, r->plan.linked);
                return k < 0 ? k : sd_bus_message_append(m, "bb", false, true);
        default:
                return 0;
        }
}

static int ask_for_files(UnitRun *r)
{
        static const char *const methods[] = {
                [FILES_UNLINK] = "DisableUnitFiles",
                [FILES_LINK] = "LinkUnitFiles",
                [FILES_RELOAD] = "Reload",
        };
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL;
        int k = sd_bus_message_new_method_call(r->bus, &m, SD1_NAME, SD1_PATH, SD1_MANAGER,
                                               methods[r->files]);

        if (k >= 0)
                k = append_files(r, m);
        r->files_slot = sd_bus_slot_unref(r->files_slot);
        if (k >= 0)
                k = sd_bus_call_async(r->bus, &r->files_slot, m, on_files_changed, r,
                                      RELOAD_TIMEOUT_USEC);
        return check_sent(r, k);
}

static bool is_needed(const UnitRun *r, FilesStep step)
{
        return step == FILES_UNLINK   ? r->plan.n_unlinked > 0
               : step == FILES_LINK   ? r->plan.n_linked > 0
               : step == FILES_RELOAD ? r->plan.reload_systemd
                                      : true;
}

/* NOLINTNEXTLINE(misc-no-recursion): once, when they are done */
static int change_files(UnitRun *r)
{
        while (!is_needed(r, r->files))
                r->files++;
        if (r->files == FILES_DONE)
                return next_job(r);
        /* Without a bus it is asked once there is one. */
        return r->bus ? ask_for_files(r) : 0;
}

/* The deadline */

static void overdue(UnitRun *r, const UnitStatus *s)
{
        _cleanup_free_ char *what = NULL, *state = unit_status_describe(s);
        bool at_files = r->at == r->plan.n_before_files && r->files != FILES_DONE;
        bool at_a_job = r->at < r->plan.n_steps;

        err_set(&what, "not well within the deadline of %llu s",
                (unsigned long long) (r->plan.deadline_usec / 1000000));
        if (at_files) {
                finish_error(r, -ETIMEDOUT, strempty(what), "systemd",
                             "it still reads its unit files");
                return;
        }
        finish_with_tail(r, -ETIMEDOUT, strempty(what), at_a_job ? step_unit(r)->name : "its units",
                         at_a_job ? strempty(state) : "the bake is not over", last_run(s));
}

static int on_overdue_read(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
        UnitRun *r = userdata;
        UnitStatus s = {};

        (void) error;
        if (!is_answer(r, m))
                return 1;
        if (sd_bus_message_is_method_error(m, NULL) || unit_status_read(m, &s) < 0)
                s = (UnitStatus){};
        overdue(r, &s);
        return 1;
}

/* A signal that says all is well may not have come through: only systemd's silence about that
 * counts, not that of the bus. */
static int on_deadline(sd_event_source *source, uint64_t usec, void *userdata)
{
        static const UnitStatus unknown = {};
        UnitRun *r = userdata;
        const char *path;

        (void) source;
        (void) usec;
        if (r->away || r->ending)
                return 0;
        path = r->step.path ? r->step.path : r->n_watched > 0 ? r->watched[0].path : NULL;
        if (!path || read_unit(r, path, on_overdue_read, r, &r->step.read_slot) < 0)
                overdue(r, &unknown);
        return 0;
}

/* Going on after the bus or systemd was away */

/* What became of the job that was under way. */
static int on_look(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
        UnitRun *r = userdata;
        UnitStatus s = {};
        bool anew;
        int k = -EIO;

        (void) error;
        if (!is_answer(r, m))
                return 1;
        if (!sd_bus_message_is_method_error(m, NULL))
                k = unit_status_read(m, &s);
        if (k >= 0 && s.job_path && !streq(s.job_path, "/")) {
                r->step.job_path = strdup(s.job_path);
                if (!r->step.job_path)
                        finish_error(r, -ENOMEM, "can't follow its job", step_unit(r)->name,
                                     "no memory");
                return 1;
        }
        anew = r->step.asked && k >= 0 && !sd_id128_equal(s.invocation, r->step.invocation_before);
        if (anew && unit_status_is_well(&s))
                job_ended(r, "done");
        else if (anew && streq(strempty(s.active_state), "failed"))
                job_ended(r, "failed");
        else {
                /* It was not asked for, or asked for in vain; once more does no harm. */
                k = read_step(r, on_before);
                if (k < 0)
                        finish_error(r, k, "can't ask systemd", step_unit(r)->name, strerror(-k));
        }
        return 1;
}

static int connect_run(UnitRun *r);

static void go_on(UnitRun *r)
{
        int k = -EHOSTDOWN;

        sd_bus_unref(r->bus);
        r->bus = sd_bus_ref(bus_get(r->buses));
        if (!r->bus || !r->away || r->ending)
                return;
        free(r->step.job_path);
        r->step.job_path = NULL;
        forget_calls(r);
        k = check_sent(r, connect_run(r));
        if (k >= 0 && r->at == r->plan.n_before_files && r->files != FILES_DONE)
                k = change_files(r);
        else if (k >= 0 && r->baking)
                read_all(r);
        else if (k >= 0)
                k = read_step(r, on_look);
        if (k < 0)
                finish_error(r, k, "can't be asked again", "systemd", strerror(-k));
}

static int on_again(sd_event_source *source, uint64_t usec, void *userdata)
{
        (void) source;
        (void) usec;
        go_on(userdata);
        return 0;
}

static void on_bus_changed(sd_bus *bus, void *userdata)
{
        UnitRun *r = userdata;

        interrupt(r);
        if (bus)
                go_on(r);
        else
                r->bus = sd_bus_unref(r->bus);
}

/* systemd leaves the bus and comes back when it is executed anew. */
static int on_owner_changed(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
        UnitRun *r = userdata;
        const char *name, *before, *now;

        (void) error;
        if (sd_bus_message_read(m, "sss", &name, &before, &now) < 0)
                return 0;
        interrupt(r);
        if (now[0])
                go_on(r);
        return 0;
}

/* Setting up */

static int on_subscribed(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
        (void) userdata;
        (void) error;
        /* AlreadySubscribed is what a second run on the same connection gets. */
        if (sd_bus_message_is_method_error(m, NULL) &&
            !sd_bus_message_is_method_error(m, SD1_NAME ".AlreadySubscribed"))
                log_debug("Subscribe: %s", sd_bus_message_get_error(m)->message);
        return 1;
}

/* Whatever is sent or matched on the connection comes in order: what is asked after this misses
 * nothing. */
static int connect_run(UnitRun *r)
{
        int k = sd_bus_call_method_async(r->bus, &r->subscribe_slot, SD1_NAME, SD1_PATH,
                                         SD1_MANAGER, "Subscribe", on_subscribed, r, NULL);

        if (k >= 0)
                k = sd_bus_match_signal_async(r->bus, &r->removed_slot, SD1_NAME, SD1_PATH,
                                              SD1_MANAGER, "JobRemoved", on_job_removed, NULL, r);
        if (k >= 0)
                k = sd_bus_add_match_async(r->bus, &r->owner_slot, OWNER_MATCH, on_owner_changed,
                                           NULL, r);
        for (size_t i = 0; k >= 0 && i < r->n_watched; i++) {
                k = match_unit(&r->watched[i]);
                if (k >= 0)
                        k = hold(&r->watched[i]);
        }
        return k;
}

static int set_up_units(UnitRun *r)
{
        int k = 0;

        r->watched = calloc(MAX(r->plan.n_watched, (size_t) 1), sizeof(Watched));
        if (!r->watched)
                return -ENOMEM;
        r->n_watched = r->plan.n_watched;
        for (size_t i = 0; i < r->n_watched && k >= 0; i++) {
                Watched *w = &r->watched[i];

                *w = (Watched){ .run = r, .name = r->plan.watched[i] };
                k = unit_path(w->name, &w->path);
        }
        return k;
}

static int begin(UnitRun *r)
{
        if (r->mode == UNIT_RUN_WATCH) {
                r->at = r->plan.n_steps;
                r->files = FILES_DONE;
        }
        return next_job(r);
}

static int add_timers(UnitRun *r)
{
        int k = sd_event_add_defer(r->event, &r->end_source, on_end, r);

        if (k < 0)
                return k;
        k = sd_event_source_set_enabled(r->end_source, SD_EVENT_OFF);
        if (k >= 0)
                k = sd_event_add_time_relative(r->event, &r->again_source, CLOCK_BOOTTIME, 0, 0,
                                               on_again, r);
        if (k >= 0)
                k = sd_event_source_set_enabled(r->again_source, SD_EVENT_OFF);
        if (k < 0)
                return k;
        return sd_event_add_time_relative(r->event, &r->deadline_source, CLOCK_BOOTTIME,
                                          r->plan.deadline_usec, 0, on_deadline, r);
}

int unit_run_start(Bus *bus, sd_event *event, UnitPlan *plan, UnitRunMode mode,
                   const UnitRunCallbacks *callbacks, void *userdata, UnitRun **ret)
{
        _cleanup_(unit_run_freep) UnitRun *r = NULL;
        _cleanup_(unit_plan_done) UnitPlan p = *plan;
        int k;

        *plan = (UnitPlan){};
        r = calloc(1, sizeof(UnitRun));
        if (!r)
                return -ENOMEM;
        r->buses = bus;
        r->watch = (BusWatch){ .changed = on_bus_changed, .userdata = r };
        r->bus = sd_bus_ref(bus_get(bus));
        r->event = sd_event_ref(event);
        r->plan = p;
        p = (UnitPlan){};
        r->mode = mode;
        r->callbacks = *callbacks;
        r->userdata = userdata;
        k = add_timers(r);
        if (k >= 0)
                k = set_up_units(r);
        if (k >= 0 && (r->plan.n_steps + r->n_watched > 0 || r->plan.reload_systemd)) {
                bus_watch(bus, &r->watch);
                if (r->bus)
                        k = check_sent(r, connect_run(r));
                else if (mode == UNIT_RUN_ALL)
                        k = -EHOSTDOWN;
        }
        if (k >= 0)
                k = begin(r);
        if (k < 0)
                return k;
        *ret = TAKE_PTR(r);
        return 0;
}
