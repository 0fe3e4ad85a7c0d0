/* SPDX-License-Identifier: Apache-2.0 */
#include "test.h"

#include <stdio.h>
#include <sys/stat.h>

#include "tree-writer.h"

#define N_TOP   20
#define N_BELOW 20
#define N_FILES (N_TOP * (1 + N_BELOW * 2))

/* t00, t00/b00, t00/b00/link, t00/b01, ...: enough for several threads. */
static Index *make_index(void)
{
        static char paths[N_FILES][32];
        const Frame frames[] = {
                {.size_bytes = 1,  .content_size_bytes = FRAME_CONTENT_MAX},
                { .offset = 1, .size_bytes = 1,              .content_size_bytes = 1024 },
        };
        _cleanup_(index_writer_freep) IndexWriter *w = NULL;
        _cleanup_free_ char *err = NULL;
        _cleanup_free_ void *data = NULL;
        Index *index = NULL;
        size_t size, n = 0;

        assert_int_equal(index_writer_new(&w), 0);
        for (size_t i = 0; i < ELEMENTSOF(frames); i++)
                assert_int_equal(index_writer_add_frame(w, &frames[i]), 0);
        for (size_t i = 0; i < N_FILES; i++) {
                size_t top = i / (1 + N_BELOW * 2), rest = i % (1 + N_BELOW * 2);
                const char *link = rest > 0 && rest % 2 == 0 ? "../b00" : NULL;
                char *path = paths[n++];

                if (rest == 0)
                        (void) snprintf(path, sizeof(paths[0]), "t%02zu", top);
                else
                        (void) snprintf(path, sizeof(paths[0]), "t%02zu/b%02zu%s", top,
                                        (rest - 1) / 2, link ? "/link" : "");
                const IndexFile f = { .path = path,
                                      .link = link,
                                      .type = link ? FILE_SYMLINK : FILE_DIRECTORY,
                                      .mode = link ? 0777 : 0755,
                                      .mtime_sec = 11,
                                      .n_frames = 1 };
                assert_int_equal(index_writer_add_file(w, &f), 0);
        }
        if (index_writer_format(w, &data, &size, &err) < 0)
                fail_msg("%s", err);
        assert_int_equal(index_parse(data, size, &index, NULL), 0);
        return index;
}

static int no_content(void *userdata, const void **ret_data, size_t *ret_size, char **reterr)
{
        (void) userdata;
        (void) ret_data;
        (void) ret_size;
        (void) reterr;
        return 0;
}

static void makes_all_that_needs_no_content(void **state)
{
        _cleanup_(index_freep) Index *index = make_index();
        _cleanup_(delta_freep) Delta *delta = NULL;
        _cleanup_close_ int fd = dir_open_at(AT_FDCWD, *state);

        assert_int_equal(tree_prepare(fd, index, NULL), 0);
        assert_int_equal(delta_new(index, NULL, 0, &delta), 0);
        delta_settle(delta);
        assert_int_equal(tree_write(fd, index, delta, no_content, NULL, NULL), 0);
        for (size_t n = 0; n < index_n_files(index); n++) {
                const IndexFile *f = index_file(index, n);
                struct stat st;

                assert_return_code(fstatat(fd, f->path, &st, AT_SYMLINK_NOFOLLOW), errno);
                assert_int_equal(st.st_mode, (f->link ? S_IFLNK : S_IFDIR) | f->mode);
                assert_int_equal(st.st_mtim.tv_sec, 11);
        }
}

/* As when "T12" was made before in a file system for which case does not count. */
static void names_that_are_the_same(void **state)
{
        _cleanup_(index_freep) Index *index = make_index();
        _cleanup_close_ int fd = dir_open_at(AT_FDCWD, *state);
        _cleanup_free_ char *err = NULL;

        assert_return_code(mkdirat(fd, "t12", 0700), errno);
        assert_int_equal(tree_prepare(fd, index, &err), -EEXIST);
        assert_non_null(strstr(err, "are the same"));
}

static void something_is_in_the_way(void **state)
{
        _cleanup_(index_freep) Index *index = make_index();
        _cleanup_close_ int fd = dir_open_at(AT_FDCWD, *state);
        _cleanup_free_ char *err = NULL;

        assert_return_code(symlinkat("t00", fd, "t12"), errno);
        assert_int_equal(tree_prepare(fd, index, &err), -ENOTDIR);
        assert_non_null(strstr(err, "'t12/"));
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                test_in_dir(makes_all_that_needs_no_content),
                test_in_dir(names_that_are_the_same),
                test_in_dir(something_is_in_the_way),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
