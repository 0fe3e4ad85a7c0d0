/* SPDX-License-Identifier: Apache-2.0 */
#include <stdint.h>
#include <stdio.h>
#include <time.h>

#include "err.h"
#include "log.h"
#include "units.h"

#define SD1_NAME    "org.freedesktop.systemd1"
#define SD1_PATH    "/org/freedesktop/systemd1"
#define SD1_MANAGER "org.freedesktop.systemd1.Manager"

#define OWNER_MATCH                                                                 \
        "type='signal',sender='org.freedesktop.DBus',path='/org/freedesktop/DBus'," \
        "interface='org.freedesktop.DBus',member='NameOwnerChanged',arg0='" SD1_NAME "'"

/* Before systemd is asked again when it was away, and at most. */
#define AGAIN_MIN_USEC (UINT64_C(50) * 1000)
#define AGAIN_MAX_USEC (UINT64_C(2) * 1000000)

/* What is left of the deadline, at least, when systemd is back. */
#define LEFT_MIN_USEC (UINT64_C(10) * 1000000)

/* What is read of a unit; all but numbers is borrowed from the message. */
typedef struct UnitStatus {
        const char *id, *load_state, *active_state, *sub_state, *type, *result;
        uint32_t n_restarts;
        int32_t exec_main_code, exec_main_status;
        const char *job_path;      /* "/": none */
        const uint8_t *invocation; /* INVOCATION_SIZE bytes, another at each start; NULL: none */
} UnitStatus;

#define INVOCATION_SIZE 16

/* One unit of the run. */
typedef struct Watched {
        UnitRun *run;
        const ActivateUnit *unit;
        char *path;                 /* of its bus object */
        uint32_t n_restarts_before; /* before the job */
        uint32_t n_restarts;        /* what counts as no restart since */
        bool baseline;              /* n_restarts was read after the job */
        bool final;                 /* was read after the end of the bake */
        uint8_t invocation_before[INVOCATION_SIZE];
        bool asked; /* for its job */
        sd_bus_slot *changed_slot, *read_slot;
} Watched;

struct UnitRun {
        Bus *buses;
        BusWatch watch;
        sd_bus *bus; /* NULL: lost */
        sd_event *event;
        Activate activate;
        UnitRunMode mode;
        UnitRunCallbacks callbacks;
        void *userdata;
        Watched *units;
        size_t n_units;
        size_t at;      /* the unit whose job is under way */
        char *job_path; /* of that job, once it is known */
        bool baking, bake_over, ending;
        bool away; /* the bus or systemd does not answer: nothing is judged */
        uint64_t away_since_usec, again_delay_usec;
        sd_bus_slot *subscribe_slot, *removed_slot, *owner_slot, *call_slot;
        sd_event_source *deadline_source, *bake_source, *end_source, *again_source;
        int result;
        char *reason;
};

static int next_job(UnitRun *r);
static int on_before(sd_bus_message *m, void *userdata, sd_bus_error *error);

/* Everything that hangs on the connection. */
static void forget_calls(UnitRun *r)
{
        for (size_t i = 0; i < r->n_units; i++) {
                r->units[i].changed_slot = sd_bus_slot_unref(r->units[i].changed_slot);
                r->units[i].read_slot = sd_bus_slot_unref(r->units[i].read_slot);
        }
        r->subscribe_slot = sd_bus_slot_unref(r->subscribe_slot);
        r->removed_slot = sd_bus_slot_unref(r->removed_slot);
        r->owner_slot = sd_bus_slot_unref(r->owner_slot);
        r->call_slot = sd_bus_slot_unref(r->call_slot);
}

UnitRun *unit_run_free(UnitRun *r)
{
        if (!r)
                return NULL;
        bus_unwatch(r->buses, &r->watch);
        forget_calls(r);
        for (size_t i = 0; i < r->n_units; i++)
                free(r->units[i].path);
        free(r->units);
        sd_event_source_unref(r->again_source);
        sd_event_source_unref(r->deadline_source);
        sd_event_source_unref(r->bake_source);
        sd_event_source_unref(r->end_source);
        activate_done(&r->activate);
        sd_bus_unref(r->bus);
        sd_event_unref(r->event);
        free(r->job_path);
        free(r->reason);
        free(r);
        return NULL;
}

