/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>

#include "admin-bus.h"
#include "bus.h"
#include "check.h"
#include "err.h"
#include "fd.h"
#include "rival.h"
#include "state-file.h"

#define BUS_AREA   "bus"
#define UNITS_AREA "units"
#define DISK_AREA  "disk"

#define SYSTEMD_NAME    "org.freedesktop.systemd1"
#define SYSTEMD_PATH    "/org/freedesktop/systemd1"
#define SYSTEMD_MANAGER "org.freedesktop.systemd1.Manager"
#define SYSTEMD_UNIT    "org.freedesktop.systemd1.Unit"
#define SYSTEMD_SERVICE "org.freedesktop.systemd1.Service"

#define AGENT_UNIT   "slipwayd.service"
#define READY_TARGET "slipway-ready.target"

/* -- the bus */

static bool open_bus(Check *c)
{
        _cleanup_free_ char *err = NULL;
        int r = admin_bus_open(c->user, &c->bus, &err);

        if (r >= 0)
                r = bus_wait_ready(c->bus, BUS_CALL_TIMEOUT_USEC);
        if (r >= 0)
                r = sd_bus_set_method_call_timeout(c->bus, BUS_CALL_TIMEOUT_USEC);
        if (r >= 0)
                return true;
        c->bus = sd_bus_flush_close_unref(c->bus);
        findings_add(&c->findings, FINDING_FAIL, BUS_AREA, "units can't be restarted: %s",
                     err_text(r, err));
        findings_mend(&c->findings, "look at the bus: systemctl status dbus.service");
        return false;
}

static bool check_systemd(Check *c)
{
        _cleanup_(sd_bus_error_free) sd_bus_error e = SD_BUS_ERROR_NULL;
        _cleanup_free_ char *version = NULL;
        int r = sd_bus_get_property_string(c->bus, SYSTEMD_NAME, SYSTEMD_PATH, SYSTEMD_MANAGER,
                                           "Version", &e, &version);

        if (r >= 0) {
                findings_add(&c->findings, FINDING_OK, BUS_AREA, "systemd %s answers", version);
                return true;
        }
        findings_add(&c->findings, FINDING_FAIL, BUS_AREA, "systemd does not answer: %s",
                     e.message ? e.message : strerror(-r));
        findings_mend(&c->findings, "find out what it does, units can't be restarted meanwhile");
        return false;
}

/* -- one unit */

static int unit_path(Check *c, const char *unit, char **ret)
{
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *reply = NULL;
        const char *path;
        int r = sd_bus_call_method(c->bus, SYSTEMD_NAME, SYSTEMD_PATH, SYSTEMD_MANAGER, "LoadUnit",
                                   NULL, &reply, "s", unit);

        if (r >= 0)
                r = sd_bus_message_read(reply, "o", &path);
        if (r < 0)
                return r;
        *ret = strdup(path);
        return *ret ? 0 : -ENOMEM;
}

/* NULL: it can't be had. */
static char *unit_property(Check *c, const char *path, const char *property)
{
        char *value = NULL;

        (void) sd_bus_get_property_string(c->bus, SYSTEMD_NAME, path, SYSTEMD_UNIT, property, NULL,
                                          &value);
        return value;
}

static void strings_free(char ***strings)
{
        for (char **s = *strings; s && *s; s++)
                free(*s);
        free(*strings);
}

static bool is_in(char *const *strings, const char *wanted)
{
        for (; strings && *strings; strings++)
                if (streq(*strings, wanted))
                        return true;
        return false;
}

/* -- slipwayd's own */

static bool covers(const char *entry, const char *path)
{
        size_t size;

        entry += strspn(entry, "-+");
        size = strlen(entry);
        while (size > 0 && entry[size - 1] == '/')
                size--;
        return strncmp(path, entry, size) == 0 && (path[size] == '/' || path[size] == '\0');
}

static bool may_write(char *const *entries, const char *path)
{
        for (; entries && *entries; entries++)
                if (covers(*entries, path))
                        return true;
        return false;
}

