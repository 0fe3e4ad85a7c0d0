/* SPDX-License-Identifier: Apache-2.0 */
#include "rival.h"

#include <errno.h>

#include "journal.h"
#include "log.h"
#include "unit-status.h"

#define LOOK_USEC (UINT64_C(300) * 1000000)

static const char *const units[] = RIVAL_UNITS;

struct Rival {
        Bus *buses;
        BusWatch watch;
        sd_event_source *look_source;
        sd_bus_slot *slot;
        const char *unit;
};

Rival *rival_free(Rival *r)
{
        if (!r)
                return NULL;
        bus_unwatch(r->buses, &r->watch);
        sd_event_source_disable_unref(r->look_source);
        sd_bus_slot_unref(r->slot);
        free(r);
        return NULL;
}

const char *rival_unit(const Rival *r)
{
        return r->unit;
}

static const char *known_unit(const char *name)
{
        for (size_t i = 0; units[i]; i++)
                if (streq(units[i], name))
                        return units[i];
        return NULL;
}

/* A row of ListUnitsByNames(): the name is first, the active state the fourth. */
static int read_running(sd_bus_message *m, const char **ret)
{
        const char *name, *state, *running = NULL;
        int r = sd_bus_message_enter_container(m, 'a', "(ssssssouso)");

        while (r >= 0 && (r = sd_bus_message_enter_container(m, 'r', "ssssssouso")) > 0) {
                r = sd_bus_message_read(m, "ssss", &name, NULL, NULL, &state);
                if (r >= 0 && (streq(state, "active") || streq(state, "activating")))
                        running = known_unit(name);
                if (r >= 0)
                        r = sd_bus_message_skip(m, "ssouso");
                if (r >= 0)
                        r = sd_bus_message_exit_container(m);
        }
        if (r >= 0)
                *ret = running;
        return r;
}

static int on_units(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
        Rival *r = userdata;
        const char *running = NULL;

        (void) error;
        r->slot = sd_bus_slot_unref(r->slot);
        if (sd_bus_message_is_method_error(m, NULL) || read_running(m, &running) < 0) {
                log_debug("systemd does not say whether another agent takes orders");
                return 0;
        }
        if (running && !r->unit)
                journal_event(LOG_WARNING, JOURNAL_RIVAL,
                              "%s runs here too, and orders from AWS Systems Manager may go to it "
                              "instead: stop and disable it, or set \"ssm\" off",
                              running);
        r->unit = running;
        return 0;
}

static void look(Rival *r)
{
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL;
        sd_bus *bus = bus_get(r->buses);
        int k;

        if (!bus || r->slot)
                return;
        k = sd_bus_message_new_method_call(bus, &m, SD1_NAME, SD1_PATH, SD1_MANAGER,
                                           "ListUnitsByNames");
        if (k >= 0)
                k = sd_bus_message_append_strv(m, (char **) units);
        if (k >= 0)
                k = sd_bus_call_async(bus, &r->slot, m, on_units, r, 0);
        if (k < 0)
                log_debug("Can't ask whether another agent takes orders: %s", strerror(-k));
}

static int on_look(sd_event_source *source, uint64_t usec, void *userdata)
{
        Rival *r = userdata;

        (void) usec;
        look(r);
        (void) sd_event_source_set_time_relative(source, LOOK_USEC);
        return sd_event_source_set_enabled(source, SD_EVENT_ONESHOT);
}

static void on_bus_changed(sd_bus *bus, void *userdata)
{
        Rival *r = userdata;

        r->slot = sd_bus_slot_unref(r->slot);
        if (bus)
                look(r);
}

int rival_new(sd_event *event, Bus *bus, Rival **ret)
{
        _cleanup_(rival_freep) Rival *r = calloc(1, sizeof(Rival));
        int k;

        if (!r)
                return -ENOMEM;
        *r = (Rival){
                .buses = bus, .watch = {.changed = on_bus_changed, .userdata = r}
        };
        bus_watch(bus, &r->watch);
        k = sd_event_add_time_relative(event, &r->look_source, CLOCK_BOOTTIME, 0, 10000000, on_look,
                                       r);
        if (k < 0)
                return k;
        *ret = TAKE_PTR(r);
        return 0;
}
