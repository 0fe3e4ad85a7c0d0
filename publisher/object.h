/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "digest.h"
#include "macro.h"
#include "store.h"

/* Whole objects of a store, as the publisher reads and makes them: store_call() with the outcomes
 * that mean "you may not" turned into errors that say what to grant. */

/* store_open(); what the store wants to be known goes to stderr. */
_must_check_ int object_store_open(const char *url, Store **ret, char **reterr);

/* Reads an object of at most size_max bytes. 0, or STORE_ABSENT. *ret is NUL-terminated; *ret_etag
 * may be a NULL pointer; both are to be freed. */
_must_check_ int object_read(Store *s, const char *path, size_t size_max, char **ret,
                             size_t *ret_size, char **ret_etag, char **reterr);

/* As above, for an object whose size and digest are known: what differs is -EKEYREJECTED, a missing
 * one -ENOENT. */
_must_check_ int object_read_exactly(Store *s, const char *path, uint64_t size,
                                     const Sha256 *sha256, char **ret, char **reterr);

/* S3 answers 409 to a conditional write while another one of the object is under way, which may
 * come to nothing: then it is to be tried again, at most so often, after this pause (try 0: 50 ms,
 * then twice as long each time). Source: Amazon S3 User Guide, "Conditional writes". */
#define N_CONFLICT_TRIES 7
void conflict_pause(unsigned n_try);

/* Makes a JSON object that must not exist. If it does: 0 when it has these bytes (then the store
 * may have taken an earlier try of ours), else STORE_CONFLICT. */
_must_check_ int object_create(Store *s, const char *path, const char *data, size_t size,
                               char **reterr);

/* Reads a large object front to back, in ranges of some MiB, all from one version of it (If-Match).
 * Bounded memory; opaque. */
typedef struct ObjectReader ObjectReader;

/* `s` must outlive it. `size` is what the object must have, at least 1. */
_must_check_ int object_reader_new(Store *s, const char *path, uint64_t size, ObjectReader **ret);
ObjectReader *object_reader_free(ObjectReader *r);
DEFINE_CLEANUP_FUNC(ObjectReader *, object_reader_free);

/* The next n bytes (1..8 MiB, and not more than are left), valid until the next call. A shorter or
 * meanwhile replaced object is -EKEYREJECTED, a missing one -ENOENT. */
_must_check_ int object_reader_take(ObjectReader *r, size_t n, const uint8_t **ret, char **reterr);

/* How many bytes are not taken yet. */
uint64_t object_reader_left(const ObjectReader *r);

/* The digest of an object of this size; errors as above. progress may be NULL. */
_must_check_ int object_digest(Store *s, const char *path, uint64_t size, store_progress_t progress,
                               void *userdata, Sha256 *ret, char **reterr);
