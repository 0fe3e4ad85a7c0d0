/* SPDX-License-Identifier: Apache-2.0 */
#include "index-diff.h"

static const IndexFile *file_at(const Index *i, size_t n)
{
        return i && n < index_n_files(i) ? index_file(i, n) : NULL;
}

static bool is_same(const IndexFile *a, const IndexFile *b)
{
        return a->type == b->type && a->mode == b->mode && streq_ptr(a->link, b->link) &&
               (a->type != FILE_REGULAR ||
                (a->size_bytes == b->size_bytes && sha256_equal(&a->sha256, &b->sha256)));
}

/* What is a directory in one and a file in the other is removed, or added. */
static int tell(FileChange change, const IndexFile *file, index_diff_each_t each, void *userdata)
{
        return file->type == FILE_DIRECTORY ? 0 : each(change, file, userdata);
}

static int tell_both(const IndexFile *a, const IndexFile *b, index_diff_each_t each, void *userdata)
{
        int r;

        if (a->type != FILE_DIRECTORY && b->type != FILE_DIRECTORY)
                return each(is_same(a, b) ? FILE_SAME : FILE_CHANGED, b, userdata);
        r = tell(FILE_REMOVED, a, each, userdata);
        return r < 0 ? r : tell(FILE_ADDED, b, each, userdata);
}

int index_diff(const Index *old, const Index *new, index_diff_each_t each, void *userdata)
{
        size_t o = 0, n = 0;
        int r = 0;

        while (r >= 0) {
                const IndexFile *a = file_at(old, o), *b = file_at(new, n);
                int order = a && b ? strcmp(a->path, b->path) : a ? -1 : 1;

                if (!a && !b)
                        return 0;
                if (order < 0)
                        r = tell(FILE_REMOVED, a, each, userdata);
                else if (order > 0)
                        r = tell(FILE_ADDED, b, each, userdata);
                else
                        r = tell_both(a, b, each, userdata);
                o += order <= 0;
                n += order >= 0;
        }
        return r;
}
