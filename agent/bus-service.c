/* SPDX-License-Identifier: Apache-2.0 */
#include <time.h>

#include "agent-bus.h"
#include "app-status.h"
#include "app.h"
#include "authority.h"
#include "build-config.h"
#include "bus-service.h"
#include "err.h"
#include "fd.h"
#include "json-print.h"
#include "json-read.h"
#include "log.h"
#include "orders.h"

#define APP_BUS_PREFIX AGENT_BUS_PATH "/app"

/* How long a start waits for the name. */
#define NAME_LIMIT_USEC (UINT64_C(2) * 1000000)

struct BusService {
        Agent *agent;
        BusWatch watch;
        Authority *authority; /* of the present connection */
        sd_bus_slot *name_slot;
        sd_bus_slot **app_slots; /* of the present connection */
        size_t n_app_slots;
        sd_event_source *limit_source;
        bus_service_settled_t settled; /* NULL: told */
        void *userdata;
};

/* Who may call a method of an application is judged by authority.c, where it must be listed. */

static int describe(Agent *a, char **ret)
{
        _cleanup_json_ cJSON *o = cJSON_CreateObject();
        cJSON *apps, *app;
        char *text;
        int r;

        if (!o || !cJSON_AddStringToObject(o, "version", SLIPWAY_VERSION) ||
            (a->config && (!cJSON_AddStringToObject(o, "instance", a->config->instance) ||
                           !cJSON_AddStringToObject(o, "store", a->config->store))) ||
            (a->trouble && !cJSON_AddStringToObject(o, "trouble", a->trouble)) ||
            ((!a->config || a->recalled) && !cJSON_AddBoolToObject(o, "asking", true)) ||
            (a->next_config && !cJSON_AddBoolToObject(o, "changes", true)) ||
            !cJSON_AddStringToObject(o, "fetch",
                                     a->fetcher && fetcher_is_running(a->fetcher) ? "running"
                                                                                  : "stopped"))
                return -ENOMEM;
        r = a->config ? identity_describe(a->config, o) : 0;
        if (r >= 0 && a->trust)
                r = trust_describe(a->trust, a->roots ? root_watch_trouble(a->roots) : NULL, o);
        if (r >= 0)
                r = orders_describe(a->orders, o);
        if (r < 0)
                return r;
        apps = cJSON_AddArrayToObject(o, "apps");
        if (!apps)
                return -ENOMEM;
        for (size_t i = 0; i < a->n_apps; i++) {
                r = app_describe(a->apps[i], &app);
                if (r < 0)
                        return r;
                if (!cJSON_AddItemToArray(apps, app)) {
                        cJSON_Delete(app);
                        return -ENOMEM;
                }
        }
        text = json_print(o, false);
        if (!text)
                return -ENOMEM;
        *ret = text;
        return 0;
}

static int method_describe(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
        _cleanup_free_ char *text = NULL;
        int r = describe(userdata, &text);

        if (r < 0)
                return sd_bus_error_setf(error, BUS_ERROR_FAILED, "can't describe: %s",
                                         strerror(-r));
        return sd_bus_reply_method_return(m, "s", text);
}

/* Answers a method call that waited. */
static void reply_told(int result, const char *text, void *userdata)
{
        sd_bus_message *call = userdata;
        const char *error = result == -EKEYREJECTED ? BUS_ERROR_REFUSED : BUS_ERROR_FAILED;
        int r = result < 0 ? sd_bus_reply_method_errorf(call, error, "%s", text)
                           : sd_bus_reply_method_return(call, "s", text);

        if (r < 0)
                log_debug("Can't answer a bus call: %s", strerror(-r));
        sd_bus_message_unref(call);
}

static int method_poll(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
        int r = app_poll_now(userdata, NULL, reply_told, sd_bus_message_ref(m));

        if (r < 0) {
                sd_bus_message_unref(m);
                if (r == -EHOSTDOWN)
                        return sd_bus_error_setf(error, BUS_ERROR_FAILED,
                                                 "who this host is, and so where its store is, is "
                                                 "not known yet: see slipway status");
                return sd_bus_error_setf(error, BUS_ERROR_BUSY, "can't poll now: %s", strerror(-r));
        }
        return 1;
}

