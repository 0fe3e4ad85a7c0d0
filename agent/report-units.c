/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <inttypes.h>

#include "err.h"
#include "json-member.h"
#include "report.h"

#define SYSTEMD_NAME    "org.freedesktop.systemd1"
#define SYSTEMD_PATH    "/org/freedesktop/systemd1"
#define SYSTEMD_MANAGER "org.freedesktop.systemd1.Manager"
#define SYSTEMD_UNIT    "org.freedesktop.systemd1.Unit"
#define SYSTEMD_SERVICE "org.freedesktop.systemd1.Service"

/* What is told of a unit; nothing else, as commands and variables may hold anything. Types as in
 * sd_bus_message_append(3); a star: only what stands before "=". */
typedef struct Property {
        const char *interface, *name, *type;
} Property;

static const Property properties[] = {
        {SYSTEMD_UNIT,     "LoadState",            "s"  },
        { SYSTEMD_UNIT,    "ActiveState",          "s"  },
        { SYSTEMD_UNIT,    "SubState",             "s"  },
        { SYSTEMD_UNIT,    "UnitFileState",        "s"  },
        { SYSTEMD_UNIT,    "FragmentPath",         "s"  },
        { SYSTEMD_UNIT,    "DropInPaths",          "as" },
        { SYSTEMD_UNIT,    "NeedDaemonReload",     "b"  },
        { SYSTEMD_UNIT,    "ActiveEnterTimestamp", "t"  },
        { SYSTEMD_SERVICE, "Type",                 "s"  },
        { SYSTEMD_SERVICE, "User",                 "s"  },
        { SYSTEMD_SERVICE, "Result",               "s"  },
        { SYSTEMD_SERVICE, "MainPID",              "u"  },
        { SYSTEMD_SERVICE, "ExecMainCode",         "i"  },
        { SYSTEMD_SERVICE, "ExecMainStatus",       "i"  },
        { SYSTEMD_SERVICE, "NRestarts",            "u"  },
        { SYSTEMD_SERVICE, "MemoryCurrent",        "t"  },
        { SYSTEMD_SERVICE, "MemoryMax",            "t"  },
        { SYSTEMD_SERVICE, "TasksCurrent",         "t"  },
        { SYSTEMD_SERVICE, "CPUUsageNSec",         "t"  },
        { SYSTEMD_SERVICE, "ReadWritePaths",       "as" },
        { SYSTEMD_SERVICE, "Environment",          "as*"},
};

static int print_strings(sd_bus_message *m, bool cut, FILE *f)
{
        const char *text;
        int r = sd_bus_message_enter_container(m, 'a', "s");

        while (r >= 0 && (r = sd_bus_message_read(m, "s", &text)) > 0)
                fprintf(f, " %.*s", (int) (cut ? strcspn(text, "=") : strlen(text)), text);
        return r;
}

static int print_value(sd_bus_message *m, const char *type, FILE *f)
{
        const char *text;
        uint64_t wide;
        uint32_t number;
        int integer, r;

        switch (type[0]) {
        case 's':
                r = sd_bus_message_read(m, "s", &text);
                if (r >= 0)
                        fprintf(f, " %s", text);
                return r;
        case 't':
                r = sd_bus_message_read(m, "t", &wide);
                if (r >= 0)
                        fprintf(f, wide == UINT64_MAX ? " -" : " %" PRIu64, wide);
                return r;
        case 'u':
                r = sd_bus_message_read(m, "u", &number);
                if (r >= 0)
                        fprintf(f, " %" PRIu32, number);
                return r;
        case 'a':
                return print_strings(m, type[2] == '*', f);
        default: /* "i" and "b" */
                r = sd_bus_message_read(m, type, &integer);
                if (r >= 0)
                        fprintf(f, " %d", integer);
                return r;
        }
}

static int print_property(sd_bus *bus, const char *path, const Property *p, FILE *f)
{
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *reply = NULL;
        char type[] = { p->type[0], p->type[0] == 'a' ? 's' : '\0', '\0' };
        int r = sd_bus_get_property(bus, SYSTEMD_NAME, path, p->interface, p->name, NULL, &reply,
                                    type);

        if (r < 0)
                return r == -ETIMEDOUT ? r : 0; /* units of another kind have fewer */
        fprintf(f, "  %s:", p->name);
        r = print_value(reply, p->type, f);
        fprintf(f, "%s\n", r < 0 ? " not to be read" : "");
        return 0;
}

static bool is_loaded(sd_bus *bus, const char *path)
{
        _cleanup_free_ char *state = NULL;

        return sd_bus_get_property_string(bus, SYSTEMD_NAME, path, SYSTEMD_UNIT, properties[0].name,
                                          NULL, &state) >= 0 &&
               streq(state, "loaded");
}

/* An error: systemd does not answer, and need not be asked for more. */
static int print_unit(sd_bus *bus, const char *unit, FILE *f)
{
        _cleanup_(sd_bus_error_free) sd_bus_error e = SD_BUS_ERROR_NULL;
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *reply = NULL;
        const char *path;
        int r = sd_bus_call_method(bus, SYSTEMD_NAME, SYSTEMD_PATH, SYSTEMD_MANAGER, "LoadUnit", &e,
                                   &reply, "s", unit);

        if (r >= 0)
                r = sd_bus_message_read(reply, "o", &path);
        if (r < 0) {
                fprintf(f, "%s: %s\n", unit, e.message ? e.message : strerror(-r));
                return r == -ETIMEDOUT ? r : 0;
        }
        fprintf(f, "%s\n", unit);
        if (!is_loaded(bus, path))
                return print_property(bus, path, &properties[0], f);
        for (size_t i = 0; r >= 0 && i < ELEMENTSOF(properties); i++)
                r = print_property(bus, path, &properties[i], f);
        return r;
}

/* The units of what is live. */
static int print_units_of(sd_bus *bus, const cJSON *state, FILE *f)
{
        const cJSON *release, *unit;
        int r = 0;
        const char *current = json_member_text(state, "current");

        cJSON_ArrayForEach(release, json_member(state, "releases"))
        {
                const cJSON *activate = json_member(release, "activate");

                if (!current || !streq_ptr(current, json_member_text(release, "release")))
                        continue;
                cJSON_ArrayForEach(unit, json_member(activate, "units"))
                {
                        const char *name = json_member_text(unit, "name");

                        if (name && r >= 0)
                                r = print_unit(bus, name, f);
                }
        }
        return r;
}

int report_units(const Report *r, FILE *f, char **reterr)
{
        static const char *const own[] = { "slipwayd.service", "slipway-ready.target",
                                           "slipway-metrics.timer", "amazon-ssm-agent.service" };
        const cJSON *app;
        int error = 0;

        if (!r->check.bus)
                return fail(reterr, -ESRCH, "there is no bus: see the findings");
        for (size_t i = 0; error >= 0 && i < ELEMENTSOF(own); i++)
                error = print_unit(r->check.bus, own[i], f);
        cJSON_ArrayForEach(app, json_member(r->agent, "apps"))
        {
                if (error >= 0)
                        error = print_units_of(r->check.bus, json_member(app, "state"), f);
        }
        return error < 0 ? fail_errno(reterr, error, "the rest: systemd does not answer") : 0;
}
