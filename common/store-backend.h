/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <sys/queue.h>

#include "store.h"

/*
 * What a kind of store implements; only store.c and store-*.c include this. store.c checks and
 * copies requests and owns the list of calls, in the order of their start.
 */

#define STORE_FILE_SCHEME  "file://"
#define STORE_S3_SCHEME    "s3://"
#define STORE_HTTPS_SCHEME "https://"
#define STORE_HTTP_SCHEME  "http://" /* on this host */

typedef struct StoreBackend {
        const char *scheme; /* one of these */

        /* Makes what s->data points to, from s->url. */
        int (*open)(Store *s, char **reterr);
        void (*free)(Store *s);

        /* Begins c; must not finish it before the next step(). */
        int (*start)(StoreCall *c);
        /* Drops what c->data points to; the call is cancelled or finished. */
        void (*drop)(StoreCall *c);
        int (*step)(Store *s, int extra_fd, uint64_t timeout_usec);

        /* store_upload() of at least upload_size_min bytes; smaller ones, or NULL: one PUT. */
        int (*upload)(Store *s, const StoreRequest *put, void *userdata, int stop_fd,
                      char **reterr);
        uint64_t upload_size_min;

        const char *(*credentials)(const Store *s); /* NULL: it takes none */
        void (*attach)(Store *s, Http *guest);      /* NULL: not on the network */
} StoreBackend;

extern const StoreBackend store_file_backend, store_s3_backend, store_https_backend,
        store_http_backend;

struct StoreCall {
        Store *store;
        StoreRequest request;
        Sha256 body_sha256; /* what request.body_sha256 points to */
        store_done_t done;
        void *userdata;
        void *data; /* the backend's */
        TAILQ_ENTRY(StoreCall) entry;
};

struct Store {
        const StoreBackend *backend;
        char *url;
        StoreLimits limits;
        store_notice_t notice;
        void *data; /* the backend's */
        TAILQ_HEAD(StoreCalls, StoreCall) calls;
};

/* Ends c: calls back, frees the reply's rest and c. */
void store_call_finish(StoreCall *c, int result, StoreReply *reply, const char *err);
