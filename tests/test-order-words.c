/* SPDX-License-Identifier: Apache-2.0 */
#include "test.h"

#include "order-words.h"
#include "remote-order.h"
#include "utf8.h"

static State *make_state(void)
{
        State *s;

        assert_return_code(state_new("web", "prod", &s), 0);
        assert_return_code(state_set(&s->current, "r2"), 0);
        return s;
}

static void check(char *words, const char *expected)
{
        assert_non_null(words);
        assert_string_equal(words, expected);
        free(words);
}

static void how_it_ended(void **state)
{
        _cleanup_(state_freep) State *s = make_state();
        Event e = {
                .action = ACTION_DEPLOY,
                .deployment = 43,
                .release = (char *) "r3",
                .from = (char *) "r2",
                .result = RESULT_REVERTED,
                .reason = (char *) "post hook bin/warm ended with exit status 3",
                .took_msec = 5312,
                .took.msec = {[PHASE_FETCHING] = 1211,
                              [PHASE_SWITCHING] = 9,
                              [PHASE_BAKING] = 4000}
        };

        (void) state;
        assert_return_code(hook_entry_set(&s->hooks.pre, "r3", "bin/migrate", NULL, "well"), 0);
        assert_return_code(hook_entry_set(&s->hooks.post, "r3", "bin/warm",
                                          "ended with exit status 3", "one\ntwo \033[31m"),
                           0);
        assert_return_code(hook_entry_set(&s->hooks.revert, "r1", "bin/back", "of long ago", NULL),
                           0);
        check(order_words_ended(s, &e, "r2", "it is tried again"),
              "web: deployment 43 (release r3) was taken back: post hook bin/warm ended with exit "
              "status 3\n"
              "live: r2; before: r2\n"
              "next: it is tried again\n"
              "took 5.3s: fetching 1.2s, baking 4.0s\n"
              "post hook bin/warm: ended with exit status 3\n"
              "    | one\n"
              "    | two ?[31m\n");
        e.result = RESULT_DONE;
        e.reason = NULL;
        check(order_words_ended(s, &e, NULL, NULL), "web: deployment 43 (release r3) is done\n"
                                                    "live: r2; before: nothing\n"
                                                    "took 5.3s: fetching 1.2s, baking 4.0s\n");
        e = (Event){ .action = ACTION_ROLLBACK,
                     .release = (char *) "r2",
                     .result = RESULT_FAILED,
                     .reason = (char *) "web.service: failed" };
        assert_return_code(state_set(&s->pinned, "r2"), 0);
        s->pinned_deployment = 43;
        s->down = true;
        check(order_words_ended(s, &e, "r3", NULL),
              "web: the rollback to release r2 failed: web.service: failed\n"
              "live: r2, but its units did not come up; before: r3\n"
              "pinned: the channel's deployment 43 is not installed over it; the next one is, or "
              "with the order resume\n"
              "took 0.0s\n");
}

static void where_it_stands(void **state)
{
        _cleanup_(state_freep) State *s = make_state();

        (void) state;
        assert_return_code(state_begin(s, ACTION_DEPLOY, "r3", "r2", 43, 43, "agent"), 0);
        state_move(s, PHASE_FETCHING);
        check(order_words_under_way(s), "web: fetching, on the way to release r3; live is r2\n");
        check(order_words_outcome(s, "held", NULL),
              "web: held\nlive: r2; on its way: r3 (fetching)\n");
        state_move(s, PHASE_SWITCHING);
        state_move(s, PHASE_RESTARTING);
        check(order_words_under_way(s),
              "web: restarting, switched to release r3, before it was r2\n");
        state_move(s, PHASE_BAKING);
        state_move(s, PHASE_CONFIRMING);
        check(order_words_under_way(s), "web: release r3 runs and waits to be confirmed (order "
                                        "confirm), before it was r2\n");
        check(order_words_outcome(s, "release r3 is confirmed", NULL),
              "web: release r3 is confirmed\n"
              "live: r3, which is not settled yet (confirming); before: r2\n");
        assert_return_code(state_set(&s->pending.reason, "nobody confirmed it"), 0);
        state_move(s, PHASE_REVERTING);
        check(order_words_under_way(s),
              "web: release r3 is taken back, before it was r2: nobody confirmed it\n");
        check(order_words_outcome(s, "nothing to confirm", NULL),
              "web: nothing to confirm\nlive: r2, while release r3 is being taken back\n");
}

static void what_comes_next(void **state)
{
        _cleanup_(state_freep) State *s = make_state();

        (void) state;
        check(order_words_outcome(s, "held", "order resume"),
              "web: held\nlive: r2\nnext: order resume\n");
}

/* Two bytes a letter: a cut in the middle of one would show. */
static void long_words_are_cut(void **state)
{
        (void) state;
        for (size_t odd = 0; odd < 2; odd++) {
                char text[2 * ORDER_WORDS_MAX + 2] = "x";
                _cleanup_free_ char *words = NULL;

                for (size_t i = odd; i < 2 * ORDER_WORDS_MAX; i += 2)
                        memcpy(text + i, "\xc3\xa4", 2);
                text[2 * ORDER_WORDS_MAX] = '\0';
                words = order_words("%s", text);
                assert_non_null(words);
                assert_in_range(strlen(words), ORDER_WORDS_MAX - 1, ORDER_WORDS_MAX);
                assert_string_equal(words + strlen(words) - 6, "\xc3\xa4...\n");
                memcpy(text, words, strlen(words) + 1);
                text[strlen(text) - 1] = '\0';
                words[strlen(words) - 1] = '\0';
                utf8_clean(words);
                assert_string_equal(words, text);
        }
        check(order_words("a\tb\r%s", "\xff\033"), "a?b???\n");
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(how_it_ended),
                cmocka_unit_test(where_it_stands),
                cmocka_unit_test(what_comes_next),
                cmocka_unit_test(long_words_are_cut),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
