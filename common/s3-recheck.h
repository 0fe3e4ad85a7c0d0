/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <time.h>

#include "http-recheck.h"
#include "macro.h"
#include "name-value.h"

/*
 * Requests for objects that most often have not changed (http-recheck.h). What was signed is sent
 * again for a while, as long as all that went into it is the same: S3 takes it within 15 minutes.
 * Only s3.c uses this.
 * Source: Amazon S3 API Reference, "Authenticating Requests (AWS Signature Version 4)".
 */

#define S3_RECHECK_SIGNED_SEC 30

typedef struct S3Recheck S3Recheck;

_must_check_ int s3_recheck_new(Http *h, S3Recheck **ret);
S3Recheck *s3_recheck_free(S3Recheck *r);
DEFINE_CLEANUP_FUNC(S3Recheck *, s3_recheck_free);

/* What a request depends on: together, endpoint and key say who is asked for what. */
typedef struct S3RecheckFor {
        const char *endpoint, *key, *etag;
        unsigned generation;        /* of the credentials */
        time_t time;                /* by which it is signed */
        http_recheck_again_t again; /* these as in HttpRecheckRequest */
        http_recheck_done_t done;
        void *userdata;
} S3RecheckFor;

/* Asks by what was signed before; errors as of http_recheck_ask(). -ENOENT: nothing was, for this.
 */
_must_check_ int s3_recheck_again(S3Recheck *r, const S3RecheckFor *what);

/* Asks with a path as on the wire, and these headers besides Host. */
_must_check_ int s3_recheck_ask(S3Recheck *r, const S3RecheckFor *what, const char *host,
                                const char *path, const NameValue *headers, size_t n_headers);

/* As http_recheck_cancel() and http_recheck_is_busy(). */
void s3_recheck_cancel(S3Recheck *r);
bool s3_recheck_is_busy(const S3Recheck *r);

/* Whether it was this object that was asked for last. */
bool s3_recheck_knows(const S3Recheck *r, const char *key);
