/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>

#include "arguments.h"
#include "expiry.h"
#include "progress.h"
#include "result.h"
#include "test.h"

#define NOW UINT64_C(1700000000) /* 2023-11-14T22:13:20Z */

static void expiries(void **state)
{
        static const struct {
                const char *text;
                uint64_t at;
        } good[] = {
                {"30d",                   NOW + 30 * 86400},
                { "1h",                   NOW + 3600      },
                { "2w",                   NOW + 14 * 86400},
                { "2023-11-14",           1700006399      },
                { "2023-11-15T00:00:00Z", 1700006400      },
        };
        static const char *const bad[] = { "",           "30",         "d",
                                           "0d",         "30m",        "-1d",
                                           "1d ",        "1.5d",       "99999999w",
                                           "2023-11-13", "2023-02-30", "2023-11-14T22:13:20Z",
                                           "9999999999d" };
        uint64_t at;

        (void) state;
        for (size_t i = 0; i < ELEMENTSOF(good); i++) {
                assert_int_equal(expiry_parse(good[i].text, NOW, &at, NULL), 0);
                assert_int_equal(at, good[i].at);
        }
        for (size_t i = 0; i < ELEMENTSOF(bad); i++) {
                _cleanup_free_ char *err = NULL;
                assert_int_equal(expiry_parse(bad[i], NOW, &at, &err), -EINVAL);
                assert_non_null(strstr(err, "--expires"));
        }
}

static void spans(void **state)
{
        static const char *const bad[] = { "", "10", "d", "10m", "-1d", "2027-01-31", "5300w" };
        uint64_t span;

        (void) state;
        assert_int_equal(expiry_parse_span("within", "10d", &span, NULL), 0);
        assert_int_equal(span, 10 * 86400);
        assert_int_equal(expiry_parse_span("within", "0h", &span, NULL), 0);
        assert_int_equal(span, 0);
        for (size_t i = 0; i < ELEMENTSOF(bad); i++) {
                _cleanup_free_ char *err = NULL;
                assert_int_equal(expiry_parse_span("within", bad[i], &span, &err), -EINVAL);
                assert_non_null(strstr(err, "--within"));
        }
}

static void sizes(void **state)
{
        char text[BYTES_TEXT_SIZE];

        (void) state;
        assert_string_equal(bytes_format(0, text), "0 B");
        assert_string_equal(bytes_format(999, text), "999 B");
        assert_string_equal(bytes_format(1000, text), "1.0 kB");
        assert_string_equal(bytes_format(90729236, text), "90.7 MB");
        assert_string_equal(bytes_format(999960000, text), "1.0 GB");
        assert_string_equal(bytes_format(UINT64_MAX, text), "18.4 EB");
}

static void bars(void **state)
{
        _cleanup_free_ char *bar = NULL, *narrow = NULL, *empty = NULL, *over = NULL;

        (void) state;
        assert_int_equal(progress_format_bar("up", 50, 100, 4000000, 60, &bar), 0);
        assert_string_equal(bar, "up  50% [##############               ] 50 B/100 B, 4 s left");
        assert_int_equal(strlen(bar), 60);
        assert_int_equal(progress_format_bar("up", 0, 0, 0, 10, &empty), 0);
        assert_non_null(strstr(empty, "100%"));
        assert_int_equal(progress_format_bar("up", 7, 5, 0, 10, &over), 0);
        assert_non_null(strstr(over, "100%"));
        assert_int_equal(progress_format_bar("uploading artifact", 1, 100, 0, 1, &narrow), 0);
        assert_string_equal(narrow, "uploading artifact   1% [        ] 1 B/100 B");
}

static int parse(char *const *argv, Arguments *ret, char **reterr)
{
        char *copy[16] = {};
        int argc = 0;

        for (; argv[argc]; argc++)
                copy[argc] = argv[argc];
        return arguments_parse(argc, copy, OPT(JSON) | OPT(HELP) | OPT(OUTPUT) | OPT(ID),
                               OPT(KEY) | OPT(APP), "PATH", 1, 1, ret, reterr);
}

#define ARGV(...) ((char *const[]){ (char *) "verb", __VA_ARGS__, NULL })
#define T(s)      ((char *) (s))

