/* SPDX-License-Identifier: Apache-2.0 */
#include "test.h"

#include "index-diff.h"

typedef struct Entry {
        const char *path;
        FileType type;
        unsigned mode;
        const char *link;
        uint8_t content; /* first byte of the digest */
        uint64_t mtime_sec;
} Entry;

static const Entry old_files[] = {
        {"a",            FILE_REGULAR,   0644, NULL,   0, 0},
        { "becomes-dir", FILE_REGULAR,   0644, NULL,   0, 0},
        { "d",           FILE_DIRECTORY, 0755, NULL,   0, 0},
        { "d/gone",      FILE_REGULAR,   0644, NULL,   0, 0},
        { "d/link",      FILE_SYMLINK,   0777, "gone", 0, 0},
        { "mode",        FILE_REGULAR,   0644, NULL,   0, 0},
        { "time",        FILE_REGULAR,   0644, NULL,   0, 1},
};

static const Entry new_files[] = {
        {"a",              FILE_REGULAR,   0644, NULL, 1, 0},
        { "becomes-dir",   FILE_DIRECTORY, 0755, NULL, 0, 0},
        { "becomes-dir/f", FILE_REGULAR,   0644, NULL, 0, 0},
        { "d",             FILE_DIRECTORY, 0755, NULL, 0, 0},
        { "d/link",        FILE_SYMLINK,   0777, "x",  0, 0},
        { "mode",          FILE_REGULAR,   0755, NULL, 0, 0},
        { "time",          FILE_REGULAR,   0644, NULL, 0, 2},
        { "z",             FILE_REGULAR,   0644, NULL, 0, 0},
};

static void add_frame(IndexWriter *w, uint64_t offset, uint32_t content_size)
{
        Frame frame = { .offset = offset, .size_bytes = 20, .content_size_bytes = content_size };

        assert_int_equal(index_writer_add_frame(w, &frame), 0);
}

static void add_file(IndexWriter *w, const Entry *e)
{
        IndexFile file = {};

        file.path = e->path;
        file.type = e->type;
        file.mode = e->mode;
        file.link = e->link;
        file.sha256.bytes[0] = e->content;
        file.mtime_sec = e->mtime_sec;
        file.n_frames = 1;
        assert_int_equal(index_writer_add_file(w, &file), 0);
}

static Index *make_index(const Entry *entries, size_t n)
{
        _cleanup_(index_writer_freep) IndexWriter *w = NULL;
        _cleanup_free_ void *data = NULL;
        _cleanup_free_ char *err = NULL;
        Index *index;
        size_t size;

        assert_int_equal(index_writer_new(&w), 0);
        add_frame(w, 0, 512 * n); /* nothing but headers */
        add_frame(w, 20, 1024);
        for (size_t i = 0; i < n; i++)
                add_file(w, &entries[i]);
        if (index_writer_format(w, &data, &size, &err) < 0)
                fail_msg("%s", err);
        assert_int_equal(index_parse(data, size, &index, NULL), 0);
        return index;
}

static int note(FileChange change, const IndexFile *file, void *userdata)
{
        fprintf(userdata, "%c%s ", "=+~-"[change], file -> path);
        return 0;
}

static char *diff(const Index *old, const Index *new)
{
        char *text = NULL;
        size_t size;
        FILE *f = open_memstream(&text, &size);

        assert_int_equal(index_diff(old, new, note, f), 0);
        assert_int_equal(fclose(f), 0);
        return text;
}

static void every_difference_is_told(void **state)
{
        _cleanup_(index_freep) Index *old = make_index(old_files, ELEMENTSOF(old_files));
        _cleanup_(index_freep) Index *new = make_index(new_files, ELEMENTSOF(new_files));
        _cleanup_free_ char *forth = diff(old, new), *back = diff(new, old);
        _cleanup_free_ char *first = diff(NULL, old), *same = diff(old, old);

        (void) state;
        assert_string_equal(forth,
                            "~a -becomes-dir +becomes-dir/f -d/gone ~d/link ~mode =time +z ");
        assert_string_equal(back, "~a +becomes-dir -becomes-dir/f +d/gone ~d/link ~mode =time -z ");
        assert_string_equal(first, "+a +becomes-dir +d/gone +d/link +mode +time ");
        assert_string_equal(same, "=a =becomes-dir =d/gone =d/link =mode =time ");
}

static int refuse(FileChange change, const IndexFile *file, void *userdata)
{
        (void) change, (void) file;
        ++*(int *) userdata;
        return -ENOMEM;
}

static void it_ends_at_the_first_error(void **state)
{
        _cleanup_(index_freep) Index *old = make_index(old_files, ELEMENTSOF(old_files));
        int n = 0;

        (void) state;
        assert_int_equal(index_diff(NULL, old, refuse, &n), -ENOMEM);
        assert_int_equal(n, 1);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(every_difference_is_told),
                cmocka_unit_test(it_ends_at_the_first_error),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
