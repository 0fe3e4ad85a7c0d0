/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "macro.h"

/* SHA-256 (FIPS 180-4) by libcrypto, and its form as 64 lower-case hex digits. */

#define SHA256_SIZE     32
#define SHA256_HEX_SIZE (2 * SHA256_SIZE + 1) /* with the NUL */

typedef struct Sha256 {
        uint8_t bytes[SHA256_SIZE];
} Sha256;

/* A digest under way; opaque. */
typedef struct Hasher Hasher;

_must_check_ int hasher_new(Hasher **ret);
Hasher *hasher_free(Hasher *h);
DEFINE_CLEANUP_FUNC(Hasher *, hasher_free);

/* May be called any number of times. */
_must_check_ int hasher_add(Hasher *h, const void *data, size_t size);

/* Gives the digest of what was added, and makes h ready for another one. */
_must_check_ int hasher_finish(Hasher *h, Sha256 *ret);

_must_check_ int sha256(const void *data, size_t size, Sha256 *ret);

/* Digest of the bytes [offset, offset + size) of a file; a shorter file is -ENODATA. */
_must_check_ int sha256_fd(int fd, uint64_t offset, uint64_t size, Sha256 *ret);

bool sha256_equal(const Sha256 *a, const Sha256 *b);

char *sha256_to_hex(const Sha256 *d, char buffer[static SHA256_HEX_SIZE]);

/* Exactly 64 digits 0-9a-f, else -EBADMSG. */
_must_check_ int sha256_from_hex(const char *s, Sha256 *ret);
