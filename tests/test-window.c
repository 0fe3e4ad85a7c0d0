/* SPDX-License-Identifier: Apache-2.0 */
#include "window.h"

#include <errno.h>

#include "test.h"
#include "time-text.h"

static void forms(void **state)
{
        static const struct {
                const char *text, *shortest;
        } good[] = {
                {"Mon-Thu 09:00-16:00",                      "Mon-Thu 09:00-16:00"            },
                { "Sat,Sun 22:00-04:00",                     "Sat,Sun 22:00-04:00"            },
                { "Sun,Sat 22:00-04:00",                     "Sat,Sun 22:00-04:00"            },
                { "daily 00:00-24:00",                       "daily 00:00-24:00"              },
                { "daily 23:59-00:00",                       "daily 23:59-00:00"              },
                { "Mon-Sun 00:00-00:01",                     "daily 00:00-00:01"              },
                { "Thu-Wed 00:00-00:01",                     "daily 00:00-00:01"              },
                { "Fri-Mon 12:34-12:35",                     "Mon,Fri-Sun 12:34-12:35"        },
                { "Wed-Wed 01:00-02:00",                     "Wed 01:00-02:00"                },
                { "Mon,Tue,Wed,Fri,Sat 01:00-02:00",         "Mon-Wed,Fri,Sat 01:00-02:00"    },
                { "Mon-Tue,Thu-Fri,Sun 01:00-02:00",         "Mon,Tue,Thu,Fri,Sun 01:00-02:00"},
                { "Mon,Tue,Wed,Thu,Fri,Sat,Sun 01:00-02:00", "daily 01:00-02:00"              },
        };
        static const char *const bad[] = {
                "",
                " ",
                "Mon",
                "Mon ",
                "09:00-16:00",
                " Mon 09:00-16:00",
                "Mon  09:00-16:00",
                "Mon\t09:00-16:00",
                "Mon 09:00 - 16:00",
                "Mon 09:00-16:00 ",
                "Mon 09:00-16:00,18:00-19:00",
                "Mon 09:00-16:00Z",
                "mon 09:00-16:00",
                "MON 09:00-16:00",
                "Mo 09:00-16:00",
                "Monday 09:00-16:00",
                "Mon, Tue 09:00-16:00",
                "Mon,,Tue 09:00-16:00",
                ",Mon 09:00-16:00",
                "Mon, 09:00-16:00",
                "Mon- 09:00-16:00",
                "-Mon 09:00-16:00",
                "Mon-Tue-Wed 09:00-16:00",
                "Mon..Thu 09:00-16:00",
                "Mon,Mon 09:00-16:00",
                "Mon-Wed,Tue 09:00-16:00",
                "Fri-Mon,Sun 09:00-16:00",
                "daily,Mon 09:00-16:00",
                "Mon,daily 09:00-16:00",
                "Daily 09:00-16:00",
                "daily",
                "Mon 9:00-16:00",
                "Mon 09:0-16:00",
                "Mon 0900-1600",
                "Mon 09.00-16.00",
                "Mon +9:00-16:00",
                "Mon 09:60-16:00",
                "Mon 24:00-01:00",
                "Mon 09:00-24:01",
                "Mon 09:00-25:00",
                "Mon 09:00-99:99",
                "Mon 09:00",
                "Mon 09:00-",
                "Mon 09:00-1",
                "Mon 09:00-16",
                "Mon 09:00-16:",
                "Mon 09:00-16:0",
                "Mon 09:00-09:00",
                "Mon 00:00-00:00",
                "Mon 09:00:00-16:00:00",
                "Mon,Tue,Wed,Thu,Fri,Sat,Sun 09:00-16:00                          ",
        };
        char buffer[WINDOW_SPAN_TEXT_SIZE];

        (void) state;
        for (size_t i = 0; i < ELEMENTSOF(good); i++) {
                Window w = {};

                assert_int_equal(window_add(&w, good[i].text, NULL), 0);
                assert_string_equal(window_span_format(&w.spans[0], buffer), good[i].shortest);
        }
        for (size_t i = 0; i < ELEMENTSOF(bad); i++) {
                _cleanup_free_ char *err = NULL;
                Window w = {};

                if (window_add(&w, bad[i], &err) != -EBADMSG || w.n_spans != 0)
                        fail_msg("%s was taken", bad[i]);
                assert_non_null(strstr(err, "is no window like"));
        }
}

static void no_more_than_so_many(void **state)
{
        _cleanup_free_ char *err = NULL;
        Window w = {};

        (void) state;
        for (size_t i = 0; i < WINDOW_SPANS_MAX; i++)
                assert_int_equal(window_add(&w, "Mon 09:00-16:00", NULL), 0);
        assert_int_equal(window_add(&w, "Mon 09:00-16:00", &err), -EBADMSG);
        assert_string_equal(err, "more than 16 spans");
        assert_int_equal(w.n_spans, WINDOW_SPANS_MAX);
}

