/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#include "admin-bus.h"
#include "admin-text.h"
#include "admin-verb.h"
#include "admin-view.h"
#include "admin.h"
#include "err.h"
#include "json-read.h"
#include "log.h"
#include "time-text.h"

bool arg_watch = false;

/* To the left upper corner, and nothing below it. */
#define CLEAR_SCREEN "\033[H\033[J"

static int view(const Known *k, const cJSON *app, FILE *f)
{
        ViewContext context = { .now_sec = (uint64_t) time(NULL), .user = arg_user };

        return app ? view_app(k->agent, app, &context, f) : view_overview(k->agent, &context, f);
}

static int show_once(const char *name)
{
        _cleanup_known_ Known k = {};
        const cJSON *app = NULL;
        int r = known_get(&k);

        if (r != ADMIN_OK)
                return r;
        if (name) {
                app = known_find_app(&k, name);
                if (!app)
                        return ADMIN_NO_SUCH;
        }
        if (arg_json)
                return admin_print_json(app ? app : k.agent);
        text_clean_json(k.agent);
        r = view(&k, app, stdout);
        if (r >= 0)
                return ADMIN_OK;
        log_error("cannot show this: %s", strerror(-r));
        return ADMIN_FAILED;
}

/* What is watched: an application, or all of them. */
typedef struct Watched {
        Known known;
        const char *name; /* NULL: all */
        bool on_terminal;
        char *told; /* the last lines that were written, elsewhere than on a terminal */
} Watched;

static void watched_done(Watched *w)
{
        known_done(&w->known);
        free(w->told);
}

static const cJSON *watched_app(const Watched *w)
{
        return w->name ? view_find_app(w->known.agent, w->name) : NULL;
}

static int draw(const Watched *w, const char *trouble)
{
        _cleanup_free_ char *text = NULL;
        size_t size;
        FILE *f = open_memstream(&text, &size);
        int r = 0;

        if (!f)
                return -ENOMEM;
        if (trouble)
                fprintf(f, "%s\n", trouble);
        else
                r = view(&w->known, watched_app(w), f);
        if (fclose(f) != 0 || r < 0)
                return -ENOMEM;
        printf(CLEAR_SCREEN "%s", text);
        return 0;
}

/* A line for each application, whenever one of them says something new. */
static int tell(Watched *w, const char *trouble)
{
        _cleanup_free_ char *lines = NULL;
        char at[TIME_TEXT_SIZE];
        size_t size;
        FILE *f = open_memstream(&lines, &size);

        if (!f)
                return -ENOMEM;
        if (trouble)
                fprintf(f, "%s\n", trouble);
        else
                view_lines(w->known.agent, w->name, time(NULL), f);
        if (fclose(f) != 0)
                return -ENOMEM;
        if (w->told && streq(w->told, lines))
                return 0;
        if (!arg_json)
                for (char *line = lines, *next; *line; line = next) {
                        next = strchr(line, '\n') + 1;
                        printf("%s %.*s", time_format_utc(time(NULL), at), (int) (next - line),
                               line);
                }
        else if (!trouble) {
                const cJSON *app = watched_app(w);

                if (admin_print_json_line(app ? app : w->known.agent) != ADMIN_OK)
                        return -ENOMEM;
        }
        free(w->told);
        w->told = TAKE_PTR(lines);
        return 0;
}

static int look(Watched *w)
{
        _cleanup_free_ char *err = NULL;
        int r = known_refresh(&w->known, &err);
        const char *trouble = r < 0 ? err_text(r, err) : NULL;

        if (!trouble && w->name && !view_find_app(w->known.agent, w->name))
                trouble = "slipwayd does not know this application any more";
        if (!trouble && !arg_json)
                text_clean_json(w->known.agent);
        return w->on_terminal && !arg_json ? draw(w, trouble) : tell(w, trouble);
}

static int watch(const char *name)
{
        _cleanup_(watched_done) Watched w = { .name = name, .on_terminal = isatty(STDOUT_FILENO) };
        _cleanup_free_ char *err = NULL;
        int r = known_ask(&w.known, &err);

        if (r < 0) {
                log_error("cannot watch: %s", err_text(r, err));
                return r == -ETIMEDOUT ? ADMIN_NOT_RUNNING : admin_exit_code(r);
        }
        if (name && !known_find_app(&w.known, name))
                return ADMIN_NO_SUCH;
        r = admin_bus_subscribe(w.known.bus);
        while (r >= 0) {
                r = look(&w);
                if (fflush(stdout) != 0)
                        return ADMIN_FAILED;
                if (r >= 0)
                        r = admin_bus_pause(w.known.bus);
        }
        log_error("the connection to slipwayd is lost: %s", strerror(-r));
        return ADMIN_NOT_RUNNING;
}

int verb_status(char **args)
{
        return arg_watch ? watch(args[0]) : show_once(args[0]);
}
