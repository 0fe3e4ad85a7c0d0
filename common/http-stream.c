/* SPDX-License-Identifier: Apache-2.0 */
#include "http-stream.h"

#include <sys/queue.h>

#include "err.h"
#include "http-internal.h"
#include "secret.h"

#define READ_SIZE 4096

/* It stays where it is until all of it is sent: OpenSSL wants to see the same bytes at the same
 * place when it is asked again. */
typedef struct Block {
        STAILQ_ENTRY(Block) entry;
        size_t size, n_sent;
        char data[];
} Block;

struct HttpStream {
        HttpEasy base; /* the first member */
        HttpWatch watch;
        Http *http;
        CURL *easy;
        bool added; /* to `http` */
        char *host; /* for messages */
        bool connected;
        int wait_number;
        bool more; /* there may be something to read that the socket does not show */
        curl_socket_t fd;
        STAILQ_HEAD(, Block) blocks;
        size_t unsent;
        HttpStreamRequest request;
        char curl_err[CURL_ERROR_SIZE];
};

static void block_free(Block *b)
{
        explicit_bzero(b->data, b->size); /* tokens may be in it */
        free(b);
}

static void stream_free(HttpStream *s)
{
        while (!STAILQ_EMPTY(&s->blocks)) {
                Block *b = STAILQ_FIRST(&s->blocks);
                STAILQ_REMOVE_HEAD(&s->blocks, entry);
                block_free(b);
        }
        if (s->added) {
                http_remove_watch(&s->watch);
                http_remove_easy(s->http, &s->base, s->easy);
        }
        curl_easy_cleanup(s->easy);
        free(s->host);
        free(s);
}
DEFINE_CLEANUP_FUNC(HttpStream *, stream_free);

static void end(HttpStream *s, int result, const char *err)
{
        s->request.ended(result, result < 0 ? err_text(result, err) : NULL, s->request.userdata);
        stream_free(s);
}

static HttpStream *stream_of(HttpWatch *w)
{
        return (HttpStream *) ((char *) w - offsetof(HttpStream, watch));
}

static void wait_for(HttpWatch *w, HttpWaits *waits)
{
        HttpStream *s = stream_of(w);

        s->wait_number = -1;
        if (s->connected)
                s->wait_number = http_wait_for_fd(waits, s->fd,
                                                  STAILQ_EMPTY(&s->blocks)
                                                          ? CURL_WAIT_POLLIN
                                                          : CURL_WAIT_POLLIN | CURL_WAIT_POLLOUT);
        else
                http_wait_for_all(waits, s->http);
        if (s->more)
                http_wait_at_most(waits, 0);
}

static CURLcode flush(HttpStream *s)
{
        while (!STAILQ_EMPTY(&s->blocks)) {
                Block *b = STAILQ_FIRST(&s->blocks);
                size_t n = 0;
                CURLcode code =
                        curl_easy_send(s->easy, b->data + b->n_sent, b->size - b->n_sent, &n);
                if (code != CURLE_OK)
                        return code == CURLE_AGAIN ? CURLE_OK : code;
                b->n_sent += n;
                s->unsent -= n;
                if (b->n_sent == b->size) {
                        STAILQ_REMOVE_HEAD(&s->blocks, entry);
                        block_free(b);
                }
        }
        return CURLE_OK;
}

static void end_broken(HttpStream *s, CURLcode code)
{
        _cleanup_free_ char *err = NULL;
        int r = fail(&err, -EHOSTDOWN, "the connection to %s broke: %s", s->host,
                     *s->curl_err ? s->curl_err : curl_easy_strerror(code));

        end(s, r, err);
}

/* Calls back at most once, and last: the stream may be gone then. */
static void exchange(HttpStream *s)
{
        char data[READ_SIZE];
        size_t n = 0;
        CURLcode sent = flush(s);
        CURLcode code = curl_easy_recv(s->easy, data, sizeof(data), &n);

        s->more = code == CURLE_OK;
        if (code == CURLE_OK && n > 0)
                s->request.received(data, n, s->request.userdata);
        else if (code == CURLE_OK)
                end(s, 0, NULL);
        else if (code != CURLE_AGAIN)
                end_broken(s, code);
        else if (sent != CURLE_OK) /* whoever can't be sent to may have said why before */
                end_broken(s, sent);
}

