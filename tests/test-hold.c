/* SPDX-License-Identifier: Apache-2.0 */
#include "test.h"

#include "hold.h"
#include "json-read.h"

#define NOW UINT64_C(1795359600) /* 2026-11-22T15:00:00Z */

static void it_ends_by_the_clock(void **state)
{
        Hold h = {};

        (void) state;
        assert_false(hold_is_on(&h, NOW));
        assert_return_code(hold_set(&h, "root", NULL, NOW, 0), 0);
        assert_true(hold_is_on(&h, NOW + 1000000000));
        assert_return_code(hold_set(&h, "root", NULL, NOW, NOW + 10), 0);
        assert_true(hold_is_on(&h, NOW + 9));
        assert_false(hold_is_on(&h, NOW + 10));
        hold_done(&h);
        assert_null(h.by);
}

static void until_is_a_time_or_a_duration(void **state)
{
        static const struct {
                const char *text;
                uint64_t sec; /* 0: refused */
        } cases[] = {
                {"2026-11-22T15:00:01Z",   NOW + 1   },
                { "2h",                    NOW + 7200},
                { "90s",                   NOW + 90  },
                { "1min",                  NOW + 60  },
                { "2026-11-22T15:00:00Z",  0         },
                { "2020-01-01T00:00:00Z",  0         },
                { "0s",                    0         },
                { "100ms",                 0         },
                { "2",                     0         },
                { "",                      0         },
                { "tomorrow",              0         },
                { "-2h",                   0         },
                { "99999999999999999999h", 0         },
        };

        (void) state;
        for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
                _cleanup_free_ char *err = NULL;
                uint64_t sec = 0;
                int r = hold_parse_until(cases[i].text, NOW, &sec, &err);

                assert_int_equal(r, cases[i].sec > 0 ? 0 : -EINVAL);
                assert_int_equal(sec, cases[i].sec);
                assert_true((r < 0) == (err != NULL));
        }
}

/* What comes from an admin's command line must not be what makes a state file unreadable. */
static void it_comes_back_from_its_text(void **state)
{
        static const char *const reasons[] = { NULL, "", "the fair",
                                               "\x1b[2J \xc2\x9b \xff\xfe \"quoted\"\n",
                                               "\xc3\xa4" };
        char *longest;

        (void) state;
        assert_true(asprintf(&longest, "%0*d", HOLD_TEXT_SIZE_MAX + 100, 0) > 0);
        for (size_t i = 0; i <= ELEMENTSOF(reasons); i++) {
                const char *reason = i < ELEMENTSOF(reasons) ? reasons[i] : longest;
                _cleanup_json_ cJSON *o = NULL, *parsed = NULL;
                _cleanup_free_ char *text = NULL, *words = NULL;
                Hold h = {}, again = {};

                assert_return_code(hold_set(&h, "root", reason, NOW, i % 2 ? 0 : NOW + 60), 0);
                assert_return_code(hold_format(&h, &o), 0);
                text = cJSON_Print(o);
                assert_return_code(json_parse(text, strlen(text), &parsed, NULL), 0);
                assert_return_code(hold_parse(parsed, "held", &again, NULL), 0);
                assert_true(streq_ptr(h.reason, again.reason) || (!h.reason && !again.reason));
                assert_string_equal(again.by, "root");
                assert_int_equal(again.since_sec, NOW);
                assert_int_equal(again.until_sec, h.until_sec);
                words = hold_to_text(&again);
                assert_non_null(strstr(words, i % 2 ? "until it is resumed"
                                                    : "until 2026-11-22T15:01:00Z"));
                hold_done(&h);
                hold_done(&again);
        }
        free(longest);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(it_ends_by_the_clock),
                cmocka_unit_test(until_is_a_time_or_a_duration),
                cmocka_unit_test(it_comes_back_from_its_text),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
