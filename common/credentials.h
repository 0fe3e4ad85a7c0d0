/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stdint.h>

#include "http.h"
#include "macro.h"
#include "profile.h"

/*
 * AWS credentials, the region, and where they come from. Whoever signs asks its source before every
 * signature and keeps nothing, so that a source may renew them. Secrets are wiped when freed, but
 * for the copies that libraries keep (secret.h), and are never logged.
 *
 * The first of these that is configured is the source; when it fails, no other one is asked:
 *   environment    AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, for temporary ones AWS_SESSION_TOKEN
 *                  and AWS_CREDENTIAL_EXPIRATION, when they end
 *   web identity   AWS_WEB_IDENTITY_TOKEN_FILE and AWS_ROLE_ARN, AWS_ROLE_SESSION_NAME: an OIDC
 *                  token, as of CI systems and Kubernetes, for which STS gives a session
 *   profile        of the files shared with the AWS tools (profile.h): keys, a web identity, or a
 *                  role with source_profile or credential_source. Programs (credential_process, and
 *                  what SSO and MFA take) are never run: the error says what to do instead
 *   container      AWS_CONTAINER_CREDENTIALS_FULL_URI or _RELATIVE_URI: ECS, CodeBuild, EKS
 *   instance role  of EC2, by instance metadata (imds.h), unless AWS_EC2_METADATA_DISABLED is true
 * Source: AWS SDKs and Tools Reference Guide, "Standardized credential providers"; AWS CLI Command
 * Reference, "configure export-credentials", and botocore's EnvProvider.
 *
 * Credentials that end are renewed from 15 minutes before on, or for the last third of a short
 * life, at a time drawn at random, while the old ones go on. A failure is tried again within a
 * minute. What the service still gives out after its end counts as long as it is given out, and so
 * do an instance's or container's last credentials while no new ones can be had: AWS lets them live
 * on when it can't make new ones.
 */

typedef struct Credentials {
        char *key_id;
        char *secret;
        char *session_token;  /* NULL for long-term keys; may be kilobytes */
        uint64_t expires_sec; /* since the epoch, by their clock; 0: never */
} Credentials;

void credentials_done(Credentials *c);

typedef struct CredentialsSource CredentialsSource;

/* Finds the source that is configured; asks nobody. -EINVAL: none is, or half of one; *reterr says
 * what to set. */
_must_check_ int credentials_source_new(CredentialsSource **ret, char **reterr);
CredentialsSource *credentials_source_free(CredentialsSource *s);
DEFINE_CLEANUP_FUNC(CredentialsSource *, credentials_source_free);

/* A word or two: "environment", "web identity", "profile", "assumed role", "container", "instance
 * role". */
const char *credentials_source_name(const CredentialsSource *s);

/* An outcome next to 0 and negative errnos: they are on their way; to be asked again after each
 * http_step(), at the latest after credentials_source_due_in_usec(). */
enum {
        CREDENTIALS_PENDING = 1,
};

/* The credentials to sign with now; valid until the next call. Begins to get them or to renew them
 * when it is time, which happens in http_step() of the Http that was given to
 * credentials_source_attach(). -ENOKEY: there are none now; trying again within a minute is right.
 * Whoever is told that waits for his own reasons: the service is not asked more often for it. */
_must_check_ int credentials_source_get(CredentialsSource *s, const Credentials **ret,
                                        char **reterr);

/* After get() gave some: that they can't be renewed, and why, for whoever runs this; said once
 * until they can. To be freed; NULL: nothing to say. */
char *credentials_source_worry(CredentialsSource *s);

/* From now on http_step(http) also does what the source has to do. `http` must outlive it. */
void credentials_source_attach(CredentialsSource *s, Http *http);

uint64_t credentials_source_due_in_usec(const CredentialsSource *s);

/* Which credentials get() gave last: raised when others come. */
unsigned credentials_source_generation(const CredentialsSource *s);

/* The service does not take those of this generation (expired, revoked, rotated). True: others are
 * there, or may be: ask get(). False: there is no other try, or there was one within a minute. */
bool credentials_source_renew(CredentialsSource *s, unsigned generation);

/* The profile of the shared files whose settings count, whatever the source is: AWS_PROFILE, else
 * the default one. For the source's life. Errors: profile_load(). */
_must_check_ int credentials_source_profile(CredentialsSource *s, const Profile **ret,
                                            char **reterr);

/* AWS_REGION, AWS_DEFAULT_REGION, the profile's, the instance's (which STS does without). 0: *ret
 * is the source's, for its life; CREDENTIALS_PENDING as above; -EINVAL: not known, *reterr says
 * what to set; -ENOKEY: instance metadata can't say it now. */
_must_check_ int credentials_source_region(CredentialsSource *s, const char **ret, char **reterr);
