/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "aws-call.h"
#include "credentials-kind.h"

/*
 * Credentials of a role by STS: what web identities and assumed roles share. Only credentials-*.c
 * include this.
 * Source: AWS Security Token Service API Reference, AssumeRole and AssumeRoleWithWebIdentity.
 */

typedef struct Sts Sts;

/* For `s`, signed with the credentials of `signer` (NULL: not signed), both of which must outlive
 * it. The region is that of environment or profile: -EINVAL if there is none. */
_must_check_ int sts_new(CredentialsSource *s, CredentialsSource *signer, Sts **ret, char **reterr);
Sts *sts_free(Sts *t);
DEFINE_CLEANUP_FUNC(Sts *, sts_free);

/* Begins a call, which ends with credentials_source_finish(). */
_must_check_ int sts_assume(Sts *t, const AwsRequest *request, char **reterr);

/* See CredentialsKind. */
void sts_advance(Sts *t);
uint64_t sts_due_in_usec(const Sts *t);

/* 20 to 2048 characters that begin with "arn:". */
_must_check_ int sts_role_check(const char *role_arn, char **reterr);

/* What the role's sessions are called when nobody says. */
#define STS_SESSION_NAME "slipway"
_must_check_ int sts_session_name_check(const char *name, char **reterr);
