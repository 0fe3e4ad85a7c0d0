/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stddef.h>

#include "macro.h"

/* An error answer of S3: its XML, and what to do about it.
 * Source: Amazon S3 API Reference, "Error responses"; botocore's retry tables. */

typedef struct S3Error {
        char *code;    /* "NoSuchKey"; "" if there is none */
        char *message; /* for people; "" if there is none */
        char *request_id;
        char *region; /* where the bucket lives, if the answer says so; else "" */
} S3Error;

/* Takes what it finds in the body of an answer; a body that is no such XML gives empty texts.
 * -EBADMSG only if `strict` and the root is not <Error>. Control characters become blanks. */
_must_check_ int s3_error_parse(const char *body, size_t size, bool strict, S3Error *ret);
void s3_error_done(S3Error *e);

typedef enum S3Verdict {
        S3_FINAL,
        S3_TRANSIENT, /* try again soon */
        S3_THROTTLED, /* try again later */
        S3_SKEWED,    /* our clock is wrong: try again once with theirs */
        S3_REFUSED,   /* the credentials are not taken */
        S3_ELSEWHERE, /* the bucket is in another region */
} S3Verdict;

S3Verdict s3_error_judge(unsigned status, const char *code);
