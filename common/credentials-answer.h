/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stddef.h>

#include "credentials.h"
#include "macro.h"

/* Credentials as services give them. The texts of errors hold nothing of the answer but error codes
 * and messages of the service. */

#define CREDENTIALS_ANSWER_SIZE_MAX ((size_t) 64 * 1024)

/* The JSON of instance metadata and of container endpoints: AccessKeyId, SecretAccessKey, Token,
 * Expiration (the last two may be null or missing), and others that are passed over; with a Code
 * other than "Success" it is an error and its Message (-ENOKEY). data[size] is NUL. A member that
 * comes twice and what no credential looks like are -EBADMSG.
 * Source: Amazon EC2 User Guide, "Retrieve security credentials from instance metadata"; Amazon ECS
 * Developer Guide, "Task IAM role". */
_must_check_ int credentials_parse_json(const char *data, size_t size, Credentials *ret,
                                        char **reterr);

/* The XML of AssumeRole and AssumeRoleWithWebIdentity; all four members are required.
 * Source: AWS Security Token Service API Reference, "Credentials". */
_must_check_ int credentials_parse_sts(const char *data, size_t size, Credentials *ret,
                                       char **reterr);

/* When credentials end: "2026-11-22T14:00:00Z" as AWS writes it, with a fraction of a second as
 * some servers do, or with another zone, "+00:00", as the AWS CLI does. In seconds since the epoch,
 * at least 1, for 0 means that they don't. -EBADMSG: it is no such time. */
_must_check_ int credentials_parse_expiration(const char *text, uint64_t *ret_sec);

/* Whether a text can be a key id, a secret or a token: it will be a header's value, so it may have
 * no blanks and no control characters. */
bool credentials_value_is_valid(const char *s);
