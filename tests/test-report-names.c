/* SPDX-License-Identifier: Apache-2.0 */
#include "report-names.h"

#include "test.h"

static void make(int dir_fd, size_t n)
{
        char name[16];

        for (size_t i = 0; i < n; i++) {
                (void) snprintf(name, sizeof(name), "%zu", i);
                assert_int_equal(file_write_atomic_at(dir_fd, name, "", 0, 0600), 0);
        }
}

static void test_order(void **state)
{
        _cleanup_close_ int dir_fd = dir_open_at(AT_FDCWD, *state);
        _cleanup_(report_names_done) ReportNames n = {}, none = {};

        assert_int_equal(report_names_read(dir_fd, &none), 0);
        assert_true(none.n == 0 && !none.more);
        make(dir_fd, 12);
        assert_int_equal(file_write_atomic_at(dir_fd, ".hidden", "", 0, 0600), 0);
        assert_int_equal(report_names_read(dir_fd, &n), 0);
        assert_int_equal(n.n, 13);
        assert_false(n.more);
        assert_string_equal(n.names[0], ".hidden");
        assert_string_equal(n.names[3], "10");
        assert_int_equal(report_names_read(-EBADF, &none), -EBADF);
}

static void test_full(void **state)
{
        _cleanup_close_ int dir_fd = dir_open_at(AT_FDCWD, *state);
        _cleanup_(report_names_done) ReportNames all = {}, some = {};

        make(dir_fd, REPORT_NAMES_MAX);
        assert_int_equal(report_names_read(dir_fd, &all), 0);
        assert_true(all.n == REPORT_NAMES_MAX && !all.more);
        make(dir_fd, REPORT_NAMES_MAX + 1);
        assert_int_equal(report_names_read(dir_fd, &some), 0);
        assert_true(some.n == REPORT_NAMES_MAX && some.more);
}

int main(void)
{
        const struct CMUnitTest tests[] = { test_in_dir(test_order), test_in_dir(test_full) };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
