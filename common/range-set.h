/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "macro.h"

/*
 * A set of bytes of an object: ranges in ascending order, none empty, with a gap between any two.
 * Adding at the end is cheap, looking up is a binary search.
 */

/* More than these are never asked for at once. */
#define RANGES_MAX 4096

typedef struct ByteRange {
        uint64_t offset, size;
} ByteRange;

typedef struct RangeSet RangeSet;

_must_check_ int range_set_new(RangeSet **ret);
RangeSet *range_set_free(RangeSet *s);
DEFINE_CLEANUP_FUNC(RangeSet *, range_set_free);

/* Adds [offset, offset + size); what is there already stays. -EINVAL: it ends past 2^63 - 1. */
_must_check_ int range_set_add(RangeSet *s, uint64_t offset, uint64_t size);

/* Adds all of `other`. */
_must_check_ int range_set_add_set(RangeSet *s, const RangeSet *other);

size_t range_set_n(const RangeSet *s);
ByteRange range_set_get(const RangeSet *s, size_t n);

/* Bytes in it. */
uint64_t range_set_bytes(const RangeSet *s);

/* Whether all of [offset, offset + size) is in it. */
bool range_set_has(const RangeSet *s, uint64_t offset, uint64_t size);

/* The first run of [offset, end) that is not in it; false: there is none. */
bool range_set_missing(const RangeSet *s, uint64_t offset, uint64_t end, ByteRange *ret);

/* Adds all gaps up to a size, so that there are fewer ranges to ask for: the largest size with
 * which they are at most waste_max_bytes together, or the one that leaves at most n_max ranges. */
_must_check_ int range_set_close_gaps(RangeSet *s, uint64_t waste_max_bytes, size_t n_max);

/* As a sealed memfd, for another process of this machine; *ret_size is what it holds in bytes.
 * Returns the descriptor. More than RANGES_MAX ranges: -E2BIG. */
_must_check_ int range_set_pack(const RangeSet *s, size_t *ret_size);

/* What range_set_pack() made, from a process that is not trusted: `size` bytes of fd. -EBADMSG: it
 * is no such set, has more than RANGES_MAX ranges, or one that ends past object_size. */
_must_check_ int range_set_unpack(int fd, uint64_t size, uint64_t object_size, RangeSet **ret);
