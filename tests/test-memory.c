/* SPDX-License-Identifier: Apache-2.0 */
#include "digest.h"
#include "memory.h"
#include "test.h"

/* RssFile in KiB: resident pages of files, which is what program and libraries are. */
static unsigned long resident_files_kib(void)
{
        _cleanup_free_ char *status = NULL;
        unsigned long kib;

        assert_return_code(file_read_at(AT_FDCWD, "/proc/self/status", 65536, &status, NULL), 0);
        const char *line = strstr(status, "RssFile:");
        assert_non_null(line);
        assert_int_equal(sscanf(line, "RssFile: %lu kB", &kib), 1);
        return kib;
}

static void gives_back_and_goes_on(void **state)
{
        char hex[SHA256_HEX_SIZE];
        unsigned long before;
        Sha256 d;

        (void) state;
        assert_return_code(sha256("", 0, &d), 0);
        before = resident_files_kib();
        memory_give_back();
        assert_true(resident_files_kib() < before);
        assert_return_code(sha256("", 0, &d), 0);
        assert_string_equal(sha256_to_hex(&d, hex),
                            "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(gives_back_and_goes_on),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