static int reply_error(sd_bus_error *error, int r, const char *err)
{
        return sd_bus_error_setf(error,
                                 r == -EBUSY                    ? BUS_ERROR_BUSY
                                 : r == -ENOENT || r == -EEXIST ? BUS_ERROR_NO_SUCH_RELEASE
                                 : r == -EINVAL                 ? BUS_ERROR_REFUSED
                                                                : BUS_ERROR_FAILED,
                                 "%s", err_text(r, err));
}

static int method_rollback(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
        _cleanup_free_ char *err = NULL;
        const char *release, *by;
        int r = sd_bus_message_read(m, "ss", &release, &by);

        if (r < 0)
                return r;
        r = app_rollback(userdata, release[0] ? release : NULL, by[0] ? by : "unknown", reply_told,
                         sd_bus_message_ref(m), &err);
        if (r < 0) {
                sd_bus_message_unref(m);
                return reply_error(error, r, err);
        }
        return 1;
}

/* Stage and Activate. */
static int ask_app(sd_bus_message *m, App *app, sd_bus_error *error,
                   int (*ask)(App *a, const char *by, app_told_t told, void *userdata,
                              char **reterr))
{
        _cleanup_free_ char *err = NULL;
        const char *by;
        int r = sd_bus_message_read(m, "s", &by);

        if (r < 0)
                return r;
        r = ask(app, by[0] ? by : "unknown", reply_told, sd_bus_message_ref(m), &err);
        if (r < 0) {
                sd_bus_message_unref(m);
                return reply_error(error, r, err);
        }
        return 1;
}

static int method_stage(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
        return ask_app(m, userdata, error, app_stage);
}

static int method_activate(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
        return ask_app(m, userdata, error, app_activate);
}

/* More than are looked at are refused by their container's end. */
static int read_provenances(sd_bus_message *m, OrderFiles *f)
{
        int r = sd_bus_message_enter_container(m, 'a', "h");

        while (r >= 0 && f->n_provenances < ORDER_PROVENANCES_MAX) {
                r = sd_bus_message_read(m, "h", &f->provenance_fds[f->n_provenances]);
                if (r <= 0)
                        break;
                f->n_provenances++;
        }
        return r < 0 ? r : sd_bus_message_exit_container(m);
}

static int method_deploy_files(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
        _cleanup_free_ char *err = NULL;
        OrderFiles files = {};
        const char *by;
        int wait, r;

        r = sd_bus_message_read(m, "hhh", &files.manifest_fd, &files.index_fd, &files.artifact_fd);
        if (r >= 0)
                r = read_provenances(m, &files);
        if (r >= 0)
                r = sd_bus_message_read(m, "sb", &by, &wait);
        if (r < 0)
                return r;
        r = app_deploy_files(userdata, &files, wait, by[0] ? by : "unknown", reply_told,
                             sd_bus_message_ref(m), &err);
        if (r < 0) {
                sd_bus_message_unref(m);
                return reply_error(error, r, err);
        }
        return 1;
}

static int method_hold(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
        _cleanup_free_ char *text = NULL, *err = NULL;
        const char *until, *reason, *by;
        int r = sd_bus_message_read(m, "sss", &until, &reason, &by);

        if (r < 0)
                return r;
        r = app_hold(userdata, until, reason, by, &text, &err);
        return r < 0 ? reply_error(error, r, err) : sd_bus_reply_method_return(m, "s", text);
}

static int append_plan(sd_bus_message *m, const char *json, const int *fds, size_t n_fds)
{
        int r = sd_bus_message_append(m, "s", json);

        if (r >= 0)
                r = sd_bus_message_open_container(m, 'a', "h");
        for (size_t i = 0; r >= 0 && i < n_fds; i++)
                r = sd_bus_message_append(m, "h", fds[i]);
        return r < 0 ? r : sd_bus_message_close_container(m);
}

static void reply_plan(const char *json, const int *fds, size_t n_fds, void *userdata)
{
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *call = userdata, *reply = NULL;
        int r = sd_bus_message_new_method_return(call, &reply);

        if (r >= 0)
                r = append_plan(reply, json, fds, n_fds);
        if (r >= 0)
                r = sd_bus_message_send(reply);
        if (r < 0)
                log_debug("Can't answer a bus call: %s", strerror(-r));
}

