/* SPDX-License-Identifier: Apache-2.0 */
#include "test.h"

#include <sys/stat.h>

#include "shared.h"

static int root_fd;

static int setup(void **state)
{
        if (test_dir_setup(state) < 0)
                return -1;
        root_fd = open(*state, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        return root_fd < 0 ? -1 : 0;
}

static int teardown(void **state)
{
        fd_close(root_fd);
        return test_dir_teardown(state);
}

static int make(SharedLink link, char **reterr)
{
        const Activate a = { .shared = &link, .n_shared = 1 };

        return shared_make("/srv/web", root_fd, &a, reterr);
}

static struct stat look_at(const char *path)
{
        struct stat st;

        assert_return_code(fstatat(root_fd, path, &st, AT_SYMLINK_NOFOLLOW), errno);
        return st;
}

static void put_file(const char *path, const char *content, mode_t mode)
{
        _cleanup_close_ int fd = openat(root_fd, path, O_WRONLY | O_CREAT | O_CLOEXEC, mode);

        assert_return_code(fd, errno);
        assert_return_code(fd_write_all(fd, content, strlen(content)), 0);
        assert_return_code(fchmod(fd, mode), errno);
}

static void put_dir(const char *path)
{
        assert_return_code(mkdirat(root_fd, path, 0755), errno);
}

static void expect_error(int r, char *err, int error, const char *part)
{
        assert_int_equal(r, error);
        assert_non_null(err);
        if (!strstr(err, part))
                fail_msg("'%s' does not say '%s'", err, part);
        free(err);
}

static void a_directory_is_made(void **state)
{
        struct stat st;

        (void) state;
        assert_int_equal(make((SharedLink){ .path = (char *) "var/lib/up",
                                            .create = SHARED_DIRECTORY,
                                            .mode = 0770 },
                              NULL),
                         0);
        st = look_at("shared/var/lib/up");
        assert_int_equal(st.st_mode, S_IFDIR | 0770);
        assert_int_equal(look_at("shared").st_mode, S_IFDIR | 0755);
        assert_int_equal(look_at("shared/var").st_mode, S_IFDIR | 0755);
}

static void a_file_is_made_with_its_owner(void **state)
{
        struct stat st;
        SharedLink link = { .path = (char *) "config/local.env",
                            .create = SHARED_FILE,
                            .mode = 0640 };

        (void) state;
        if (geteuid() == 0) {
                link.user = (char *) "nobody";
                link.group = (char *) "daemon";
        }
        assert_int_equal(make(link, NULL), 0);
        st = look_at("shared/config/local.env");
        assert_int_equal(st.st_mode, S_IFREG | 0640);
        if (geteuid() != 0)
                skip();
        assert_int_not_equal(st.st_uid, 0);
        assert_int_not_equal(st.st_gid, 0);
        assert_int_equal(look_at("shared/config").st_uid, 0);
}

static void what_exists_stays(void **state)
{
        (void) state;
        put_dir("shared");
        put_file("shared/a", "precious", 0604);
        assert_int_equal(
                make((SharedLink){ .path = (char *) "a", .create = SHARED_FILE, .mode = 0600 },
                     NULL),
                0);
        assert_int_equal(look_at("shared/a").st_mode, S_IFREG | 0604);
        assert_int_equal(look_at("shared/a").st_size, 8);
        assert_return_code(symlinkat("/nowhere", root_fd, "shared/l"), errno);
        assert_int_equal(
                make((SharedLink){ .path = (char *) "l", .create = SHARED_DIRECTORY }, NULL), 0);
        assert_int_equal(make((SharedLink){ .path = (char *) "l" }, NULL), 0);
}

static void what_is_missing_is_an_error(void **state)
{
        char *err = NULL;
        int r = make((SharedLink){ .path = (char *) "config/local.env" }, &err);

        (void) state;
        expect_error(r, err, -ENOENT, "/srv/web/shared/config/local.env, which is missing");
        assert_int_equal(faccessat(root_fd, "shared", F_OK, 0), -1);
}

static void an_unknown_account_is_an_error(void **state)
{
        const SharedLink links[] = {
                {.path = (char *) "good",    .create = SHARED_DIRECTORY},
                { .path = (char *) "a/b",
                 .create = SHARED_DIRECTORY,
                 .user = (char *) "no-such-user" },
        };
        const Activate a = { .shared = (SharedLink *) links, .n_shared = ELEMENTSOF(links) };
        char *err = NULL;
        int r = shared_make("/srv/web", root_fd, &a, &err);

        (void) state;
        expect_error(r, err, -ENOENT, "no user no-such-user on this host");
        err = NULL;
        r = make((SharedLink){ .path = (char *) "a",
                               .create = SHARED_FILE,
                               .group = (char *) "no-such-group" },
                 &err);
        expect_error(r, err, -ENOENT, "no group no-such-group on this host");
        /* Nothing is made before all was looked at. */
        assert_int_equal(faccessat(root_fd, "shared", F_OK, 0), -1);
}

static void links_lead_nowhere(void **state)
{
        char *err = NULL;
        int r;

        (void) state;
        put_dir("shared");
        put_dir("outside");
        assert_return_code(symlinkat("../outside", root_fd, "shared/var"), errno);
        r = make((SharedLink){ .path = (char *) "var/a", .create = SHARED_FILE }, &err);
        expect_error(r, err, -ENOTDIR, "links are not followed");
        assert_int_equal(faccessat(root_fd, "outside/a", F_OK, 0), -1);
        err = NULL;
        assert_return_code(renameat(root_fd, "shared", root_fd, "elsewhere"), errno);
        assert_return_code(symlinkat("elsewhere", root_fd, "shared"), errno);
        r = make((SharedLink){ .path = (char *) "b", .create = SHARED_FILE }, &err);
        expect_error(r, err, -ENOTDIR, "links are not followed");
        assert_int_equal(faccessat(root_fd, "elsewhere/b", F_OK, 0), -1);
}

/* No permission bit: made here, and cut off before it had its owner. */
static void what_a_crash_left_is_finished(void **state)
{
        (void) state;
        if (geteuid() != 0)
                skip();
        put_dir("shared");
        put_file("shared/f", "", 0);
        put_dir("shared/d");
        assert_return_code(fchmodat(root_fd, "shared/d", 0, 0), errno);
        assert_int_equal(
                make((SharedLink){ .path = (char *) "f", .create = SHARED_FILE, .mode = 0600 },
                     NULL),
                0);
        assert_int_equal(
                make((SharedLink){ .path = (char *) "d", .create = SHARED_DIRECTORY }, NULL), 0);
        assert_int_equal(look_at("shared/f").st_mode, S_IFREG | 0600);
        assert_int_equal(look_at("shared/d").st_mode, S_IFDIR | 0755);
}

/* As the system's password file is on some systems: no permission bit, and not ours. */
static void what_only_looks_like_it_stays(void **state)
{
        (void) state;
        if (geteuid() != 0)
                skip();
        put_dir("shared");
        put_file("secret", "", 0);
        assert_return_code(linkat(root_fd, "secret", root_fd, "shared/f", 0), errno);
        put_file("shared/g", "not empty", 0);
        for (const char *path = "f"; path; path = streq(path, "f") ? "g" : NULL)
                assert_int_equal(make((SharedLink){ .path = (char *) path,
                                                    .create = SHARED_FILE,
                                                    .user = (char *) "nobody" },
                                      NULL),
                                 0);
        assert_int_equal(look_at("secret").st_mode, S_IFREG);
        assert_int_equal(look_at("secret").st_uid, 0);
        assert_int_equal(look_at("shared/g").st_mode, S_IFREG);
}

#define test_in_root(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
        const struct CMUnitTest tests[] = {
                test_in_root(a_directory_is_made),
                test_in_root(a_file_is_made_with_its_owner),
                test_in_root(what_exists_stays),
                test_in_root(what_is_missing_is_an_error),
                test_in_root(an_unknown_account_is_an_error),
                test_in_root(links_lead_nowhere),
                test_in_root(what_a_crash_left_is_finished),
                test_in_root(what_only_looks_like_it_stays),
        };

        umask(0022);
        return cmocka_run_group_tests(tests, NULL, NULL);
}