static int on_end(sd_event_source *source, void *userdata)
{
        UnitRun *r = userdata;

        (void) source;
        /* Nothing of r may be used after this: done() may free it. */
        r->callbacks.done(r->result, r->result < 0 ? err_text(r->result, r->reason) : NULL,
                          r->userdata);
        return 0;
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
        (void) sd_event_source_set_enabled(r->end_source, SD_EVENT_ONESHOT);
}

static void finish_error(UnitRun *r, int error, const char *what, const char *unit, const char *why)
{
        char *reason = NULL;

        err_set(&reason, "%s: %s: %s", unit, what, why);
        finish(r, error, reason);
}

/* When the bus or systemd is away */

static uint64_t boottime_usec(void)
{
        struct timespec t;

        (void) clock_gettime(CLOCK_BOOTTIME, &t);
        return (uint64_t) t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

/* Nothing is judged from now on, until systemd was asked again. */
static void interrupt(UnitRun *r)
{
        int k;

        if (r->ending)
                return;
        if (!r->away) {
                log_info("systemd does not answer; its units are asked again");
                r->away = true;
                r->away_since_usec = boottime_usec();
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
        uint64_t now = boottime_usec(), at = now;

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

static int read_job(sd_bus_message *m, const char **ret_path)
{
        uint32_t id;

        return sd_bus_message_read(m, "(uo)", &id, ret_path);
}

static int read_invocation(sd_bus_message *m, const uint8_t **ret)
{
        const void *bytes;
        size_t size;
        int r = sd_bus_message_read_array(m, 'y', &bytes, &size);

        if (r >= 0)
                *ret = size == INVOCATION_SIZE ? bytes : NULL;
        return r;
}

static int read_property(sd_bus_message *m, const char *type, void *target)
{
        int r = sd_bus_message_enter_container(m, 'v', type);

        if (r < 0)
                return r;
        if (streq(type, "(uo)"))
                r = read_job(m, target);
        else if (streq(type, "ay"))
                r = read_invocation(m, target);
        else
                r = sd_bus_message_read_basic(m, type[0], target);
        if (r < 0)
                return r;
        return sd_bus_message_exit_container(m);
}

static int read_status(sd_bus_message *m, UnitStatus *s)
{
        struct {
                const char *name, *type;
                void *target;
        } wanted[] = {
                {"LoadState",       "s",    &s->load_state      },
                { "ActiveState",    "s",    &s->active_state    },
                { "SubState",       "s",    &s->sub_state       },
                { "Type",           "s",    &s->type            },
                { "Result",         "s",    &s->result          },
                { "NRestarts",      "u",    &s->n_restarts      },
                { "ExecMainCode",   "i",    &s->exec_main_code  },
                { "ExecMainStatus", "i",    &s->exec_main_status},
                { "Job",            "(uo)", &s->job_path        },
                { "InvocationID",   "ay",   &s->invocation      },
        };
        const char *name;
        int r = sd_bus_message_enter_container(m, 'a', "{sv}");

        while (r >= 0 && (r = sd_bus_message_enter_container(m, 'e', "sv")) > 0) {
                size_t i;
                r = sd_bus_message_read_basic(m, 's', &name);
                if (r < 0)
                        return r;
                for (i = 0; i < ELEMENTSOF(wanted) && !streq(name, wanted[i].name); i++)
                        ;
                r = i < ELEMENTSOF(wanted) ? read_property(m, wanted[i].type, wanted[i].target)
                                           : sd_bus_message_skip(m, "v");
                if (r < 0)
                        return r;
                r = sd_bus_message_exit_container(m);
        }
        return r < 0 ? r : sd_bus_message_exit_container(m);
}

static char *describe_failure(const UnitStatus *s)
{
        /* si_code values of waitid(2): 1 exited, 2 killed, 3 dumped core. */
        const char *how = s->exec_main_code == 1 ? "exit status" : "signal";
        char *text = NULL;
        int n;

        if (s->load_state && !streq(s->load_state, "loaded"))
                n = asprintf(&text, "unit is %s", s->load_state);
        else if (s->exec_main_code > 0 && (s->exec_main_status != 0 || s->exec_main_code != 1))
                n = asprintf(&text, "%s (%s), result %s, main process ended with %s %d",
                             strempty(s->active_state), strempty(s->sub_state), strempty(s->result),
                             how, s->exec_main_status);
        else
                n = asprintf(&text, "%s (%s)%s%s", strempty(s->active_state),
                             strempty(s->sub_state), s->result ? ", result " : "",
                             strempty(s->result));
        return n < 0 ? NULL : text;
}

static bool status_is_well(const UnitStatus *s)
{
        if (!s->active_state)
                return false;
        if (streq(s->active_state, "active") || streq(s->active_state, "reloading"))
                return true;
        return streq(s->active_state, "inactive") && s->type && streq(s->type, "oneshot") &&
               s->result && streq(s->result, "success");
}

static void judge(Watched *w, const UnitStatus *s)
{
        UnitRun *r = w->run;
        _cleanup_free_ char *what = NULL;

        if (!w->baseline) {
                /* A start by hand sets the counter back, a reload does not. */
                if (r->mode == UNIT_RUN_WATCH)
                        w->n_restarts = s->n_restarts;
                else if (s->n_restarts >= w->n_restarts_before)
                        w->n_restarts = w->n_restarts_before;
                w->baseline = true;
        }
        if (status_is_well(s) && s->n_restarts <= w->n_restarts)
                return;
        what = describe_failure(s);
        if (s->n_restarts > w->n_restarts)
                finish_error(r, -EIO, "it died and was restarted by systemd", w->unit->name,
                             strempty(what));
        else
                finish_error(r, -EIO, "it did not stay up", w->unit->name, strempty(what));
}

static bool all_read(const UnitRun *r)
{
        for (size_t i = 0; i < r->n_units; i++)
                if (!r->units[i].final)
                        return false;
        return true;
}

static int on_read(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
        Watched *w = userdata;
        UnitRun *r = w->run;
        UnitStatus s = {};
        int k;

        (void) error;
        if (!is_answer(r, m))
                return 1;
        if (sd_bus_message_is_method_error(m, NULL)) {
                finish_error(r, -EIO, "can't read its state", w->unit->name,
                             sd_bus_message_get_error(m)->message);
                return 1;
        }
        k = read_status(m, &s);
        if (k < 0) {
                finish_error(r, k, "can't read its state", w->unit->name, strerror(-k));
                return 1;
        }
        judge(w, &s);
        w->final = r->bake_over;
        if (all_read(r))
                finish(r, 0, NULL);
        return 1;
}

static int read_unit(Watched *w, sd_bus_message_handler_t handler)
{
        int k = -ENOTCONN;

        w->read_slot = sd_bus_slot_unref(w->read_slot);
        if (w->run->bus)
                k = sd_bus_call_method_async(w->run->bus, &w->read_slot, SD1_NAME, w->path,
                                             "org.freedesktop.DBus.Properties", "GetAll", handler,
                                             w, "s", "");
        return check_sent(w->run, k);
}

static void read_all(UnitRun *r)
{
        for (size_t i = 0; i < r->n_units && !r->ending; i++) {
                int k = read_unit(&r->units[i], on_read);
                if (k < 0)
                        finish_error(r, k, "can't read its state", r->units[i].unit->name,
                                     strerror(-k));
        }
}

static int on_changed(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
        Watched *w = userdata;
        int r;

        (void) m;
        (void) error;
        /* A read that is under way at the end of the bake decides; do not replace it. */
        if (!w->run->baking || w->run->ending || w->run->bake_over)
                return 0;
        r = read_unit(w, on_read);
        if (r < 0)
                finish_error(w->run, r, "can't read its state", w->unit->name, strerror(-r));
        return 0;
}

/* The bake */

static int on_bake_end(sd_event_source *source, uint64_t usec, void *userdata)
{
        UnitRun *r = userdata;

        (void) source;
        (void) usec;
        r->bake_over = true;
        if (r->n_units == 0)
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
                                          r->n_units > 0 ? r->activate.bake_usec : 0, 0,
                                          on_bake_end, r);
}

/* The jobs */

static int on_job_failed_read(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
        Watched *w = userdata;
        _cleanup_free_ char *what = NULL;
        UnitStatus s = {};

        (void) error;
        if (!is_answer(w->run, m))
                return 1;
        if (!sd_bus_message_is_method_error(m, NULL) && read_status(m, &s) >= 0)
                what = describe_failure(&s);
        finish_error(w->run, -EIO, "its job failed", w->unit->name,
                     what ? what : "no more is known");
        return 1;
}

static void job_ended(UnitRun *r, const char *job_result)
{
        Watched *w = &r->units[r->at];
        int k;

        free(r->job_path);
        r->job_path = NULL;
        if (!streq(job_result, "done")) {
                k = read_unit(w, on_job_failed_read);
                if (k < 0)
                        finish_error(r, -EIO, "its job failed", w->unit->name, job_result);
                return;
        }
        r->at++;
        k = next_job(r);
        if (k < 0)
                finish_error(r, k, "can't go on after it", w->unit->name, strerror(-k));
}

static int on_job_removed(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
        UnitRun *r = userdata;
        const char *path, *unit, *job_result;
        uint32_t id;

        (void) error;
        if (sd_bus_message_read(m, "uoss", &id, &path, &unit, &job_result) < 0)
                return 0;
        if (!r->ending && r->job_path && streq(path, r->job_path))
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
        if (r->mode == UNIT_RUN_STOP && sd_bus_message_is_method_error(m, SD1_NAME ".NoSuchUnit")) {
                job_ended(r, "done");
                return 1;
        }
        if (sd_bus_message_is_method_error(m, NULL)) {
                finish_error(r, -EIO, "systemd refused the job", r->units[r->at].unit->name,
                             sd_bus_message_get_error(m)->message);
                return 1;
        }
        if (sd_bus_message_read(m, "o", &path) < 0 || !(r->job_path = strdup(path)))
                finish_error(r, -ENOMEM, "can't follow its job", r->units[r->at].unit->name,
                             "bad answer");
        return 1;
}

static const char *job_method(const UnitRun *r, UnitAction action)
{
        static const char *const methods[_UNIT_ACTION_MAX] = {
                [UNIT_RESTART] = "RestartUnit",
                [UNIT_RELOAD] = "ReloadUnit",
                [UNIT_RELOAD_OR_RESTART] = "ReloadOrRestartUnit",
                [UNIT_TRY_RESTART] = "TryRestartUnit",
                [UNIT_START] = "StartUnit",
                [UNIT_STOP] = "StopUnit",
        };

        return r->mode == UNIT_RUN_STOP ? "StopUnit" : methods[action];
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
        int k = sd_bus_path_encode(SD1_PATH "/unit", name, &path);

        if (k < 0)
                return k;
        free(w->path);
        w->path = path;
        return check_sent(w->run, match_unit(w));
}

static void note_before(Watched *w, const UnitStatus *s)
{
        w->n_restarts_before = s->n_restarts;
        if (s->invocation)
                memcpy(w->invocation_before, s->invocation, INVOCATION_SIZE);
}

static int on_before(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
        Watched *w = userdata;
        UnitRun *r = w->run;
        UnitStatus s = {};
        int k;

        (void) error;
        if (!is_answer(r, m))
                return 1;
        if (!sd_bus_message_is_method_error(m, NULL) && read_status(m, &s) >= 0)
                note_before(w, &s);
        /* An alias has signals under its canonical name only. */
        k = s.id && !streq(s.id, w->unit->name) ? match_other(w, s.id) : 0;
        if (k < 0) {
                finish_error(r, k, "can't follow it", w->unit->name, strerror(-k));
                return 1;
        }
        r->call_slot = sd_bus_slot_unref(r->call_slot);
        /* A release that crashed may have used up the unit's start limit (systemd.unit(5),
         * StartLimitBurst=): ours is a new try. Nothing waits for an answer: the order is kept, and
         * a unit that is not loaded has nothing to reset. */
        k = sd_bus_call_method_async(r->bus, NULL, SD1_NAME, SD1_PATH, SD1_MANAGER,
                                     "ResetFailedUnit", NULL, NULL, "s", w->unit->name);
        if (k >= 0)
                k = sd_bus_call_method_async(r->bus, &r->call_slot, SD1_NAME, SD1_PATH, SD1_MANAGER,
                                             job_method(r, w->unit->action), on_job_queued, r, "ss",
                                             w->unit->name, "replace");
        w->asked = true;
        k = check_sent(r, k);
        if (k < 0)
                finish_error(r, k, "can't ask systemd", w->unit->name, strerror(-k));
        return 1;
}

static int next_job(UnitRun *r)
{
        /* Units that were only to be reloaded belong to others as well. */
        while (r->mode == UNIT_RUN_STOP && r->at < r->n_units &&
               r->units[r->at].unit->action != UNIT_RESTART)
                r->at++;
        if (r->at < r->n_units)
                return read_unit(&r->units[r->at], on_before);
        if (r->mode == UNIT_RUN_STOP) {
                finish(r, 0, NULL);
                return 0;
        }
        return begin_bake(r);
}

static void overdue(UnitRun *r)
{
        char *reason = NULL;

        (void) fail(&reason, -ETIMEDOUT, "not well within the deadline of %llu s: %s",
                    (unsigned long long) (r->activate.deadline_usec / 1000000),
                    r->at < r->n_units ? r->units[r->at].unit->name : "its units");
        finish(r, -ETIMEDOUT, reason);
}

static int on_overdue_read(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
        Watched *w = userdata;

        (void) error;
        if (is_answer(w->run, m))
                overdue(w->run);
        return 1;
}

/* A signal that says all is well may not have come through: only systemd's silence about that
 * counts, not that of the bus. */
static int on_deadline(sd_event_source *source, uint64_t usec, void *userdata)
{
        UnitRun *r = userdata;
        int k;

        (void) source;
        (void) usec;
        if (r->away)
                return 0;
        if (r->n_units == 0) {
                overdue(r);
                return 0;
        }
        k = read_unit(&r->units[MIN(r->at, r->n_units - 1)], on_overdue_read);
        if (k < 0)
                overdue(r);
        return 0;
}

/* Going on after the bus or systemd was away */

/* What became of the job that was under way. */
static int on_look(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
        Watched *w = userdata;
        UnitRun *r = w->run;
        UnitStatus s = {};
        bool anew;
        int k = -EIO;

        (void) error;
        if (!is_answer(r, m))
                return 1;
        if (!sd_bus_message_is_method_error(m, NULL))
                k = read_status(m, &s);
        if (k >= 0 && s.job_path && !streq(s.job_path, "/")) {
                r->job_path = strdup(s.job_path);
                if (!r->job_path)
                        finish_error(r, -ENOMEM, "can't follow its job", w->unit->name,
                                     "no memory");
                return 1;
        }
        anew = k >= 0 && s.invocation &&
               memcmp(s.invocation, w->invocation_before, INVOCATION_SIZE) != 0;
        if (w->asked && anew && status_is_well(&s))
                job_ended(r, "done");
        else if (w->asked && anew && s.active_state && streq(s.active_state, "failed"))
                job_ended(r, "failed");
        else {
                /* It was not asked for, or asked for in vain; once more does no harm. */
                k = read_unit(w, on_before);
                if (k < 0)
                        finish_error(r, k, "can't ask systemd", w->unit->name, strerror(-k));
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
        free(r->job_path);
        r->job_path = NULL;
        forget_calls(r);
        k = check_sent(r, connect_run(r));
        if (k >= 0 && r->baking)
                read_all(r);
        else if (k >= 0)
                k = read_unit(&r->units[r->at], on_look);
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
        for (size_t i = 0; k >= 0 && i < r->n_units; i++)
                k = match_unit(&r->units[i]);
        return k;
}

static int set_up_units(UnitRun *r)
{
        r->units = calloc(MAX(r->activate.n_units, (size_t) 1), sizeof(Watched));
        if (!r->units)
                return -ENOMEM;
        r->n_units = r->activate.n_units;
        for (size_t i = 0; i < r->n_units; i++) {
                Watched *w = &r->units[i];
                int k;

                *w = (Watched){ .run = r, .unit = &r->activate.units[i] };
                k = sd_bus_path_encode(SD1_PATH "/unit", w->unit->name, &w->path);
                if (k < 0)
                        return k;
        }
        return 0;
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
                                          r->activate.deadline_usec, 0, on_deadline, r);
}

int unit_run_start(Bus *bus, sd_event *event, const Activate *activate, UnitRunMode mode,
                   const UnitRunCallbacks *callbacks, void *userdata, UnitRun **ret)
{
        _cleanup_(unit_run_freep) UnitRun *r = calloc(1, sizeof(UnitRun));
        int k;

        if (!r)
                return -ENOMEM;
        r->buses = bus;
        r->watch = (BusWatch){ .changed = on_bus_changed, .userdata = r };
        r->bus = sd_bus_ref(bus_get(bus));
        r->event = sd_event_ref(event);
        r->mode = mode;
        r->callbacks = *callbacks;
        r->userdata = userdata;
        k = activate_copy(activate, &r->activate);
        if (k < 0)
                return k;
        k = add_timers(r);
        if (k >= 0)
                k = set_up_units(r);
        if (k >= 0 && r->n_units > 0) {
                bus_watch(bus, &r->watch);
                k = r->bus ? check_sent(r, connect_run(r)) : -EHOSTDOWN;
        }
        if (k < 0)
                return k;
        if (mode == UNIT_RUN_WATCH)
                r->at = r->n_units;
        k = next_job(r);
        if (k < 0)
                return k;
        *ret = TAKE_PTR(r);
        return 0;
}
