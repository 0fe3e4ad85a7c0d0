/* SPDX-License-Identifier: Apache-2.0 */
#include <inttypes.h>
#include <pwd.h>
#include <signal.h>
#include <stdio.h>
#include <time.h>

#include "command.h"
#include "err.h"
#include "fd.h"
#include "journal-tail.h"
#include "log.h"
#include "transient.h"
#include "unit-status.h"

/* JobRemoved can be missed (a daemon-reload has lost it before): systemd is asked so often whether
 * the unit has ended after all. */
#define CHECK_USEC (UINT64_C(5) * 1000000)

/* What systemd's own limits may be late by. */
#define LATE_MAX_USEC (UINT64_C(20) * 1000000)

struct CommandRun {
        sd_event *event;
        Bus *bus;
        sd_bus *connection; /* the one it was started on, which holds the reference */
        BusWatch watch;
        char *unit, *path, *job_path;
        char *program; /* for messages */
        uint64_t timeout_usec, started_usec;
        bool over, want_output;
        bool canceled; /* somebody stopped the unit: an admin, or systemd as the host goes down */
        const char *job_error; /* of its start job, in words; NULL: none is known */
        sd_bus_slot *subscribe_slot, *removed_slot, *call_slot, *read_slot;
        sd_event_source *check_source, *end_source;
        JournalTail *tail;
        CommandResult result;
        char *reason, *output;
        command_done_t done;
        void *userdata;
};

static const char *const kind_names[_COMMAND_KIND_MAX] = {
        [COMMAND_PRE] = "pre",
        [COMMAND_POST] = "post",
        [COMMAND_REVERT] = "revert",
        [COMMAND_PROBE] = "probe",
};

const char *command_kind_to_string(CommandKind k)
{
        return kind_names[k];
}

/* Nothing waits for the answers: a unit that is gone needs neither. */
static void tell_systemd(CommandRun *r, const char *method, const char *types, const char *mode)
{
        int k = mode ? sd_bus_call_method_async(r->connection, NULL, SD1_NAME, SD1_PATH,
                                                SD1_MANAGER, method, NULL, NULL, types, r->unit,
                                                mode)
                     : sd_bus_call_method_async(r->connection, NULL, SD1_NAME, SD1_PATH,
                                                SD1_MANAGER, method, NULL, NULL, types, r->unit);

        if (k < 0)
                log_debug("%s %s: %s", method, r->unit, strerror(-k));
}

static void stop(CommandRun *r)
{
        tell_systemd(r, "StopUnit", "ss", "replace");
}

static void unref(CommandRun *r)
{
        tell_systemd(r, "UnrefUnit", "s", NULL);
}

CommandRun *command_free(CommandRun *r)
{
        if (!r)
                return NULL;
        bus_unwatch(r->bus, &r->watch);
        if (r->connection && !r->over) {
                stop(r);
                unref(r);
        }
        journal_tail_free(r->tail);
        sd_bus_slot_unref(r->subscribe_slot);
        sd_bus_slot_unref(r->removed_slot);
        sd_bus_slot_unref(r->call_slot);
        sd_bus_slot_unref(r->read_slot);
        sd_event_source_disable_unref(r->check_source);
        sd_event_source_disable_unref(r->end_source);
        sd_bus_unref(r->connection);
        sd_event_unref(r->event);
        free(r->unit);
        free(r->path);
        free(r->job_path);
        free(r->program);
        free(r->reason);
        free(r->output);
        free(r);
        return NULL;
}

/* The end */

static int on_end(sd_event_source *source, void *userdata)
{
        CommandRun *r = userdata;

        (void) source;
        r->result.reason = r->result.error < 0 ? err_text(r->result.error, r->reason) : NULL;
        r->result.output = r->output;
        r->done(&r->result, r->userdata);
        return 0;
}

static void end_later(CommandRun *r)
{
        int k = sd_event_source_set_enabled(r->end_source, SD_EVENT_ONESHOT);

        if (k < 0)
                log_error("%s: the event loop is broken: %s", r->unit, strerror(-k));
}

