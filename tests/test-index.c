/* SPDX-License-Identifier: Apache-2.0 */
#include "err.h"
#include "index.h"
#include "test.h"

/* The bytes of an index with three frames and six files; offsets below count on this. */
#define N_FILES    6
#define FRAMES_AT  64
#define FILES_AT   (FRAMES_AT + 3 * 80)
#define STRINGS_AT (FILES_AT + N_FILES * 80)

static const IndexFile sample_files[N_FILES] = {
        {.path = "a",           .type = FILE_DIRECTORY, .mode = 0755,    .n_frames = 1   },
        {  .path = "a-b", .type = FILE_REGULAR,           .mode = 0644,   .n_frames = 1,   .mtime_sec = 5 },
        { .path = "a/l",     .link = "../b/z",   .type = FILE_SYMLINK,    .mode = 0777,    .n_frames = 1 },
        { .path = "a/x", .type = FILE_REGULAR,           .mode = 0755, .size_bytes = 7,    .n_frames = 1 },
        { .path = "a/y",
         .type = FILE_REGULAR,
         .mode = 0644,
         .size_bytes = 3000,
         .first_frame = 0,
         .n_frames = 2 },
        {                                                                       .path = "z",          .type = FILE_REGULAR,   .mode = 0644,    .first_frame = 1, .n_frames = 1 },
};

static int build(const Frame *frames, size_t n_frames, const IndexFile *files, size_t n_files,
                 uint8_t **ret, size_t *ret_size)
{
        _cleanup_(index_writer_freep) IndexWriter *w = NULL;
        _cleanup_free_ char *err = NULL;
        void *data = NULL;

        assert_int_equal(index_writer_new(&w), 0);
        for (size_t i = 0; i < n_frames; i++)
                assert_int_equal(index_writer_add_frame(w, &frames[i]), 0);
        for (size_t i = 0; i < n_files; i++)
                assert_int_equal(index_writer_add_file(w, &files[i]), 0);
        int r = index_writer_format(w, &data, ret_size, &err);
        assert_true(r == 0 || (r == -EBADMSG && err));
        *ret = data;
        return r;
}

static uint8_t *sample(size_t *ret_size)
{
        static const Frame frames[] = {
                {.offset = 0,    .size_bytes = 100, .content_size_bytes = 4000         },
                { .offset = 100, .size_bytes = 200, .content_size_bytes = 96 + 11 * 512},
                { .offset = 300, .size_bytes = 20,  .content_size_bytes = 1024         },
        };
        uint8_t *data = NULL;

        assert_int_equal(build(frames, 3, sample_files, N_FILES, &data, ret_size), 0);
        return data;
}

static int parse(const void *data, size_t size)
{
        _cleanup_(index_freep) Index *i = NULL;
        _cleanup_free_ char *err = NULL;
        int r = index_parse(data, size, &i, &err);

        assert_true(r == 0 ? i && !err : r == -EBADMSG && !i && err);
        return r;
}

static void reads_what_was_written(void **state)
{
        (void) state;
        size_t size;
        _cleanup_free_ uint8_t *data = sample(&size);
        _cleanup_(index_freep) Index *i = NULL;

        assert_int_equal(size, STRINGS_AT + 1 + 3 + 3 + 6 + 3 + 3 + 1);
        assert_int_equal(index_parse(data, size, &i, NULL), 0);
        assert_int_equal(index_n_frames(i), 3);
        assert_int_equal(index_n_files(i), N_FILES);
        assert_int_equal(index_artifact_size(i), 320);
        assert_int_equal(index_content_size(i), 4000 + 96 + 11 * 512 + 1024);
        assert_int_equal(index_frame(i, 1)->offset, 100);
        assert_int_equal(index_frame(i, 1)->size_bytes, 200);
        assert_int_equal(index_frame(i, 2)->content_size_bytes, 1024);
        for (size_t n = 0; n < N_FILES; n++) {
                const IndexFile *f = index_file(i, n), *want = &sample_files[n];
                assert_string_equal(f->path, want->path);
                assert_true(streq_ptr(f->link, want->link));
                assert_int_equal(f->type, want->type);
                assert_int_equal(f->mode, want->mode);
                assert_int_equal(f->size_bytes, want->size_bytes);
                assert_int_equal(f->mtime_sec, want->mtime_sec);
                assert_int_equal(f->first_frame, want->first_frame);
                assert_int_equal(f->n_frames, want->n_frames);
                assert_ptr_equal(index_find(i, want->path), f);
        }
        assert_null(index_find(i, "a/"));
        assert_null(index_find(i, "a/z"));
        assert_null(index_find(i, ""));
}

