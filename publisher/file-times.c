/* SPDX-License-Identifier: Apache-2.0 */
#include "file-times.h"

#include <errno.h>
#include <stdlib.h>

#define MTIME_MAX_SEC ((UINT64_C(1) << 33) - 1) /* see index.h */

struct FileTimes {
        const Index *predecessor;
        uint64_t source_time_sec;
        const IndexFile **contents; /* its regular files, see compare_contents() */
        size_t n_contents;
};

/* By content and mode, then time. */
static int compare_contents(const void *a, const void *b)
{
        const IndexFile *x = *(const IndexFile *const *) a, *y = *(const IndexFile *const *) b;
        int r = memcmp(&x->sha256, &y->sha256, sizeof(Sha256));

        if (r == 0)
                r = (x->mode > y->mode) - (x->mode < y->mode);
        return r != 0 ? r : (x->mtime_sec > y->mtime_sec) - (x->mtime_sec < y->mtime_sec);
}

int file_times_new(const Index *predecessor, uint64_t source_time_sec, FileTimes **ret)
{
        _cleanup_(file_times_freep) FileTimes *t = malloc(sizeof(FileTimes));
        size_t n = predecessor ? index_n_files(predecessor) : 0;

        if (!t)
                return -ENOMEM;
        *t = (FileTimes){ .predecessor = predecessor, .source_time_sec = source_time_sec };
        t->contents = calloc(MAX(n, (size_t) 1), sizeof(IndexFile *));
        if (!t->contents)
                return -ENOMEM;
        for (size_t i = 0; i < n; i++)
                if (index_file(predecessor, i)->type == FILE_REGULAR)
                        t->contents[t->n_contents++] = index_file(predecessor, i);
        qsort(t->contents, t->n_contents, sizeof(IndexFile *), compare_contents);
        *ret = TAKE_PTR(t);
        return 0;
}

FileTimes *file_times_free(FileTimes *t)
{
        if (t)
                free(t->contents);
        free(t);
        return NULL;
}

/* The predecessor's latest file with the content and mode of f, or NULL. */
static const IndexFile *find_content(const FileTimes *t, const IndexFile *f)
{
        IndexFile last = *f;
        const IndexFile *key = &last;
        size_t low = 0, high = t->n_contents;

        last.mtime_sec = UINT64_MAX;
        while (low < high) {
                size_t middle = low + (high - low) / 2;
                if (compare_contents(&t->contents[middle], &key) <= 0)
                        low = middle + 1;
                else
                        high = middle;
        }
        if (low == 0)
                return NULL;
        const IndexFile *found = t->contents[low - 1];
        return found->mode == f->mode && sha256_equal(&found->sha256, &f->sha256) ? found : NULL;
}

static bool same_content(const IndexFile *a, const IndexFile *b)
{
        return a->type == b->type && streq_ptr(a->link, b->link) &&
               a->size_bytes == b->size_bytes && sha256_equal(&a->sha256, &b->sha256);
}

uint64_t file_times_decide(const FileTimes *t, const IndexFile *f)
{
        const IndexFile *old = t->predecessor ? index_find(t->predecessor, f->path) : NULL;

        if (old && same_content(old, f))
                return old->mtime_sec;
        const IndexFile *elsewhere = f->type == FILE_REGULAR ? find_content(t, f) : NULL;
        if (elsewhere && (!old || elsewhere->mtime_sec > old->mtime_sec))
                return elsewhere->mtime_sec;
        if (!old)
                return t->source_time_sec;
        const uint64_t later_sec = MIN(old->mtime_sec + 1, MTIME_MAX_SEC);
        return MAX(t->source_time_sec, later_sec);
}
