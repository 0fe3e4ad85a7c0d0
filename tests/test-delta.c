/* SPDX-License-Identifier: Apache-2.0 */
#include "test.h"

#include "delta.h"

/* Frames and files of small indexes. A content is a letter: of a file's digest, and of a frame's.
 */
typedef struct Entry {
        const char *path;
        FileType type;
        unsigned mode;
        char content;
        uint64_t size_bytes, mtime_sec;
        uint32_t first_frame, n_frames;
} Entry;

typedef struct Made {
        const char *frames; /* a letter for the content of each, all of FRAME_CONTENT bytes; the
                               archive's end comes after them */
        const Entry *entries;
} Made;

#define FRAME_CONTENT 4096
#define FRAME_SIZE    1000

static Sha256 digest(char content)
{
        Sha256 d = {};

        memset(d.bytes, content, sizeof(d.bytes));
        return d;
}

static void add_frame(IndexWriter *w, char content, uint64_t offset, uint32_t content_size)
{
        Frame f = { .offset = offset,
                    .size_bytes = FRAME_SIZE,
                    .content_size_bytes = content_size,
                    .content_sha256 = digest(content) };

        assert_int_equal(index_writer_add_frame(w, &f), 0);
}

static void add_entry(IndexWriter *w, const Entry *e)
{
        IndexFile f = { .type = e->type,
                        .mode = e->type == FILE_DIRECTORY ? 0755
                                : e->type == FILE_SYMLINK ? 0777
                                : e->mode                 ? e->mode
                                                          : 0644,
                        .size_bytes = e->size_bytes,
                        .mtime_sec = e->mtime_sec,
                        .first_frame = e->first_frame,
                        .n_frames = e->n_frames };

        f.path = e->path;
        f.link = e->type == FILE_SYMLINK ? "x" : NULL;
        if (e->type == FILE_REGULAR)
                f.sha256 = digest(e->content);
        assert_int_equal(index_writer_add_file(w, &f), 0);
}

static Index *make_index(const Made *m)
{
        _cleanup_(index_writer_freep) IndexWriter *w = NULL;
        _cleanup_free_ void *data = NULL;
        _cleanup_free_ char *err = NULL;
        Index *index = NULL;
        size_t n, size;

        assert_int_equal(index_writer_new(&w), 0);
        for (n = 0; m->frames[n]; n++)
                add_frame(w, m->frames[n], n * FRAME_SIZE, FRAME_CONTENT);
        add_frame(w, '.', n * FRAME_SIZE, 1024);
        for (const Entry *e = m->entries; e->path; e++)
                add_entry(w, e);
        if (index_writer_format(w, &data, &size, &err) < 0)
                fail_msg("%s", err);
        assert_int_equal(index_parse(data, size, &index, NULL), 0);
        return index;
}

/* A letter for each frame: skip, Fetch, Copy. */
static void assert_frames(const Delta *d, const char *expected)
{
        char frames[64] = "";

        for (size_t n = 0; n < strlen(expected); n++)
                frames[n] = ".CF"[delta_frame(d, n, NULL)];
        assert_string_equal(frames, expected);
}

/* For each file where it comes from, "-" if from nowhere. */
static void assert_files(const Delta *d, const Index *index, const char *expected)
{
        char files[256] = "";

        for (size_t n = 0; n < index_n_files(index); n++) {
                DeltaSource source;
                size_t used = strlen(files);
                bool reused = delta_file(d, n, &source);

                if (reused)
                        (void) snprintf(files + used, sizeof(files) - used, "%zu:%s ", source.seed,
                                        source.file->path);
                else
                        (void) snprintf(files + used, sizeof(files) - used, "- ");
        }
        assert_string_equal(files, expected);
}

static const Entry old_entries[] = {
        {"a",             FILE_REGULAR, 0, 'a', 100, 5, 0, 1 },
        { "d",              FILE_DIRECTORY, 0, 0, 0, 5, 0, 1 },
        { "d/b",            FILE_REGULAR, 0, 'b', 100, 5, 1, 1 },
        { "d/twin1",              FILE_REGULAR, 0755, 't', 100, 5, 1, 1 },
        { "d/twin2",              FILE_REGULAR, 0, 't', 100, 7, 1, 1 },
        { "z",FILE_SYMLINK, 0, 0, 0, 5, 2, 1 },
        {             },
};
static const Made old = { "abc", old_entries };

