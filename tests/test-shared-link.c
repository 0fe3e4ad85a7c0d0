/* SPDX-License-Identifier: Apache-2.0 */
#include "test.h"

#include <sys/stat.h>

#include "name.h"
#include "shared-link.h"

static void the_target_climbs_to_the_root(void **state)
{
        char target[PATH_MAX], longest[TREE_PATH_SIZE_MAX + 1];

        (void) state;
        assert_int_equal(shared_link_target("log", target), 0);
        assert_string_equal(target, "../../shared/log");
        assert_int_equal(shared_link_target("var/uploads", target), 0);
        assert_string_equal(target, "../../../shared/var/uploads");
        memset(longest, 'x', sizeof(longest) - 1);
        longest[sizeof(longest) - 1] = '\0';
        assert_int_equal(shared_link_target(longest, target), -ENAMETOOLONG);
}

static void add(IndexWriter *w, FileType type, const char *path)
{
        IndexFile f = { .path = path, .type = type, .mode = 0644, .n_frames = 1 };

        if (type == FILE_DIRECTORY)
                f.mode = 0755;
        if (type == FILE_SYMLINK) {
                f.mode = 0777;
                f.link = "a";
        }
        assert_int_equal(index_writer_add_file(w, &f), 0);
}

static void add_frame(IndexWriter *w, uint64_t offset, uint32_t content_size)
{
        const Frame f = { .offset = offset, .size_bytes = 10, .content_size_bytes = content_size };

        assert_int_equal(index_writer_add_frame(w, &f), 0);
}

/* In the order of an index, which is bytewise: what lies in "full" comes after "full-of". */
static Index *sample(void)
{
        _cleanup_(index_writer_freep) IndexWriter *w = NULL;
        _cleanup_free_ char *err = NULL;
        _cleanup_free_ void *data = NULL;
        Index *index = NULL;
        size_t size;

        assert_int_equal(index_writer_new(&w), 0);
        add_frame(w, 0, 4096);
        add_frame(w, 10, 1024);
        add(w, FILE_REGULAR, "a");
        add(w, FILE_DIRECTORY, "empty");
        add(w, FILE_DIRECTORY, "full");
        add(w, FILE_DIRECTORY, "full-of");
        add(w, FILE_REGULAR, "full/x");
        add(w, FILE_SYMLINK, "l");
        if (index_writer_format(w, &data, &size, &err) < 0)
                fail_msg("%s", err);
        assert_int_equal(index_parse(data, size, &index, NULL), 0);
        return index;
}

static void the_index_says_what_is_in_the_way(void **state)
{
        static const char *const good[] = { "empty",  "empty/deep/er", "new",
                                            "new/er", "full/y",        "full-of" };
        static const struct {
                const char *path, *said;
        } bad[] = {
                {"a",       "has a file at 'a'"     },
                { "a/b",    "has a file at 'a'"     },
                { "l",      "has a link at 'l'"     },
                { "l/x/y",  "has a link at 'l'"     },
                { "full",   "has a file at 'full/x'"},
                { "full/x", "has a file at 'full/x'"},
        };
        _cleanup_(index_freep) Index *index = sample();

        (void) state;
        for (size_t i = 0; i < ELEMENTSOF(good); i++)
                assert_int_equal(shared_link_judge(index, good[i], NULL), 0);
        for (size_t i = 0; i < ELEMENTSOF(bad); i++) {
                _cleanup_free_ char *err = NULL;

                assert_int_equal(shared_link_judge(index, bad[i].path, &err), -EBADMSG);
                if (!strstr(err, bad[i].said))
                        fail_msg("'%s' does not say '%s'", err, bad[i].said);
        }
}

/* A tree to make links in. */
typedef struct Tree {
        int fd;
        Beneath *beneath;
} Tree;

static Tree tree_open(const char *path)
{
        Tree t = { .fd = dir_open_at(AT_FDCWD, path) };

        assert_return_code(t.fd, 0);
        assert_int_equal(beneath_new(t.fd, &t.beneath), 0);
        return t;
}

static void tree_done(Tree *t)
{
        beneath_free(t->beneath);
        fd_close(t->fd);
}

static void assert_link(const Tree *t, const char *path, const char *target)
{
        _cleanup_free_ char *found = NULL;

        assert_int_equal(readlink_at(t->fd, path, &found), 0);
        assert_string_equal(found, target);
}

