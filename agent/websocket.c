/* SPDX-License-Identifier: Apache-2.0 */
#include "websocket.h"

#include "clock.h"
#include "err.h"
#include "http-stream.h"
#include "secret.h"
#include "utf8.h"
#include "ws-frame.h"
#include "ws-upgrade.h"

#define PING "keepalive"

struct WebSocket {
        HttpStream *stream;
        WebSocketRequest request; /* without what it points to */
        char *host;
        WsAnswer *answer; /* NULL: it was taken */
        WsReader *reader;
        bool open;
        bool ending;       /* both said goodbye, or nothing more is to be heard */
        uint64_t due_usec; /* of opening and ending */
        uint64_t ping_due_usec, silence_due_usec;
        int result;
        char *err;
        bool *gone; /* set when it is freed in a callback */
};

static uint64_t in_msec(unsigned msec)
{
        return clock_usec(CLOCK_MONOTONIC) + (uint64_t) msec * 1000;
}

static int send_frames(WebSocket *w, void *data, size_t size)
{
        _cleanup_free_ void *frames = data;

        return http_stream_send(w->stream, frames, size);
}

static int send_message(WebSocket *w, WsOpcode opcode, const void *data, size_t size)
{
        size_t frames_size;
        void *frames;
        int r = ws_message_write(opcode, data, size, &frames, &frames_size);

        return r < 0 ? r : send_frames(w, frames, frames_size);
}

/* As far as it can be said: whoever does not hear it sees the connection end. */
static void say_goodbye(WebSocket *w, unsigned status)
{
        size_t size;
        void *frames;

        if (ws_close_write(status, &frames, &size) >= 0)
                (void) send_frames(w, frames, size);
}

WebSocket *websocket_free(WebSocket *w)
{
        if (!w)
                return NULL;
        if (w->open && !w->ending)
                say_goodbye(w, WS_GOING_AWAY);
        if (w->gone)
                *w->gone = true;
        (void) http_stream_close(w->stream);
        (void) ws_answer_free(w->answer);
        (void) ws_reader_free(w->reader);
        free(w->host);
        free(w->err);
        free(w);
        return NULL;
}

/* Calls back, and frees. */
static void finish(WebSocket *w, int result, const char *err)
{
        WebSocketEnd end = {
                .result = result, .err = err_text(result, err), .body = "", .date = -1
        };

        w->ending = true;
        if (w->answer && ws_answer_status(w->answer) > 0) {
                end.status = ws_answer_status(w->answer);
                end.body = ws_answer_body(w->answer, &end.body_size);
                end.date = ws_answer_date(w->answer);
        }
        w->request.ended(&end, w->request.userdata);
        (void) websocket_free(w);
}

static void finish_refused(WebSocket *w)
{
        _cleanup_free_ char *err = NULL, *excerpt = NULL;
        size_t size;
        const char *body = ws_answer_body(w->answer, &size);
        int r;

        excerpt = strndup(body, 200);
        if (excerpt)
                utf8_clean(excerpt);
        r = fail(&err, -EREMOTEIO, "%s refuses a websocket with status %u%s%s", w->host,
                 ws_answer_status(w->answer), size > 0 ? ": " : "", strempty(excerpt));
        finish(w, r, err);
}

/* From here on the server is only waited for, to get what was said to it. */
static void begin_ending(WebSocket *w, unsigned status, int result, char **err)
{
        say_goodbye(w, status);
        w->ending = true;
        w->result = result;
        w->err = TAKE_PTR(*err);
        w->due_usec = in_msec(w->request.limits.close_msec);
}

static void on_close(WebSocket *w, const WsMessage *m)
{
        _cleanup_free_ char *err = NULL, *reason = strndup(m->data, m->size);

        if (reason)
                utf8_clean(reason);
        if (m->status == WS_NO_STATUS)
                err_set(&err, "%s closed the websocket", w->host);
        else
                err_set(&err, "%s closed the websocket with status %u%s%s", w->host, m->status,
                        m->size > 0 ? ": " : "", strempty(reason));
        begin_ending(w, m->status, -EHOSTDOWN, &err);
}

static int take_message(WebSocket *w, const WsMessage *m)
{
        switch (m->opcode) {
        case WS_PING:
                return send_message(w, WS_PONG, m->data, m->size);
        case WS_CLOSE:
                on_close(w, m);
                return 0;
        case WS_PONG:
                return 0;
        default:
                w->request.message(m->opcode == WS_TEXT, m->data, m->size, w->request.userdata);
                return 0;
        }
}

/* It may be gone after that. */
static void take_frames(WebSocket *w, const uint8_t *data, size_t size)
{
        _cleanup_free_ char *err = NULL;
        unsigned status = WS_PROTOCOL_ERROR;
        bool gone = false;
        WsMessage m;
        int r = 1;

        w->gone = &gone;
        while (r > 0 && !gone && !w->ending) {
                r = ws_reader_next(w->reader, &data, &size, &m, &status, &err);
                if (r > 0 && take_message(w, &m) < 0)
                        r = fail(&err, -EHOSTDOWN, "nothing can be sent");
        }
        if (gone)
                return;
        w->gone = NULL;
        if (r < 0) {
                r = fail_prefix(&err, r, "%s sent what is no websocket's", w->host);
                begin_ending(w, status, r, &err);
        }
}