static void on_tail(const char *lines, void *userdata)
{
        CommandRun *r = userdata;

        r->output = lines ? strdup(lines) : NULL;
        end_later(r);
}

/* Ends the run from the event loop, once. Takes `reason`. */
static void finish(CommandRun *r, int error, char *reason)
{
        if (r->over) {
                free(reason);
                return;
        }
        r->over = true;
        r->result.error = error;
        r->reason = reason;
        (void) sd_event_source_set_enabled(r->check_source, SD_EVENT_OFF);
        end_later(r);
}

static void finish_lost(CommandRun *r, const char *why)
{
        char *reason = NULL;

        err_set(&reason, "%s: %s", r->program, why);
        finish(r, -EHOSTDOWN, reason);
}

/* Reading how it ended */

/* systemd.exec(5), "Process Exit Codes": what it gives when it could not execute the command. */
static const char *exec_failure(int status)
{
        static const struct {
                int status;
                const char *text;
        } failures[] = {
                {200,  "its directory can't be entered"},
                { 203, "it can't be executed"          },
                { 216, "its group can't be changed to" },
                { 217, "its user can't be changed to"  },
        };

        for (size_t i = 0; i < ELEMENTSOF(failures); i++)
                if (failures[i].status == status)
                        return failures[i].text;
        return NULL;
}

static char *describe_exit(const CommandRun *r, int status)
{
        const char *failure = exec_failure(status);
        char *text = NULL;

        err_set(&text, "%s ended with exit status %d%s%s%s", r->program, status,
                failure ? " (systemd gives that when " : "", strempty(failure), failure ? ")" : "");
        return text;
}

static char *describe_signal(const CommandRun *r, int signal)
{
        const char *name = sigabbrev_np(signal);
        char *text = NULL;

        err_set(&text, "%s was ended by signal %d%s%s%s", r->program, signal, name ? " (SIG" : "",
                strempty(name), name ? ")" : "");
        return text;
}

static int judge(CommandRun *r, const UnitStatus *s, char **ret_reason)
{
        const char *result = strempty(s->result);

        if (r->canceled)
                return fail(ret_reason, -EHOSTDOWN, "%s was stopped from outside", r->program);
        if (s->exec_main_code == CLD_EXITED)
                r->result.exit_status = s->exec_main_status;
        if (streq(result, "success") && s->exec_main_code == CLD_EXITED)
                return 0;
        /* What never ran has the same result. */
        if (streq(result, "success"))
                return fail(ret_reason, -EHOSTDOWN, "%s was not run by systemd%s%s", r->program,
                            r->job_error ? ": " : "", strempty(r->job_error));
        if (streq(result, "timeout"))
                return fail(ret_reason, -ETIMEDOUT, "%s took longer than %" PRIu64 " s", r->program,
                            r->timeout_usec / 1000000);
        if (streq(result, "oom-kill"))
                return fail(ret_reason, -EIO, "%s was ended because it used up its memory",
                            r->program);
        if (streq(result, "exit-code"))
                *ret_reason = describe_exit(r, s->exec_main_status);
        else if (streq(result, "signal") || streq(result, "core-dump"))
                *ret_reason = describe_signal(r, s->exec_main_status);
        else
                return fail(ret_reason, -EIO, "%s was not run by systemd: result %s", r->program,
                            result);
        return -EIO;
}

/* The unit is over: `s` says how. */
static void take_result(CommandRun *r, const UnitStatus *s)
{
        JournalRun run = { .invocation = s->invocation, .unit = r->unit };
        int k;

        r->over = true;
        (void) sd_event_source_set_enabled(r->check_source, SD_EVENT_OFF);
        r->result.error = judge(r, s, &r->reason);
        unref(r);
        if (r->result.error == 0 && !r->want_output) {
                end_later(r);
                return;
        }
        k = journal_tail_start(r->event, &run, on_tail, r, &r->tail);
        if (k < 0)
                end_later(r);
}

static bool is_inactive(const UnitStatus *s)
{
        const char *state = strempty(s->active_state);

        return streq(state, "inactive") || streq(state, "failed");
}

/* One whose start job still waits is inactive, too. */
static bool has_ended(const UnitStatus *s)
{
        return is_inactive(s) && streq(strempty(s->job_path), "/");
}