static int method_plan(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
        _cleanup_free_ char *err = NULL;
        int r = app_plan(userdata, reply_plan, sd_bus_message_ref(m), &err);

        if (r < 0) {
                sd_bus_message_unref(m);
                return reply_error(error, r, err);
        }
        return 1;
}

static int method_confirm(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
        _cleanup_free_ char *release = NULL, *err = NULL;
        const char *by;
        int r = sd_bus_message_read(m, "s", &by);

        if (r < 0)
                return r;
        r = app_confirm(userdata, by[0] ? by : "unknown", &release, &err);
        return r < 0 ? reply_error(error, r, err) : sd_bus_reply_method_return(m, "s", release);
}

static int method_resume(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
        _cleanup_free_ char *err = NULL;
        int r = app_resume(userdata, &err);

        if (r < 0)
                return sd_bus_error_setf(error, r == -EBUSY ? BUS_ERROR_BUSY : BUS_ERROR_FAILED,
                                         "%s", err_text(r, err));
        return sd_bus_reply_method_return(m, NULL);
}

static int property_version(sd_bus *bus, const char *path, const char *interface,
                            const char *property, sd_bus_message *reply, void *userdata,
                            sd_bus_error *error)
{
        (void) bus, (void) path, (void) interface, (void) property, (void) userdata, (void) error;
        return sd_bus_message_append(reply, "s", SLIPWAY_VERSION);
}

static int property_app(sd_bus *bus, const char *path, const char *interface, const char *property,
                        sd_bus_message *reply, void *userdata, sd_bus_error *error)
{
        const State *s = app_state(userdata);
        bool held = hold_is_on(&s->hold, time(NULL));
        const struct {
                const char *name, *value;
        } values[] = {
                {"Name",        s->app                      },
                { "Channel",    s->channel                  },
                { "Release",    s->current                  },
                { "Phase",      phase_to_string(s->phase)   },
                { "Pinned",     s->pinned                   },
                { "Failed",     s->failed                   },
                { "HeldBy",     held ? s->hold.by : NULL    },
                { "HoldReason", held ? s->hold.reason : NULL},
                { "Staged",     s->staged.release           },
        };

        (void) bus, (void) path, (void) interface, (void) error;
        for (size_t i = 0; i < ELEMENTSOF(values); i++)
                if (streq(property, values[i].name))
                        return sd_bus_message_append(reply, "s", strempty(values[i].value));
        return -ENOENT;
}

static int property_held_until(sd_bus *bus, const char *path, const char *interface,
                               const char *property, sd_bus_message *reply, void *userdata,
                               sd_bus_error *error)
{
        const Hold *h = &app_state(userdata)->hold;

        (void) bus, (void) path, (void) interface, (void) property, (void) error;
        return sd_bus_message_append(reply, "t", hold_is_on(h, time(NULL)) ? h->until_sec : 0);
}

static int property_progress(sd_bus *bus, const char *path, const char *interface,
                             const char *property, sd_bus_message *reply, void *userdata,
                             sd_bus_error *error)
{
        uint64_t available_bytes, artifact_bytes;

        (void) bus, (void) path, (void) interface, (void) property, (void) error;
        app_progress(userdata, &available_bytes, &artifact_bytes);
        return sd_bus_message_append(reply, "(tt)", available_bytes, artifact_bytes);
}

