/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "macro.h"

/*
 * AWS credentials and where they come from. Whoever signs asks its source before every signature
 * and keeps nothing, so that a source may renew them. Secrets are wiped when freed and are never
 * logged.
 *
 * The only source so far is the environment: AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, and for
 * temporary credentials AWS_SESSION_TOKEN.
 */

typedef struct Credentials {
        char *key_id;
        char *secret;
        char *session_token; /* NULL for long-term keys; may be kilobytes */
} Credentials;

typedef struct CredentialsSource CredentialsSource;

/* Takes the source that is configured. -EINVAL: there is none, or half of one; *reterr says what to
 * set. */
_must_check_ int credentials_source_new(CredentialsSource **ret, char **reterr);
CredentialsSource *credentials_source_free(CredentialsSource *s);
DEFINE_CLEANUP_FUNC(CredentialsSource *, credentials_source_free);

/* The credentials to sign with now; valid until the next call. */
_must_check_ int credentials_source_get(CredentialsSource *s, const Credentials **ret,
                                        char **reterr);