static bool is_late(const CommandRun *r)
{
        uint64_t now_usec = 0;

        (void) sd_event_now(r->event, CLOCK_BOOTTIME, &now_usec);
        return now_usec > r->started_usec + r->timeout_usec + LATE_MAX_USEC;
}

static void give_up(CommandRun *r)
{
        char *reason = NULL;

        err_set(&reason, "%s took longer than %" PRIu64 " s, and systemd does not end it",
                r->program, r->timeout_usec / 1000000);
        stop(r);
        unref(r);
        finish(r, -ETIMEDOUT, reason);
}

/* Its time counts from when it is run, which it was not. */
static void give_up_waiting(CommandRun *r)
{
        stop(r);
        unref(r);
        finish_lost(r, "systemd does not run it: its job waits for another unit");
}

static int on_read(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
        CommandRun *r = userdata;
        UnitStatus s;

        (void) error;
        if (r->over)
                return 1;
        if (sd_bus_message_is_method_error(m, NULL)) {
                /* Where systemd only does not answer, it is asked again. */
                if (!bus_error_is_passing(sd_bus_message_get_error(m)))
                        finish_lost(r, sd_bus_message_get_error(m)->message);
                else if (is_late(r))
                        give_up(r);
        } else if (unit_status_read(m, &s) < 0)
                finish_lost(r, "systemd's answer can't be read");
        else if (has_ended(&s))
                take_result(r, &s);
        else if (is_late(r) && is_inactive(&s))
                give_up_waiting(r);
        else if (is_late(r))
                give_up(r);
        return 1;
}

static void read_unit(CommandRun *r)
{
        int k;

        r->read_slot = sd_bus_slot_unref(r->read_slot);
        k = unit_status_ask(r->connection, r->path, on_read, r, &r->read_slot);
        if (k < 0)
                finish_lost(r, strerror(-k));
}

/* Following it */

static int on_job_removed(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
        CommandRun *r = userdata;
        const char *path, *unit, *result;
        uint32_t id;

        (void) error;
        if (sd_bus_message_read(m, "uoss", &id, &path, &unit, &result) < 0)
                return 0;
        if (!r->over && r->job_path && streq(path, r->job_path)) {
                r->canceled = streq(result, "canceled");
                r->job_error = job_result_describe(result);
                read_unit(r);
        }
        return 0;
}

static int on_check(sd_event_source *source, uint64_t usec, void *userdata)
{
        CommandRun *r = userdata;
        int k = sd_event_source_set_time_relative(source, CHECK_USEC);

        (void) usec;
        if (k >= 0)
                k = sd_event_source_set_enabled(source, SD_EVENT_ONESHOT);
        if (k < 0)
                return k;
        if (r->job_path)
                read_unit(r);
        return 0;
}

static void on_bus_changed(sd_bus *bus, void *userdata)
{
        CommandRun *r = userdata;

        (void) bus;
        finish_lost(r, "the connection to systemd was lost while it ran");
}

static int on_queued(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
        CommandRun *r = userdata;
        const sd_bus_error *e = sd_bus_message_get_error(m);
        const char *path;
        char *reason = NULL;

        (void) error;
        if (r->over)
                return 1;
        if (e && bus_error_is_passing(e)) {
                stop(r);
                finish_lost(r, "systemd does not answer");
        } else if (e) {
                /* Anything else may pass: the host goes down, or we are being stopped. */
                bool final = sd_bus_error_has_name(e, SD_BUS_ERROR_INVALID_ARGS);

                err_set(&reason, "%s: systemd refuses to run it: %s", r->program, e->message);
                finish(r, final ? -EIO : -EHOSTDOWN, reason);
        } else if (sd_bus_message_read(m, "o", &path) < 0 || !(r->job_path = strdup(path)))
                finish_lost(r, "systemd's answer can't be read");
        return 1;
}

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

/* Starting */

