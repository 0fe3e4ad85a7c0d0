/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <errno.h>
#include <stddef.h>
#include <stdint.h>

#include "digest.h"
#include "macro.h"

/*
 * Keys that sign: Ed25519 (RFC 8032) and ECDSA on P-256 with SHA-256 (FIPS 186-5), nothing else.
 * Files are PEM: PKCS#8 for private keys, SubjectPublicKeyInfo for public ones, as `openssl
 * genpkey` and `openssl pkey -pubout` write them. An ECDSA signature is DER (ECDSA-Sig-Value), as
 * KMS and OpenSSL make it; raw r||s is refused.
 *
 * The id of a key is the SHA-256 of its public key in DER (SubjectPublicKeyInfo).
 */

#define KEY_FILE_SIZE_MAX  16384
#define SIGNATURE_SIZE_MAX 128

typedef enum KeyType {
        KEY_ED25519,
        KEY_ECDSA_P256,
        _KEY_TYPE_MAX,
        _KEY_TYPE_INVALID = -EINVAL,
} KeyType;

const char *key_type_to_string(KeyType t); /* "ed25519", "ecdsa-p256" */
KeyType key_type_from_string(const char *s);

/* One key, public or with its private half; opaque. */
typedef struct Key Key;

typedef struct KeyHolder KeyHolder;

_must_check_ int key_generate(KeyType type, Key **ret);

/* Reads a private key file; the older form of EC keys (SEC 1, "BEGIN EC PRIVATE KEY") is taken too.
 * Encrypted keys and other algorithms are -EOPNOTSUPP, and *reterr says what to use instead. */
_must_check_ int key_load_private(const char *path, Key **ret, char **reterr);

/* Reads a public key file; a private key file serves too, its public half is taken. */
_must_check_ int key_load_public(const char *path, Key **ret, char **reterr);

/* From DER SubjectPublicKeyInfo, in the one form that a key's id is made of: named curve,
 * uncompressed point, no trailing bytes; else -EBADMSG. */
_must_check_ int key_from_der(const void *der, size_t size, Key **ret, char **reterr);

Key *key_free(Key *k);
DEFINE_CLEANUP_FUNC(Key *, key_free);

KeyType key_type(const Key *k);
const Sha256 *key_id(const Key *k);

/* The public half: DER SubjectPublicKeyInfo, owned by k. */
const uint8_t *key_public_der(const Key *k, size_t *ret_size);

/* PEM texts, to be freed (the private one with its bytes wiped by key_text_free). */
_must_check_ int key_private_pem(const Key *k, char **ret);
_must_check_ int key_public_pem(const Key *k, char **ret);
char *key_text_free(char *pem);

/* Whether k could sign so many bytes; asks nobody. -EFBIG: its holder does not. */
_must_check_ int key_check_size(const Key *k, size_t size, char **reterr);

/* Signs `size` bytes. Needs the private half, or someone who has it (below), else -EINVAL.
 * *ret_size is at most SIGNATURE_SIZE_MAX. */
_must_check_ int key_sign(const Key *k, const void *data, size_t size,
                          uint8_t ret_signature[static SIGNATURE_SIZE_MAX], size_t *ret_size,
                          char **reterr);

/* Someone else who has the private half: a service, a device. */
struct KeyHolder {
        const char *name; /* for messages: "the KMS key alias/web" */
        size_t size_max;  /* more bytes than that it does not sign; SIZE_MAX: any number */
        /* As key_sign(); what it gives back is verified there. */
        int (*sign)(KeyHolder *h, const void *data, size_t size,
                    uint8_t ret_signature[static SIGNATURE_SIZE_MAX], size_t *ret_size,
                    char **reterr);
        KeyHolder *(*free)(KeyHolder *h);
};

/* From now on `h` signs for k, a public key, which frees it. A signature of h's that is not k's is
 * -EKEYREJECTED. */
void key_set_holder(Key *k, KeyHolder *h);

/* 0: the signature is this key's over these bytes. -EKEYREJECTED: it is not. */
_must_check_ int key_verify(const Key *k, const void *data, size_t size, const uint8_t *signature,
                            size_t signature_size);