static Window made(const char *const *texts)
{
        Window w = {};

        for (size_t i = 0; texts[i]; i++)
                assert_int_equal(window_add(&w, texts[i], NULL), 0);
        return w;
}

static uint64_t at(const char *text)
{
        uint64_t sec;

        assert_int_equal(time_parse_utc(text, &sec), 0);
        return sec;
}

/* Whether it is open then, and when that changes. 2026-11-22 is a Sunday. */
static void open_and_closed(void **state)
{
        static const struct {
                const char *window[4];
                const char *now;
                bool open;
                const char *changes; /* NULL: never */
        } cases[] = {
                {{ "Mon-Thu 09:00-16:00" },
                 "2026-11-23T08:59:59Z",                                                                   false,
                 "2026-11-23T09:00:00Z"                                                                                                 },
                { { "Mon-Thu 09:00-16:00" },                                       "2026-11-23T09:00:00Z", true,  "2026-11-23T16:00:00Z"},
                { { "Mon-Thu 09:00-16:00" },                                       "2026-11-23T15:59:59Z", true,  "2026-11-23T16:00:00Z"},
                { { "Mon-Thu 09:00-16:00" },
                 "2026-11-23T16:00:00Z",                                                                   false,
                 "2026-11-24T09:00:00Z"                                                                                                 },
                { { "Mon-Thu 09:00-16:00" },
                 "2026-11-26T16:00:00Z",                                                                   false,
                 "2026-11-30T09:00:00Z"                                                                                                 },
                { { "Mon-Thu 09:00-16:00" },
                 "2026-11-27T12:00:00Z",                                                                   false,
                 "2026-11-30T09:00:00Z"                                                                                                 },
 /* Over midnight, and over the end of the week. */
                { { "Sat,Sun 22:00-04:00" },
                 "2026-11-21T03:59:59Z",                                                                   false,
                 "2026-11-21T22:00:00Z"                                                                                                 },
                { { "Sat,Sun 22:00-04:00" },                                       "2026-11-22T03:59:59Z", true,  "2026-11-22T04:00:00Z"},
                { { "Sat,Sun 22:00-04:00" },                                       "2026-11-22T23:59:59Z", true,  "2026-11-23T04:00:00Z"},
                { { "Sat,Sun 22:00-04:00" },                                       "2026-11-23T00:00:00Z", true,  "2026-11-23T04:00:00Z"},
                { { "Sat,Sun 22:00-04:00" },
                 "2026-11-23T04:00:00Z",                                                                   false,
                 "2026-11-28T22:00:00Z"                                                                                                 },
 /* Only Monday's night, not Monday's morning. */
                { { "Mon 22:00-04:00" },                                           "2026-11-23T03:00:00Z", false, "2026-11-23T22:00:00Z"},
                { { "Mon 22:00-04:00" },                                           "2026-11-24T03:00:00Z", true,  "2026-11-24T04:00:00Z"},
 /* Midnight as an end, in both words. */
                { { "Sun 20:00-24:00" },                                           "2026-11-22T23:59:59Z", true,  "2026-11-23T00:00:00Z"},
                { { "Sun 20:00-00:00" },                                           "2026-11-22T23:59:59Z", true,  "2026-11-23T00:00:00Z"},
                { { "Sun 20:00-24:00" },                                           "2026-11-23T00:00:00Z", false, "2026-11-29T20:00:00Z"},
                { { "Mon 00:00-00:01" },                                           "2026-11-22T23:59:59Z", false, "2026-11-23T00:00:00Z"},
                { { "Mon 00:00-00:01" },                                           "2026-11-23T00:01:00Z", false, "2026-11-30T00:00:00Z"},
 /* Spans that touch or overlap are one. */
                { { "Mon-Wed 00:00-24:00" },                                       "2026-11-23T00:00:00Z", true,  "2026-11-26T00:00:00Z"},
                { { "Mon 09:00-12:00", "Mon 12:00-14:00" },
                 "2026-11-23T10:00:00Z",                                                                   true,
                 "2026-11-23T14:00:00Z"                                                                                                 },
                { { "Mon 09:00-12:00", "Mon 11:00-14:00" },
                 "2026-11-23T11:30:00Z",                                                                   true,
                 "2026-11-23T14:00:00Z"                                                                                                 },
                { { "Mon 11:00-14:00", "Mon 09:00-12:00" },
                 "2026-11-23T08:00:00Z",                                                                   false,
                 "2026-11-23T09:00:00Z"                                                                                                 },
                { { "Fri 09:00-12:00", "Sun 01:00-02:00" },
                 "2026-11-27T12:00:00Z",                                                                   false,
                 "2026-11-29T01:00:00Z"                                                                                                 },
                { { "Sun 22:00-06:00", "Mon-Sat 06:00-05:59", "Sun 06:00-05:00" },
                 "2026-11-23T04:59:00Z",                                                                   true,
                 "2026-11-24T05:59:00Z"                                                                                                 },
                { { "daily 00:00-24:00" },                                         "2026-11-23T04:59:00Z", true,  NULL                  },
                { { "daily 12:00-00:00", "daily 00:00-12:00" },
                 "2026-11-22T23:59:59Z",                                                                   true,
                 NULL                                                                                                                   },
                { { NULL },                                                        "2026-11-23T04:59:00Z", true,  NULL                  },
 /* Where others put their clocks forward or back, years end, and it all began. */
                { { "Sun 01:30-02:30" },                                           "2026-03-29T02:00:00Z", true,  "2026-03-29T02:30:00Z"},
                { { "Sun 01:30-02:30" },                                           "2026-10-25T01:00:00Z", false, "2026-10-25T01:30:00Z"},
                { { "Sun 01:30-02:30" },                                           "2026-10-25T02:30:00Z", false, "2026-11-01T01:30:00Z"},
                { { "Tue 12:00-13:00" },                                           "2024-02-28T00:00:00Z", false, "2024-03-05T12:00:00Z"},
                { { "Thu 22:00-04:00" },                                           "2026-12-31T23:59:59Z", true,  "2027-01-01T04:00:00Z"},
                { { "Thu 00:00-01:00" },                                           "1970-01-01T00:00:00Z", true,  "1970-01-01T01:00:00Z"},
                { { "Wed 23:00-01:00" },                                           "1970-01-01T00:00:00Z", true,  "1970-01-01T01:00:00Z"},
        };

        (void) state;
        for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
                Window w = made(cases[i].window);
                uint64_t now_sec = at(cases[i].now);
                uint64_t changes_sec = cases[i].changes ? at(cases[i].changes) : UINT64_MAX;
                bool open = window_is_open(&w, now_sec);
                uint64_t opens_sec = window_opens_sec(&w, now_sec);
                uint64_t closes_sec = window_closes_sec(&w, now_sec);

                if (open != cases[i].open || opens_sec != (open ? now_sec : changes_sec) ||
                    closes_sec != (open ? changes_sec : now_sec))
                        fail_msg("case %zu: %d %llu %llu", i, open, (unsigned long long) opens_sec,
                                 (unsigned long long) closes_sec);
        }
}

