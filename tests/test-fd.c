/* SPDX-License-Identifier: Apache-2.0 */
#include "digest.h"
#include "test.h"

static void write_is_atomic(void **state)
{
        _cleanup_close_ int dir = dir_open_at(AT_FDCWD, *state);
        _cleanup_free_ char *data = NULL;
        size_t size;
        struct stat st;

        assert_return_code(file_write_atomic_at(dir, "f", "one", 3, 0600), 0);
        assert_return_code(file_write_atomic_at(dir, "f", "two!", 4, 0640), 0);
        assert_return_code(file_read_at(dir, "f", 4, &data, &size), 0);
        assert_int_equal(size, 4);
        assert_string_equal(data, "two!");
        assert_return_code(fstatat(dir, "f", &st, 0), 0);
        assert_int_equal(st.st_mode & 07777, 0640);
}

static void read_is_capped(void **state)
{
        _cleanup_close_ int dir = dir_open_at(AT_FDCWD, *state);
        char *data = NULL;

        assert_return_code(file_write_atomic_at(dir, "f", "12345", 5, 0600), 0);
        assert_int_equal(file_read_at(dir, "f", 4, &data, NULL), -EFBIG);
        assert_return_code(file_read_at(dir, "f", 5, &data, NULL), 0);
        free(data);
        assert_int_equal(mkfifoat(dir, "p", 0600), 0);
        assert_int_equal(file_read_at(dir, "p", 5, &data, NULL), -EINVAL);
        assert_int_equal(file_read_at(dir, ".", 5, &data, NULL), -EISDIR);
}

static void symlink_is_replaced(void **state)
{
        _cleanup_close_ int dir = dir_open_at(AT_FDCWD, *state);
        _cleanup_free_ char *target = NULL;

        assert_return_code(symlink_replace_at("a", dir, "current"), 0);
        assert_return_code(symlink_replace_at("b", dir, "current"), 0);
        assert_return_code(readlink_at(dir, "current", &target), 0);
        assert_string_equal(target, "b");
        assert_return_code(mkdirat(dir, "d", 0700), 0);
        assert_int_equal(symlink_replace_at("b", dir, "d"), -EISDIR);
}

static void leftovers_of_a_replacement_go(void **state)
{
        static const char *const others[] = { "f",
                                              "f.0123456789abcdef",
                                              ".f.0123456789abcde",
                                              ".f.0123456789abcdef0",
                                              ".f.0123456789abcdeg",
                                              ".f.g.0123456789abcdef",
                                              ".0123456789abcdef" };
        _cleanup_close_ int dir = dir_open_at(AT_FDCWD, *state);

        for (size_t i = 0; i < ELEMENTSOF(others); i++)
                assert_return_code(file_write_atomic_at(dir, others[i], "", 0, 0600), 0);
        assert_return_code(file_write_atomic_at(dir, ".f.0123456789abcdef", "half", 4, 0600), 0);
        assert_return_code(symlinkat("gone", dir, ".f.fedcba9876543210"), 0);
        assert_return_code(replace_leftovers_remove_at(dir, "f"), 0);
        assert_int_equal(faccessat(dir, ".f.0123456789abcdef", F_OK, AT_SYMLINK_NOFOLLOW), -1);
        assert_int_equal(faccessat(dir, ".f.fedcba9876543210", F_OK, AT_SYMLINK_NOFOLLOW), -1);
        for (size_t i = 0; i < ELEMENTSOF(others); i++)
                assert_return_code(faccessat(dir, others[i], F_OK, 0), errno);
}

static void tree_is_removed(void **state)
{
        _cleanup_close_ int dir = dir_open_at(AT_FDCWD, *state);
        _cleanup_close_ int deep = -EBADF;

        assert_return_code(mkdirat(dir, "keep", 0700), 0);
        assert_return_code(mkdirat(dir, "t", 0700), 0);
        deep = dir_open_at(dir, "t");
        for (int i = 0; i < 3000; i++) {
                assert_return_code(mkdirat(deep, "d", 0700), 0);
                assert_return_code(symlinkat("../../keep", deep, "l"), 0);
                int next = dir_open_at(deep, "d");
                assert_return_code(next, 0);
                fd_close(deep);
                deep = next;
        }
        assert_return_code(remove_tree_at(dir, "t"), 0);
        assert_int_equal(faccessat(dir, "t", F_OK, AT_SYMLINK_NOFOLLOW), -1);
        assert_return_code(faccessat(dir, "keep", F_OK, 0), 0);
        assert_return_code(remove_tree_at(dir, "t"), 0);
}

static void memfd_is_sealed(void **state)
{
        _cleanup_close_ int fd = memfd_sealed("t", "abc", 3);
        Sha256 a, b;
        char hex[SHA256_HEX_SIZE];

        (void) state;
        assert_return_code(fd, 0);
        assert_int_equal(pwrite(fd, "x", 1, 0), -1);
        assert_return_code(sha256_fd(fd, 0, 3, &a), 0);
        assert_return_code(sha256("abc", 3, &b), 0);
        assert_true(sha256_equal(&a, &b));
        /* FIPS 180-4's own example. */
        assert_string_equal(sha256_to_hex(&a, hex),
                            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        assert_return_code(sha256_from_hex(hex, &b), 0);
        assert_int_equal(sha256_fd(fd, 0, 4, &a), -ENODATA);
        hex[0] = 'B';
        assert_int_equal(sha256_from_hex(hex, &b), -EBADMSG);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                test_in_dir(write_is_atomic),     test_in_dir(read_is_capped),
                test_in_dir(symlink_is_replaced), test_in_dir(leftovers_of_a_replacement_go),
                test_in_dir(tree_is_removed),     cmocka_unit_test(memfd_is_sealed),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
