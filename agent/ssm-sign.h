/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stddef.h>
#include <time.h>

#include "aws-endpoint.h"
#include "credentials.h"
#include "macro.h"
#include "name-value.h"
#include "sigv4.h"

/* The headers of a signed request to the message gateway (service ssmmessages). */

#define SSM_SERVICE       "ssmmessages"
#define SSM_N_HEADERS_MAX 5

typedef struct SsmHttpRequest {
        const char *method, *path;
        const char *query;        /* sorted; NULL: none */
        const char *content_type; /* of `body`; NULL: there is none */
        const char *body;
        time_t time;
} SsmHttpRequest;

typedef struct SsmHeaders {
        NameValue headers[SSM_N_HEADERS_MAX]; /* the first one is Host */
        size_t n;
        SigV4 signature;
} SsmHeaders;

/* Or CREDENTIALS_PENDING, or an error of credentials_source_get(). *ret must not be moved, and
 * counts until the next call of that function; it is to be freed in any case. */
_must_check_ int ssm_sign(const SsmHttpRequest *q, const AwsEndpoint *endpoint,
                          CredentialsSource *credentials, SsmHeaders *ret, char **reterr);
void ssm_headers_done(SsmHeaders *h);