static void act(HttpWatch *w, const HttpWaits *waits)
{
        HttpStream *s = stream_of(w);

        if (s->connected && (s->more || http_wait_is_over(waits, s->wait_number)))
                exchange(s);
}

static void end_with_http(HttpWatch *w)
{
        (void) http_stream_close(stream_of(w));
}

static void stream_finished(HttpEasy *e, CURLcode code)
{
        HttpStream *s = (HttpStream *) e;
        _cleanup_free_ char *err = NULL;
        int r = http_judge(code, s->host, s->curl_err, &err);

        if (r >= 0 && (curl_easy_getinfo(s->easy, CURLINFO_ACTIVESOCKET, &s->fd) != CURLE_OK ||
                       s->fd == CURL_SOCKET_BAD))
                r = fail(&err, -EHOSTDOWN, "%s closed the connection", s->host);
        if (r < 0) {
                end(s, r, err);
                return;
        }
        s->connected = true;
        s->wait_number = -1;
        /* At once: libcurl drops connections that nobody uses when it makes another one, and the
         * first curl_easy_recv() makes this one used (its lib/easy.c, 7.81 to 8.x). */
        exchange(s);
}

static int stream_new(Http *h, const HttpStreamRequest *request, HttpStream **ret)
{
        _cleanup_(stream_freep) HttpStream *s = calloc(1, sizeof(HttpStream));

        if (!s)
                return -ENOMEM;
        STAILQ_INIT(&s->blocks);
        s->base.finished = stream_finished;
        s->watch = (HttpWatch){ .wait = wait_for, .act = act, .end = end_with_http };
        s->http = h;
        s->request = *request;
        s->request.url = NULL;
        s->easy = curl_easy_init();
        if (!s->easy)
                return -ENOMEM;
        *ret = TAKE_PTR(s);
        return 0;
}

int http_stream_open(Http *h, const HttpStreamRequest *request, HttpStream **ret, char **reterr)
{
        _cleanup_(stream_freep) HttpStream *s = NULL;
        int r = stream_new(h, request, &s);

        if (r < 0)
                return r;
        r = http_set_connection(h, s->easy, request->url, request->connect_sec, &s->host, reterr);
        if (r < 0)
                return r;
        if (curl_easy_setopt(s->easy, CURLOPT_CONNECT_ONLY, 1L) != CURLE_OK ||
            curl_easy_setopt(s->easy, CURLOPT_ERRORBUFFER, s->curl_err) != CURLE_OK ||
            curl_easy_setopt(s->easy, CURLOPT_PRIVATE, &s->base) != CURLE_OK)
                return -ENOMEM;
        r = http_add_easy(h, &s->base, s->easy);
        if (r < 0)
                return r;
        http_add_watch(h, &s->watch);
        s->added = true;
        *ret = TAKE_PTR(s);
        return 0;
}

void http_stream_flush(HttpStream *s)
{
        if (s->connected)
                (void) flush(s);
}

void http_stream_expect_nothing(HttpStream *s)
{
        s->more = false;
}

HttpStream *http_stream_close(HttpStream *s)
{
        if (!s)
                return NULL;
        if (s->connected)
                (void) flush(s);
        stream_free(s);
        return NULL;
}

int http_stream_send(HttpStream *s, const void *data, size_t size)
{
        Block *b;

        if (size > HTTP_STREAM_UNSENT_MAX - s->unsent)
                return -ENOBUFS;
        if (size == 0)
                return 0;
        b = malloc(sizeof(Block) + size);
        if (!b)
                return -ENOMEM;
        b->size = size;
        b->n_sent = 0;
        memcpy(b->data, data, size);
        STAILQ_INSERT_TAIL(&s->blocks, b, entry);
        s->unsent += size;
        return 0;
}
