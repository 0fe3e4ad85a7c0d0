/* SPDX-License-Identifier: Apache-2.0 */
#include "test.h"

#include "file-order.h"

static void on_done(int result, const char *reason, void *userdata)
{
        (void) reason, (void) userdata;
        fail_msg("told %d", result);
}

static void only_regular_files_are_taken(void **state)
{
        _cleanup_close_ int good = memfd_sealed("t", "x", 1),
                            directory = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC),
                            device = open("/dev/zero", O_RDONLY | O_CLOEXEC);
        int fifo[2];

        (void) state;
        assert_return_code(pipe2(fifo, O_CLOEXEC), 0);
        assert_true(good >= 0 && directory >= 0 && device >= 0);
        const struct {
                OrderFiles files;
                const char *what;
        } cases[] = {
                {{ fifo[0], good, good, {}, 0 },              "manifest"  },
                { { good, directory, good, {}, 0 },           "index"     },
                { { good, good, device, {}, 0 },              "artifact"  },
                { { good, good, good, { good, fifo[0] }, 2 }, "provenance"},
        };

        for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
                _cleanup_free_ char *err = NULL;
                FileOrder *o = NULL;

                assert_int_equal(
                        file_order_new(NULL, NULL, NULL, &cases[i].files, on_done, NULL, &o, &err),
                        -EINVAL);
                assert_non_null(strstr(err, "no regular file"));
                assert_non_null(strstr(err, cases[i].what));
                assert_null(o);
        }
        fd_close(fifo[0]);
        fd_close(fifo[1]);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(only_regular_files_are_taken),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
