/* SPDX-License-Identifier: Apache-2.0 */
#include "http-recheck.h"

#include <stdint.h>

#include "clock.h"
#include "err.h"
#include "http-internal.h"
#include "http-stream.h"

#define START         "HTTP/1.1 304"
#define LIFETIME_USEC (UINT64_C(3600) * 1000000) /* as that of other connections */

struct HttpRecheck {
        Http *http;
        HttpWatch watch; /* for the limit */
        HttpStream *stream;
        char *url; /* the stream's */
        uint64_t opened_usec;
        uint64_t due_usec; /* the answer, or when to ask again */
        char head[HTTP_RECHECK_HEAD_MAX];
        size_t head_size;
        HttpRecheckRequest request; /* without text: there is none */
        bool waiting;               /* to ask again when it is due */
};

static void close_stream(HttpRecheck *r)
{
        r->stream = http_stream_close(r->stream);
}

bool http_recheck_is_busy(const HttpRecheck *r)
{
        return r->request.text;
}

/* An answer that may still come is none to what is asked next. */
static void stop(HttpRecheck *r, bool keep_stream)
{
        r->request.text = NULL;
        http_remove_watch(&r->watch);
        if (!keep_stream)
                close_stream(r);
}

void http_recheck_cancel(HttpRecheck *r)
{
        if (http_recheck_is_busy(r))
                stop(r, r->waiting);
}

static void finish(HttpRecheck *r, bool unchanged)
{
        stop(r, unchanged);
        r->request.done(unchanged, r->request.userdata);
}

static bool is_token_char(char c)
{
        return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
               (c && strchr("!#$%&'*+-.^_`|~", c));
}

/* Whether the comma-separated list has this word; anything that looks like it is good enough. */
static bool has_word(const char *value, size_t size, const char *word)
{
        size_t n = strlen(word);

        for (size_t i = 0; i + n <= size; i++)
                if (strncasecmp(value + i, word, n) == 0)
                        return true;
        return false;
}

static int parse_field(const char *line, size_t size, bool *close)
{
        size_t n = 0;

        while (n < size && is_token_char(line[n]))
                n++;
        if (n == 0 || n == size || line[n] != ':')
                return -EBADMSG;
        if (n == STRLEN("connection") && strncasecmp(line, "connection", n) == 0 &&
            has_word(line + n, size - n, "close"))
                *close = true;
        return 0;
}

static bool is_304(const char *line, size_t size)
{
        return size >= STRLEN(START) && memcmp(line, START, STRLEN(START)) == 0 &&
               (size == STRLEN(START) || line[STRLEN(START)] == ' ');
}

int http_recheck_parse(const char *data, size_t size, bool *ret_close)
{
        bool close = false;

        for (size_t at = 0, n_lines = 0;; n_lines++) {
                const char *line = data + at, *end = memchr(line, '\n', size - at);
                size_t n;

                if (!end)
                        return size < HTTP_RECHECK_HEAD_MAX ? 0 : -EBADMSG;
                n = (size_t) (end - line);
                if (n == 0 || line[n - 1] != '\r' || memchr(line, '\0', n) ||
                    memchr(line, '\r', n - 1))
                        return -EBADMSG;
                n--;
                at = (size_t) (end - data) + 1;
                if (n_lines == 0) {
                        if (!is_304(line, n))
                                return -EBADMSG;
                } else if (n > 0) {
                        if (parse_field(line, n, &close) < 0)
                                return -EBADMSG;
                } else {
                        *ret_close = close;
                        return at == size ? 1 : -EBADMSG;
                }
        }
}

static void on_unchanged(HttpRecheck *r)
{
        uint64_t wait_usec = r->request.again(r->request.userdata);

        if (wait_usec == 0) {
                finish(r, true);
                return;
        }
        r->waiting = true;
        r->due_usec = clock_usec(CLOCK_MONOTONIC) + wait_usec;
}

