/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "key.h"
#include "macro.h"

/*
 * Keys of AWS KMS: their private half never leaves it. Ed25519 (KeySpec ECC_NIST_EDWARDS25519) and
 * P-256 (ECC_NIST_P256), of usage SIGN_VERIFY. Region from the ARN; without one, region as well as
 * credentials as for s3:// (credentials.h).
 *
 * KMS signs what it gets up to KMS_MESSAGE_SIZE_MAX bytes as it is; of more it takes the SHA-256,
 * with P-256 alone: Ed25519 has no such form.
 * Source: AWS KMS API Reference, "GetPublicKey", "Sign"; Developer Guide, "Key spec reference".
 */

#define KMS_PREFIX           "kms:"
#define KMS_MESSAGE_SIZE_MAX 4096

/* `name`: a key's id or ARN, "alias/NAME", or an alias' ARN. Asks KMS for the public half; the key
 * signs by asking KMS again, each time. Errors are those of aws-call.h; -EINVAL: not such a name,
 * or nothing says which region; -EOPNOTSUPP: a key of another kind. */
_must_check_ int kms_key_load(const char *name, Key **ret, char **reterr);