static const sd_bus_vtable agent_vtable[] = {
        SD_BUS_VTABLE_START(0),
        SD_BUS_PROPERTY("Version", "s", property_version, 0, SD_BUS_VTABLE_PROPERTY_CONST),
        SD_BUS_METHOD_WITH_ARGS("Describe", SD_BUS_NO_ARGS, SD_BUS_RESULT("s", json),
                                method_describe, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_VTABLE_END,
};

static const sd_bus_vtable app_vtable[] = {
        SD_BUS_VTABLE_START(0),
        SD_BUS_PROPERTY("Name", "s", property_app, 0, SD_BUS_VTABLE_PROPERTY_CONST),
        SD_BUS_PROPERTY("Channel", "s", property_app, 0, SD_BUS_VTABLE_PROPERTY_CONST),
        SD_BUS_PROPERTY("Phase", "s", property_app, 0, SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE),
        SD_BUS_PROPERTY("Release", "s", property_app, 0, SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE),
        SD_BUS_PROPERTY("Pinned", "s", property_app, 0, SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE),
        SD_BUS_PROPERTY("Failed", "s", property_app, 0, SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE),
        SD_BUS_PROPERTY("HeldBy", "s", property_app, 0, SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE),
        SD_BUS_PROPERTY("HoldReason", "s", property_app, 0, SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE),
        SD_BUS_PROPERTY("HeldUntil", "t", property_held_until, 0,
                        SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE),
        SD_BUS_PROPERTY("Progress", "(tt)", property_progress, 0,
                        SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE),
        SD_BUS_PROPERTY("Staged", "s", property_app, 0, SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE),
        SD_BUS_METHOD_WITH_ARGS("Stage", SD_BUS_ARGS("s", by), SD_BUS_RESULT("s", text),
                                method_stage, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS("Activate", SD_BUS_ARGS("s", by), SD_BUS_RESULT("s", release),
                                method_activate, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS("DeployFiles",
                                SD_BUS_ARGS("h", manifest, "h", index, "h", artifact, "ah",
                                            provenances, "s", by, "b", wait),
                                SD_BUS_RESULT("s", text), method_deploy_files,
                                SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS("Poll", SD_BUS_NO_ARGS, SD_BUS_RESULT("s", verdict), method_poll,
                                SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS("Rollback", SD_BUS_ARGS("s", release, "s", by),
                                SD_BUS_RESULT("s", release), method_rollback,
                                SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS("Hold", SD_BUS_ARGS("s", until, "s", reason, "s", by),
                                SD_BUS_RESULT("s", text), method_hold, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS("Plan", SD_BUS_NO_ARGS, SD_BUS_RESULT("s", json, "ah", indexes),
                                method_plan, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS("Confirm", SD_BUS_ARGS("s", by), SD_BUS_RESULT("s", release),
                                method_confirm, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS("Resume", SD_BUS_NO_ARGS, SD_BUS_NO_RESULT, method_resume,
                                SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_VTABLE_END,
};

static void remove_apps(BusService *s)
{
        for (size_t i = 0; i < s->n_app_slots; i++)
                sd_bus_slot_unref(s->app_slots[i]);
        free(s->app_slots);
        s->app_slots = NULL;
        s->n_app_slots = 0;
}

static int add_app(BusService *s, sd_bus *bus, App *app)
{
        _cleanup_free_ char *path = NULL;
        int r = sd_bus_path_encode(APP_BUS_PREFIX, app_config(app)->app, &path);

        if (r >= 0)
                r = sd_bus_add_object_vtable(bus, &s->app_slots[s->n_app_slots], path,
                                             APP_BUS_INTERFACE, app_vtable, app);
        s->n_app_slots += r >= 0;
        return r;
}

static int add_apps(BusService *s, sd_bus *bus)
{
        const Agent *a = s->agent;
        int r = 0;

        s->app_slots = calloc(MAX(a->n_apps, (size_t) 1), sizeof(sd_bus_slot *));
        if (!s->app_slots)
                return -ENOMEM;
        for (size_t i = 0; r >= 0 && i < a->n_apps; i++)
                r = add_app(s, bus, a->apps[i]);
        return r;
}

int bus_service_apps_changed(BusService *s)
{
        sd_bus *bus = bus_get(s->agent->bus);

        remove_apps(s);
        return bus ? add_apps(s, bus) : 0;
}

/* The name */

static void settle(BusService *s, int result)
{
        sd_event_source_disable_unref(TAKE_PTR(s->limit_source));
        if (s->settled)
                TAKE_PTR(s->settled)(result, s->userdata);
}

static int on_limit(sd_event_source *source, uint64_t usec, void *userdata)
{
        (void) source;
        (void) usec;
        log_warning("D-Bus does not answer: slipway can't talk to this agent until it does");
        settle(userdata, 0);
        return 0;
}

/* Somebody else has it, or the bus does not let us: whoever wants to talk to us can't. */
static void refused(BusService *s, int error, const char *why)
{
        log_error("Can't have the bus name " AGENT_BUS_NAME ": %s", why);
        if (s->settled)
                settle(s, error);
        else
                (void) sd_event_exit(s->agent->event, EXIT_FAILURE);
}

static int on_name(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
        BusService *s = userdata;
        const sd_bus_error *e = sd_bus_message_get_error(m);
        uint32_t answer;

        (void) error;
        /* The call is answered late, or the connection is made again. */
        if (e && bus_error_is_passing(e))
                return 1;
        if (e)
                refused(s, -sd_bus_error_get_errno(e), e->message);
        else if (sd_bus_message_read(m, "u", &answer) < 0)
                refused(s, -EBADMSG, "the answer can't be read");
        /* DBUS_REQUEST_NAME_REPLY_EXISTS of the D-Bus specification. */
        else if (answer == 3)
                refused(s, -EEXIST, "another slipwayd is running");
        else
                settle(s, 0);
        return 1;
}

static int offer(BusService *s, sd_bus *bus)
{
        Agent *a = s->agent;
        int r = sd_bus_add_object_vtable(bus, NULL, AGENT_BUS_PATH, AGENT_BUS_INTERFACE,
                                         agent_vtable, a);

        if (r >= 0)
                r = add_apps(s, bus);
        if (r >= 0)
                r = authority_new(bus, &s->authority);
        if (r < 0)
                return r;
        return sd_bus_request_name_async(bus, &s->name_slot, AGENT_BUS_NAME, 0, on_name, s);
}

static void on_bus_changed(sd_bus *bus, void *userdata)
{
        BusService *s = userdata;
        int r;

        remove_apps(s);
        s->name_slot = sd_bus_slot_unref(s->name_slot);
        s->authority = authority_free(s->authority);
        if (!bus)
                return;
        r = offer(s, bus);
        if (r < 0)
                log_error("Can't offer " AGENT_BUS_NAME " on the bus: %s", strerror(-r));
}

int bus_service_new(Agent *a, bus_service_settled_t settled, void *userdata, BusService **ret,
                    char **reterr)
{
        _cleanup_(bus_service_freep) BusService *s = calloc(1, sizeof(BusService));
        sd_bus *bus = bus_get(a->bus);
        int r;

        if (!s)
                return -ENOMEM;
        *s = (BusService){ .agent = a, .settled = settled, .userdata = userdata };
        s->watch = (BusWatch){ .changed = on_bus_changed, .userdata = s };
        bus_watch(a->bus, &s->watch);
        r = sd_event_add_time_relative(a->event, &s->limit_source, CLOCK_MONOTONIC,
                                       bus ? NAME_LIMIT_USEC : 0, 0, on_limit, s);
        if (r >= 0 && bus)
                r = offer(s, bus);
        if (r < 0)
                return fail_errno(reterr, r, "can't offer " AGENT_BUS_NAME " on the bus");
        *ret = TAKE_PTR(s);
        return 0;
}

BusService *bus_service_free(BusService *s)
{
        if (!s)
                return NULL;
        bus_unwatch(s->agent->bus, &s->watch);
        remove_apps(s);
        sd_bus_slot_unref(s->name_slot);
        authority_free(s->authority);
        sd_event_source_disable_unref(s->limit_source);
        free(s);
        return NULL;
}

void bus_service_app_changed(Agent *a, App *app)
{
        _cleanup_free_ char *path = NULL;
        sd_bus *bus = a->service ? bus_get(a->bus) : NULL;

        orders_app_changed(a->orders);
        if (!bus || sd_bus_path_encode(APP_BUS_PREFIX, app_config(app)->app, &path) < 0)
                return;
        /* Nobody waits for this signal; a bus that is gone shows elsewhere. */
        (void) sd_bus_emit_properties_changed(bus, path, APP_BUS_INTERFACE, "Phase", "Release",
                                              "Pinned", "Failed", "Staged", "HeldBy", "HoldReason",
                                              "HeldUntil", "Progress", NULL);
}
