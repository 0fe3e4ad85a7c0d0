/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stddef.h>

#include "http.h"
#include "macro.h"

/*
 * Bytes both ways over a connection of its own, by the same rules as http.h's (https, proxies,
 * authorities), for protocols that HTTP changes to. It moves in http_step().
 */

#define HTTP_STREAM_UNSENT_MAX (4 * 1024 * 1024)

typedef struct HttpStream HttpStream;

typedef struct HttpStreamRequest {
        const char *url;      /* scheme, host and port count */
        unsigned connect_sec; /* until the connection stands, TLS included */

        void (*received)(const void *data, size_t size, void *userdata);

        /* 0: the host closed it after it stood; else as http_done_t, with `err`. The stream is gone
         * after the callback. */
        void (*ended)(int result, const char *err, void *userdata);
        void *userdata;
} HttpStreamRequest;

/* Never calls back from within. -EINVAL: not an URL that may be asked. */
_must_check_ int http_stream_open(Http *h, const HttpStreamRequest *request, HttpStream **ret,
                                  char **reterr);

/* For received(), when what came is all that is due: whatever else comes is looked at when the
 * socket shows it. */
void http_stream_expect_nothing(HttpStream *s);

/* Without calling back, in callbacks too. What is not sent yet is if that takes no waiting. NULL is
 * fine; returns NULL. */
HttpStream *http_stream_close(HttpStream *s);

/* Copied; sent when there is a connection. -ENOBUFS: more than HTTP_STREAM_UNSENT_MAX would wait.
 */
_must_check_ int http_stream_send(HttpStream *s, const void *data, size_t size);

/* Sends now what takes no waiting. What goes wrong is told in http_step(). */
void http_stream_flush(HttpStream *s);
