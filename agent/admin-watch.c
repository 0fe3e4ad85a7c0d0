/* SPDX-License-Identifier: Apache-2.0 */
#include "admin-watch.h"

#include <errno.h>
#include <stdio.h>
#include <unistd.h>

#include "admin-text.h"
#include "agent-bus.h"
#include "app.h"
#include "progress.h"

struct Watch {
        char *app, *phase;
        uint64_t available_bytes, artifact_bytes;
        bool on_terminal;
        Progress *progress;
        sd_bus_slot *slot;
};

Watch *watch_free(Watch *w)
{
        if (!w)
                return NULL;
        sd_bus_slot_unref(w->slot);
        progress_free(w->progress);
        free(w->app);
        free(w->phase);
        free(w);
        return NULL;
}

static void show_bytes(Watch *w)
{
        _cleanup_free_ char *what = NULL;

        if (w->artifact_bytes == 0)
                return;
        if (!w->progress &&
            (asprintf(&what, "%s: fetching", w->app) < 0 || progress_new(what, &w->progress) < 0))
                return;
        progress_update(w->available_bytes, w->artifact_bytes, w->progress);
}

static void show_phase(Watch *w, const char *phase)
{
        char *copy;

        if (w->phase && streq(w->phase, phase))
                return;
        copy = strdup(phase);
        if (!copy)
                return;
        free(w->phase);
        w->phase = text_clean(copy);
        w->progress = progress_free(w->progress);
        if (w->on_terminal && !streq(w->phase, "idle"))
                fprintf(stderr, "%s: %s\n", w->app, w->phase);
}

/* One member of the a{sv}. */
static int read_property(Watch *w, sd_bus_message *m)
{
        const char *name, *phase;
        int r = sd_bus_message_read(m, "s", &name);

        if (r < 0)
                return r;
        if (streq(name, "Progress"))
                return sd_bus_message_read(m, "v", "(tt)", &w->available_bytes, &w->artifact_bytes);
        if (!streq(name, "Phase"))
                return sd_bus_message_skip(m, "v");
        r = sd_bus_message_read(m, "v", "s", &phase);
        if (r >= 0)
                show_phase(w, phase);
        return r;
}

static int on_changed(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
        Watch *w = userdata;
        const char *interface;
        int r = sd_bus_message_read(m, "s", &interface);

        (void) error;
        if (r < 0 || !streq(interface, APP_BUS_INTERFACE))
                return 0;
        r = sd_bus_message_enter_container(m, 'a', "{sv}");
        while (r >= 0) {
                r = sd_bus_message_enter_container(m, 'e', "sv");
                if (r <= 0)
                        break;
                r = read_property(w, m);
                if (r >= 0)
                        r = sd_bus_message_exit_container(m);
        }
        show_bytes(w);
        return 0;
}

static int new_watch(const char *app, Watch **ret)
{
        _cleanup_(watch_freep) Watch *w = calloc(1, sizeof(Watch));

        if (!w || !(w->app = strdup(app)))
                return -ENOMEM;
        w->on_terminal = isatty(STDERR_FILENO);
        *ret = TAKE_PTR(w);
        return 0;
}

int watch_new(sd_bus *bus, const char *app, Watch **ret)
{
        _cleanup_(watch_freep) Watch *w = NULL;
        _cleanup_free_ char *path = NULL;
        int r = new_watch(app, &w);

        if (r < 0)
                return r;
        if (sd_bus_path_encode(AGENT_BUS_PATH "/app", app, &path) < 0)
                return -ENOMEM;
        /* Not being told is no reason not to do it. */
        (void) sd_bus_match_signal(bus, &w->slot, AGENT_BUS_NAME, path,
                                   "org.freedesktop.DBus.Properties", "PropertiesChanged",
                                   on_changed, w);
        *ret = TAKE_PTR(w);
        return 0;
}

static void look(const App *app, void *userdata)
{
        Watch *w = userdata;

        app_progress(app, &w->available_bytes, &w->artifact_bytes);
        show_phase(w, phase_to_string(app_state(app)->phase));
        show_bytes(w);
}

int watch_new_offline(const char *app, Watch **ret, Onlooker *ret_onlooker)
{
        int r = new_watch(app, ret);

        if (r >= 0)
                *ret_onlooker = (Onlooker){ look, *ret };
        return r;
}
