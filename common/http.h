/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <time.h>

#include "macro.h"
#include "name-value.h"

/*
 * HTTP/1.1 on libcurl's multi interface: many transfers, no threads, nothing blocks but
 * http_step(). It judges transport only: what a status or an S3 error code means is the caller's.
 *
 * https anywhere, http to loopback hosts only (and see HttpRequest.nearby). Redirects are answers,
 * never followed (headers with credentials would follow). No proxy where http is allowed; else
 * libcurl's proxy variables count. Paths go out as they are. Bodies are never decoded.
 */

/* A pool of connections that are kept alive. One per trust domain: connections are never shared
 * between two. */
typedef struct Http Http;

/* `ca_file`: PEM bundle to trust; NULL: libcurl's built-in one. It must be a file: libcurl reads a
 * whole CA directory anew for every connection. */
_must_check_ int http_new(const char *ca_file, Http **ret);
Http *http_free(Http *h); /* ends all transfers without calling back */
DEFINE_CLEANUP_FUNC(Http *, http_free);

/* 0: an URL that may be asked by the rules above; else -EINVAL. */
_must_check_ int http_url_check(const char *url, char **reterr);

/* The same for a request that is `nearby`. */
_must_check_ int http_url_check_nearby(const char *url, char **reterr);

/* An answer, complete unless the transfer failed. Owned by the transfer. */
typedef struct HttpResponse HttpResponse;

unsigned http_response_status(const HttpResponse *r); /* 0: there was none */

/* The value of a header (the first of that name, compared without case; control characters in it
 * are blanks), or NULL. */
const char *http_response_header(const HttpResponse *r, const char *name);

/* The first 64 KiB of the body of an answer that is not 2xx; NUL-terminated, never NULL. */
const char *http_response_error_body(const HttpResponse *r, size_t *ret_size);

/* The header Date, in seconds since the epoch; -1: none. */
time_t http_response_date(const HttpResponse *r);

/* How many seconds the header Retry-After asks to wait, as a number or as a date, which is compared
 * with the answer's own (else with this host's clock); 0: there is none, it is past, or makes no
 * sense. Source: RFC 9110, 10.2.3. */
uint64_t http_response_retry_after_sec(const HttpResponse *r);

/* Whether libcurl began to send the body more than once: it may do so unasked when a connection
 * that was used before closes without an answer (RFC 9112, 9.3.1), though the host may have obeyed.
 */
bool http_response_resent(const HttpResponse *r);

/* Whether there was no answer because the host's name has no address, or nobody could tell it: the
 * two look alike. Behind a proxy it is the proxy that looks the name up. */
bool http_response_unresolved(const HttpResponse *r);

typedef struct HttpTransfer HttpTransfer;

/* Takes bytes of a 2xx body as they come. A negative errno ends the transfer with it. Must not
 * start or cancel transfers. */
typedef int (*http_body_t)(const void *data, size_t size, void *userdata);

/* `result`: 0: an answer came whole, whatever its status. Else, with `err` set:
 *   -EHOSTDOWN the host can't be reached, the connection broke, the body ended early
 *   -ETIMEDOUT connecting took too long, nothing moved for stall_sec, or deadline_msec passed
 *   -EFBIG     a 2xx body has more than size_max bytes
 *   -EKEYREJECTED the host's certificate is not trusted
 *   -EINVAL    the file of authorities can't be used
 *   -EPROTO    not the range that was asked for, or an answer that makes no sense
 *   -ESTALE    the object has another ETag than HttpRequest.etag
 *   or what on_body() said, or an errno of reading the body to be sent.
 * The transfer is gone after the callback; others may be started and cancelled in it. */
typedef void (*http_done_t)(int result, const HttpResponse *response, const char *err,
                            void *userdata);

/* The body to send: from memory (not copied), or from a file; both must stay as they are. */
typedef struct HttpUpload {
        const void *data;
        int fd; /* used if data is NULL */
        uint64_t offset, size;
} HttpUpload;

typedef struct HttpRequest {
        const char *method;
        const char *url;
        const NameValue *headers; /* copied; Content-Length and Range are made here */
        size_t n_headers;
        const HttpUpload *upload;          /* NULL: no body; may be of size 0 */
        const char *etag;                  /* a 2xx answer with another one is -ESTALE; NULL: any */
        uint64_t range_offset, range_size; /* with range_size > 0: bytes asked for; an answer 2xx
                                              that has not exactly these is -EPROTO */
        uint64_t size_max;                 /* of a 2xx body */
        unsigned connect_sec, stall_sec, deadline_msec; /* 0: no such limit */
        unsigned delay_msec; /* the request begins only then; the limits count from there */
        bool fresh;          /* on a new connection, with a new DNS answer */
        bool local;  /* for this host alone: localhost, 127.0.0.1 or [::1], and whatever certificate
                      * it shows: who listens there is a matter of this host's own users */
        bool nearby; /* a service of the host's surroundings, such as EC2's instance metadata: http
                      * is allowed to any address that is never routed over the internet: loopback,
                      * link-local (RFC 3927; RFC 4291, 2.5.6), private (RFC 1918) and unique local
                      * (RFC 4193). Addresses, not names: who answers for a name can change */
        http_body_t on_body; /* NULL: the body of a 2xx answer is counted only */
        void (*on_sent)(uint64_t size, void *userdata); /* bytes of the body given to the
                                                           connection so far; NULL: don't care */
        http_done_t done;
        void *userdata;
} HttpRequest;

/* Never calls back from within. -EINVAL: not an URL that may be asked (see above). */
_must_check_ int http_start(Http *h, const HttpRequest *request, HttpTransfer **ret, char **reterr);

/* Ends it without calling back. NULL is fine; returns NULL. */
HttpTransfer *http_cancel(HttpTransfer *t);

/* From now on http_step(h) also waits for and does what `guest` has to do, with its guests, which
 * stays a pool of its own: for two trust domains in one loop. Ends when one of them is freed, which
 * must not happen in a callback of the other's. `guest` is not stepped by itself any more. */
void http_attach(Http *h, Http *guest);

/* Waits up to timeout_usec (UINT64_MAX: for ever) for connections or the socket extra_fd (-1:
 * none), does what there is to do. Returns 1 if extra_fd is readable or closed, else 0. */
_must_check_ int http_step(Http *h, int extra_fd, uint64_t timeout_usec);
