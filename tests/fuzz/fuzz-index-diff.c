/* SPDX-License-Identifier: Apache-2.0 */
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
        return 0;
}