static void check_write_paths(Check *c, const char *unit)
{
        _cleanup_(strings_free) char **entries = NULL;
        int r = sd_bus_get_property_strv(c->bus, SYSTEMD_NAME, unit, SYSTEMD_SERVICE,
                                         "ReadWritePaths", NULL, &entries);

        for (size_t i = 0; r >= 0 && c->config && i < c->config->n_apps; i++) {
                const AppConfig *a = &c->config->apps[i];

                if (may_write(entries, a->root))
                        continue;
                findings_add(&c->findings, FINDING_FAIL, DISK_AREA,
                             "%s, the root of app %s, is not among ReadWritePaths= of " AGENT_UNIT
                             ": slipwayd can't write there",
                             a->root, a->app);
                findings_mend(&c->findings,
                              "systemctl edit slipwayd, add [Service] and ReadWritePaths=%s, then "
                              "restart it",
                              a->root);
        }
}

static void check_agent(Check *c)
{
        _cleanup_free_ char *path = NULL, *load = NULL, *active = NULL, *enabled = NULL;

        if (unit_path(c, AGENT_UNIT, &path) < 0)
                return;
        load = unit_property(c, path, "LoadState");
        active = unit_property(c, path, "ActiveState");
        enabled = unit_property(c, path, "UnitFileState");
        if (!streq_ptr(load, "loaded")) {
                findings_add(&c->findings, FINDING_WARN, BUS_AREA, AGENT_UNIT " is %s",
                             load ? load : "unknown to systemd");
                findings_mend(&c->findings, streq_ptr(load, "masked")
                                                    ? "systemctl unmask slipwayd"
                                                    : "install it, then: systemctl daemon-reload");
                return;
        }
        if (streq_ptr(active, "active") || streq_ptr(active, "activating"))
                findings_add(&c->findings, FINDING_OK, BUS_AREA, AGENT_UNIT " runs");
        else {
                findings_add(&c->findings, FINDING_WARN, BUS_AREA,
                             AGENT_UNIT " is %s: nothing is deployed", active ? active : "unknown");
                findings_mend(&c->findings, "systemctl start slipwayd; why it ended: systemctl "
                                            "status slipwayd");
        }
        if (streq_ptr(enabled, "disabled")) {
                findings_add(&c->findings, FINDING_WARN, BUS_AREA,
                             AGENT_UNIT " is disabled: after a reboot nothing is deployed");
                findings_mend(&c->findings, "systemctl enable slipwayd");
        }
        if (!c->user)
                check_write_paths(c, path);
}

/* -- the applications' */

static int append_strings(sd_bus_message *m, char *const *strings, size_t n)
{
        int r = sd_bus_message_open_container(m, 'a', "s");

        for (size_t i = 0; r >= 0 && i < n; i++)
                r = sd_bus_message_append(m, "s", strings[i]);
        return r < 0 ? r : sd_bus_message_close_container(m);
}

/* 1: there are such units (or unit files); 0: none. `contents` is the type of the answer's rows. */
static int has_units(Check *c, const char *method, const char *contents, const AppConfig *a)
{
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL, *reply = NULL;
        int r = sd_bus_message_new_method_call(c->bus, &m, SYSTEMD_NAME, SYSTEMD_PATH,
                                               SYSTEMD_MANAGER, method);

        if (r >= 0)
                r = append_strings(m, NULL, 0);
        if (r >= 0)
                r = append_strings(m, a->units, a->n_units);
        if (r >= 0)
                r = sd_bus_call(c->bus, m, 0, NULL, &reply);
        if (r >= 0)
                r = sd_bus_message_enter_container(reply, 'a', contents);
        if (r >= 0)
                r = sd_bus_message_at_end(reply, false);
        return r < 0 ? r : r == 0;
}

static void check_patterns(Check *c, const AppConfig *a)
{
        int r = 0;

        if (a->n_units > 0)
                r = has_units(c, "ListUnitFilesByPatterns", "(ss)", a);
        if (r == 0 && a->n_units > 0)
                r = has_units(c, "ListUnitsByPatterns", "(ssssssouso)", a);
        if (r > 0)
                findings_add(&c->findings, FINDING_OK, UNITS_AREA,
                             "app %s: there are units that its manifests may name", a->app);
        else if (r < 0)
                findings_add(&c->findings, FINDING_WARN, UNITS_AREA,
                             "app %s: units can't be listed: %s", a->app, strerror(-r));
        else if (a->n_units > 0) {
                findings_add(&c->findings, FINDING_WARN, UNITS_AREA,
                             "app %s: there is no unit that its manifests may name (%s%s)", a->app,
                             a->units[0], a->n_units > 1 ? ", ..." : "");
                findings_mend(&c->findings,
                              "install the unit, or correct \"units\" of the app in %s",
                              c->config_path);
        }
}

