/* SPDX-License-Identifier: Apache-2.0 */
#include "order-words.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <time.h>

#include "admin-text.h"
#include "admin-view.h"
#include "json-read.h"
#include "remote-order.h"

/* Shorter phases are not told, as by slipway history. */
#define PHASE_TOLD_MSEC 100

#define CUT_MARK "...\n"

/* Where a sequence begins, at or before `size`. */
static size_t border_before(const char *s, size_t size)
{
        while (size > 0 && ((unsigned char) s[size] & 0xc0) == 0x80)
                size--;
        return size;
}

/* In place: what is cleaned gets no longer. */
static char *make_fit(char *s)
{
        char *to = s;

        for (char *line = s, *next; *line; line = next) {
                size_t size = strcspn(line, "\n");
                bool closed = line[size] == '\n';

                next = line + size + closed;
                line[size] = '\0';
                (void) text_clean(line);
                size = strlen(line);
                memmove(to, line, size);
                to += size;
                if (closed)
                        *to++ = '\n';
        }
        *to = '\0';
        if (strlen(s) > ORDER_WORDS_MAX)
                (void) strcpy(s + border_before(s, ORDER_WORDS_MAX - STRLEN(CUT_MARK)), CUT_MARK);
        return s;
}

static char *close_words(FILE *f, char **text)
{
        if (f && fclose(f) == 0)
                return make_fit(TAKE_PTR(*text));
        return NULL;
}

char *order_words(const char *format, ...)
{
        _cleanup_free_ char *text = NULL;
        size_t size;
        FILE *f = open_memstream(&text, &size);
        va_list list;

        if (!f)
                return NULL;
        va_start(list, format);
        (void) vfprintf(f, format, list);
        va_end(list);
        (void) fputc('\n', f);
        return close_words(f, &text);
}

static void put_seconds(uint64_t msec, FILE *f)
{
        (void) fprintf(f, "%" PRIu64 ".%" PRIu64 "s", msec / 1000, msec % 1000 / 100);
}

static void put_times(const Event *e, FILE *f)
{
        const char *before = ": ";

        (void) fputs("took ", f);
        put_seconds(e->took_msec, f);
        for (Phase p = 0; p < _PHASE_MAX; p++) {
                if (e->took.msec[p] < PHASE_TOLD_MSEC)
                        continue;
                (void) fprintf(f, "%s%s ", before, phase_to_string(p));
                put_seconds(e->took.msec[p], f);
                before = ", ";
        }
        (void) fputc('\n', f);
}

/* Of a hook that is the reason, the reason has no output. */
static void put_hook(const char *kind, const HookEntry *h, const Event *e, FILE *f)
{
        const char *line = h->output;

        if (!h->release || h->ok || !streq(h->release, e->release))
                return;
        (void) fprintf(f, "%s hook %s%s%s\n", kind, strempty(h->command), h->text ? ": " : "",
                       strempty(h->text));
        while (line && *line) {
                size_t size = strcspn(line, "\n");
                (void) fprintf(f, "    | %.*s\n", (int) size, line);
                line += size + (line[size] == '\n');
        }
}

static void put_event(const State *s, const Event *e, FILE *f)
{
        (void) fprintf(f, "%s: ", s->app);
        if (e->action == ACTION_ROLLBACK)
                (void) fprintf(f, "the rollback to release %s", strempty(e->release));
        else
                (void) fprintf(f, "%s %" PRIu64 " (release %s)",
                               e->action == ACTION_STAGE ? "the staging of deployment"
                                                         : "deployment",
                               e->deployment, strempty(e->release));
        (void) fprintf(f, "%s%s%s\n",
                       e->result == RESULT_DONE       ? " is done"
                       : e->result == RESULT_REVERTED ? " was taken back"
                       : e->result == RESULT_DEFERRED ? " was put off"
                                                      : " failed",
                       e->reason ? ": " : "", strempty(e->reason));
}