static int ask(CommandRun *r, const CommandPlace *place, CommandKind kind, const Command *command)
{
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL;
        int k = transient_new_call(r->connection, r->unit, place, kind, command, &m);

        if (k >= 0)
                k = sd_bus_call_method_async(r->connection, &r->subscribe_slot, SD1_NAME, SD1_PATH,
                                             SD1_MANAGER, "Subscribe", on_subscribed, r, NULL);
        if (k >= 0)
                k = sd_bus_match_signal_async(r->connection, &r->removed_slot, SD1_NAME, SD1_PATH,
                                              SD1_MANAGER, "JobRemoved", on_job_removed, NULL, r);
        return k < 0 ? k : sd_bus_call_async(r->connection, &r->call_slot, m, on_queued, r, 0);
}

static int add_sources(CommandRun *r)
{
        int k = sd_event_add_defer(r->event, &r->end_source, on_end, r);

        if (k >= 0)
                k = sd_event_source_set_enabled(r->end_source, SD_EVENT_OFF);
        if (k >= 0)
                k = sd_event_now(r->event, CLOCK_BOOTTIME, &r->started_usec);
        return k < 0 ? k
                     : sd_event_add_time_relative(r->event, &r->check_source, CLOCK_BOOTTIME,
                                                  CHECK_USEC, 0, on_check, r);
}

static int name_unit(CommandRun *r, const char *app, CommandKind kind)
{
        char hex[17];
        int k = random_hex(hex);

        if (k < 0)
                return k;
        if (asprintf(&r->unit, "slipway-%s-%s-%s.service", app, command_kind_to_string(kind), hex) <
            0) {
                r->unit = NULL;
                return -ENOMEM;
        }
        return unit_path(r->unit, &r->path);
}

int command_start(const CommandPlace *place, CommandKind kind, const Command *command,
                  bool want_output, command_done_t done, void *userdata, CommandRun **ret)
{
        _cleanup_(command_freep) CommandRun *r = calloc(1, sizeof(CommandRun));
        int k;

        if (!r)
                return -ENOMEM;
        *r = (CommandRun){
                .event = sd_event_ref(place->site->event),
                .bus = place->site->bus,
                .watch = {.changed = on_bus_changed, .userdata = r },
                .timeout_usec = command->timeout_usec,
                .want_output = want_output,
                .result = { .exit_status = -1                       },
                .done = done,
                .userdata = userdata
        };
        bus_watch(r->bus, &r->watch);
        r->program = strdup(command->argv[0]);
        if (!r->program)
                return -ENOMEM;
        k = name_unit(r, place->site->config->app, kind);
        if (k >= 0)
                k = add_sources(r);
        if (k < 0)
                return k;
        r->connection = sd_bus_ref(bus_get(r->bus));
        if (r->connection) {
                k = ask(r, place, kind, command);
                if (k < 0)
                        return k;
        } else
                finish_lost(r, "there is no connection to systemd");
        *ret = TAKE_PTR(r);
        return 0;
}

/* Users */

static int check_users(const Site *site, const Command *commands, size_t n, char **reterr)
{
        const AppConfig *config = site->config;

        for (size_t i = 0; i < n; i++) {
                const char *user = config_command_user(config, &commands[i]);

                if (!user)
                        return fail(reterr, -EKEYREJECTED,
                                    "%s is to run as %s, which \"hook_users\" of app %s in the "
                                    "agent's configuration does not allow",
                                    commands[i].argv[0],
                                    commands[i].user ? commands[i].user : "the default user",
                                    config->app);
                if (site->unpack.change && !getpwnam(user))
                        return fail(reterr, -ENOENT,
                                    "this host has no user %s, as whom %s is to run: make it "
                                    "(useradd --system %s), or set \"hook_users\" of app %s in the "
                                    "agent's configuration to one that exists",
                                    user, commands[i].argv[0], user, config->app);
        }
        return 0;
}

int command_check_users(const Site *site, const Activate *a, char **reterr)
{
        int r = check_users(site, a->pre, a->n_pre, reterr);

        if (r >= 0)
                r = check_users(site, a->post, a->n_post, reterr);
        if (r >= 0)
                r = check_users(site, a->revert, a->n_revert, reterr);
        return r < 0 ? r : check_users(site, a->commands, a->n_commands, reterr);
}
