/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "http.h"
#include "macro.h"

/*
 * Asks again and again whether an object has changed that most often has not, on a connection that
 * is kept alive for this alone: with a fraction of the work that a transfer is for libcurl. It
 * knows one answer, a plain 304. Whatever else comes, or nothing in time, means that nothing is
 * known, and that the caller has to ask by http.h, which knows the rest.
 * Source: RFC 9112, 4, 5 and 9.6; RFC 9110, 15.4.5.
 */

#define HTTP_RECHECK_HEAD_MAX 8192
#define HTTP_RECHECK_MAX_USEC (UINT64_C(5) * 1000000) /* for an answer, connecting included */

typedef struct HttpRecheck HttpRecheck;

_must_check_ int http_recheck_new(Http *h, HttpRecheck **ret);
HttpRecheck *http_recheck_free(HttpRecheck *r); /* must not outlive its Http */
DEFINE_CLEANUP_FUNC(HttpRecheck *, http_recheck_free);

/* Nothing has changed: in how many microseconds the same is asked again; 0: no more. */
typedef uint64_t (*http_recheck_again_t)(void *userdata);
typedef void (*http_recheck_done_t)(bool unchanged, void *userdata);

typedef struct HttpRecheckRequest {
        const char *url;  /* scheme, host and port count; where they are the same as the last time,
                           * the connection is, too */
        const char *text; /* complete with the empty line at its end; must stay until it is done */
        http_recheck_again_t again; /* must not start or cancel anything */
        http_recheck_done_t done;   /* false: nothing is known */
        void *userdata;
} HttpRecheckRequest;

/* Asks until something has changed or `again` says so. Never calls back from within. -EBUSY: this
 * is under way already. */
_must_check_ int http_recheck_ask(HttpRecheck *r, const HttpRecheckRequest *request);
bool http_recheck_is_busy(const HttpRecheck *r);

/* Ends what is under way, if there is something, without calling back. */
void http_recheck_cancel(HttpRecheck *r);

/* 1: this is a whole 304, and nothing behind it; *ret_close: the connection ends with it. 0: it may
 * become one. -EBADMSG: never. For tests. */
_must_check_ int http_recheck_parse(const char *data, size_t size, bool *ret_close);
