/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <time.h>

#include "http.h"
#include "macro.h"
#include "name-value.h"

/*
 * The client's end of a websocket (RFC 6455), by the rules of http.h. It answers pings, sends its
 * own, and notices a connection that is only half there. Violations end it with 1002, 1007 or 1009.
 */

typedef struct WebSocketLimits {
        unsigned connect_sec;  /* until a connection stands, TLS included */
        unsigned open_msec;    /* until it is a websocket */
        unsigned ping_msec;    /* a ping is sent so often */
        unsigned silence_msec; /* after a ping nothing comes at all: it is lost */
        unsigned close_msec;   /* the longest that a server that was said goodbye is waited for */
        size_t message_size_max;
} WebSocketLimits;

/* How it ended; the texts are there during the callback. */
typedef struct WebSocketEnd {
        int result;      /* -EREMOTEIO: refused, `status` says how; -EPROTO: the server broke the
                          * protocol; -EHOSTDOWN: it closed; or as http_done_t */
        const char *err; /* never NULL */
        unsigned status; /* HTTP's, of a refusal; else 0 */
        const char *body;
        size_t body_size;
        time_t date; /* of a refusal, in seconds since the epoch; -1: none */
} WebSocketEnd;

typedef struct WebSocketRequest {
        const char *url;          /* scheme, host and port count */
        const char *host;         /* for messages */
        const char *target;       /* "/path?query" */
        const NameValue *headers; /* Host, and whatever else but what makes it a websocket */
        size_t n_headers;
        WebSocketLimits limits;

        void (*opened)(void *userdata);
        void (*message)(bool text, const void *data, size_t size, void *userdata);
        void (*ended)(const WebSocketEnd *end, void *userdata); /* it is gone after that */
        void *userdata;
} WebSocketRequest;

typedef struct WebSocket WebSocket;

/* Copies all of the request. Never calls back from within. -EINVAL: not an URL that may be asked.
 */
_must_check_ int websocket_open(Http *h, const WebSocketRequest *request, WebSocket **ret,
                                char **reterr);

/* Without calling back, in callbacks too. An open one says goodbye (1001), but waits for nothing.
 */
WebSocket *websocket_free(WebSocket *w);
DEFINE_CLEANUP_FUNC(WebSocket *, websocket_free);

/* -ENOTCONN: it is not open. -ENOBUFS: too much waits to be sent. */
_must_check_ int websocket_send(WebSocket *w, bool text, const void *data, size_t size);

/* For the loop that steps `h`: in how many microseconds start_due() has something to do, and doing
 * it, which may call back. */
uint64_t websocket_due_in_usec(const WebSocket *w);
void websocket_start_due(WebSocket *w);
