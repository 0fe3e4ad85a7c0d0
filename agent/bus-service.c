/* SPDX-License-Identifier: Apache-2.0 */
#include "bus-service.h"
#include "agent-bus.h"
#include "app.h"
#include "build-config.h"
#include "err.h"
#include "fd.h"
#include "json-read.h"
#include "log.h"

#define APP_BUS_PREFIX AGENT_BUS_PATH "/app"

/* Methods that change something: without SD_BUS_VTABLE_UNPRIVILEGED sd-bus asks for CAP_SYS_ADMIN,
 * which uid 0 has (sd_bus_add_object_vtable(3)); on a user's bus everybody is the user. */

static int describe(Agent *a, char **ret)
{
        _cleanup_json_ cJSON *o = cJSON_CreateObject();
        cJSON *apps, *app;
        char *text;
        int r;

        if (!o || !cJSON_AddStringToObject(o, "version", SLIPWAY_VERSION) ||
            !cJSON_AddStringToObject(o, "instance", a->config->instance) ||
            !cJSON_AddStringToObject(o, "store", a->config->store) ||
            !cJSON_AddStringToObject(o, "fetch",
                                     a->fetcher && fetcher_is_running(a->fetcher) ? "running"
                                                                                  : "stopped"))
                return -ENOMEM;
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
        text = cJSON_PrintUnformatted(o);
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
        int r = result < 0 ? sd_bus_reply_method_errorf(call, BUS_ERROR_FAILED, "%s", text)
                           : sd_bus_reply_method_return(call, "s", text);

        if (r < 0)
                log_debug("Can't answer a bus call: %s", strerror(-r));
        sd_bus_message_unref(call);
}

static int method_poll(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
        int r = app_poll_now(userdata, reply_told, sd_bus_message_ref(m));

        if (r < 0) {
                sd_bus_message_unref(m);
                return sd_bus_error_setf(error, BUS_ERROR_BUSY, "can't poll now: %s", strerror(-r));
        }
        return 1;
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
                return sd_bus_error_setf(error,
                                         r == -EBUSY                    ? BUS_ERROR_BUSY
                                         : r == -ENOENT || r == -EEXIST ? BUS_ERROR_NO_SUCH_RELEASE
                                                                        : BUS_ERROR_FAILED,
                                         "%s", err_text(r, err));
        }
        return 1;
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
        const struct {
                const char *name, *value;
        } values[] = {
                {"Name",     s->app                   },
                { "Channel", s->channel               },
                { "Release", s->current               },
                { "Phase",   phase_to_string(s->phase)},
                { "Pinned",  s->pinned                },
                { "Failed",  s->failed                },
        };

        (void) bus, (void) path, (void) interface, (void) error;
        for (size_t i = 0; i < ELEMENTSOF(values); i++)
                if (streq(property, values[i].name))
                        return sd_bus_message_append(reply, "s", strempty(values[i].value));
        return -ENOENT;
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
        SD_BUS_METHOD_WITH_ARGS("Poll", SD_BUS_NO_ARGS, SD_BUS_RESULT("s", verdict), method_poll,
                                0),
        SD_BUS_METHOD_WITH_ARGS("Rollback", SD_BUS_ARGS("s", release, "s", by),
                                SD_BUS_RESULT("s", release), method_rollback, 0),
        SD_BUS_METHOD_WITH_ARGS("Resume", SD_BUS_NO_ARGS, SD_BUS_NO_RESULT, method_resume, 0),
        SD_BUS_VTABLE_END,
};

static int add_app(Agent *a, App *app)
{
        _cleanup_free_ char *path = NULL;
        int r = sd_bus_path_encode(APP_BUS_PREFIX, app_config(app)->app, &path);

        return r < 0 ? r
                     : sd_bus_add_object_vtable(a->bus, NULL, path, APP_BUS_INTERFACE, app_vtable,
                                                app);
}

int bus_service_offer(Agent *a, char **reterr)
{
        int r = sd_bus_add_object_vtable(a->bus, NULL, AGENT_BUS_PATH, AGENT_BUS_INTERFACE,
                                         agent_vtable, a);

        for (size_t i = 0; r >= 0 && i < a->n_apps; i++)
                r = add_app(a, a->apps[i]);
        if (r < 0)
                return fail_errno(reterr, r, "can't offer " AGENT_BUS_NAME " on the bus");
        r = sd_bus_request_name(a->bus, AGENT_BUS_NAME, 0);
        if (r == -EEXIST)
                return fail(reterr, r,
                            "another slipwayd is running: it has the bus name " AGENT_BUS_NAME);
        if (r < 0)
                return fail_errno(reterr, r, "can't have the bus name " AGENT_BUS_NAME);
        return 0;
}

void bus_service_app_changed(Agent *a, App *app)
{
        _cleanup_free_ char *path = NULL;

        if (!a->bus || a->options.once || a->options.offline ||
            sd_bus_path_encode(APP_BUS_PREFIX, app_config(app)->app, &path) < 0)
                return;
        /* Nobody waits for this signal; a bus that is gone shows elsewhere. */
        (void) sd_bus_emit_properties_changed(a->bus, path, APP_BUS_INTERFACE, "Phase", "Release",
                                              "Pinned", "Failed", NULL);
}
