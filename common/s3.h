/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "digest.h"
#include "http.h"
#include "macro.h"
#include "name-value.h"
#include "sink.h"
#include "store.h"

/*
 * Signed requests to one bucket (to an https:// store: unsigned ones), tried again while that may
 * help (full jitter: the wait is random below a limit that doubles), and what the answers mean. A
 * bucket that is in another region is followed there, once per request, and the region remembered;
 * a clock that S3 does not take is corrected by S3's own, for signing alone. Only store-s3.c and
 * s3-*.c use this.
 * Source: Amazon S3 User Guide, "Making requests", "Request redirection"; botocore's
 * S3RegionRedirectorv2.
 */

typedef struct S3 S3;

/* Reads the environment (see store.h). `limits` and what `notice` points to must outlive it. Calls
 * wait for the region and for credentials until they are there, or can't be had (-ENOKEY). */
_must_check_ int s3_new(const char *url, const StoreLimits *limits, const store_notice_t *notice,
                        S3 **ret, char **reterr);
S3 *s3_free(S3 *s);
DEFINE_CLEANUP_FUNC(S3 *, s3_free);

/* Where keys begin: "" or "prefix/". */
const char *s3_prefix(const S3 *s);

/* As store_credentials() and store_attach(). */
const char *s3_credentials_name(const S3 *s);
void s3_attach(S3 *s, Http *guest);

#define S3_PARAMS_MAX  6
#define S3_HEADERS_MAX 8

typedef struct S3Answer {
        int result;       /* 0, an outcome or a negative errno of store.h */
        const char *err;  /* with STORE_UNKNOWN and negative results */
        const char *etag; /* NULL: none */
        Sink *sink;       /* the body of a 2xx answer; contents may be taken */
        bool retried;     /* by us or by libcurl, so an earlier try may have worked unnoticed */
} S3Answer;

typedef void (*s3_done_t)(const S3Answer *a, void *userdata);

/* All that is pointed to must stay valid until done() or s3_cancel(). */
typedef struct S3Request {
        const char *method;
        const char *key;     /* below the prefix; NULL: the bucket */
        const char *what;    /* for messages: "read", "write", "list" */
        const char *actions; /* for messages: the permissions that this takes */
        NameValue params[S3_PARAMS_MAX];
        size_t n_params;
        NameValue headers[S3_HEADERS_MAX]; /* are signed */
        size_t n_headers;
        const char *if_none_match; /* of a GET; NULL: none */
        const char *if_match;      /* ETag, or NULL; a GET that brings another is STORE_CONFLICT */
        const HttpUpload *upload;  /* NULL: no body */
        const Sha256 *body_sha256; /* of the body; needed if there is one */
        Sink sink;                 /* a new one; freed by the call */
        uint64_t range_offset, range_size, size_max;
        bool resumes; /* a broken range goes on where it broke, with If-Match; its sink is a file */
        store_again_t again;   /* of a GET with if_none_match; NULL: once */
        const char *late_root; /* an answer 200 may hold an error (CompleteMultipartUpload): the
                                  root of one that holds none; NULL: it never does. What is neither
                                  is -EPROTO, and `retried`, since it may have worked */
        unsigned stall_sec;    /* 0: by the limits */
        unsigned n_tries;      /* 0: the default */
        store_progress_t progress;
        s3_done_t done;
        void *userdata;
} S3Request;

/* Adds the headers that a new object of this store gets. */
void s3_add_encryption(const S3 *s, S3Request *request);

typedef struct S3Call S3Call;

/* Never calls back from within. */
_must_check_ int s3_start(S3 *s, const S3Request *request, S3Call **ret, char **reterr);
S3Call *s3_cancel(S3Call *c); /* without calling back; NULL is fine; returns NULL */
_must_check_ int s3_step(S3 *s, int extra_fd, uint64_t timeout_usec);
