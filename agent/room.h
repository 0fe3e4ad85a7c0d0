/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stdint.h>

#include "index.h"
#include "macro.h"

/*
 * Whether a release has room on the disk, asked when its index is here and before anything of it is
 * written, and again when it is known what has to be fetched. Others may fill the disk meanwhile:
 * this is to fail early and in words, not the only check.
 */

/* Stays free on a file system that a release is written to, unless the configuration says
 * otherwise: a twentieth of it, at most this. */
#define ROOM_RESERVE_DEFAULT   UINT64_MAX
#define ROOM_RESERVE_MAX_BYTES (UINT64_C(256) << 20)

typedef struct RoomNeed {
        uint64_t tree_bytes;     /* of the unpacked tree, in the file system's blocks */
        uint64_t n_inodes;       /* of the tree */
        uint64_t artifact_bytes; /* in the spool; 0 when nothing is fetched */
} RoomNeed;

/* Whether file n of the index counts. */
typedef bool (*room_counts_t)(size_t n, void *userdata);

/* What the files of an index (of which `counts` may leave some out; NULL: none) take on the file
 * system of dir_fd: content rounded up to blocks, a block for each directory, half a kilobyte for
 * each inode (some file systems take these from the same space); *ret_inodes counts the tree's top
 * as well. */
_must_check_ int room_measure(const Index *index, int dir_fd, room_counts_t counts, void *userdata,
                              uint64_t *ret_bytes, uint64_t *ret_inodes);

typedef struct RoomPlace {
        int releases_fd;
        const char *root;       /* for messages */
        const char *cache_dir;  /* where the spool is; what lies there already is not counted again.
                                   NULL: nothing is fetched */
        uint64_t reserve_bytes; /* or ROOM_RESERVE_DEFAULT */
} RoomPlace;

/* -ENOSPC: no, with numbers and what to do. The root and the spool may be on one file system or
 * two. */
_must_check_ int room_check(const RoomPlace *place, const RoomNeed *need, char **reterr);
