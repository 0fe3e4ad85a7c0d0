/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "digest.h"
#include "macro.h"
#include "range-set.h"

/*
 * slipway-fetch's files: each object being fetched has <sha256>.part, of its final size from the
 * start, with holes where nothing is wanted, and <sha256>.map, which says which of its bytes are
 * there: the boot id (sd_id128_get_boot(3), or $SLIPWAY_BOOT_ID; 16 bytes), then records as they
 * were written, each an offset and a size (8 bytes each, the machine's order). So a fetch goes on
 * where it was cut off, by the death of a process. After another boot it begins anew: nothing here
 * is synced, and a map could be on the disk before its bytes. So it does when the map is none. Nor
 * is anything here trusted: who reads the bytes checks them.
 */

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

/* Opens or makes the files of an object of this size; a file of another size is begun anew. Must be
 * freed before s. */
_must_check_ int spool_file_open(Spool *s, const Sha256 *sha256, uint64_t size_bytes,
                                 SpoolFile **ret, char **reterr);
SpoolFile *spool_file_free(SpoolFile *f);
DEFINE_CLEANUP_FUNC(SpoolFile *, spool_file_free);

/* For writing; owned by f. */
int spool_file_fd(const SpoolFile *f);

/* A new descriptor of the same file that can't be written through. */
_must_check_ int spool_file_open_readonly(const SpoolFile *f);

/* Takes room for these bytes, which lie in the object, so that a full disk shows before they
 * travel. A file system that has no room is made room on: the spool's files that are not open go,
 * the oldest first; -ENOSPC when that does not help. */
_must_check_ int spool_file_take_room(SpoolFile *f, const RangeSet *wanted, char **reterr);

/* What is there; owned by f. */
const RangeSet *spool_file_have(const SpoolFile *f);

/* These bytes, which lie in the object, were written. */
_must_check_ int spool_file_add(SpoolFile *f, uint64_t offset, uint64_t size);

/* Forgets all of them. */
_must_check_ int spool_file_reset(SpoolFile *f);