static void put_live(const State *s, const char *before, FILE *f)
{
        (void) fprintf(f, "live: %s%s; before: %s\n", s->current ? s->current : "nothing",
                       s->down ? ", but its units did not come up" : "",
                       before ? before : "nothing");
        if (s->pinned)
                (void) fprintf(
                        f,
                        "pinned: the channel's deployment %" PRIu64
                        " is not installed over it; the next one is, or with the order resume\n",
                        s->pinned_deployment);
}

char *order_words_ended(const State *s, const Event *e, const char *before, const char *next)
{
        _cleanup_free_ char *text = NULL;
        size_t size;
        FILE *f = open_memstream(&text, &size);

        if (!f)
                return NULL;
        put_event(s, e, f);
        put_live(s, before, f);
        if (next)
                (void) fprintf(f, "next: %s\n", next);
        put_times(e, f);
        if (e->result != RESULT_DONE) {
                put_hook("pre", &s->hooks.pre, e, f);
                put_hook("post", &s->hooks.post, e, f);
                put_hook("revert", &s->hooks.revert, e, f);
        }
        return close_words(f, &text);
}

/* `current` stays the release before until the transaction is over, whatever runs already. */
char *order_words_under_way(const State *s)
{
        const Pending *p = &s->pending;
        const char *release = strempty(p->release), *phase = phase_to_string(s->phase);
        const char *before = s->current ? s->current : "nothing";
        const char *back = p->action == ACTION_ROLLBACK ? "back " : "";

        if (s->phase == PHASE_REVERTING)
                return order_words("%s: release %s is taken back, before it was %s%s%s", s->app,
                                   release, before, p->reason ? ": " : "", strempty(p->reason));
        if (s->phase == PHASE_CONFIRMING)
                return order_words("%s: release %s runs and waits to be confirmed (order "
                                   "confirm), before it was %s",
                                   s->app, release, before);
        if (s->phase > PHASE_SWITCHING)
                return order_words("%s: %s, switched %sto release %s, before it was %s", s->app,
                                   phase, back, release, before);
        return order_words("%s: %s%s, on the way %sto release %s; live is %s", s->app, phase,
                           s->phase == PHASE_WAITING ? " while the application holds updates off"
                                                     : "",
                           back, release, before);
}

static void put_now(const State *s, FILE *f)
{
        const char *current = s->current ? s->current : "nothing";
        const char *release = strempty(s->pending.release);

        if (s->phase == PHASE_IDLE)
                (void) fprintf(f, "live: %s\n", current);
        else if (s->phase == PHASE_REVERTING)
                (void) fprintf(f, "live: %s, while release %s is being taken back\n", current,
                               release);
        else if (s->phase > PHASE_SWITCHING)
                (void) fprintf(f, "live: %s, which is not settled yet (%s); before: %s\n", release,
                               phase_to_string(s->phase), current);
        else
                (void) fprintf(f, "live: %s; on its way: %s (%s)\n", current, release,
                               phase_to_string(s->phase));
}

char *order_words_outcome(const State *s, const char *text, const char *next)
{
        _cleanup_free_ char *words = NULL;
        size_t size;
        FILE *f = open_memstream(&words, &size);

        if (!f)
                return NULL;
        (void) fprintf(f, "%s: %s\n", s->app, text);
        put_now(s, f);
        if (next)
                (void) fprintf(f, "next: %s\n", next);
        return close_words(f, &words);
}

char *order_words_status(App *a)
{
        ViewContext context = { .now_sec = (uint64_t) time(NULL) };
        _cleanup_json_ cJSON *app = NULL;
        _cleanup_free_ char *text = NULL;
        size_t size;
        FILE *f = NULL;

        if (app_describe(a, &app) < 0)
                return NULL;
        text_clean_json(app);
        f = open_memstream(&text, &size);
        if (f && view_app(NULL, app, &context, f) < 0) {
                (void) fclose(f);
                return NULL;
        }
        return close_words(f, &text);
}
