/* SPDX-License-Identifier: Apache-2.0 */
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

#include "digest.h"
#include "fd.h"
#include "fuzz.h"
#include "index.h"
#include "tree-writer.h"

/* A tar stream through libarchive into a directory. The index is always this one, so that inputs
 * get past it; the first byte of an input says in which pieces the rest comes. */
static const IndexFile files[] = {
        {.path = "a",    .type = FILE_REGULAR, .mode = 0644,  .size_bytes = 5,                   .n_frames = 1 },
        { .path = "d",             .type = FILE_DIRECTORY,                      .mode = 0755, .n_frames = 1},
        { .path = "d/b",             .type = FILE_REGULAR,                    .mode = 0755, .size_bytes = 600,    .n_frames = 1 },
        { .path = "d/l", .link = "../a",                    .type = FILE_SYMLINK,                    .mode = 0777,                                    .n_frames = 1 },
        { .path = "z",  .type = FILE_REGULAR,         .mode = 0644,  .n_frames = 1},
};

static Index *make_index(void)
{
        _cleanup_(index_writer_freep) IndexWriter *w = NULL;
        _cleanup_free_ void *data = NULL;
        Index *i = NULL;
        size_t size;
        const Frame frames[] = {
                {.size_bytes = 1,  .content_size_bytes = 8 * 512},
                { .offset = 1, .size_bytes = 1,    .content_size_bytes = 1024 },
        };

        assert(index_writer_new(&w) == 0);
        for (size_t n = 0; n < ELEMENTSOF(frames); n++)
                assert(index_writer_add_frame(w, &frames[n]) == 0);
        for (size_t n = 0; n < ELEMENTSOF(files); n++)
                assert(index_writer_add_file(w, &files[n]) == 0);
        assert(index_writer_format(w, &data, &size, NULL) == 0);
        assert(index_parse(data, size, &i, NULL) == 0);
        return i;
}

typedef struct Source {
        const uint8_t *data;
        size_t size, piece_size;
        uint8_t *piece; /* of exactly this size, so that reading beyond it is found */
} Source;

static int next_piece(void *userdata, const void **ret_data, size_t *ret_size, char **reterr)
{
        Source *s = userdata;
        size_t size = MIN(s->size, s->piece_size);

        (void) reterr;
        free(TAKE_PTR(s->piece));
        if (size == 0)
                return 0;
        s->piece = malloc(size);
        assert(s->piece);
        memcpy(s->piece, s->data, size);
        s->data += size;
        s->size -= size;
        *ret_data = s->piece;
        *ret_size = size;
        return 1;
}

static void check_written(int dir_fd)
{
        struct stat st;

        for (size_t n = 0; n < ELEMENTSOF(files); n++) {
                const IndexFile *f = &files[n];
                assert(fstatat(dir_fd, f->path, &st, AT_SYMLINK_NOFOLLOW) == 0);
                assert((st.st_mode & 07777) == f->mode);
                assert(f->type != FILE_REGULAR ||
                       (S_ISREG(st.st_mode) && (uint64_t) st.st_size == f->size_bytes));
                assert(st.st_mtime == 0);
        }
}

/* Whatever came in, nothing was made outside. */
static void check_alone(const char *parent)
{
        DIR *dir = opendir(parent);
        size_t n = 0;

        assert(dir);
        while (readdir(dir))
                n++;
        assert(closedir(dir) == 0);
        assert(n == 3); /* ".", ".." and the tree */
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        _cleanup_(index_freep) Index *index = make_index();
        _cleanup_(delta_freep) Delta *delta = NULL;
        _cleanup_free_ char *err = NULL;
        char parent[] = "/tmp/slipway-fuzz.XXXXXX";

        if (size == 0)
                return 0;
        Source source = { .data = data + 1, .size = size - 1, .piece_size = 512 * data[0] + 1 };
        assert(mkdtemp(parent));
        _cleanup_close_ int parent_fd = dir_open_at(AT_FDCWD, parent);
        assert(mkdirat(parent_fd, "tree", 0700) == 0);
        _cleanup_close_ int fd = dir_open_at(parent_fd, "tree");
        assert(delta_new(index, NULL, 0, &delta) == 0);
        delta_settle(delta);
        assert(tree_prepare(fd, index, &err) == 0);
        int r = tree_write(fd, index, delta, next_piece, &source, &err);
        assert(r == 0 || err);
        if (r == 0)
                check_written(fd);
        check_alone(parent);
        free(source.piece);
        assert(remove_tree_at(AT_FDCWD, parent) == 0);
        return 0;
}