/* True: it is a websocket now, and still there. */
static bool take_answer(WebSocket *w, const uint8_t **data, size_t *size)
{
        _cleanup_free_ char *err = NULL;
        bool gone = false;
        int r = ws_answer_take(w->answer, data, size, &err);

        if (r < 0) {
                r = fail_prefix(&err, r, "%s sent what is no websocket's", w->host);
                w->answer = ws_answer_free(w->answer);
                finish(w, r, err);
                return false;
        }
        if (r == 0)
                return false;
        if (ws_answer_status(w->answer) != 101) {
                finish_refused(w);
                return false;
        }
        w->answer = ws_answer_free(w->answer);
        w->open = true;
        w->ping_due_usec = in_msec(w->request.limits.ping_msec);
        w->gone = &gone;
        w->request.opened(w->request.userdata);
        if (!gone)
                w->gone = NULL;
        return !gone;
}

static void on_received(const void *data, size_t size, void *userdata)
{
        WebSocket *w = userdata;
        const uint8_t *p = data;

        w->silence_due_usec = UINT64_MAX;
        if (!w->answer || take_answer(w, &p, &size))
                take_frames(w, p, size);
}

static void on_ended(int result, const char *err, void *userdata)
{
        WebSocket *w = userdata;
        _cleanup_free_ char *text = NULL;

        w->stream = NULL;
        if (w->ending)
                finish(w, w->result, w->err);
        else if (result < 0)
                finish(w, result, err);
        else if (w->answer && ws_answer_status(w->answer) > 0)
                finish_refused(w);
        else {
                result =
                        fail(&text, -EHOSTDOWN, "%s closed the connection without a word", w->host);
                finish(w, result, text);
        }
}

static int websocket_new(const WebSocketRequest *q, WebSocket **ret)
{
        _cleanup_(websocket_freep) WebSocket *w = calloc(1, sizeof(WebSocket));
        int r;

        if (!w)
                return -ENOMEM;
        w->request = *q;
        w->due_usec = in_msec(q->limits.open_msec);
        w->ping_due_usec = w->silence_due_usec = UINT64_MAX;
        w->host = strdup(q->host);
        if (!w->host)
                return -ENOMEM;
        r = ws_reader_new(q->limits.message_size_max, &w->reader);
        if (r >= 0)
                *ret = TAKE_PTR(w);
        return r;
}

static int send_upgrade(WebSocket *w, const WebSocketRequest *q)
{
        _cleanup_(secret_freep) char *text = NULL;
        char key[WS_KEY_SIZE];
        int r = ws_upgrade_write(q->target, q->headers, q->n_headers, key, &text);

        if (r >= 0)
                r = ws_answer_new(key, &w->answer);
        return r < 0 ? r : http_stream_send(w->stream, text, strlen(text));
}

int websocket_open(Http *h, const WebSocketRequest *request, WebSocket **ret, char **reterr)
{
        _cleanup_(websocket_freep) WebSocket *w = NULL;
        int r = websocket_new(request, &w);

        if (r < 0)
                return r;
        r = http_stream_open(h,
                             &(HttpStreamRequest){
                                     .url = request->url,
                                     .connect_sec = request->limits.connect_sec,
                                     .received = on_received,
                                     .ended = on_ended,
                                     .userdata = w,
                             },
                             &w->stream, reterr);
        if (r >= 0)
                r = send_upgrade(w, request);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(w);
        return 0;
}

int websocket_send(WebSocket *w, bool text, const void *data, size_t size)
{
        if (!w->open || w->ending)
                return -ENOTCONN;
        return send_message(w, text ? WS_TEXT : WS_BINARY, data, size);
}

uint64_t websocket_due_in_usec(const WebSocket *w)
{
        const uint64_t now = clock_usec(CLOCK_MONOTONIC);
        const uint64_t due =
                !w->open || w->ending ? w->due_usec : MIN(w->ping_due_usec, w->silence_due_usec);

        return due > now ? due - now : 0;
}

/* A ping that is not answered is followed by others, but the first one's time counts. */
static void send_ping(WebSocket *w)
{
        if (w->silence_due_usec == UINT64_MAX)
                w->silence_due_usec = in_msec(w->request.limits.silence_msec);
        w->ping_due_usec = in_msec(w->request.limits.ping_msec);
        (void) send_message(w, WS_PING, PING, STRLEN(PING));
}

void websocket_start_due(WebSocket *w)
{
        const uint64_t now = clock_usec(CLOCK_MONOTONIC);
        _cleanup_free_ char *err = NULL;
        int r;

        if (w->ending) {
                if (w->due_usec <= now)
                        finish(w, w->result, w->err);
        } else if (!w->open) {
                if (w->due_usec > now)
                        return;
                if (ws_answer_status(w->answer) > 0) {
                        finish_refused(w);
                        return;
                }
                r = fail(&err, -ETIMEDOUT, "%s does not open a websocket in time", w->host);
                finish(w, r, err);
        } else if (w->silence_due_usec <= now) {
                r = fail(&err, -ETIMEDOUT, "nothing comes from %s any more", w->host);
                finish(w, r, err);
        } else if (w->ping_due_usec <= now)
                send_ping(w);
}
