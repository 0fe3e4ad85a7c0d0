/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stddef.h>
#include <time.h>

#include <openssl/types.h>

#include "credentials.h"
#include "macro.h"
#include "name-value.h"

/*
 * AWS Signature Version 4, in the Authorization header or in the query. Pure: no clock, no
 * environment, no network.
 * Our own, because libcurl's CURLOPT_AWS_SIGV4 signs something else in every release that the
 * distributions ship.
 * Source: Amazon S3 API Reference, "Signature Calculations for the Authorization Header",
 * "Authenticating Requests: Using Query Parameters".
 */

#define SIGV4_UNSIGNED_PAYLOAD "UNSIGNED-PAYLOAD"
#define SIGV4_EMPTY_PAYLOAD    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

typedef struct SigV4Request {
        const char *method;
        const char *path;         /* as on the wire: uri_encode()d once, begins with a slash */
        const char *query;        /* as on the wire: from query_format(); NULL: none */
        const NameValue *headers; /* all of them are signed: must have host and every x-amz-*,
                                     but not x-amz-date and x-amz-security-token, which sigv4_sign()
                                     adds */
        size_t n_headers;
        const char *payload_hash; /* hex SHA-256 of the body, or one of the words above */
        const char *region, *service;
        time_t time; /* the signer's clock; servers take 15 minutes of difference */
} SigV4Request;

typedef struct SigV4 {
        char date[17];       /* value of the header x-amz-date, to be sent */
        char *authorization; /* value of the header Authorization, to be sent; of sigv4_sign() */
        char *query;         /* to be sent; of sigv4_presign() */
        char *canonical_request;
        char *string_to_sign; /* both are for tests and for explaining a refused signature; no
                                 secrets but the session token */
} SigV4;

/* What the secret signs with on one day, in one region, for one service: whoever signs more than
 * once keeps it, as deriving it takes four of the five HMACs of a signature. All zero at first. */
typedef struct SigV4Key {
        char *secret, *scope; /* what it was derived from */
        EVP_MAC_CTX *mac;     /* HMAC with it */
} SigV4Key;

void sigv4_key_done(SigV4Key *key);

/* If the credentials have a session token, it is signed as x-amz-security-token and must be sent.
 * `key` is renewed when it is not the one that is needed. Writes *ret only on success. */
_must_check_ int sigv4_sign(const SigV4Request *request, const Credentials *credentials,
                            SigV4Key *key, SigV4 *ret);
void sigv4_done(SigV4 *s);

typedef struct SigV4Presign {
        const NameValue *params; /* of the query, in place of SigV4Request.query */
        size_t n_params;
        unsigned expires_sec; /* how long it is good for from SigV4Request.time on; S3 takes a week
                                 at most */
} SigV4Presign;

/* The same in the query: an URL that holds its signature and goes without credentials. Date and
 * session token go into the query, no header is added. S3 wants SIGV4_UNSIGNED_PAYLOAD here. */
_must_check_ int sigv4_presign(const SigV4Request *request, const SigV4Presign *presign,
                               const Credentials *credentials, SigV4Key *key, SigV4 *ret);

/* Percent-encodes all but A-Z a-z 0-9 - . _ ~ (and "/" if slashes are to stay), upper-case hex. */
_must_check_ int uri_encode(const char *s, bool keep_slashes, char **ret);

/* "name=value&..." encoded, and sorted as the signature wants it. No parameters give "". */
_must_check_ int query_format(const NameValue *params, size_t n_params, char **ret);