/* An application without files is allowed: the end of the archive alone. */
static void empty_tree(void **state)
{
        (void) state;
        static const Frame end = { .size_bytes = 20, .content_size_bytes = 1024 };
        _cleanup_free_ uint8_t *data = NULL;
        size_t size;

        assert_int_equal(build(&end, 1, NULL, 0, &data, &size), 0);
        assert_int_equal(size, 64 + 80);
        assert_int_equal(parse(data, size), 0);
}

static void truncated_or_longer(void **state)
{
        (void) state;
        size_t size;
        _cleanup_free_ uint8_t *data = sample(&size);

        for (size_t n = 0; n < size; n++) {
                /* A copy of its own, so that ASan sees a read past the end. */
                _cleanup_free_ uint8_t *copy = malloc(MAX(n, (size_t) 1));
                memcpy(copy, data, n);
                assert_int_equal(parse(copy, n), -EBADMSG);
        }
        _cleanup_free_ uint8_t *longer = calloc(1, size + 1);
        memcpy(longer, data, size);
        assert_int_equal(parse(longer, size), 0);
        assert_int_equal(parse(longer, size + 1), -EBADMSG);
}

typedef struct Damage {
        const char *what;
        size_t at;
        const char *bytes;
        size_t n_bytes;
} Damage;

#define DAMAGE(what, at, bytes)                \
        {                                      \
                what, at, bytes, STRLEN(bytes) \
        }
#define FRAME_AT(n, field) (FRAMES_AT + (n) *80 + (field))
#define FILE_AT(n, field)  (FILES_AT + (n) *80 + (field))

/* Each breaks one rule of the layout. */
static const Damage damages[] = {
        DAMAGE("magic", 0, "X"),
        DAMAGE("version in the magic", 7, "2"),
        DAMAGE("no frames", 8, "\0\0\0\0"),
        DAMAGE("more frames", 8, "\4"),
        DAMAGE("too many frames", 8, "\1\0\100\0"),
        DAMAGE("more files", 12, "\7"),
        DAMAGE("too many files", 12, "\1\0\20\0"),
        DAMAGE("all counts", 8, "\377\377\377\377\377\377\377\377"),
        DAMAGE("artifact size", 16, "\101"),
        DAMAGE("content size", 24, "\1"),
        DAMAGE("strings size", 32, "\1"),
        DAMAGE("huge strings size", 39, "\377"),
        DAMAGE("header's zeroes, first", 40, "\1"),
        DAMAGE("header's zeroes, last", 63, "\1"),
        DAMAGE("first frame's offset", FRAME_AT(0, 0), "\1"),
        DAMAGE("frames overlap", FRAME_AT(1, 0), "\143"),
        DAMAGE("gap between frames", FRAME_AT(1, 0), "\145"),
        DAMAGE("frame offset wraps", FRAME_AT(1, 7), "\377"),
        DAMAGE("frame of no bytes", FRAME_AT(0, 8), "\0\0\0\0"),
        DAMAGE("frame too large", FRAME_AT(0, 8), "\1\0\101\0"),
        DAMAGE("frame of no content", FRAME_AT(0, 12), "\0\0\0\0"),
        DAMAGE("frame content too large", FRAME_AT(0, 12), "\1\0\100\0"),
        DAMAGE("path size 0", FILE_AT(0, 0), "\0\0"),
        DAMAGE("path size past the area", FILE_AT(5, 0), "\2"),
        DAMAGE("link of a file", FILE_AT(5, 2), "\1"),
        DAMAGE("link of nothing", FILE_AT(2, 2), "\0"),
        DAMAGE("setuid", FILE_AT(1, 4), "\244\011"),
        DAMAGE("mode 0600", FILE_AT(1, 4), "\200\1"),
        DAMAGE("mode 0777", FILE_AT(1, 4), "\377\1"),
        DAMAGE("directory's mode", FILE_AT(0, 4), "\244\1"),
        DAMAGE("symlink's mode", FILE_AT(2, 4), "\355\1"),
        DAMAGE("device", FILE_AT(1, 6), "b"),
        DAMAGE("hard link", FILE_AT(1, 6), "h"),
        DAMAGE("type 0", FILE_AT(1, 6), "\0"),
        DAMAGE("byte after the type", FILE_AT(1, 7), "\1"),
        DAMAGE("size of a directory", FILE_AT(0, 8), "\1"),
        DAMAGE("size of a symlink", FILE_AT(2, 8), "\1"),
        DAMAGE("size larger than the content", FILE_AT(4, 9), "\100"),
        DAMAGE("size near 2^64", FILE_AT(4, 8), "\377\377\377\377\377\377\377\377"),
        DAMAGE("mtime 2^33", FILE_AT(1, 20), "\2"),
        DAMAGE("mtime negative", FILE_AT(1, 27 - 4), "\377"),
        DAMAGE("starts in a later frame", FILE_AT(0, 24), "\1"),
        DAMAGE("goes back a frame", FILE_AT(5, 24), "\0"),
        DAMAGE("skips a frame", FILE_AT(1, 24), "\2"),
        DAMAGE("no frames of a file", FILE_AT(3, 28), "\0"),
        DAMAGE("into the last frame", FILE_AT(4, 28), "\3"),
        DAMAGE("frame number wraps", FILE_AT(4, 28), "\377\377\377\377"),
        DAMAGE("does not reach the end", FILE_AT(5, 24), "\0\0\0\0\1"),
        DAMAGE("digest of a directory", FILE_AT(0, 32), "\1"),
        DAMAGE("digest of a symlink", FILE_AT(2, 63), "\1"),
        DAMAGE("file's zeroes, first", FILE_AT(1, 64), "\1"),
        DAMAGE("file's zeroes, last", FILE_AT(5, 79), "\1"),
        DAMAGE("NUL in a path", STRINGS_AT + 2, "\0"),
        DAMAGE("control in a path", STRINGS_AT + 2, "\n"),
        DAMAGE("absolute path", STRINGS_AT, "/"),
        DAMAGE("path '.'", STRINGS_AT, "."),
        DAMAGE("not in order", STRINGS_AT, "~"),
        DAMAGE("in no directory", STRINGS_AT, "A"),
        DAMAGE("path twice", STRINGS_AT + 18, "x"),
        DAMAGE("'.' in a path", STRINGS_AT + 6, "."),
        DAMAGE("absolute link", STRINGS_AT + 7, "/"),
        DAMAGE("link that leaves", STRINGS_AT + 7, "../../"),
        DAMAGE("NUL in a link", STRINGS_AT + 8, "\0"),
};

