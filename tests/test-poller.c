/* SPDX-License-Identifier: Apache-2.0 */
#include "test.h"

#include <signal.h>

#include "clock.h"
#include "poll-wait.h"
#include "poller.h"

#define SEC UINT64_C(1000000)

/* A poller whose slipway-fetch is tests/child-actor.c, in the part that the store names. */
typedef struct Bench {
        sd_event *event;
        Fetcher *fetcher;
        Poller *poller;
        PollOutcome outcome; /* of each answer */
        unsigned n_polls, n_watches, n_again;
} Bench;

static PollOutcome on_answer(int result, int fd, const char *text, void *userdata)
{
        Bench *b = userdata;

        (void) fd;
        assert_int_equal(result, POLL_UNCHANGED);
        b->n_polls += strncmp(text, "poll", 4) == 0;
        b->n_again += streq(text, "poll again");
        b->n_watches += streq(text, "watch");
        return b->outcome;
}

static void bench_open(Bench *b, const char *part, char *dir, PollOutcome outcome)
{
        const PollerOptions options = { .path = "m", .interval_usec = SEC };
        const Identity same = {};

        *b = (Bench){ .outcome = outcome };
        assert_return_code(sd_event_new(&b->event), 0);
        assert_return_code(fetcher_new(b->event, part, dir, NULL, &same, &b->fetcher), 0);
        assert_return_code(poller_new(b->event, b->fetcher, &options, on_answer, b, &b->poller), 0);
}

static void bench_close(Bench *b)
{
        poller_free(b->poller);
        fetcher_free(b->fetcher);
        sd_event_unref(b->event);
}

static void run_until(Bench *b, const unsigned *count, unsigned n)
{
        while (*count < n)
                assert_true(sd_event_run(b->event, 20 * SEC) > 0);
}

/* While all is calm slipway-fetch polls by itself, and is asked only when somebody asks us. What it
 * may have said meanwhile is asked for again. */
static void calm_polls_are_left_to_fetch(void **state)
{
        Bench b;

        bench_open(&b, "patient", *state, POLL_CALM);
        assert_return_code(poller_poll(b.poller), 0);
        assert_true(poller_is_polling(b.poller));
        run_until(&b, &b.n_polls, 1);
        assert_false(poller_is_polling(b.poller));
        assert_int_equal(poller_next_sec(b.poller), 1);
        assert_int_equal(sd_event_run(b.event, 2 * SEC), 0);
        b.n_again = 0;
        assert_return_code(poller_poll(b.poller), 0);
        assert_true(poller_is_polling(b.poller));
        run_until(&b, &b.n_polls, 2);
        assert_int_equal(b.n_again, 1);
        poller_stop(b.poller);
        assert_int_equal(sd_event_run(b.event, 2 * SEC), 0);
        bench_close(&b);
}

static void others_are_asked_for_each_time(void **state)
{
        Bench b;

        bench_open(&b, "patient", *state, POLL_GOOD);
        assert_return_code(poller_poll(b.poller), 0);
        run_until(&b, &b.n_polls, 3);
        bench_close(&b);
}

/* Answers that come too soon make nobody busy. */
static void hasty_answers_keep_to_the_interval(void **state)
{
        uint64_t began_usec = clock_usec(CLOCK_MONOTONIC);
        Bench b;

        bench_open(&b, "hasty", *state, POLL_CALM);
        assert_return_code(poller_poll(b.poller), 0);
        run_until(&b, &b.n_polls, 3);
        assert_in_range(b.n_watches, 2, 3);
        assert_true(clock_usec(CLOCK_MONOTONIC) - began_usec >= 2 * SEC);
        bench_close(&b);
}

static void waits_stay_within_their_spread(void **state)
{
        (void) state;
        assert_int_equal(poll_wait_usec(15 * SEC, 0, 0, 12345), 15 * SEC);
        assert_int_equal(poll_wait_usec(15 * SEC, 20, 0, 0), 12 * SEC);
        assert_int_equal(poll_wait_usec(15 * SEC, 20, 0, UINT32_MAX), 18 * SEC);
}

static void failures_back_off_to_a_limit(void **state)
{
        (void) state;
        assert_int_equal(poll_wait_usec(15 * SEC, 20, 1, 0), 15 * SEC);
        assert_int_equal(poll_wait_usec(15 * SEC, 20, 1, UINT32_MAX), 45 * SEC);
        assert_int_equal(poll_wait_usec(15 * SEC, 20, 1000, UINT32_MAX),
                         POLL_BACKOFF_MAX_USEC * 3 / 2);
        /* An interval longer than the limit is not shortened by a failure. */
        assert_int_equal(poll_wait_usec(3600 * SEC, 0, 5, 0), 1800 * SEC);
}

/* Within a minute, and not all hosts at once. */
static void missing_credentials_are_looked_for_soon(void **state)
{
        (void) state;
        assert_int_equal(poll_wait_keyless_usec(15 * SEC, 0), 15 * SEC);
        assert_int_equal(poll_wait_keyless_usec(3600 * SEC, 0), 60 * SEC);
        assert_int_equal(poll_wait_keyless_usec(3600 * SEC, UINT32_MAX), 30 * SEC);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(waits_stay_within_their_spread),
                cmocka_unit_test(failures_back_off_to_a_limit),
                cmocka_unit_test(missing_credentials_are_looked_for_soon),
                test_in_dir(calm_polls_are_left_to_fetch),
                test_in_dir(others_are_asked_for_each_time),
                test_in_dir(hasty_answers_keep_to_the_interval),
        };
        sigset_t child;

        if (sigemptyset(&child) < 0 || sigaddset(&child, SIGCHLD) < 0 ||
            sigprocmask(SIG_BLOCK, &child, NULL) < 0)
                return EXIT_FAILURE;
        return cmocka_run_group_tests(tests, NULL, NULL);
}