static void check_order(Check *c, const char *path, const char *unit)
{
        _cleanup_(strings_free) char **after = NULL;

        if (!c->config->ready_when_deployed ||
            sd_bus_get_property_strv(c->bus, SYSTEMD_NAME, path, SYSTEMD_UNIT, "After", NULL,
                                     &after) < 0 ||
            !is_in(after, READY_TARGET))
                return;
        findings_add(&c->findings, FINDING_WARN, UNITS_AREA,
                     "%s waits for " READY_TARGET
                     ", and slipwayd, which restarts it, is ready only "
                     "after that: a deployment at boot takes until \"ready_limit\"",
                     unit);
        findings_mend(&c->findings, "remove After=" READY_TARGET " from %s", unit);
}

static void check_unit(Check *c, const char *app, const char *unit)
{
        _cleanup_free_ char *path = NULL, *load = NULL;
        int r = unit_path(c, unit, &path);

        if (r >= 0)
                load = unit_property(c, path, "LoadState");
        if (streq_ptr(load, "loaded")) {
                check_order(c, path, unit);
                return;
        }
        findings_add(&c->findings, FINDING_FAIL, UNITS_AREA,
                     "app %s: %s, which its live release restarts, is %s", app, unit,
                     load ? load : "unknown to systemd");
        findings_mend(&c->findings,
                      streq_ptr(load, "masked") ? "systemctl unmask %s" : "install %s", unit);
}

/* The units of what is live. */
static void check_live(Check *c, const AppConfig *a)
{
        _cleanup_close_ int dir_fd = dir_open_at(AT_FDCWD, c->paths.state_dir);
        _cleanup_(state_freep) State *s = NULL;
        const Installed *live;

        if (dir_fd < 0 || state_load(dir_fd, a->app, &s, NULL) < 0 || !s->current)
                return;
        live = state_find_release(s, s->current);
        for (size_t i = 0; live && i < live->activate.n_units; i++)
                check_unit(c, a->app, live->activate.units[i].name);
}

/* -- others */

/* An agent for which orders from Systems Manager are, too. */
static void add_rival(Check *c, const char *unit, bool runs)
{
        findings_add(&c->findings, FINDING_WARN, UNITS_AREA,
                     runs ? "%s runs here too: orders from AWS Systems Manager may go to it instead"
                          : "%s is enabled: after a reboot orders from AWS Systems Manager may go "
                            "to it instead",
                     unit);
        findings_mend(&c->findings, "systemctl disable --now %s; or set \"ssm\" off in %s", unit,
                      c->config_path);
}

static void check_other(Check *c, const char *unit, bool is_rival)
{
        _cleanup_free_ char *path = NULL, *active = NULL, *enabled = NULL;
        bool runs;

        if (unit_path(c, unit, &path) < 0)
                return;
        active = unit_property(c, path, "ActiveState");
        enabled = unit_property(c, path, "UnitFileState");
        runs = streq_ptr(active, "active") || streq_ptr(active, "activating");
        if (is_rival && (runs || streq_ptr(enabled, "enabled")))
                add_rival(c, unit, runs);
        else if (runs)
                findings_add(&c->findings, FINDING_NOTE, UNITS_AREA,
                             "%s runs here too, and may deploy as well", unit);
}

static void check_others(Check *c)
{
        static const char *const rivals[] = RIVAL_UNITS;

        check_other(c, "codedeploy-agent.service", false);
        for (size_t i = 0; rivals[i]; i++)
                check_other(c, rivals[i], c->config && c->config->ssm.enabled);
}

void check_units(Check *c)
{
        if (!open_bus(c) || !check_systemd(c))
                return;
        check_agent(c);
        for (size_t i = 0; c->config && i < c->config->n_apps; i++) {
                check_patterns(c, &c->config->apps[i]);
                check_live(c, &c->config->apps[i]);
        }
        if (!c->user)
                check_others(c);
}
