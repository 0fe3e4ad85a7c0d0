/* SPDX-License-Identifier: Apache-2.0 */
#include "range-set.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "fd.h"

#define N_MIN 16

struct RangeSet {
        ByteRange *ranges;
        size_t n, n_allocated;
};

int range_set_new(RangeSet **ret)
{
        RangeSet *s = calloc(1, sizeof(RangeSet));

        if (!s)
                return -ENOMEM;
        *ret = s;
        return 0;
}

RangeSet *range_set_free(RangeSet *s)
{
        if (s)
                free(s->ranges);
        free(s);
        return NULL;
}

static uint64_t range_end(ByteRange r)
{
        return r.offset + r.size;
}

/* The first range that ends at `offset` or later: no earlier one can touch what begins there. */
static size_t find(const RangeSet *s, uint64_t offset)
{
        size_t low = 0, high = s->n;

        while (low < high) {
                size_t middle = low + (high - low) / 2;

                if (range_end(s->ranges[middle]) < offset)
                        low = middle + 1;
                else
                        high = middle;
        }
        return low;
}

static int insert(RangeSet *s, size_t n, ByteRange range)
{
        if (s->n == s->n_allocated) {
                size_t n_allocated = MAX(2 * s->n, (size_t) N_MIN);
                ByteRange *larger = reallocarray(s->ranges, n_allocated, sizeof(ByteRange));

                if (!larger)
                        return -ENOMEM;
                s->ranges = larger;
                s->n_allocated = n_allocated;
        }
        memmove(s->ranges + n + 1, s->ranges + n, (s->n - n) * sizeof(ByteRange));
        s->ranges[n] = range;
        s->n++;
        return 0;
}

int range_set_add(RangeSet *s, uint64_t offset, uint64_t size)
{
        size_t first, last;
        uint64_t end;

        if (offset > INT64_MAX || size > INT64_MAX - offset)
                return -EINVAL;
        if (size == 0)
                return 0;
        end = offset + size;
        first = last = find(s, offset);
        while (last < s->n && s->ranges[last].offset <= end)
                last++;
        if (first == last)
                return insert(s, first, (ByteRange){ offset, size });
        offset = MIN(offset, s->ranges[first].offset);
        end = MAX(end, range_end(s->ranges[last - 1]));
        s->ranges[first] = (ByteRange){ offset, end - offset };
        memmove(s->ranges + first + 1, s->ranges + last, (s->n - last) * sizeof(ByteRange));
        s->n -= last - first - 1;
        return 0;
}

int range_set_add_set(RangeSet *s, const RangeSet *other)
{
        int r = 0;

        for (size_t n = 0; n < other->n && r >= 0; n++)
                r = range_set_add(s, other->ranges[n].offset, other->ranges[n].size);
        return r;
}

size_t range_set_n(const RangeSet *s)
{
        return s->n;
}

ByteRange range_set_get(const RangeSet *s, size_t n)
{
        return s->ranges[n];
}

uint64_t range_set_bytes(const RangeSet *s)
{
        uint64_t bytes = 0;

        for (size_t n = 0; n < s->n; n++)
                bytes += s->ranges[n].size;
        return bytes;
}

bool range_set_has(const RangeSet *s, uint64_t offset, uint64_t size)
{
        ByteRange missing;

        return size <= UINT64_MAX - offset &&
               !range_set_missing(s, offset, offset + size, &missing);
}

bool range_set_missing(const RangeSet *s, uint64_t offset, uint64_t end, ByteRange *ret)
{
        size_t n = find(s, offset);

        if (n < s->n && s->ranges[n].offset <= offset)
                offset = range_end(s->ranges[n++]);
        if (offset >= end)
                return false;
        if (n < s->n)
                end = MIN(end, s->ranges[n].offset);
        *ret = (ByteRange){ offset, end - offset };
        return true;
}

static int compare_sizes(const void *a, const void *b)
{
        const uint64_t *x = a, *y = b;

        return *x < *y ? -1 : *x > *y;
}

/* Up to which size gaps are closed: sorts them. Those of one size go together. */
static uint64_t decide_limit(uint64_t *gaps, size_t n_gaps, uint64_t waste_max_bytes, size_t n_max)
{
        uint64_t limit_bytes = n_gaps >= n_max ? gaps[n_gaps - n_max] : 0, sum_bytes = 0;

        for (size_t n = 0; n < n_gaps && gaps[n] <= waste_max_bytes - sum_bytes; n++) {
                sum_bytes += gaps[n];
                if (n + 1 == n_gaps || gaps[n + 1] > gaps[n])
                        limit_bytes = MAX(limit_bytes, gaps[n]);
        }
        return limit_bytes;
}

int range_set_close_gaps(RangeSet *s, uint64_t waste_max_bytes, size_t n_max)
{
        _cleanup_free_ uint64_t *gaps = calloc(s->n + 1, sizeof(uint64_t));
        uint64_t limit_bytes;
        size_t n_kept = 1;

        if (!gaps)
                return -ENOMEM;
        if (s->n < 2)
                return 0;
        for (size_t n = 1; n < s->n; n++)
                gaps[n - 1] = s->ranges[n].offset - range_end(s->ranges[n - 1]);
        qsort(gaps, s->n - 1, sizeof(uint64_t), compare_sizes);
        limit_bytes = decide_limit(gaps, s->n - 1, waste_max_bytes, n_max);
        for (size_t n = 1; n < s->n; n++) {
                ByteRange *last = &s->ranges[n_kept - 1], next = s->ranges[n];

                if (next.offset - range_end(*last) <= limit_bytes)
                        last->size = range_end(next) - last->offset;
                else
                        s->ranges[n_kept++] = next;
        }
        s->n = n_kept;
        return 0;
}

int range_set_pack(const RangeSet *s, size_t *ret_size)
{
        size_t size = s->n * sizeof(ByteRange);
        int fd;

        if (s->n > RANGES_MAX)
                return -E2BIG;
        fd = memfd_sealed("slipway-ranges", s->ranges, size);
        if (fd >= 0)
                *ret_size = size;
        return fd;
}

static int add_all(RangeSet *s, const ByteRange *ranges, size_t n_ranges, uint64_t object_size)
{
        uint64_t end = 0;

        for (size_t n = 0; n < n_ranges; n++) {
                ByteRange next = ranges[n];
                int r;

                if (next.size == 0 || next.offset > object_size ||
                    next.size > object_size - next.offset || (n > 0 && next.offset <= end))
                        return -EBADMSG;
                r = range_set_add(s, next.offset, next.size);
                if (r < 0)
                        return r == -EINVAL ? -EBADMSG : r;
                end = range_end(next);
        }
        return 0;
}

int range_set_unpack(int fd, uint64_t size, uint64_t object_size, RangeSet **ret)
{
        _cleanup_(range_set_freep) RangeSet *s = NULL;
        _cleanup_free_ ByteRange *ranges = NULL;
        int r;

        if (size > RANGES_MAX * sizeof(ByteRange) || size % sizeof(ByteRange) != 0)
                return -EBADMSG;
        ranges = malloc(size + 1);
        if (!ranges)
                return -ENOMEM;
        r = fd_pread_exactly(fd, ranges, size, 0);
        if (r < 0)
                return r == -ENODATA ? -EBADMSG : r;
        r = range_set_new(&s);
        if (r >= 0)
                r = add_all(s, ranges, size / sizeof(ByteRange), object_size);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(s);
        return 0;
}
