/* SPDX-License-Identifier: Apache-2.0 */
#include "test.h"

#include "size-text.h"

static void good(void **state)
{
        static const struct {
                const char *text;
                uint64_t bytes;
                const char *again;
        } cases[] = {
                {"0",                 0,                       "0"    },
                { "1",                1,                       "1"    },
                { "1023",             1023,                    "1023" },
                { "1024",             1024,                    "1K"   },
                { "512M",             UINT64_C(512) << 20,     "512M" },
                { "2048M",            UINT64_C(2) << 30,       "2G"   },
                { "8192T",            UINT64_C(1) << 53,       "8192T"},
                { "9007199254740991", (UINT64_C(1) << 53) - 1, NULL   },
        };

        (void) state;
        for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
                char text[SIZE_TEXT_SIZE];
                uint64_t bytes;
                assert_int_equal(size_text_parse(cases[i].text, &bytes), 0);
                assert_int_equal(bytes, cases[i].bytes);
                assert_string_equal(size_text_format(bytes, text),
                                    cases[i].again ? cases[i].again : cases[i].text);
        }
}

static void bad(void **state)
{
        static const char *const cases[] = {
                "",
                "K",
                "-1",
                "+1",
                " 1",
                "1 ",
                "1k",
                "1KB",
                "1.5G",
                "0x10",
                "1P",
                "9007199254740993",
                "8193T",
                "99999999999999999",
                "9999999999999999T",
        };

        (void) state;
        for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
                uint64_t bytes = 7;
                assert_int_equal(size_text_parse(cases[i], &bytes), -EBADMSG);
                assert_int_equal(bytes, 7);
        }
}

int main(void)
{
        const struct CMUnitTest tests[] = { cmocka_unit_test(good), cmocka_unit_test(bad) };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
