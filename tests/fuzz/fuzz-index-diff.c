/* SPDX-License-Identifier: Apache-2.0 */
#include "delta.h"
#include "fuzz.h"
#include "index-diff.h"

typedef struct Told {
        const Index *old, *new;
        const char *last; /* path */
        size_t n[FILE_REMOVED + 1];
} Told;

/* In order, each path once, and as it is. */
static int tell(FileChange change, const IndexFile *f, void *userdata)
{
        Told *t = userdata;
        const IndexFile *old = t->old ? index_find(t->old, f->path) : NULL;

        assert(f->type != FILE_DIRECTORY);
        assert(f == (change == FILE_REMOVED ? old : index_find(t->new, f->path)));
        assert(change == FILE_ADDED || change == FILE_REMOVED || old);
        assert(change != FILE_ADDED || !old || old->type == FILE_DIRECTORY);
        assert(!t->last || strcmp(t->last, f->path) < 0);
        t->last = f->path;
        t->n[change]++;
        return 0;
}

static size_t count(const Index *i)
{
        size_t n = 0;

        for (size_t k = 0; k < index_n_files(i); k++)
                n += index_file(i, k)->type != FILE_DIRECTORY;
        return n;
}

/* All of an entry's frames are needed, or none is; and they are if it can't be had otherwise. */
static void check_file(const Delta *d, const Index *i, size_t n)
{
        const IndexFile *f = index_file(i, n);
        bool in_stream = delta_in_stream(d, n);
        DeltaSource source;

        for (size_t k = f->first_frame; k < f->first_frame + f->n_frames; k++)
                assert((delta_frame(d, k, NULL) != DELTA_SKIP) == in_stream);
        if (delta_file(d, n, &source)) {
                assert(f->type == FILE_REGULAR && source.file->type == FILE_REGULAR);
                assert(source.offset == 0 && source.size_bytes == f->size_bytes);
                assert(sha256_equal(&source.file->sha256, &f->sha256));
        } else
                assert(f->type != FILE_REGULAR || in_stream);
}

static uint64_t check_frame(const Delta *d, const Index *i, size_t n, const RangeSet *ranges)
{
        const Frame *f = index_frame(i, n);
        DeltaSource source;
        DeltaFrame what = delta_frame(d, n, &source);

        if (what == DELTA_COPY) {
                assert(source.size_bytes <= f->content_size_bytes);
                assert(source.offset <= source.file->size_bytes + 511);
                assert(source.size_bytes == 0 ||
                       source.size_bytes <= source.file->size_bytes - source.offset);
        }
        if (what != DELTA_FETCH)
                return 0;
        assert(range_set_has(ranges, f->offset, f->size_bytes));
        return f->size_bytes;
}

static void check_delta(const Delta *d, const Index *i)
{
        _cleanup_(range_set_freep) RangeSet *ranges = NULL;
        uint64_t bytes = 0;

        assert(delta_ranges(d, &ranges) == 0);
        for (size_t n = 0; n < index_n_files(i); n++)
                check_file(d, i, n);
        for (size_t n = 0; n < index_n_frames(i); n++)
                bytes += check_frame(d, i, n, ranges);
        assert(delta_frame(d, index_n_frames(i) - 1, NULL) == DELTA_SKIP);
        assert(range_set_bytes(ranges) >= bytes);
        assert(range_set_n(ranges) <= RANGES_MAX);
        assert(range_set_bytes(ranges) <= bytes + bytes / 16 || range_set_n(ranges) == RANGES_MAX);
}

/* Bits that no rule is about. */
static uint32_t lost_bits(const Index *i)
{
        uint32_t bits;

        memcpy(&bits, &index_frame(i, 0)->sha256, sizeof(bits));
        return bits;
}

/* What a release needs of another, and when some of that has been lost. */
static void compare(const Index *old, const Index *new, uint32_t lost)
{
        const Index *const seeds[] = { old, new };
        _cleanup_(delta_freep) Delta *d = NULL;

        assert(delta_new(new, seeds, 1, &d) == 0);
        delta_settle(d);
        check_delta(d, new);
        for (size_t n = 0; n < index_n_files(new); n++)
                if (lost >> n % 32 & 1)
                        delta_lose(d, n);
        delta_settle(d);
        for (size_t n = 0; n < index_n_frames(new); n++)
                if (lost >> (31 - n % 32) & 1)
                        delta_lose_frame(d, n);
        check_delta(d, new);
        d = delta_free(d);
        assert(delta_new(new, seeds, ELEMENTSOF(seeds), &d) == 0);
        delta_settle(d);
        check_delta(d, new);
}

/* Two indexes: four bytes say how large the first one is. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        _cleanup_(index_freep) Index *old = NULL, *new = NULL;
        uint32_t old_size;

        if (size < sizeof(old_size))
                return 0;
        memcpy(&old_size, data, sizeof(old_size));
        data += sizeof(old_size);
        size -= sizeof(old_size);
        if (old_size > size || index_parse(data, old_size, &old, NULL) < 0 ||
            index_parse(data + old_size, size - old_size, &new, NULL) < 0)
                return 0;
        Told t = { .old = old, .new = new }, all = { .new = new };
        assert(index_diff(old, new, tell, &t) == 0);
        assert(t.n[FILE_SAME] + t.n[FILE_CHANGED] + t.n[FILE_ADDED] == count(new));
        assert(t.n[FILE_SAME] + t.n[FILE_CHANGED] + t.n[FILE_REMOVED] == count(old));
        assert(index_diff(NULL, new, tell, &all) == 0);
        assert(all.n[FILE_ADDED] == count(new));
        compare(old, new, lost_bits(new));
        return 0;
}
