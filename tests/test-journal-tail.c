/* SPDX-License-Identifier: Apache-2.0 */
#include "test.h"

#include "journal-tail.h"

static void prepends(void **state)
{
        TailText t;

        (void) state;
        tail_text_init(&t);
        assert_string_equal(t.text + t.start, "");
        assert_true(tail_text_prepend(&t, "last", 4));
        assert_true(tail_text_prepend(&t, "", 0));
        assert_true(tail_text_prepend(&t, "first", 5));
        assert_string_equal(t.text + t.start, "first\n\nlast");
        assert_int_equal(t.n_lines, 3);
}

static void cleans(void **state)
{
        TailText t;

        (void) state;
        tail_text_init(&t);
        assert_true(tail_text_prepend(&t, "a\0b\nc\x1b[1m\xff", 10));
        assert_string_equal(t.text + t.start, "a b c [1m?");
}

static void keeps_the_last_lines(void **state)
{
        TailText t;

        (void) state;
        tail_text_init(&t);
        for (size_t i = 0; i < JOURNAL_TAIL_LINES_MAX; i++)
                assert_true(tail_text_prepend(&t, "x", 1));
        assert_false(tail_text_prepend(&t, "x", 1));
        assert_int_equal(t.n_lines, JOURNAL_TAIL_LINES_MAX);
        assert_int_equal(strlen(t.text + t.start), 2 * JOURNAL_TAIL_LINES_MAX - 1);
}

/* What is cut off is the beginning, and a character that the cut divides is no longer one. */
static void keeps_the_end_of_a_long_line(void **state)
{
        char line[JOURNAL_TAIL_SIZE_MAX + 2];
        TailText t;

        (void) state;
        memset(line, 'x', sizeof(line));
        line[sizeof(line) - 1] = 'z';
        tail_text_init(&t);
        assert_true(tail_text_prepend(&t, line, sizeof(line)));
        assert_int_equal(strlen(t.text + t.start), JOURNAL_TAIL_SIZE_MAX - 1);
        assert_int_equal(t.text[JOURNAL_TAIL_SIZE_MAX - 2], 'z');
        assert_false(tail_text_prepend(&t, "y", 1));

        tail_text_init(&t);
        assert_true(tail_text_prepend(&t, line, JOURNAL_TAIL_SIZE_MAX - 4));
        assert_true(tail_text_prepend(&t, "\xc3\xa4\xc3\xb6", 4));
        assert_memory_equal(t.text + t.start, "\xc3\xb6\nxx", 5);
        assert_false(tail_text_prepend(&t, "y", 1));

        tail_text_init(&t);
        assert_true(tail_text_prepend(&t, line, JOURNAL_TAIL_SIZE_MAX - 3));
        assert_true(tail_text_prepend(&t, "\xc3\xa4", 2));
        assert_memory_equal(t.text + t.start, "?\nxx", 4);
}

typedef struct Bench {
        sd_event *event;
        JournalTail *tail;
        char *lines;
        int n_done;
} Bench;

static void on_done(const char *lines, void *userdata)
{
        Bench *b = userdata;

        b->n_done++;
        b->lines = lines ? strdup(lines) : NULL;
        b->tail = journal_tail_free(b->tail);
}

/* With or without a journal: nothing is found, soon, and once. */
static void finds_nothing(void **state)
{
        sd_id128_t ids[2] = { SD_ID128_NULL };

        (void) state;
        assert_return_code(sd_id128_randomize(&ids[1]), 0);
        for (size_t i = 0; i < ELEMENTSOF(ids); i++) {
                JournalRun run = { .invocation = ids[i], .unit = "no-such-unit.service" };
                Bench b = {};

                assert_return_code(sd_event_new(&b.event), 0);
                assert_return_code(journal_tail_start(b.event, &run, on_done, &b, &b.tail), 0);
                assert_int_equal(b.n_done, 0);
                while (b.tail)
                        assert_true(sd_event_run(b.event, 10 * 1000000) > 0);
                assert_int_equal(b.n_done, 1);
                assert_null(b.lines);
                assert_int_equal(sd_event_run(b.event, 0), 0);
                sd_event_unref(b.event);
        }
}

static void may_be_dropped(void **state)
{
        JournalRun run = { .unit = "no-such-unit.service" };
        Bench b = {};

        (void) state;
        assert_return_code(sd_event_new(&b.event), 0);
        assert_return_code(journal_tail_start(b.event, &run, on_done, &b, &b.tail), 0);
        b.tail = journal_tail_free(b.tail);
        assert_int_equal(sd_event_run(b.event, 0), 0);
        assert_int_equal(b.n_done, 0);
        sd_event_unref(b.event);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(prepends),
                cmocka_unit_test(cleans),
                cmocka_unit_test(keeps_the_last_lines),
                cmocka_unit_test(keeps_the_end_of_a_long_line),
                cmocka_unit_test(finds_nothing),
                cmocka_unit_test(may_be_dropped),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
