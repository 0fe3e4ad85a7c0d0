/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>

#include "command.h"
#include "err.h"
#include "log.h"
#include "stray.h"
#include "unit-status.h"

/* How often systemd is asked whether they have ended. */
#define STEP_USEC (UINT64_C(100) * 1000)

/* A name's random part. */
#define ANY_HEX "????????????????"

struct Strays {
        const Site *site;
        sd_event_source *step_source;
        sd_bus_slot *list_slot;
        uint64_t limit_usec;
        bool said; /* what was found */
        int result;
        char *reason;
        strays_done_t done;
        void *userdata;
};

Strays *strays_free(Strays *s)
{
        if (!s)
                return NULL;
        sd_event_source_disable_unref(s->step_source);
        sd_bus_slot_unref(s->list_slot);
        free(s->reason);
        free(s);
        return NULL;
}

/* Asks again, or says that it takes too long: `why` is kept for that. */
static void again(Strays *s, int error, const char *why)
{
        int r;

        s->result = error;
        err_set(&s->reason, "%s", why);
        r = sd_event_source_set_time_relative(s->step_source, STEP_USEC);
        if (r >= 0)
                r = sd_event_source_set_enabled(s->step_source, SD_EVENT_ONESHOT);
        if (r < 0)
                s->done(r, strerror(-r), s->userdata);
}

static void stop(Strays *s, sd_bus *bus, const char *unit)
{
        int r = sd_bus_call_method_async(bus, NULL, SD1_NAME, SD1_PATH, SD1_MANAGER, "StopUnit",
                                         NULL, NULL, "ss", unit, "replace");

        site_log(s->site, s->said ? LOG_DEBUG : LOG_NOTICE, "App %s: %s is left from before: %s",
                 s->site->config->app, unit, r < 0 ? strerror(-r) : "it is stopped");
}

static int stop_listed(Strays *s, sd_bus_message *m, size_t *ret_n)
{
        const char *unit;
        int r = sd_bus_message_enter_container(m, 'a', "(ssssssouso)");

        *ret_n = 0;
        while (r >= 0 && (r = sd_bus_message_enter_container(m, 'r', "ssssssouso")) > 0) {
                r = sd_bus_message_read(m, "s", &unit);
                if (r >= 0)
                        r = sd_bus_message_skip(m, "sssssouso");
                if (r >= 0)
                        r = sd_bus_message_exit_container(m);
                if (r < 0)
                        break;
                stop(s, sd_bus_message_get_bus(m), unit);
                (*ret_n)++;
        }
        s->said = s->said || *ret_n > 0;
        return r;
}

static int on_listed(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
        Strays *s = userdata;
        size_t n;
        int r;

        (void) error;
        if (sd_bus_message_is_method_error(m, NULL)) {
                again(s, -EHOSTDOWN, sd_bus_message_get_error(m)->message);
                return 1;
        }
        r = stop_listed(s, m, &n);
        if (r < 0)
                again(s, -EHOSTDOWN, strerror(-r));
        else if (n > 0)
                again(s, -ETIMEDOUT, "a command from before does not end");
        else
                s->done(0, NULL, s->userdata);
        return 1;
}

static int append_patterns(sd_bus_message *m, const char *app)
{
        int r = sd_bus_message_open_container(m, 'a', "s");

        for (CommandKind k = 0; k < _COMMAND_KIND_MAX && r >= 0; k++) {
                _cleanup_free_ char *pattern = NULL;

                if (asprintf(&pattern, "slipway-%s-%s-" ANY_HEX ".service", app,
                             command_kind_to_string(k)) < 0) {
                        pattern = NULL;
                        return -ENOMEM;
                }
                r = sd_bus_message_append(m, "s", pattern);
        }
        return r < 0 ? r : sd_bus_message_close_container(m);
}

static int list(Strays *s, sd_bus *bus)
{
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL;
        int r = sd_bus_message_new_method_call(bus, &m, SD1_NAME, SD1_PATH, SD1_MANAGER,
                                               "ListUnitsByPatterns");

        if (r >= 0)
                r = sd_bus_message_append(m, "as", 3, "active", "activating", "deactivating");
        if (r >= 0)
                r = append_patterns(m, s->site->config->app);
        if (r < 0)
                return r;
        s->list_slot = sd_bus_slot_unref(s->list_slot);
        return sd_bus_call_async(bus, &s->list_slot, m, on_listed, s, 0);
}

static int on_step(sd_event_source *source, uint64_t usec, void *userdata)
{
        Strays *s = userdata;
        sd_bus *bus = bus_get(s->site->bus);
        int r;

        (void) source;
        if (usec > s->limit_usec) {
                s->done(s->result, s->reason, s->userdata);
                return 0;
        }
        r = bus ? list(s, bus) : -ENOTCONN;
        if (r < 0)
                again(s, -EHOSTDOWN, "there is no connection to systemd");
        return 0;
}

int strays_end(const Site *site, strays_done_t done, void *userdata, Strays **ret)
{
        _cleanup_(strays_freep) Strays *s = calloc(1, sizeof(Strays));
        uint64_t now_usec;
        int r;

        if (!s)
                return -ENOMEM;
        *s = (Strays){ .site = site, .done = done, .userdata = userdata };
        r = sd_event_now(site->event, CLOCK_BOOTTIME, &now_usec);
        if (r < 0)
                return r;
        s->limit_usec = now_usec + STRAYS_LIMIT_USEC;
        r = sd_event_add_time_relative(site->event, &s->step_source, CLOCK_BOOTTIME, 0, 0, on_step,
                                       s);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(s);
        return 0;
}