static void links_are_made(void **state)
{
        _cleanup_(tree_done) Tree t = tree_open(*state);
        struct stat st;

        assert_return_code(mkdirat(t.fd, "empty", 0755), errno);
        /* as slipway-unpack has it */
        mode_t mask = umask(0077);
        assert_int_equal(shared_link_is_there(t.beneath, "var/log/web"), 0);
        assert_int_equal(shared_link_make(t.beneath, "var/log/web", NULL), 0);
        assert_int_equal(shared_link_make(t.beneath, "empty", NULL), 0);
        assert_int_equal(shared_link_make(t.beneath, "new", NULL), 0);
        umask(mask);
        assert_link(&t, "var/log/web", "../../../../shared/var/log/web");
        assert_link(&t, "empty", "../../shared/empty");
        assert_link(&t, "new", "../../shared/new");
        assert_return_code(fstatat(t.fd, "var/log", &st, 0), errno);
        assert_int_equal(st.st_mode, S_IFDIR | 0755);
        assert_int_equal(shared_link_is_there(t.beneath, "var/log/web"), 1);
        /* once more, as after a crash */
        assert_int_equal(shared_link_make(t.beneath, "var/log/web", NULL), 0);
        assert_link(&t, "var/log/web", "../../../../shared/var/log/web");
}

static void what_is_in_the_way_stays(void **state)
{
        _cleanup_(tree_done) Tree t = tree_open(*state);
        static const char *const paths[] = { "file", "file/x", "full", "other", "out/x" };

        assert_return_code(mkdirat(t.fd, "full", 0755), errno);
        assert_return_code(mkdirat(t.fd, "full/x", 0755), errno);
        assert_return_code(symlinkat("elsewhere", t.fd, "other"), errno);
        assert_return_code(symlinkat("/tmp", t.fd, "out"), errno);
        _cleanup_close_ int fd = openat(t.fd, "file", O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
        assert_return_code(fd, errno);
        for (size_t i = 0; i < ELEMENTSOF(paths); i++) {
                _cleanup_free_ char *err = NULL;

                assert_int_equal(shared_link_make(t.beneath, paths[i], &err), -EBADMSG);
                assert_non_null(strstr(err, "in the way"));
                assert_int_equal(shared_link_is_there(t.beneath, paths[i]), 0);
        }
        assert_link(&t, "other", "elsewhere");
}

static void lists_travel(void **state)
{
        SharedLink links[] = { { .path = (char *) "var/uploads" }, { .path = (char *) "b" } };
        const Activate a = { .shared = links, .n_shared = ELEMENTSOF(links) };
        _cleanup_(shared_paths_done) SharedPaths paths = {};
        uint64_t size;
        _cleanup_close_ int fd = shared_links_pack(&a, &size);

        (void) state;
        assert_return_code(fd, 0);
        assert_int_equal(shared_links_unpack(fd, size, &paths), 0);
        assert_int_equal(paths.n_paths, 2);
        assert_string_equal(paths.paths[0], "var/uploads");
        assert_string_equal(paths.paths[1], "b");
}

static void bad_lists_are_refused(void **state)
{
        static const char *const bad[] = { "..", "/etc", "a//b", "a/../b" };
        char many[2 * (ACTIVATE_SHARED_MAX + 1)];
        SharedPaths paths;

        (void) state;
        for (size_t i = 0; i < ELEMENTSOF(bad); i++) {
                _cleanup_close_ int fd = memfd_sealed("test", bad[i], strlen(bad[i]) + 1);

                assert_int_equal(shared_links_unpack(fd, strlen(bad[i]) + 1, &paths), -EPROTO);
        }
        for (size_t i = 0; i < sizeof(many); i += 2)
                memcpy(many + i, "x", 2);
        _cleanup_close_ int fd = memfd_sealed("test", many, sizeof(many));
        assert_int_equal(shared_links_unpack(fd, sizeof(many), &paths), -EPROTO);
        assert_int_equal(shared_links_unpack(fd, UINT64_MAX, &paths), -EPROTO);
        assert_int_equal(shared_links_unpack(fd, sizeof(many) + 1, &paths), -ENODATA);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(the_target_climbs_to_the_root),
                cmocka_unit_test(the_index_says_what_is_in_the_way),
                test_in_dir(links_are_made),
                test_in_dir(what_is_in_the_way_stays),
                cmocka_unit_test(lists_travel),
                cmocka_unit_test(bad_lists_are_refused),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
