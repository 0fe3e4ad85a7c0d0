/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>

#include "bus.h"
#include "clock.h"
#include "log.h"

/* Before the first try after a loss, and at most. */
#define DELAY_MIN_USEC (UINT64_C(100) * 1000)
#define DELAY_MAX_USEC (UINT64_C(10) * 1000000)

struct Bus {
        sd_event *event;
        bool user;
        sd_bus *bus;
        sd_event_source *retry_source;
        uint64_t delay_usec;
        uint64_t opened_usec; /* CLOCK_MONOTONIC */
        BusWatch *watches;
};

static void lose(Bus *b);

static void tell(Bus *b)
{
        BusWatch *next;

        for (BusWatch *w = b->watches; w; w = next) {
                next = w->next;
                w->changed(b->bus, w->userdata);
        }
}

static int on_disconnected(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
        Bus *b = userdata;

        (void) error;
        if (sd_bus_message_get_bus(m) != b->bus)
                return 0;
        log_warning("The D-Bus connection is lost; it is made again");
        lose(b);
        return 0;
}

static int open_connection(Bus *b)
{
        _cleanup_(sd_bus_close_unrefp) sd_bus *bus = NULL;
        int r = b->user ? sd_bus_open_user(&bus) : sd_bus_open_system(&bus);

        if (r < 0)
                return r;
        r = sd_bus_set_method_call_timeout(bus, BUS_CALL_TIMEOUT_USEC);
        /* sd-bus makes this signal itself (sd_bus_set_exit_on_disconnect(3)). */
        if (r >= 0)
                r = sd_bus_match_signal(bus, NULL, NULL, "/org/freedesktop/DBus/Local",
                                        "org.freedesktop.DBus.Local", "Disconnected",
                                        on_disconnected, b);
        if (r >= 0)
                r = sd_bus_attach_event(bus, b->event, SD_EVENT_PRIORITY_NORMAL);
        if (r < 0)
                return r;
        b->bus = TAKE_PTR(bus);
        b->opened_usec = clock_usec(CLOCK_MONOTONIC);
        return 0;
}

static void plan_retry(Bus *b)
{
        int r = sd_event_source_set_time_relative(b->retry_source, b->delay_usec);

        if (r >= 0)
                r = sd_event_source_set_enabled(b->retry_source, SD_EVENT_ONESHOT);
        if (r < 0)
                log_error("Can't connect to D-Bus again: %s", strerror(-r));
        b->delay_usec = MIN(b->delay_usec * 2, DELAY_MAX_USEC);
}

static int on_retry(sd_event_source *source, uint64_t usec, void *userdata)
{
        Bus *b = userdata;
        int r = open_connection(b);

        (void) source;
        (void) usec;
        if (r < 0) {
                log_debug("No D-Bus connection: %s", strerror(-r));
                plan_retry(b);
                return 0;
        }
        log_notice("There is a D-Bus connection again");
        tell(b);
        return 0;
}

static void close_connection(Bus *b)
{
        if (b->bus)
                (void) sd_bus_detach_event(b->bus);
        b->bus = sd_bus_close_unref(b->bus);
}

static void lose(Bus *b)
{
        close_connection(b);
        /* One that is taken and closed at once is no sign that the next will last. */
        if (clock_usec(CLOCK_MONOTONIC) - b->opened_usec > DELAY_MAX_USEC)
                b->delay_usec = DELAY_MIN_USEC;
        plan_retry(b);
        tell(b);
}

int bus_new(sd_event *event, bool user, Bus **ret)
{
        _cleanup_(bus_freep) Bus *b = calloc(1, sizeof(Bus));
        int r;

        if (!b)
                return -ENOMEM;
        *b = (Bus){ .event = sd_event_ref(event), .user = user, .delay_usec = DELAY_MIN_USEC };
        r = sd_event_add_time_relative(event, &b->retry_source, CLOCK_MONOTONIC, 0, 0, on_retry, b);
        if (r >= 0)
                r = sd_event_source_set_enabled(b->retry_source, SD_EVENT_OFF);
        if (r < 0)
                return r;
        r = open_connection(b);
        if (r < 0) {
                log_warning(
                        "No D-Bus connection (%s): units can't be restarted, and slipway can't talk to this agent",
                        strerror(-r));
                plan_retry(b);
        }
        *ret = TAKE_PTR(b);
        return 0;
}

Bus *bus_free(Bus *b)
{
        if (!b)
                return NULL;
        close_connection(b);
        sd_event_source_disable_unref(b->retry_source);
        sd_event_unref(b->event);
        free(b);
        return NULL;
}

sd_bus *bus_get(const Bus *b)
{
        return b->bus;
}

void bus_drop(Bus *b)
{
        if (b->bus)
                lose(b);
}

int bus_wait_ready(sd_bus *bus, uint64_t timeout_usec)
{
        uint64_t now = clock_usec(CLOCK_MONOTONIC), until = now + timeout_usec;
        int r;

        while ((r = sd_bus_is_ready(bus)) == 0) {
                r = sd_bus_process(bus, NULL);
                if (r == 0)
                        r = sd_bus_wait(bus, until - now);
                if (r < 0)
                        return r;
                now = clock_usec(CLOCK_MONOTONIC);
                if (now >= until)
                        return -ETIMEDOUT;
        }
        return r < 0 ? r : 0;
}

void bus_watch(Bus *b, BusWatch *w)
{
        w->next = b->watches;
        b->watches = w;
}

void bus_unwatch(Bus *b, BusWatch *w)
{
        for (BusWatch **p = &b->watches; *p; p = &(*p)->next)
                if (*p == w) {
                        *p = w->next;
                        return;
                }
}

bool bus_error_is_passing(const sd_bus_error *e)
{
        static const char *const passing[] = {
                SD_BUS_ERROR_NO_REPLY,
                SD_BUS_ERROR_TIMEOUT,
                SD_BUS_ERROR_DISCONNECTED,
                SD_BUS_ERROR_SERVICE_UNKNOWN,
                SD_BUS_ERROR_NAME_HAS_NO_OWNER,
                /* What dbus says of a name that it was to start: systemd's own is not there. */
                "org.freedesktop.DBus.Error.Spawn.ChildExited",
                "org.freedesktop.DBus.Error.Spawn.Failed",
        };

        for (size_t i = 0; i < ELEMENTSOF(passing); i++)
                if (sd_bus_error_has_name(e, passing[i]))
                        return true;
        return false;
}