static const Entry new_entries[] = {
        {"a",             FILE_REGULAR, 0, 'a', 100, 9, 0, 1 }, /* only the time differs */
        { "d",              FILE_DIRECTORY, 0, 0, 0, 9, 0, 1 },
        { "d/b",            FILE_REGULAR, 0, 'B', 100, 9, 1, 1 }, /* changed */
        { "d/l",              FILE_SYMLINK, 0, 0, 0, 9, 1, 1 },
        { "moved",              FILE_REGULAR, 0, 'b', 100, 5, 2, 1 },
        { "size",FILE_REGULAR, 0, 'a', 101, 5, 3, 1 }, /* same digest, another size */
        { "twin",              FILE_REGULAR, 0, 't', 100, 7, 4, 1 },
        { "twin2",              FILE_REGULAR, 0755, 't', 100, 5, 4, 1 },
        {         },
};
static const Made new = { "vwxyz", new_entries };

static void files(void **state)
{
        _cleanup_(index_freep) Index *seed = make_index(&old), *index = make_index(&new);
        _cleanup_(delta_freep) Delta *d = NULL;
        const Index *seeds[] = { seed };

        (void) state;
        assert_int_equal(delta_new(index, seeds, 1, &d), 0);
        assert_files(d, index, "0:a - - - 0:d/b - 0:d/twin2 0:d/twin1 ");
        delta_settle(d);
        assert_frames(d, ".F.F..");
        assert_int_equal(delta_reused_bytes(d), 400);
        assert_true(delta_in_stream(d, 2));
        assert_true(delta_in_stream(d, 3));
        assert_false(delta_in_stream(d, 0));
        delta_lose(d, 0);
        delta_lose(d, 7);
        delta_settle(d);
        assert_files(d, index, "- - - - 0:d/b - 0:d/twin2 - ");
        assert_frames(d, "FF.FF.");
        assert_true(delta_in_stream(d, 6));
        assert_int_equal(delta_reused_bytes(d), 200);
}

static void no_seed(void **state)
{
        _cleanup_(index_freep) Index *index = make_index(&new);
        _cleanup_(range_set_freep) RangeSet *ranges = NULL;
        _cleanup_(delta_freep) Delta *d = NULL;

        (void) state;
        assert_int_equal(delta_new(index, NULL, 0, &d), 0);
        delta_settle(d);
        assert_frames(d, "FFFFF.");
        assert_int_equal(delta_ranges(d, &ranges), 0);
        assert_int_equal(range_set_n(ranges), 1);
        assert_int_equal(range_set_bytes(ranges), 5 * FRAME_SIZE);
}

static void same_release(void **state)
{
        _cleanup_(index_freep) Index *index = make_index(&new);
        _cleanup_(range_set_freep) RangeSet *ranges = NULL;
        _cleanup_(delta_freep) Delta *d = NULL;
        const Index *seeds[] = { index };

        (void) state;
        assert_int_equal(delta_new(index, seeds, 1, &d), 0);
        delta_settle(d);
        assert_frames(d, "......");
        assert_files(d, index, "0:a - 0:d/b - 0:moved 0:size 0:twin 0:twin2 ");
        assert_int_equal(delta_ranges(d, &ranges), 0);
        assert_int_equal(range_set_n(ranges), 0);
}

static void several_seeds(void **state)
{
        _cleanup_(index_freep) Index *first = make_index(&new), *second = make_index(&old);
        _cleanup_(delta_freep) Delta *d = NULL;
        const Index *seeds[] = { first, second };

        (void) state;
        /* The path counts more than which seed it is. */
        assert_int_equal(delta_new(second, seeds, 2, &d), 0);
        assert_files(d, second, "0:a - 1:d/b 1:d/twin1 1:d/twin2 - ");
}

/* Files with frames of their own: a header's, then the content. */
static const Entry old_large[] = {
        {"large",                  FILE_REGULAR, 0, 'l', 3 * FRAME_CONTENT - 100, 5, 0, 4 },
        { "small",                       FILE_REGULAR, 0, 's', 10, 5, 4, 1 },
        {                      },
};
static const Made old_with_large = { "h123s", old_large };