static void on_received(const void *data, size_t size, void *userdata)
{
        HttpRecheck *r = userdata;
        bool close = true;
        int k;

        /* Nobody asked. */
        if (!http_recheck_is_busy(r) || r->waiting) {
                close_stream(r);
                return;
        }
        k = size > sizeof(r->head) - r->head_size ? -EBADMSG : 0;
        if (k >= 0) {
                memcpy(r->head + r->head_size, data, size);
                r->head_size += size;
                k = http_recheck_parse(r->head, r->head_size, &close);
        }
        if (k == 1 && close)
                close_stream(r);
        else if (k == 1)
                http_stream_expect_nothing(r->stream);
        if (k == 1)
                on_unchanged(r);
        else if (k < 0)
                finish(r, false);
}

static void on_ended(int result, const char *err, void *userdata)
{
        HttpRecheck *r = userdata;

        (void) result;
        (void) err;
        r->stream = NULL;
        if (http_recheck_is_busy(r) && !r->waiting)
                finish(r, false);
}

static HttpRecheck *recheck_of(HttpWatch *w)
{
        return (HttpRecheck *) ((char *) w - offsetof(HttpRecheck, watch));
}

static void wait_for(HttpWatch *w, HttpWaits *waits)
{
        uint64_t due_usec = recheck_of(w)->due_usec, now_usec = clock_usec(CLOCK_MONOTONIC);

        http_wait_at_most(waits, due_usec > now_usec ? due_usec - now_usec : 0);
}

static int open_stream(HttpRecheck *r, const char *url)
{
        const HttpStreamRequest request = {
                .url = url,
                .connect_sec = HTTP_RECHECK_MAX_USEC / 1000000,
                .received = on_received,
                .ended = on_ended,
                .userdata = r,
        };

        free(r->url);
        r->url = strdup(url);
        if (!r->url)
                return -ENOMEM;
        r->opened_usec = clock_usec(CLOCK_MONOTONIC);
        return http_stream_open(r->http, &request, &r->stream, NULL);
}

static int ask_now(HttpRecheck *r, uint64_t now_usec)
{
        const char *url = r->request.url, *text = r->request.text;
        int k = 0;

        if (r->stream && (!streq(r->url, url) || now_usec - r->opened_usec > LIFETIME_USEC))
                close_stream(r);
        if (!r->stream)
                k = open_stream(r, url);
        if (k >= 0)
                k = http_stream_send(r->stream, text, strlen(text));
        if (k < 0)
                return k;
        http_stream_flush(r->stream);
        r->head_size = 0;
        r->due_usec = now_usec + HTTP_RECHECK_MAX_USEC;
        r->waiting = false;
        return 0;
}

static void act(HttpWatch *w, const HttpWaits *waits)
{
        HttpRecheck *r = recheck_of(w);
        uint64_t now_usec = clock_usec(CLOCK_MONOTONIC);

        (void) waits;
        if (now_usec >= r->due_usec && (!r->waiting || ask_now(r, now_usec) < 0))
                finish(r, false);
}

static void end_with_http(HttpWatch *w)
{
        http_recheck_cancel(recheck_of(w));
}

int http_recheck_new(Http *h, HttpRecheck **ret)
{
        HttpRecheck *r = calloc(1, sizeof(HttpRecheck));

        if (!r)
                return -ENOMEM;
        r->http = h;
        r->watch = (HttpWatch){ .wait = wait_for, .act = act, .end = end_with_http };
        *ret = r;
        return 0;
}

HttpRecheck *http_recheck_free(HttpRecheck *r)
{
        if (!r)
                return NULL;
        http_recheck_cancel(r);
        close_stream(r);
        free(r->url);
        free(r);
        return NULL;
}

int http_recheck_ask(HttpRecheck *r, const HttpRecheckRequest *request)
{
        int k;

        if (http_recheck_is_busy(r))
                return -EBUSY;
        r->request = *request;
        k = ask_now(r, clock_usec(CLOCK_MONOTONIC));
        if (k < 0) {
                r->request.text = NULL;
                return k;
        }
        http_add_watch(r->http, &r->watch);
        return 0;
}
