/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stddef.h>

#include "http.h"
#include "macro.h"

/*
 * An error answer of an AWS service other than S3, in whichever of their forms it comes: JSON
 * {"__type": "namespace#Code", "message"} with or without the header x-amzn-ErrorType, or XML with
 * <Error><Code/><Message/></Error> somewhere below its root; the form need not be that of the
 * request.
 * Sources: Smithy, "AWS JSON 1.1 protocol" and "AWS Query protocol", "Operation error
 * serialization"; Amazon EC2 API Reference, "Error response format".
 */

typedef struct AwsError {
        char *code;    /* "ThrottlingException"; "" if there is none */
        char *message; /* for people, at most 512 bytes, printable; "" if there is none */
} AwsError;

/* Takes what it finds; an answer that is nothing of the above gives empty texts. */
_must_check_ int aws_error_parse(const HttpResponse *response, AwsError *ret);

/* The same from the parts of an answer. `header`: x-amzn-ErrorType, or NULL. body[size] is NUL. */
_must_check_ int aws_error_parse_parts(const char *header, const char *body, size_t size,
                                       AwsError *ret);
void aws_error_done(AwsError *e);

typedef enum AwsVerdict {
        AWS_FINAL,
        AWS_TRANSIENT, /* try again soon */
        AWS_THROTTLED, /* try again later */
        AWS_DENIED,    /* who we are is known, and may not do this */
        AWS_REFUSED,   /* the credentials or the signature are not taken, maybe because of the clock
                        */
} AwsVerdict;

AwsVerdict aws_error_judge(unsigned status, const char *code);
