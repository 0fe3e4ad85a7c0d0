/* SPDX-License-Identifier: Apache-2.0 */
#include <stdint.h>
#include <stdio.h>

#include "err.h"
#include "log.h"
#include "units.h"

#define SD1_NAME    "org.freedesktop.systemd1"
#define SD1_PATH    "/org/freedesktop/systemd1"
#define SD1_MANAGER "org.freedesktop.systemd1.Manager"

/* What is read of a unit; strings are borrowed from the message. */
typedef struct UnitStatus {
        const char *id, *load_state, *active_state, *sub_state, *type, *result;
        uint32_t n_restarts;
        int32_t exec_main_code, exec_main_status;
} UnitStatus;

/* One unit of the run. */
typedef struct Watched {
        UnitRun *run;
        const ActivateUnit *unit;
        char *path;                 /* of its bus object */
        uint32_t n_restarts_before; /* before the job */
        uint32_t n_restarts;        /* what counts as no restart since */
        bool baseline;              /* n_restarts was read after the job */
        bool final;                 /* read at the end of the bake */
        sd_bus_slot *changed_slot, *read_slot;
} Watched;

struct UnitRun {
        sd_bus *bus;
        sd_event *event;
        Activate activate;
        UnitRunMode mode;
        UnitRunCallbacks callbacks;
        void *userdata;
        Watched *units;
        size_t n_units;
        size_t at;      /* the unit whose job is under way */
        char *job_path; /* of that job, once it is known */
        bool baking, ending;
        sd_bus_slot *subscribe_slot, *removed_slot, *call_slot;
        sd_event_source *deadline_source, *bake_source, *end_source;
        int result;
        char *reason;
};

static int next_job(UnitRun *r);

UnitRun *unit_run_free(UnitRun *r)
{
        if (!r)
                return NULL;
        for (size_t i = 0; i < r->n_units; i++) {
                sd_bus_slot_unref(r->units[i].changed_slot);
                sd_bus_slot_unref(r->units[i].read_slot);
                free(r->units[i].path);
        }
        free(r->units);
        sd_bus_slot_unref(r->subscribe_slot);
        sd_bus_slot_unref(r->removed_slot);
        sd_bus_slot_unref(r->call_slot);
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

/* Reading a unit */

static int read_property(sd_bus_message *m, const char *name, const char *type, void *target)
{
        int r = sd_bus_message_enter_container(m, 'v', type);

        (void) name;
        if (r < 0)
                return r;
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
                {"LoadState",       "s", &s->load_state      },
                { "ActiveState",    "s", &s->active_state    },
                { "SubState",       "s", &s->sub_state       },
                { "Type",           "s", &s->type            },
                { "Result",         "s", &s->result          },
                { "NRestarts",      "u", &s->n_restarts      },
                { "ExecMainCode",   "i", &s->exec_main_code  },
                { "ExecMainStatus", "i", &s->exec_main_status},
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
                r = i < ELEMENTSOF(wanted)
                            ? read_property(m, name, wanted[i].type, wanted[i].target)
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
        if (w->final && all_read(r))
                finish(r, 0, NULL);
        return 1;
}

static int read_unit(Watched *w, sd_bus_message_handler_t handler)
{
        w->read_slot = sd_bus_slot_unref(w->read_slot);
        return sd_bus_call_method_async(w->run->bus, &w->read_slot, SD1_NAME, w->path,
                                        "org.freedesktop.DBus.Properties", "GetAll", handler, w,
                                        "s", "");
}

static int on_changed(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
        Watched *w = userdata;
        int r;

        (void) m;
        (void) error;
        /* A read that is under way at the end of the bake decides; do not replace it. */
        if (!w->run->baking || w->run->ending || w->final)
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
        if (r->n_units == 0)
                finish(r, 0, NULL);
        for (size_t i = 0; i < r->n_units && !r->ending; i++) {
                int k = read_unit(&r->units[i], on_read);
                if (k < 0)
                        finish_error(r, k, "can't read its state", r->units[i].unit->name,
                                     strerror(-k));
                r->units[i].final = true;
        }
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
        for (size_t i = 0; i < r->n_units; i++) {
                k = read_unit(&r->units[i], on_read);
                if (k < 0)
                        return k;
        }
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
static int match_unit(Watched *w, const char *name)
{
        char *path;
        int k = sd_bus_path_encode(SD1_PATH "/unit", name, &path);

        if (k < 0)
                return k;
        free(w->path);
        w->path = path;
        w->changed_slot = sd_bus_slot_unref(w->changed_slot);
        return sd_bus_match_signal_async(w->run->bus, &w->changed_slot, SD1_NAME, w->path,
                                         "org.freedesktop.DBus.Properties", "PropertiesChanged",
                                         on_changed, NULL, w);
}

static int on_before(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
        Watched *w = userdata;
        UnitRun *r = w->run;
        UnitStatus s = {};
        int k;

        (void) error;
        if (!sd_bus_message_is_method_error(m, NULL) && read_status(m, &s) >= 0)
                w->n_restarts_before = s.n_restarts;
        /* An alias has signals under its canonical name only. */
        k = s.id && !streq(s.id, w->unit->name) ? match_unit(w, s.id) : 0;
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

static int on_deadline(sd_event_source *source, uint64_t usec, void *userdata)
{
        UnitRun *r = userdata;
        char *reason = NULL;

        (void) source;
        (void) usec;
        (void) fail(&reason, -ETIMEDOUT, "not well within the deadline of %llu s: %s",
                    (unsigned long long) (r->activate.deadline_usec / 1000000),
                    r->at < r->n_units ? r->units[r->at].unit->name : "its units");
        finish(r, -ETIMEDOUT, reason);
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

static int watch_unit(UnitRun *r, Watched *w, const ActivateUnit *unit)
{
        w->run = r;
        w->unit = unit;
        return match_unit(w, unit->name);
}

static int connect_run(UnitRun *r)
{
        int k;

        if (r->activate.n_units == 0)
                return 0;
        if (!r->bus)
                return -EHOSTDOWN;
        k = sd_bus_call_method_async(r->bus, &r->subscribe_slot, SD1_NAME, SD1_PATH, SD1_MANAGER,
                                     "Subscribe", on_subscribed, r, NULL);
        if (k < 0)
                return k;
        k = sd_bus_match_signal_async(r->bus, &r->removed_slot, SD1_NAME, SD1_PATH, SD1_MANAGER,
                                      "JobRemoved", on_job_removed, NULL, r);
        if (k < 0)
                return k;
        r->units = calloc(r->activate.n_units, sizeof(Watched));
        if (!r->units)
                return -ENOMEM;
        r->n_units = r->activate.n_units;
        for (size_t i = 0; i < r->n_units; i++) {
                k = watch_unit(r, &r->units[i], &r->activate.units[i]);
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
        r->bus = sd_bus_ref(bus_get(bus));
        r->event = sd_event_ref(event);
        r->mode = mode;
        r->callbacks = *callbacks;
        r->userdata = userdata;
        k = activate_copy(activate, &r->activate);
        if (k < 0)
                return k;
        k = add_timers(r);
        if (k < 0)
                return k;
        k = connect_run(r);
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
