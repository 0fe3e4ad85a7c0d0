/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "macro.h"

/*
 * Where an artifact is cut into frames. Every decision depends on what lies around it alone, so
 * that releases that share most of their content share most of their frames. Changing a number here
 * or in the hashes makes every frame of the next release a new one.
 */

#define CHUNK_ENTRY_SIZE_MEAN (UINT64_C(256) << 10)
#define CHUNK_ENTRY_SIZE_MAX  (UINT64_C(1) << 20) /* larger files are cut inside */
#define CHUNK_SIZE_MIN        ((size_t) 128 << 10)
#define CHUNK_SIZE_NORMAL     ((size_t) 384 << 10)
#define CHUNK_SIZE_MAX        ((size_t) 2 << 20)

/* Whether a new frame starts before the entry with this path, whose headers, content and padding
 * have entry_size_bytes: by a hash of the path, the likelier the larger the entry, so that frames
 * of small entries come out at CHUNK_ENTRY_SIZE_MEAN on average. Returns 1, 0 or a negative errno.
 */
_must_check_ int chunk_cut_before_entry(const char *path, uint64_t entry_size_bytes);

/* How many bytes of a large file's content belong to the frame that starts at `data`: found by a
 * rolling (gear) hash, CHUNK_SIZE_MIN..CHUNK_SIZE_MAX, about 512 KiB on average. `size` is
 * CHUNK_SIZE_MAX or more, or what is left of the file; never more than `size` is returned. */
size_t chunk_cut_content(const uint8_t *data, size_t size);