static void arguments(void **state)
{
        Arguments a;

        (void) state;
        assert_int_equal(parse(ARGV(T("--key"), T("a"), T("path"), T("--app=web"), T("--key"),
                                    T("b"), T("-o"), T("out"), T("--json")),
                               &a, NULL),
                         0);
        assert_int_equal(a.keys.n_items, 2);
        assert_string_equal(a.keys.items[1], "b");
        assert_string_equal(a.app, "web");
        assert_string_equal(a.output, "out");
        assert_string_equal(a.operands.items[0], "path");
        assert_true(a.json);
        assert_null(a.id);
        arguments_done(&a);
        assert_int_equal(parse(ARGV(T("--help")), &a, NULL), 0);
        assert_true(a.help);
        arguments_done(&a);
        assert_int_equal(
                parse(ARGV(T("--key"), T("k"), T("--app"), T("a"), T("--"), T("--json")), &a, NULL),
                0);
        assert_string_equal(a.operands.items[0], "--json");
        arguments_done(&a);
}

static void arguments_bad(void **state)
{
        static const struct {
                char *argv[8];
                const char *message;
        } cases[] = {
                {{ T("verb"), T("p"), T("--app"), T("a") },                              "verb needs --key KEY"      },
                { { T("verb"), T("--key"), T("k"), T("--app"), T("a") },                 "verb needs PATH"           },
                { { T("verb"), T("--key"), T("k"), T("--app"), T("a"), T("p"), T("q") },
                 "what to do with 'q'"                                                                               },
                { { T("verb"), T("--key"), T("k"), T("--app"), T("../a"), T("p") },
                 "--app '../a' is not a name"                                                                        },
                { { T("verb"), T("--app"), T("a"), T("--app"), T("b") },                 "--app is given twice"      },
                { { T("verb"), T("--bogus"), T("x") },                                   "verb doesn't take --bogus" },
                { { T("verb"), T("-x") },                                                "verb doesn't take -x"      },
                { { T("verb"), T("--store"), T("x") },                                   "verb doesn't take --store" },
                { { T("verb"), T("--json=1") },                                          "verb doesn't take --json=1"},
                { { T("verb"), T("p"), T("--key") },                                     "--key needs a value"       },
                { { T("verb"), T("-o"), T("") },                                         "--output is empty"         },
        };

        (void) state;
        for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
                _cleanup_free_ char *err = NULL;
                Arguments a;
                assert_int_equal(parse(cases[i].argv, &a, &err), -EINVAL);
                assert_non_null(strstr(err, cases[i].message));
        }
}

static void numbers(void **state)
{
        uint64_t n;

        (void) state;
        assert_int_equal(arguments_number("number", "20", 100, &n, NULL), 0);
        assert_int_equal(n, 20);
        static const char *const bad[] = { "",   "0",  "101", "-1",
                                           "+1", " 1", "1x",  "99999999999999999999" };
        for (size_t i = 0; i < ELEMENTSOF(bad); i++)
                assert_int_equal(arguments_number("number", bad[i], 100, &n, NULL), -EINVAL);
}

static void json_text(void **state)
{
        static const char *const cases[][2] = {
                {"plain",               "plain"           },
                { "\xc3\xbc",           "\xc3\xbc"        },
                { "a\xff"
                  "b", "a?b"             },
                { "\xc0\x80",           "??"              },
                { "\xed\xa0\x80",       "???"             },
                { "\xf0\x9f\x9a\x80",   "\xf0\x9f\x9a\x80"},
                { "\xe2\x82",           "??"              },
                { "\xf4\x90\x80\x80",   "????"            },
        };

        (void) state;
        for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
                cJSON *o = cJSON_CreateObject();
                assert_int_equal(result_add_string(o, "t", cases[i][0]), 0);
                assert_string_equal(cJSON_GetStringValue(cJSON_GetObjectItem(o, "t")), cases[i][1]);
                cJSON_Delete(o);
        }
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(expiries),  cmocka_unit_test(spans),
                cmocka_unit_test(sizes),     cmocka_unit_test(bars),
                cmocka_unit_test(arguments), cmocka_unit_test(arguments_bad),
                cmocka_unit_test(numbers),   cmocka_unit_test(json_text),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
