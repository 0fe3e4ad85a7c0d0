/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <time.h>

#include "credentials.h"
#include "http.h"
#include "macro.h"
#include "name-value.h"

/*
 * Calls to AWS services other than S3: signed, tried again while that may help, their errors turned
 * into words that say what to do. Asynchronous, with a synchronous wrapper.
 * Source: Smithy, "AWS JSON 1.1 protocol", "AWS Query protocol", "AWS EC2 Query protocol".
 */

typedef enum AwsProtocol {
        AWS_JSON,  /* JSON 1.1 both ways */
        AWS_QUERY, /* a form is sent, XML comes back */
} AwsProtocol;

/* A service, for ever: a constant of whoever calls it. */
typedef struct AwsService {
        const char *name; /* in host names, signatures and permissions: "kms" */
        AwsProtocol protocol;
        const char *version; /* JSON: of X-Amz-Target, "TrentService"; Query: "2016-11-15" */
} AwsService;

/* One service in one region. */
typedef struct AwsClient AwsClient;

/* Finds the endpoint (aws-endpoint.h), by the profile of `settings` (NULL: by the environment
 * alone). `region` NULL: that of the credentials' source, which is waited for, or without
 * credentials the environment's. `http` and `credentials` stay the caller's and must outlive it;
 * the credentials are attached to `http`, and calls wait until there are some; without credentials
 * nothing is signed (that is how STS takes a web identity). */
_must_check_ int aws_client_new(const AwsService *service, const char *region, Http *http,
                                CredentialsSource *settings, CredentialsSource *credentials,
                                AwsClient **ret, char **reterr);
AwsClient *aws_client_free(AwsClient *a); /* ends all calls without calling back */
DEFINE_CLEANUP_FUNC(AwsClient *, aws_client_free);

const char *aws_client_region(const AwsClient *a);

/* What the service's clock is ahead of ours, in seconds; 0 until a signature was refused for that.
 */
time_t aws_client_clock_offset(const AwsClient *a);

typedef struct AwsLimits {
        unsigned connect_sec;  /* 10: until a connection stands, TLS included */
        unsigned stall_sec;    /* 15: without anything moving; 0: no such limit */
        unsigned deadline_sec; /* 60: for one try in all */
        unsigned backoff_msec; /* 200: the longest wait before the second try; doubles up to 20 s,
                                  five times as long when the service asks for patience; the real
                                  wait is random below it, after what Retry-After asks for, up to
                                  20 s */
} AwsLimits;

/* In place of those that are told above, which a client has from the start. */
void aws_client_set_limits(AwsClient *a, const AwsLimits *limits);

/* What to do about an error: text for the end of its message. */
typedef struct AwsHint {
        const char *code; /* "DisabledException" */
        const char *text;
} AwsHint;

#define AWS_ANSWER_SIZE_MAX (1024 * 1024)

typedef struct AwsRequest {
        const char *action; /* "Sign"; the permission that it takes is "kms:Sign" */
        const char *what;   /* for messages, after "can't": "sign with the KMS key alias/web" */
        const char *json;   /* AWS_JSON: the body; copied */
        const NameValue *params; /* AWS_QUERY: besides Action and Version; copied */
        size_t n_params;
        const AwsHint *hints; /* ended by one without code; NULL: none */
        unsigned n_tries;     /* 0: the default, 4 */
        size_t size_max;      /* of the answer; 0: AWS_ANSWER_SIZE_MAX */
} AwsRequest;

/* `result`: 0 with the body of a 2xx answer, `data` (NUL-terminated, may be taken by TAKE_PTR), or
 * with `err` set:
 *   -EACCES    the permission is missing (it is named), or the credentials are not taken
 *   -EREMOTEIO the service refused for another reason: its code and message are in the text
 *   -EPROTO    refused without a code: by something on the way, as it looks
 *   -EHOSTDOWN can't be reached, after all tries
 *   -ENOENT    the same, as the name of its host does not resolve: there may be no such endpoint
 *   -EBUSY     5xx or throttled, after all tries
 *   -ETIMEDOUT one of the limits of time, after all tries
 *   -EFBIG     an answer of more than `size_max`
 *   or another one of http.h or credentials.h.
 * The call is gone after the callback; others may be started and cancelled in it. */
typedef void (*aws_done_t)(int result, char **data, size_t size, const char *err, void *userdata);

typedef struct AwsCall AwsCall;

/* Never calls back from within. What `action`, `what` and `hints` point to must stay valid until
 * done() or aws_cancel(). */
_must_check_ int aws_start(AwsClient *a, const AwsRequest *request, aws_done_t done, void *userdata,
                           AwsCall **ret, char **reterr);
AwsCall *aws_cancel(AwsCall *c); /* without calling back; NULL is fine; returns NULL */

/* For a loop that steps `http` itself: in how many microseconds aws_start_due() has something to do
 * (UINT64_MAX: nothing waits), and doing it, which may call back. */
uint64_t aws_due_in_usec(const AwsClient *a);
void aws_start_due(AwsClient *a);

/* Steps `http` once, waiting up to timeout_usec, and starts what is due. */
_must_check_ int aws_step(AwsClient *a, uint64_t timeout_usec);

/* Starts a call and steps until it is done. *ret is NUL-terminated. */
_must_check_ int aws_call(AwsClient *a, const AwsRequest *request, char **ret, size_t *ret_size,
                          char **reterr);
