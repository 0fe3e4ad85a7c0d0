/* SPDX-License-Identifier: Apache-2.0 */
#include <inttypes.h>
#include <stdio.h>

#include <systemd/sd-login.h>

#include "transient.h"
#include "unit-status.h"

#define UMASK 0022

/* Members of the same type. */

static int append_words(sd_bus_message *m)
{
        static const char *const members[][2] = {
                {"Type",            "oneshot"           },
                { "CollectMode",    "inactive-or-failed"},
                { "KillMode",       "control-group"     },
                { "StandardInput",  "null"              },
                { "StandardOutput", "journal"           },
                { "StandardError",  "journal"           },
        };
        int r = 0;

        for (size_t i = 0; i < ELEMENTSOF(members) && r >= 0; i++)
                r = sd_bus_message_append(m, "(sv)", members[i][0], "s", members[i][1]);
        return r;
}

static int append_flags(sd_bus_message *m)
{
        static const struct {
                const char *name;
                int value;
        } members[] = {
  /* Without it a failed unit is collected before its result can be read. */
                {"AddRef",         true },
                { "SendSIGKILL",   true },
 /* A pipeline in a script ends as it does in a terminal. */
                { "IgnoreSIGPIPE", false},
        };
        int r = 0;

        for (size_t i = 0; i < ELEMENTSOF(members) && r >= 0; i++)
                r = sd_bus_message_append(m, "(sv)", members[i].name, "b", members[i].value);
        return r;
}

static int append_limits(sd_bus_message *m, const Command *c)
{
        int r = sd_bus_message_append(m, "(sv)(sv)(sv)", "TimeoutStartUSec", "t", c->timeout_usec,
                                      "TimeoutStopUSec", "t", TRANSIENT_STOP_USEC, "UMask", "u",
                                      UMASK);

        if (r < 0 || c->memory_bytes == 0)
                return r;
        /* All of it goes when it needs too much, not the one process that the kernel picks. */
        return sd_bus_message_append(m, "(sv)(sv)", "MemoryMax", "t", c->memory_bytes, "OOMPolicy",
                                     "s", "kill");
}

/* What it runs, and as whom */

static int append_directory(sd_bus_message *m, const char *release_dir, const Command *c)
{
        _cleanup_free_ char *dir = NULL;

        if (asprintf(&dir, "%s%s%s", release_dir, c->directory ? "/" : "", strempty(c->directory)) <
            0) {
                dir = NULL;
                return -ENOMEM;
        }
        return sd_bus_message_append(m, "(sv)", "WorkingDirectory", "s", dir);
}

/* systemd takes "$$" for "$". */
static char *double_dollars(const char *argument)
{
        char *doubled = malloc(2 * strlen(argument) + 1), *to = doubled;

        if (!doubled)
                return NULL;
        for (const char *s = argument; *s; s++) {
                if (*s == '$')
                        *to++ = '$';
                *to++ = *s;
        }
        *to = '\0';
        return doubled;
}

static int append_arguments(sd_bus_message *m, char **argv)
{
        int r = sd_bus_message_open_container(m, 'a', "s");

        for (char **a = argv; *a && r >= 0; a++) {
                _cleanup_free_ char *argument = double_dollars(*a);

                r = argument ? sd_bus_message_append(m, "s", argument) : -ENOMEM;
        }
        return r < 0 ? r : sd_bus_message_close_container(m);
}

/* One element of an array of (path, arguments, whether it may fail), as a variant in (sv). Not
 * ExecStartEx, which could switch off "$": systemd 252 writes it into the unit's file under a name
 * that it does not know when it reloads, and then starts nothing that depends on that unit. */
static int append_exec(sd_bus_message *m, const char *release_dir, const Command *c)
{
        _cleanup_free_ char *joined = NULL;
        const char *program = c->argv[0];
        int r;

        if (program[0] != '/') {
                if (asprintf(&joined, "%s/%s", release_dir, program) < 0) {
                        joined = NULL;
                        return -ENOMEM;
                }
                program = joined;
        }
        r = sd_bus_message_open_container(m, 'r', "sv");
        if (r >= 0)
                r = sd_bus_message_append(m, "s", "ExecStart");
        if (r >= 0)
                r = sd_bus_message_open_container(m, 'v', "a(sasb)");
        if (r >= 0)
                r = sd_bus_message_open_container(m, 'a', "(sasb)");
        if (r >= 0)
                r = sd_bus_message_open_container(m, 'r', "sasb");
        if (r >= 0)
                r = sd_bus_message_append(m, "s", program);
        if (r >= 0)
                r = append_arguments(m, c->argv);
        if (r >= 0)
                r = sd_bus_message_append(m, "b", false);
        for (int i = 0; i < 4 && r >= 0; i++)
                r = sd_bus_message_close_container(m);
        return r;
}

/* Its environment */

static int append_variable(sd_bus_message *m, const char *name, const char *value)
{
        _cleanup_free_ char *text = NULL;

        if (asprintf(&text, "%s=%s", name, strempty(value)) < 0) {
                text = NULL;
                return -ENOMEM;
        }
        return sd_bus_message_append(m, "s", text);
}

static int append_own_variables(sd_bus_message *m, const char *release_dir, const CommandPlace *p)
{
        char serial[21];
        const struct {
                const char *name, *value;
        } own[] = {
                {"SLIPWAY_APP",          p->site->config->app    },
                { "SLIPWAY_CHANNEL",     p->site->config->channel},
                { "SLIPWAY_RELEASE",     p->release              },
                { "SLIPWAY_RELEASE_DIR", release_dir             },
                { "SLIPWAY_PREVIOUS",    p->previous             },
                { "SLIPWAY_INSTANCE_ID", p->site->instance       },
                { "SLIPWAY_SERIAL",      serial                  },
        };
        int r = 0;

        (void) snprintf(serial, sizeof(serial), "%" PRIu64, p->serial);
        for (size_t i = 0; i < ELEMENTSOF(own) && r >= 0; i++)
                r = append_variable(m, own[i].name, own[i].value);
        return r;
}

