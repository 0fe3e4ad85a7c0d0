/* SPDX-License-Identifier: Apache-2.0 */
#include "fuzz.h"
#include "index.h"
#include "name.h"

/* What is taken holds what index.h promises of files and frames, and is written the same again. */
static void check(const Index *i)
{
        for (size_t n = 0; n < index_n_files(i); n++) {
                const IndexFile *f = index_file(i, n);
                assert(tree_path_is_valid(f->path));
                assert((f->type == FILE_SYMLINK) == !!f->link);
                assert(!f->link || tree_link_is_inside(f->path, f->link));
                assert((uint64_t) f->first_frame + f->n_frames <= index_n_frames(i));
                assert(index_find(i, f->path) == f);
        }
        uint64_t end = 0;
        for (size_t n = 0; n < index_n_frames(i); n++) {
                assert(index_frame(i, n)->offset == end);
                end += index_frame(i, n)->size_bytes;
        }
        assert(end == index_artifact_size(i));
}

static void write_again(const Index *i, const uint8_t *data, size_t size)
{
        _cleanup_(index_writer_freep) IndexWriter *w = NULL;
        _cleanup_free_ void *written = NULL;
        size_t written_size;

        assert(index_writer_new(&w) == 0);
        for (size_t n = 0; n < index_n_frames(i); n++)
                assert(index_writer_add_frame(w, index_frame(i, n)) == 0);
        for (size_t n = 0; n < index_n_files(i); n++)
                assert(index_writer_add_file(w, index_file(i, n)) == 0);
        assert(index_writer_format(w, &written, &written_size, NULL) == 0);
        assert(written_size == size && memcmp(written, data, size) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        _cleanup_(index_freep) Index *i = NULL;
        _cleanup_free_ char *err = NULL;

        if (index_parse(data, size, &i, &err) < 0) {
                assert(err && !i);
                return 0;
        }
        check(i);
        write_again(i, data, size);
        return 0;
}