static void every_rule(void **state)
{
        (void) state;
        for (size_t n = 0; n < ELEMENTSOF(damages); n++) {
                const Damage *d = &damages[n];
                size_t size;
                _cleanup_free_ uint8_t *data = sample(&size);
                memcpy(data + d->at, d->bytes, d->n_bytes);
                if (parse(data, size) != -EBADMSG)
                        fail_msg("taken: %s", d->what);
        }
}

static void newer_format(void **state)
{
        (void) state;
        size_t size;
        _cleanup_free_ uint8_t *data = sample(&size);
        _cleanup_(index_freep) Index *i = NULL;
        _cleanup_free_ char *err = NULL;

        data[7] = '2';
        assert_int_equal(index_parse(data, size, &i, &err), -EBADMSG);
        assert_string_equal(err,
                            "this version knows indexes of the format SLPYIDX1 only; what made "
                            "this one may be newer");
}

static void random_damage(void **state)
{
        (void) state;
        size_t size;
        _cleanup_free_ uint8_t *data = sample(&size);

        /* Whatever it answers, it must not read or write elsewhere. */
        for (size_t at = 0; at < size; at++)
                for (unsigned bit = 0; bit < 8; bit++) {
                        data[at] ^= 1 << bit;
                        _cleanup_(index_freep) Index *i = NULL;
                        assert_in_set(-index_parse(data, size, &i, NULL),
                                      ((const uintmax_t[]){ 0, EBADMSG }), 2);
                        data[at] ^= 1 << bit;
                }
        assert_int_equal(parse(data, size), 0);
}

