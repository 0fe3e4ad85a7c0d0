/* SPDX-License-Identifier: Apache-2.0 */
#include "progress.h"

#include <errno.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "clock.h"

#define USEC_PER_SEC  UINT64_C(1000000)
#define REDRAW_USEC   (USEC_PER_SEC / 10)
#define LINE_USEC     (10 * USEC_PER_SEC)
#define ESTIMATE_USEC (2 * USEC_PER_SEC)
#define COLUMNS_MIN   40
#define BAR_MIN       8

struct Progress {
        char *what;
        bool on_terminal, is_drawn;
        uint64_t started_usec, told_usec;
};

int progress_new(const char *what, Progress **ret)
{
        _cleanup_(progress_freep) Progress *p = calloc(1, sizeof(Progress));

        if (!p)
                return -ENOMEM;
        p->what = strdup(what);
        if (!p->what)
                return -ENOMEM;
        p->on_terminal = isatty(STDERR_FILENO) && !streq(strempty(getenv("TERM")), "dumb");
        p->started_usec = p->told_usec = clock_usec(CLOCK_MONOTONIC);
        *ret = TAKE_PTR(p);
        return 0;
}

Progress *progress_free(Progress *p)
{
        if (!p)
                return NULL;
        if (p->is_drawn)
                dprintf(STDERR_FILENO, "\n");
        free(p->what);
        free(p);
        return NULL;
}

char *bytes_format(uint64_t bytes, char buffer[static BYTES_TEXT_SIZE])
{
        static const char *const units[] = { "B", "kB", "MB", "GB", "TB", "PB", "EB" };
        double n = bytes;
        size_t i = 0;

        for (; n >= 999.95 && i < ELEMENTSOF(units) - 1; i++)
                n /= 1000;
        (void) snprintf(buffer, BYTES_TEXT_SIZE, "%.*f %s", i == 0 ? 0 : 1, n, units[i]);
        return buffer;
}

static unsigned percent(uint64_t done, uint64_t total)
{
        return total == 0 ? 100 : (unsigned) ((double) MIN(done, total) * 100 / total);
}

static int format_tail(uint64_t done, uint64_t total, uint64_t elapsed_usec, char **ret)
{
        char done_text[BYTES_TEXT_SIZE], total_text[BYTES_TEXT_SIZE], left[48] = "";

        if (elapsed_usec >= ESTIMATE_USEC && done > 0 && done < total)
                (void) snprintf(left, sizeof(left), ", %.0f s left",
                                (double) elapsed_usec / USEC_PER_SEC * (total - done) / done);
        if (asprintf(ret, "%s/%s%s", bytes_format(done, done_text), bytes_format(total, total_text),
                     left) < 0)
                return -ENOMEM;
        return 0;
}

int progress_format_bar(const char *what, uint64_t done_bytes, uint64_t total_bytes,
                        uint64_t elapsed_usec, unsigned columns, char **ret)
{
        _cleanup_free_ char *tail = NULL, *bar = NULL;
        int r = format_tail(done_bytes, total_bytes, elapsed_usec, &tail);

        if (r < 0)
                return r;
        columns = MAX(columns, (unsigned) COLUMNS_MIN);
        /* " 45% [" and "] " take nine columns. */
        size_t fixed = strlen(what) + strlen(tail) + 9;
        size_t width = columns > fixed + BAR_MIN ? MIN(columns - fixed, (size_t) 40) : BAR_MIN;
        size_t filled = width * percent(done_bytes, total_bytes) / 100;
        bar = malloc(width + 1);
        if (!bar)
                return -ENOMEM;
        memset(bar, '#', filled);
        memset(bar + filled, ' ', width - filled);
        bar[width] = '\0';
        if (asprintf(ret, "%s %3u%% [%s] %s", what, percent(done_bytes, total_bytes), bar, tail) <
            0)
                return -ENOMEM;
        return 0;
}

static unsigned terminal_columns(void)
{
        struct winsize w;

        return ioctl(STDERR_FILENO, TIOCGWINSZ, &w) == 0 && w.ws_col > 0 ? w.ws_col : 80;
}

static void draw(Progress *p, uint64_t done, uint64_t total, uint64_t elapsed_usec)
{
        _cleanup_free_ char *bar = NULL;

        /* A bar that can't be drawn is no reason to fail the work that it is about. */
        if (progress_format_bar(p->what, done, total, elapsed_usec, terminal_columns() - 1, &bar) <
            0)
                return;
        dprintf(STDERR_FILENO, "\r%s\033[K", bar);
        p->is_drawn = true;
}

void progress_update(uint64_t done_bytes, uint64_t total_bytes, void *userdata)
{
        Progress *p = userdata;
        uint64_t now = clock_usec(CLOCK_MONOTONIC);

        if (!p)
                return;
        bool is_last = done_bytes >= total_bytes && p->is_drawn;
        if (now - p->told_usec < (p->on_terminal ? REDRAW_USEC : LINE_USEC) && !is_last)
                return;
        p->told_usec = now;
        if (p->on_terminal) {
                draw(p, done_bytes, total_bytes, now - p->started_usec);
                return;
        }
        _cleanup_free_ char *tail = NULL;
        if (format_tail(done_bytes, total_bytes, now - p->started_usec, &tail) >= 0)
                dprintf(STDERR_FILENO, "%s: %u%%, %s\n", p->what, percent(done_bytes, total_bytes),
                        tail);
}
