/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "digest.h"
#include "macro.h"

/*
 * slipway-fetch's files: each object being fetched has <sha256>.part, of its final size from the
 * start, and <sha256>.map: the boot id (sd_id128_get_boot(3), or $SLIPWAY_BOOT_ID; 16 bytes) and
 * one byte for each chunk of SPOOL_CHUNK_SIZE, 1 when the chunk is there. So a fetch goes on where
 * it was cut off, by the death of a process. After another boot it begins anew: nothing here is
 * synced, and a map could be on the disk before its bytes. Nor is anything here trusted: who reads
 * the bytes checks them.
 */

#define SPOOL_CHUNK_SIZE  (UINT64_C(8) << 20)
#define SPOOL_AGE_MAX_SEC (7 * 24 * 3600)

typedef struct Spool Spool;

/* The directory must exist and be ours. Files that nobody touched for SPOOL_AGE_MAX_SEC are
 * removed. */
_must_check_ int spool_open(const char *path, Spool **ret, char **reterr);
Spool *spool_free(Spool *s);
DEFINE_CLEANUP_FUNC(Spool *, spool_free);

/* Removes the files of this object. */
void spool_drop(Spool *s, const Sha256 *sha256);

typedef struct SpoolFile SpoolFile;

/* Opens or makes the files of an object of this size; a file of another size is begun anew. A file
 * system that has no room is made room on: the spool's files that are not open go, the oldest
 * first; -ENOSPC when that does not help. Must be freed before s. */
_must_check_ int spool_file_open(Spool *s, const Sha256 *sha256, uint64_t size_bytes,
                                 SpoolFile **ret, char **reterr);
SpoolFile *spool_file_free(SpoolFile *f);
DEFINE_CLEANUP_FUNC(SpoolFile *, spool_file_free);

/* For writing; owned by f. */
int spool_file_fd(const SpoolFile *f);

/* A new descriptor of the same file that can't be written through. */
_must_check_ int spool_file_open_readonly(const SpoolFile *f);

size_t spool_file_n_chunks(const SpoolFile *f);

/* Offset and size of a chunk. */
void spool_file_chunk(const SpoolFile *f, size_t n, uint64_t *ret_offset, uint64_t *ret_size);

bool spool_file_has(const SpoolFile *f, size_t n);
_must_check_ int spool_file_set(SpoolFile *f, size_t n);

/* Forgets all chunks. */
_must_check_ int spool_file_reset(SpoolFile *f);
