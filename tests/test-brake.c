/* SPDX-License-Identifier: Apache-2.0 */
#include "test.h"

#include "brake.h"

static void what_it_says(void **state)
{
        static const struct {
                const char *json, *text;
                bool halted;
        } cases[] = {
                {"{\"halted\":false}\n",                                                 "",         false},
                { "{\"halted\":true}",                                                   "",         true },
                { "{\"halted\":true,\"by\":\"ann\"}",                                    "by ann",   true },
                { "{\"halted\":true,\"reason\":\"the fair\"}",                           "the fair", true },
                { "{\"halted\":true,\"by\":\"ann\",\"reason\":\"the fair\",\"new\":[]}",
                 "by ann: the fair",                                                                 true },
        };

        (void) state;
        for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
                _cleanup_free_ char *text = NULL;
                bool halted = !cases[i].halted;

                assert_int_equal(
                        brake_parse(cases[i].json, strlen(cases[i].json), &halted, &text, NULL), 0);
                assert_int_equal(halted, cases[i].halted);
                assert_string_equal(text, cases[i].text);
        }
}

/* Then it is unknown, and neither on nor off. */
static void what_it_can_not_say(void **state)
{
        static const char *const bad[] = { "",
                                           "{}",
                                           "true",
                                           "{\"halted\":1}",
                                           "{\"halted\":true,\"halted\":false}",
                                           "{\"halted\":true,\"by\":7}",
                                           "{\"halted\":true,\"reason\":\"a\\u0007\"}" };

        (void) state;
        for (size_t i = 0; i < ELEMENTSOF(bad); i++) {
                _cleanup_free_ char *err = NULL;
                char *text = NULL;
                bool halted;

                assert_int_equal(brake_parse(bad[i], strlen(bad[i]), &halted, &text, &err),
                                 -EBADMSG);
                assert_non_null(err);
                assert_null(text);
        }
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(what_it_says),
                cmocka_unit_test(what_it_can_not_say),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