/* A second look, minute for minute over two weeks. */
static void changes_come_when_they_were_told(void **state)
{
        static const char *const texts[] = { "Mon-Thu 09:00-16:00", "Sat,Sun 22:00-04:00",
                                             "Sun 03:00-03:01", NULL };
        Window w = made(texts);
        uint64_t begin_sec = at("2026-11-22T00:00:00Z"), changes_sec = 0;
        bool was_open = false;
        unsigned n_changes = 0;

        (void) state;
        for (uint64_t now_sec = begin_sec; now_sec < begin_sec + 14 * 86400; now_sec += 60) {
                bool open = window_is_open(&w, now_sec);

                if (now_sec > begin_sec && open != was_open) {
                        assert_int_equal(now_sec, changes_sec);
                        n_changes++;
                }
                was_open = open;
                changes_sec = open ? window_closes_sec(&w, now_sec) : window_opens_sec(&w, now_sec);
                assert_true(changes_sec > now_sec);
        }
        assert_int_equal(n_changes, 24);
}

static void words(void **state)
{
        static const char *const two[] = { "Thu-Mon 09:00-16:00", "Sat,Sun 22:00-04:00", NULL };
        static const char *const all[] = { "daily 00:00-24:00", NULL };
        static const struct {
                const char *const *window;
                const char *now, *text;
        } cases[] = {
                {two,  "2026-11-22T16:30:00Z",
                 "Mon,Thu-Sun 09:00-16:00 and Sat,Sun 22:00-04:00 (UTC), which opens at "
                  "2026-11-22T22:00:00Z"                                                 },
                { two, "2026-11-22T22:00:00Z",
                 "Mon,Thu-Sun 09:00-16:00 and Sat,Sun 22:00-04:00 (UTC), which is open until "
                  "2026-11-23T04:00:00Z"                                                 },
                { all, "2026-11-22T22:00:00Z", "daily 00:00-24:00 (UTC), which is always"},
        };

        (void) state;
        for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
                Window w = made(cases[i].window);
                _cleanup_free_ char *text = window_to_text(&w, at(cases[i].now));

                assert_string_equal(text, cases[i].text);
        }
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(forms),
                cmocka_unit_test(no_more_than_so_many),
                cmocka_unit_test(open_and_closed),
                cmocka_unit_test(changes_come_when_they_were_told),
                cmocka_unit_test(words),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