/* Rules that need another set of frames or files than the sample. */
static void frames_of_files(void **state)
{
        (void) state;
        static const Frame frames[] = {
                {.offset = 0,    .size_bytes = 100, .content_size_bytes = 512 },
                { .offset = 100, .size_bytes = 100, .content_size_bytes = 512 },
                { .offset = 200, .size_bytes = 20,  .content_size_bytes = 1024},
        };
        static const Frame short_end[] = {
                {.offset = 0,    .size_bytes = 100, .content_size_bytes = 1024},
                { .offset = 100, .size_bytes = 20,  .content_size_bytes = 512 },
        };
        static const Frame odd[] = {
                {.offset = 0,    .size_bytes = 100, .content_size_bytes = 513 },
                { .offset = 100, .size_bytes = 20,  .content_size_bytes = 1024},
        };
        static const IndexFile one = {
                .path = "a", .type = FILE_REGULAR, .mode = 0644, .n_frames = 1
        };
        static const IndexFile whole = {
                .path = "a", .type = FILE_REGULAR, .mode = 0644, .n_frames = 2, .size_bytes = 512
        };
        static const IndexFile below_link[] = {
                {.path = "a",    .link = "b", .type = FILE_SYMLINK, .mode = 0777, .n_frames = 1},
                { .path = "a/x",
                 .type = FILE_REGULAR,
                 .mode = 0644,
                 .first_frame = 1,
                 .n_frames = 1                                                                 },
        };
        IndexFile large = whole;
        _cleanup_free_ uint8_t *data = NULL;
        size_t size;

        assert_int_equal(build(frames, 3, &one, 1, &data, &size), -EBADMSG);
        assert_int_equal(build(frames, 2, &one, 1, &data, &size), -EBADMSG);
        assert_int_equal(build(frames, 3, NULL, 0, &data, &size), -EBADMSG);
        assert_int_equal(build(frames, 0, NULL, 0, &data, &size), -EBADMSG);
        assert_int_equal(build(short_end, 2, &one, 1, &data, &size), -EBADMSG);
        assert_int_equal(build(odd, 2, &one, 1, &data, &size), -EBADMSG);
        assert_int_equal(build(frames, 3, below_link, 2, &data, &size), -EBADMSG);
        large.size_bytes++;
        assert_int_equal(build(frames, 3, &large, 1, &data, &size), -EBADMSG);
        assert_int_equal(build(frames, 3, &whole, 1, &data, &size), 0);
}

/* A directory's members do not stand right behind it when a sibling's name sorts before '/'. */
static void parents_far_away(void **state)
{
        (void) state;
        static const char *const paths[] = { "a", "a!", "a!/x", "a-", "a-/x", "a-/y", "a/x" };
        static const Frame frames[] = {
                {.offset = 0,    .size_bytes = 100, .content_size_bytes = 7 * 512},
                { .offset = 100, .size_bytes = 20,  .content_size_bytes = 1024   },
        };
        IndexFile files[ELEMENTSOF(paths)];
        _cleanup_free_ uint8_t *data = NULL;
        size_t size;

        for (size_t n = 0; n < ELEMENTSOF(paths); n++)
                files[n] =
                        (IndexFile){ .path = paths[n],
                                     .type = strchr(paths[n], '/') ? FILE_REGULAR : FILE_DIRECTORY,
                                     .mode = 0755,
                                     .n_frames = 1 };
        assert_int_equal(build(frames, 2, files, ELEMENTSOF(paths), &data, &size), 0);
        free(TAKE_PTR(data));
        files[0].path = "A";
        assert_int_equal(build(frames, 2, files, ELEMENTSOF(paths), &data, &size), -EBADMSG);
}

static void long_names(void **state)
{
        (void) state;
        _cleanup_(index_writer_freep) IndexWriter *w = NULL;
        _cleanup_free_ char *path = malloc(70001);

        memset(path, 'a', 70000);
        path[70000] = '\0';
        IndexFile f = { .path = path, .type = FILE_REGULAR, .mode = 0644, .n_frames = 1 };
        assert_int_equal(index_writer_new(&w), 0);
        assert_int_equal(index_writer_add_file(w, &f), -ENAMETOOLONG);
        f.path = "a";
        f.link = path;
        assert_int_equal(index_writer_add_file(w, &f), -ENAMETOOLONG);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(reads_what_was_written),
                cmocka_unit_test(empty_tree),
                cmocka_unit_test(truncated_or_longer),
                cmocka_unit_test(every_rule),
                cmocka_unit_test(newer_format),
                cmocka_unit_test(random_damage),
                cmocka_unit_test(frames_of_files),
                cmocka_unit_test(parents_far_away),
                cmocka_unit_test(long_names),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
