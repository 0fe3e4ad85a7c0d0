/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "macro.h"

/*
 * Where an artifact is cut into frames. Every decision depends on what lies around it alone, so
 * that releases that share most of their content share most of their frames, and what changed
 * together lies together. Changing a number here or in the hashes makes every frame of the next
 * release a new one.
 */

#define CHUNK_ENTRY_SIZE_MEAN (UINT64_C(512) << 10)
#define CHUNK_ENTRY_SIZE_MAX  (UINT64_C(1) << 20) /* larger files are cut inside */
#define CHUNK_RUN_SIZE_MIN    ((size_t) 4 << 10)
#define CHUNK_SIZE_MIN        ((size_t) 32 << 10)
#define CHUNK_SIZE_NORMAL     ((size_t) 96 << 10)
#define CHUNK_SIZE_MAX        ((size_t) 1 << 20)

/* Whether a new frame starts before the entry with this path, whose headers, content and padding
 * have entry_size_bytes: by a hash of the path, the likelier the larger the entry, so that frames
 * of small entries come out at CHUNK_ENTRY_SIZE_MEAN on average. Returns 1, 0 or a negative errno.
 */
_must_check_ int chunk_cut_before_entry(const char *path, uint64_t entry_size_bytes);

/* A place in a frame: number `entry` begins there. */
typedef struct ChunkPlace {
        size_t offset, entry;
} ChunkPlace;

/* Of the files with content in a frame; {} for a new frame. */
typedef struct ChunkTimes {
        bool any;
        uint64_t newest_sec;
        ChunkPlace older; /* where those begin that are older, after the last of the newest ones;
                             offset 0: there are none */
        uint64_t older_newest_sec;
} ChunkTimes;

/*
 * Whether the frame ends before a file with content (never a directory or symlink), which is to
 * stand at `place` and takes size_bytes: by the time of its last change, so that what came with one
 * release lies in frames of its own, and a host that has an older release fetches little else. An
 * older file cuts when a run of such files gets CHUNK_RUN_SIZE_MIN, at the run's begin; what
 * is between changed files and shorter costs less to fetch than to cut out. A newer file cuts
 * unless less than that stands before it.
 *
 * True: the frame ends at *ret, and what came after that is the next one's begin.
 */
bool chunk_cut_by_time(ChunkTimes *t, ChunkPlace place, size_t size_bytes, uint64_t mtime_sec,
                       ChunkPlace *ret);

/* How many bytes of a large file's content belong to the frame that starts at `data`: found by a
 * rolling (gear) hash, CHUNK_SIZE_MIN..CHUNK_SIZE_MAX, about 150 KiB on average. `size` is
 * CHUNK_SIZE_MAX or more, or what is left of the file; never more than `size` is returned. */
size_t chunk_cut_content(const uint8_t *data, size_t size);
