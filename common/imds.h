/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "http.h"
#include "macro.h"

/*
 * Instance metadata of EC2, version 2 alone (a token first; without one nothing is asked), see
 * "Use the Instance Metadata Service to access instance metadata" in the EC2 User Guide. Nothing
 * here waits: whoever owns the Http steps it. No proxy is asked, no redirect followed.
 *
 * AWS_EC2_METADATA_SERVICE_ENDPOINT names another place than http://169.254.169.254; with http it
 * must be a loopback, link-local or private address (HttpRequest.nearby).
 * AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE IPv6: http://[fd00:ec2::254]. AWS_EC2_METADATA_DISABLED
 * true: nothing is ever asked.
 *
 * A try takes at most IMDS_TRY_MSEC; what may pass (no answer, 429, 5xx) is tried IMDS_TRIES times
 * with a growing, random wait of at most a second between. One token serves all; it is renewed
 * before it ends, and once more when the service does not take it (401).
 */

#define IMDS_TRIES          3
#define IMDS_TRY_MSEC       2000
#define IMDS_VALUE_SIZE_MAX (64 * 1024)
#define IMDS_PATH_SIZE_MAX  512

typedef struct Imds Imds;
typedef struct ImdsCall ImdsCall;

/* Reads the environment. `http` must outlive it. -EINVAL: what the environment says can't be used,
 * and why. */
_must_check_ int imds_new(Http *http, Imds **ret, char **reterr);
Imds *imds_free(Imds *i); /* ends all calls without calling back */
DEFINE_CLEANUP_FUNC(Imds *, imds_free);

/* AWS_EC2_METADATA_DISABLED says so: every call ends with -EOPNOTSUPP. */
bool imds_is_disabled(const Imds *i);

/* Such as "http://169.254.169.254", for messages. */
const char *imds_endpoint(const Imds *i);

/* Outcomes next to 0 (`value` is the text, without a NUL in it) and negative errnos. */
enum {
        IMDS_ABSENT = 1, /* 404: this instance has no such item */
};

/* A negative `result`, with `err`:
 *   -EHOSTDOWN, -ETIMEDOUT  nobody answers, or with 429 or 5xx only: trying again later may help
 *   -EOPNOTSUPP  switched off by the environment
 *   -EACCES      refused (403: metadata is switched off for the instance; 401 to a new token)
 *   -EFBIG       more than IMDS_VALUE_SIZE_MAX bytes
 *   -EBADMSG     a value with a NUL in it, or a token that is none
 *   -EPROTO      any other answer, such as a redirect
 * The call is gone after it; others may be started and cancelled in it. */
typedef void (*imds_done_t)(int result, const char *value, const char *err, void *userdata);

/* Asks for /latest/`path` ("meta-data/instance-id"), at most IMDS_PATH_SIZE_MAX bytes of
 * [A-Za-z0-9/+=.,_:@-]: -EINVAL for anything else. Never calls back from within. */
_must_check_ int imds_get(Imds *i, const char *path, imds_done_t done, void *userdata,
                          ImdsCall **ret, char **reterr);

/* Ends it without calling back. NULL is fine; returns NULL. */
ImdsCall *imds_cancel(ImdsCall *c);
