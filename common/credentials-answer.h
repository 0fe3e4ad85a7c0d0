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

/* Whether a text can be a key id, a secret or a token: it will be a header's value, so it may have
 * no blanks and no control characters. */
bool credentials_value_is_valid(const char *s);
