/* SPDX-License-Identifier: Apache-2.0 */
#include "chunk.h"

#include "digest.h"

int chunk_cut_before_entry(const char *path, uint64_t entry_size_bytes)
{
        Sha256 d;
        uint64_t hash = 0;
        int r = sha256(path, strlen(path), &d);

        if (r < 0)
                return r;
        for (size_t i = 0; i < 8; i++)
                hash = hash << 8 | d.bytes[i];
        return hash % CHUNK_ENTRY_SIZE_MEAN < entry_size_bytes;
}

static bool cut_before_newer(ChunkTimes *t, ChunkPlace place, uint64_t mtime_sec, ChunkPlace *ret)
{
        *t = (ChunkTimes){ .any = true, .newest_sec = mtime_sec };
        if (place.offset < CHUNK_RUN_SIZE_MIN)
                return false;
        *ret = place;
        return true;
}

static bool cut_before_older(ChunkTimes *t, ChunkPlace place, size_t size_bytes, uint64_t mtime_sec,
                             ChunkPlace *ret)
{
        if (t->older.offset == 0) {
                t->older = place;
                t->older_newest_sec = mtime_sec;
        }
        t->older_newest_sec = MAX(t->older_newest_sec, mtime_sec);
        if (place.offset + size_bytes - t->older.offset < CHUNK_RUN_SIZE_MIN)
                return false;
        *ret = t->older;
        *t = (ChunkTimes){ .any = true, .newest_sec = t->older_newest_sec };
        return true;
}

bool chunk_cut_by_time(ChunkTimes *t, ChunkPlace place, size_t size_bytes, uint64_t mtime_sec,
                       ChunkPlace *ret)
{
        if (t->any && mtime_sec < t->newest_sec)
                return cut_before_older(t, place, size_bytes, mtime_sec, ret);
        if (t->any && mtime_sec > t->newest_sec)
                return cut_before_newer(t, place, mtime_sec, ret);
        *t = (ChunkTimes){ .any = true, .newest_sec = mtime_sec };
        return false;
}

/* Gear hashing as in FastCDC (Xia et al., USENIX ATC 2016): each byte shifts the hash by one bit,
 * so that its upper bits depend on the last 64 bytes. The table's numbers only have to be random
 * and always the same: splitmix64 (Steele et al., OOPSLA 2014) of the byte. */
static uint64_t gear_number(uint64_t byte)
{
        uint64_t z = (byte + 1) * UINT64_C(0x9e3779b97f4a7c15);

        z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
        z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
        return z ^ (z >> 31);
}

/* Upper bits of the hash that are zero at a cut. Fewer cuts before the normal size, more after it,
 * keep sizes close to it (FastCDC's normalized chunking). */
#define CUT_BITS_BEFORE 18
#define CUT_BITS_AFTER  16

/* The first cut in [from, to), or `to`. */
static size_t find_cut(const uint64_t *gear, uint64_t *hash, const uint8_t *data, size_t from,
                       size_t to, unsigned bits)
{
        uint64_t h = *hash;

        for (size_t i = from; i < to; i++) {
                h = (h << 1) + gear[data[i]];
                if (h >> (64 - bits) == 0)
                        return i;
        }
        *hash = h;
        return to;
}

size_t chunk_cut_content(const uint8_t *data, size_t size)
{
        uint64_t gear[256], hash = 0;
        size_t end = MIN(size, CHUNK_SIZE_MAX), normal = MIN(end, CHUNK_SIZE_NORMAL);

        if (size <= CHUNK_SIZE_MIN)
                return size;
        for (size_t i = 0; i < ELEMENTSOF(gear); i++)
                gear[i] = gear_number(i);
        size_t cut = find_cut(gear, &hash, data, CHUNK_SIZE_MIN, normal, CUT_BITS_BEFORE);
        if (cut == normal)
                cut = find_cut(gear, &hash, data, normal, end, CUT_BITS_AFTER);
        return cut;
}
