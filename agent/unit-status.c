/* SPDX-License-Identifier: Apache-2.0 */
#include <signal.h>
#include <stdio.h>

#include "unit-status.h"

int unit_path(const char *name, char **ret)
{
        return sd_bus_path_encode(SD1_PATH "/unit", name, ret);
}

int unit_status_ask(sd_bus *bus, const char *path, sd_bus_message_handler_t handler, void *userdata,
                    sd_bus_slot **ret)
{
        return sd_bus_call_method_async(bus, ret, SD1_NAME, path, "org.freedesktop.DBus.Properties",
                                        "GetAll", handler, userdata, "s", "");
}

/* Reading */

static int read_invocation(sd_bus_message *m, UnitStatus *s)
{
        const void *bytes;
        size_t size;
        int r = sd_bus_message_read_array(m, 'y', &bytes, &size);

        if (r >= 0 && size == sizeof(s->invocation.bytes))
                memcpy(s->invocation.bytes, bytes, size);
        return r;
}

/* Each is: name, whether it triggers (one of these suffices), whether negated, what it asks, and
 * how it came out: negative is failed. */
static int read_conditions(sd_bus_message *m, UnitStatus *s)
{
        const char *name, *text;
        int trigger, negated, state, r = sd_bus_message_enter_container(m, 'a', "(sbbsi)");

        while (r >= 0 && (r = sd_bus_message_read(m, "(sbbsi)", &name, &trigger, &negated, &text,
                                                  &state)) > 0)
                if (state < 0 && !s->condition) {
                        s->condition = name;
                        s->condition_text = text;
                        s->condition_negated = negated;
                }
        return r < 0 ? r : sd_bus_message_exit_container(m);
}

static int read_value(sd_bus_message *m, const char *name, UnitStatus *s)
{
        const struct {
                const char *name, *type;
                void *target;
        } wanted[] = {
                {"Id",                      "s",        &s->id              },
                { "LoadState",              "s",        &s->load_state      },
                { "ActiveState",            "s",        &s->active_state    },
                { "SubState",               "s",        &s->sub_state       },
                { "Type",                   "s",        &s->type            },
                { "Result",                 "s",        &s->result          },
                { "NRestarts",              "u",        &s->n_restarts      },
                { "ExecMainCode",           "i",        &s->exec_main_code  },
                { "ExecMainStatus",         "i",        &s->exec_main_status},
                { "CanReload",              "b",        &s->can_reload      },
                { "ConditionResult",        "b",        &s->condition_result},
                { "Job",                    "(uo)",     &s->job_path        },
                { "ExecMainStartTimestamp", "t",        &s->begun_usec      },
                { "InvocationID",           "ay",       NULL                },
                { "Conditions",             "a(sbbsi)", NULL                },
        };
        uint32_t job_id;
        size_t i;
        int r;

        for (i = 0; i < ELEMENTSOF(wanted) && !streq(name, wanted[i].name); i++)
                ;
        if (i == ELEMENTSOF(wanted))
                return sd_bus_message_skip(m, "v");
        r = sd_bus_message_enter_container(m, 'v', wanted[i].type);
        if (r < 0)
                return r;
        if (streq(name, "Job"))
                r = sd_bus_message_read(m, "(uo)", &job_id, wanted[i].target);
        else if (streq(name, "InvocationID"))
                r = read_invocation(m, s);
        else if (streq(name, "Conditions"))
                r = read_conditions(m, s);
        else
                r = sd_bus_message_read_basic(m, wanted[i].type[0], wanted[i].target);
        return r < 0 ? r : sd_bus_message_exit_container(m);
}

int unit_status_read(sd_bus_message *m, UnitStatus *ret)
{
        const char *name;
        int r;

        *ret = (UnitStatus){};
        r = sd_bus_message_enter_container(m, 'a', "{sv}");
        while (r >= 0 && (r = sd_bus_message_enter_container(m, 'e', "sv")) > 0) {
                r = sd_bus_message_read_basic(m, 's', &name);
                if (r >= 0)
                        r = read_value(m, name, ret);
                if (r >= 0)
                        r = sd_bus_message_exit_container(m);
        }
        return r < 0 ? r : sd_bus_message_exit_container(m);
}

/* Judging */

bool unit_status_is_active(const UnitStatus *s)
{
        const char *state = strempty(s->active_state);

        /* Refreshing: what newer versions of systemd do to what a running unit sees. */
        return streq(state, "active") || streq(state, "reloading") || streq(state, "refreshing");
}

bool unit_status_is_well(const UnitStatus *s)
{
        if (unit_status_is_active(s))
                return true;
        return streq(strempty(s->active_state), "inactive") &&
               streq(strempty(s->type), "oneshot") && streq(strempty(s->result), "success") &&
               s->condition_result;
}

/* si_code values of waitid(2). */
static bool has_exit_status(const UnitStatus *s)
{
        return s->exec_main_code > 0 &&
               (s->exec_main_code != CLD_EXITED || s->exec_main_status != 0);
}

static void describe_exit(const UnitStatus *s, char *buffer, size_t size)
{
        const char *name;

        buffer[0] = 0;
        if (!has_exit_status(s))
                return;
        name = s->exec_main_code == CLD_EXITED ? NULL : sigabbrev_np(s->exec_main_status);
        (void) snprintf(buffer, size, ", main process ended with %s %d%s%s%s",
                        s->exec_main_code == CLD_EXITED ? "exit status" : "signal",
                        s->exec_main_status, name ? " (" : "", strempty(name), name ? ")" : "");
}

char *unit_status_describe(const UnitStatus *s)
{
        char exit[64], *text = NULL;
        bool inactive = streq(strempty(s->active_state), "inactive");
        int n;

        describe_exit(s, exit, sizeof(exit));
        if (s->load_state && !streq(s->load_state, "loaded"))
                n = asprintf(&text, "unit is %s", s->load_state);
        else if (inactive && s->condition)
                n = asprintf(&text, "systemd did not start it, because its %s=%s%s does not hold",
                             s->condition, s->condition_negated ? "!" : "",
                             strempty(s->condition_text));
        else
                n = asprintf(&text, "%s (%s)%s%s%s", strempty(s->active_state),
                             strempty(s->sub_state), s->result ? ", result " : "",
                             strempty(s->result), exit);
        return n < 0 ? NULL : text;
}

const char *job_result_describe(const char *job_result)
{
        static const struct {
                const char *result, *text;
        } known[] = {
                {"done",         NULL                                                  },
                { "failed",      "its job failed"                                      },
                { "timeout",     "its job took too long"                               },
                { "canceled",    "its job was canceled by somebody else"               },
                { "dependency",  "its job failed: a unit that it needs did not come up"},
                { "invalid",     "its job failed: not possible in its present state"   },
                { "skipped",     "its job failed: not possible in its present state"   },
                { "assert",      "its job failed: one of its assertions does not hold" },
                { "unsupported", "its job failed: this host can't do that"             },
                { "once",        "its job failed: it may be started only once"         },
        };

        for (size_t i = 0; i < ELEMENTSOF(known); i++)
                if (streq(known[i].result, job_result))
                        return known[i].text;
        return "its job failed";
}