static int append_environment(sd_bus_message *m, const char *release_dir, const CommandPlace *p)
{
        const Activate *a = p->activate;
        int r = sd_bus_message_open_container(m, 'r', "sv");

        if (r >= 0)
                r = sd_bus_message_append(m, "s", "Environment");
        if (r >= 0)
                r = sd_bus_message_open_container(m, 'v', "as");
        if (r >= 0)
                r = sd_bus_message_open_container(m, 'a', "s");
        if (r >= 0)
                r = append_own_variables(m, release_dir, p);
        for (size_t i = 0; i < a->n_variables && r >= 0; i++)
                r = append_variable(m, a->variables[i].name, a->variables[i].value);
        for (int i = 0; i < 3 && r >= 0; i++)
                r = sd_bus_message_close_container(m);
        return r;
}

/* Its output */

static int append_log_field(sd_bus_message *m, const char *name, const char *value)
{
        _cleanup_free_ char *text = NULL;

        if (asprintf(&text, "%s=%s", name, value) < 0) {
                text = NULL;
                return -ENOMEM;
        }
        return sd_bus_message_append_array(m, 'y', text, strlen(text));
}

static int append_log_fields(sd_bus_message *m, const CommandPlace *p)
{
        int r = sd_bus_message_open_container(m, 'r', "sv");

        if (r >= 0)
                r = sd_bus_message_append(m, "s", "LogExtraFields");
        if (r >= 0)
                r = sd_bus_message_open_container(m, 'v', "aay");
        if (r >= 0)
                r = sd_bus_message_open_container(m, 'a', "ay");
        if (r >= 0)
                r = append_log_field(m, "SLIPWAY_APP", p->site->config->app);
        if (r >= 0)
                r = append_log_field(m, "SLIPWAY_RELEASE", p->release);
        for (int i = 0; i < 3 && r >= 0; i++)
                r = sd_bus_message_close_container(m);
        return r;
}

/* All of it */

static int append_names(sd_bus_message *m, const CommandPlace *p, CommandKind kind,
                        const Command *c)
{
        _cleanup_free_ char *description = NULL, *identifier = NULL;

        if (asprintf(&description, "Slipway: %s command %s of %s release %s",
                     command_kind_to_string(kind), c->argv[0], p->site->config->app,
                     p->release) < 0) {
                description = NULL;
                return -ENOMEM;
        }
        if (asprintf(&identifier, "slipway-%s-%s", p->site->config->app, p->release) < 0) {
                identifier = NULL;
                return -ENOMEM;
        }
        return sd_bus_message_append(m, "(sv)(sv)", "Description", "s", description,
                                     "SyslogIdentifier", "s", identifier);
}

static int append_user(sd_bus_message *m, const CommandPlace *p, const Command *c)
{
        const char *user = config_command_user(p->site->config, c);

        /* No user would be root. */
        if (!user)
                return -EKEYREJECTED;
        /* systemd --user can't change to another one. */
        if (!p->site->unpack.change)
                return 0;
        return sd_bus_message_append(m, "(sv)", "User", "s", user);
}

/* When the service that asks for it ends, however that comes, systemd ends the command. One that
 * was asked for by hand has no such service. */
static int append_binding(sd_bus_message *m, const CommandPlace *p)
{
        _cleanup_free_ char *own = NULL;
        int r = p->site->unpack.change ? sd_pid_get_unit(0, &own) : sd_pid_get_user_unit(0, &own);
        const char *suffix = r >= 0 ? strrchr(own, '.') : NULL;

        if (!suffix || !streq(suffix, ".service"))
                return 0;
        return sd_bus_message_append(m, "(sv)", "BindsTo", "as", 1, own);
}

static int append_members(sd_bus_message *m, const CommandPlace *p, CommandKind kind,
                          const Command *c)
{
        _cleanup_free_ char *dir = NULL;
        int r = asprintf(&dir, "%s/releases/%s", p->site->config->root, p->release);

        if (r < 0) {
                dir = NULL;
                return -ENOMEM;
        }
        r = append_names(m, p, kind, c);
        if (r >= 0)
                r = append_words(m);
        if (r >= 0)
                r = append_flags(m);
        if (r >= 0)
                r = append_limits(m, c);
        if (r >= 0)
                r = append_user(m, p, c);
        if (r >= 0)
                r = append_binding(m, p);
        if (r >= 0)
                r = append_directory(m, dir, c);
        if (r >= 0)
                r = append_environment(m, dir, p);
        if (r >= 0)
                r = append_log_fields(m, p);
        return r < 0 ? r : append_exec(m, dir, c);
}

int transient_new_call(sd_bus *bus, const char *unit, const CommandPlace *place, CommandKind kind,
                       const Command *command, sd_bus_message **ret)
{
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL;
        int r = sd_bus_message_new_method_call(bus, &m, SD1_NAME, SD1_PATH, SD1_MANAGER,
                                               "StartTransientUnit");

        if (r >= 0)
                r = sd_bus_message_append(m, "ss", unit, "fail");
        if (r >= 0)
                r = sd_bus_message_open_container(m, 'a', "(sv)");
        if (r >= 0)
                r = append_members(m, place, kind, command);
        if (r >= 0)
                r = sd_bus_message_close_container(m);
        if (r >= 0)
                r = sd_bus_message_append(m, "a(sa(sv))", 0);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(m);
        return 0;
}
