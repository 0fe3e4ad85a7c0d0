/* SPDX-License-Identifier: Apache-2.0 */
#include "test.h"

#include "environment-file.h"

static int load(const char *dir, const char *text, char **reterr)
{
        _cleanup_close_ int fd = dir_open_at(AT_FDCWD, dir);
        _cleanup_free_ char *path = NULL;

        assert_return_code(file_write_atomic_at(fd, "environment", text, strlen(text), 0600), 0);
        assert_true(asprintf(&path, "%s/environment", dir) > 0);
        return environment_file_load(path, reterr);
}

static void variables_are_set(void **state)
{
        assert_int_equal(setenv("T_OURS", "stays", 1), 0);
        assert_return_code(load(*state,
                                "# T_NOT=1\n; T_NOT=1\n\n  T_PLAIN = a b \r\nT_DOUBLE=\"x'y \"\n"
                                "T_SINGLE='\"'\nT_EMPTY=\nT_OURS=goes\nT_LAST=k=v",
                                NULL),
                           0);
        assert_string_equal(getenv("T_PLAIN"), "a b");
        assert_string_equal(getenv("T_DOUBLE"), "x'y ");
        assert_string_equal(getenv("T_SINGLE"), "\"");
        assert_string_equal(getenv("T_EMPTY"), "");
        assert_string_equal(getenv("T_OURS"), "stays");
        assert_string_equal(getenv("T_LAST"), "k=v");
        assert_null(getenv("T_NOT"));
}

static void the_rest_is_refused(void **state)
{
        static const char *const bad[] = { "A=1\nB",     "A=1\n=x",    "A=1\n1B=x",    "A=1\nB C=x",
                                           "A=1\nB=\"x", "A=1\nB=x\\", "A=1\nB='x'y'", "A=1\nB='" };

        for (size_t i = 0; i < ELEMENTSOF(bad); i++) {
                _cleanup_free_ char *err = NULL;

                assert_int_equal(load(*state, bad[i], &err), -EBADMSG);
                assert_non_null(strstr(err, "environment:2: "));
        }
}

static void no_file_is_fine(void **state)
{
        (void) state;
        assert_return_code(environment_file_load("/nonexistent/environment", NULL), 0);
        assert_true(environment_file_load("/", NULL) < 0);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                test_in_dir(variables_are_set),
                test_in_dir(the_rest_is_refused),
                cmocka_unit_test(no_file_is_fine),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
