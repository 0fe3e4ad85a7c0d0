/* SPDX-License-Identifier: Apache-2.0 */
#include "time-text.h"

#include <errno.h>

#include "test.h"

static void times(void **state)
{
        static const struct {
                const char *text;
                uint64_t sec;
        } good[] = {
                {"1970-01-01T00:00:00Z",  0           },
                { "2000-02-29T23:59:59Z", 951868799   },
                { "2026-11-22T14:00:00Z", 1795356000  },
                { "9999-12-31T23:59:59Z", 253402300799},
        };
        static const char *const bad[] = {
                "",
                "2026-11-22",
                "2026-11-22T14:00:00",
                "2026-11-22t14:00:00z",
                "2026-11-22T14:00:00+00:00",
                "2026-11-22 14:00:00Z",
                "2026-02-29T00:00:00Z",
                "2026-13-01T00:00:00Z",
                "2026-00-01T00:00:00Z",
                "2026-01-00T00:00:00Z",
                "2026-11-22T24:00:00Z",
                "2026-11-22T14:60:00Z",
                "2016-12-31T23:59:60Z",
                "1969-12-31T23:59:59Z",
                "0000-01-01T00:00:00Z",
                "2026-11-22T14:00:00Zx",
                "2026-11- 2T14:00:00Z",
                "2026-+1-22T14:00:00Z",
        };
        char buffer[TIME_TEXT_SIZE];
        uint64_t sec;

        (void) state;
        for (size_t i = 0; i < ELEMENTSOF(good); i++) {
                assert_int_equal(time_parse_utc(good[i].text, &sec), 0);
                assert_int_equal(sec, good[i].sec);
                assert_string_equal(time_format_utc(sec, buffer), good[i].text);
        }
        for (size_t i = 0; i < ELEMENTSOF(bad); i++)
                if (time_parse_utc(bad[i], &sec) != -EBADMSG)
                        fail_msg("%s was taken", bad[i]);
        assert_string_equal(time_format_utc(UINT64_MAX, buffer), "9999-12-31T23:59:59Z");
}

static void durations(void **state)
{
        static const struct {
                const char *text, *shortest;
                uint64_t usec;
        } good[] = {
                {"0s",               "0s",              0               },
                { "0h",              "0s",              0               },
                { "1500ms",          "1500ms",          1500000         },
                { "1000ms",          "1s",              1000000         },
                { "10s",             "10s",             10000000        },
                { "120s",            "2min",            120000000       },
                { "60min",           "1h",              3600000000      },
                { "90min",           "90min",           5400000000      },
                { "9007199254740ms", "9007199254740ms", 9007199254740000},
        };
        static const char *const bad[] = {
                "",
                "s",
                "10",
                "-1s",
                "+1s",
                "1.5s",
                "010s",
                "1 s",
                " 1s",
                "1S",
                "1sec",
                "1d",
                "1us",
                "9007199254741ms",
                "10000000000000000s",
                "99999999999999999999s",
                "2501999793h",
        };
        char buffer[DURATION_TEXT_SIZE];
        uint64_t usec;

        (void) state;
        for (size_t i = 0; i < ELEMENTSOF(good); i++) {
                assert_int_equal(duration_parse(good[i].text, &usec), 0);
                assert_int_equal(usec, good[i].usec);
                assert_string_equal(duration_format(usec, buffer), good[i].shortest);
        }
        for (size_t i = 0; i < ELEMENTSOF(bad); i++)
                if (duration_parse(bad[i], &usec) != -EBADMSG)
                        fail_msg("%s was taken", bad[i]);
        assert_string_equal(duration_format(UINT64_MAX, buffer), "18446744073709551615us");
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(times),
                cmocka_unit_test(durations),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