static const Entry new_large[] = {
        {"large",                  FILE_REGULAR, 0, 'L', 3 * FRAME_CONTENT - 100, 9, 0, 4 },
        { "small",                       FILE_REGULAR, 0, 's', 10, 5, 4, 1 },
        {                      },
};
static const Made new_with_large = { "h1x3s", new_large };

static void pieces(void **state)
{
        _cleanup_(index_freep) Index *seed = make_index(&old_with_large);
        _cleanup_(index_freep) Index *index = make_index(&new_with_large);
        _cleanup_(range_set_freep) RangeSet *ranges = NULL;
        _cleanup_(delta_freep) Delta *d = NULL;
        const Index *seeds[] = { seed };
        DeltaSource source;

        (void) state;
        assert_int_equal(delta_new(index, seeds, 1, &d), 0);
        delta_settle(d);
        assert_frames(d, "FCFC..");
        assert_int_equal(delta_frame(d, 1, &source), DELTA_COPY);
        assert_string_equal(source.file->path, "large");
        assert_int_equal(source.offset, 0);
        assert_int_equal(source.size_bytes, FRAME_CONTENT);
        assert_int_equal(delta_frame(d, 3, &source), DELTA_COPY);
        assert_int_equal(source.offset, 2 * FRAME_CONTENT);
        assert_int_equal(source.size_bytes, FRAME_CONTENT - 100);
        assert_int_equal(delta_reused_bytes(d), 10 + 2 * FRAME_CONTENT - 100);
        delta_lose_frame(d, 3);
        delta_settle(d);
        assert_frames(d, "FCFF..");
        assert_int_equal(delta_ranges(d, &ranges), 0);
        assert_int_equal(range_set_n(ranges), 2);
        assert_int_equal(range_set_bytes(ranges), 3 * FRAME_SIZE);
}

/* As others may pack: entries go over the ends of frames. */
static const Entry tied_entries[] = {
        {"a",           FILE_REGULAR, 0, '1', 5000, 5, 0, 2 },
        { "b",            FILE_REGULAR, 0, '2', 10, 5, 1, 1 },
        { "c",         FILE_REGULAR, 0, '3', 5000, 5, 1, 2 },
        { "d",            FILE_REGULAR, 0, '4', 10, 5, 3, 1 },
        {},
};
static const Made tied = { "wxyz", tied_entries };

static void what_is_tied_together(void **state)
{
        _cleanup_(index_freep) Index *index = make_index(&tied);
        _cleanup_(delta_freep) Delta *d = NULL;
        const Index *seeds[] = { index };

        (void) state;
        assert_int_equal(delta_new(index, seeds, 1, &d), 0);
        for (size_t lost = 0; lost < 3; lost++) {
                delta_settle(d);
                assert_frames(d, lost == 0 ? "....." : "FFF..");
                delta_lose(d, lost);
        }
        delta_lose(d, 3);
        delta_settle(d);
        assert_frames(d, "FFFF.");
}

/* An old file whose last frame would be padding alone. */
static const Entry padding_entries[] = {
        {"a",                FILE_REGULAR, 0, 'p', FRAME_CONTENT + 1, 5, 0, 3 },
        {},
};

static void sizes_that_mislead(void **state)
{
        static const Entry changed[] = {
                {"a",                FILE_REGULAR, 0, 'q', FRAME_CONTENT + 1, 5, 0, 3 },
                {},
        };
        _cleanup_(index_freep) Index *seed = make_index(&(Made){ "h1p", padding_entries });
        _cleanup_(index_freep) Index *index = make_index(&(Made){ "h1p", changed });
        _cleanup_(delta_freep) Delta *d = NULL;
        const Index *seeds[] = { seed };

        (void) state;
        assert_int_equal(delta_new(index, seeds, 1, &d), 0);
        delta_settle(d);
        /* Its frames are longer than it and its padding: so where they lie in it is not known. */
        assert_frames(d, "FFF.");
        assert_int_equal(delta_reused_bytes(d), 0);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(files),
                cmocka_unit_test(no_seed),
                cmocka_unit_test(same_release),
                cmocka_unit_test(several_seeds),
                cmocka_unit_test(pieces),
                cmocka_unit_test(what_is_tied_together),
                cmocka_unit_test(sizes_that_mislead),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
