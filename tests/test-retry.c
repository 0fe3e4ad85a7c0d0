/* SPDX-License-Identifier: Apache-2.0 */
#include "test.h"

#include <time.h>

#include "retry.h"

#define SEC UINT64_C(1000000)

static Retry *retry;

static int setup(void **state)
{
        (void) state;
        return retry_new(&retry);
}

static int teardown(void **state)
{
        (void) state;
        retry = retry_free(retry);
        return 0;
}

/* That it waits for just so long. */
static void expect_wait(uint64_t deployment, uint64_t now_usec, uint64_t sec)
{
        assert_int_equal(retry_wait(retry, now_usec + sec * SEC - 1).deployment, deployment);
        assert_int_equal(retry_wait(retry, now_usec + sec * SEC).deployment, 0);
}

static void nothing_waits_at_first(void **state)
{
        (void) state;
        assert_int_equal(retry_wait(retry, 0).deployment, 0);
}

static void the_wait_doubles(void **state)
{
        static const uint64_t expected[] = { 5, 10, 20, 40, 80, 160, 320, 600, 600 };
        uint64_t now_usec = 1000 * SEC;

        (void) state;
        for (size_t i = 0; i < ELEMENTSOF(expected); i++) {
                retry_plan(retry, 7, -EIO, "no space", now_usec);
                expect_wait(7, now_usec, expected[i]);
                now_usec += expected[i] * SEC;
        }
        /* Another one has failed for the first time. */
        retry_plan(retry, 8, -EIO, "no space", now_usec);
        expect_wait(8, now_usec, RETRY_MIN_SEC);
}

static void it_says_why_and_until_when(void **state)
{
        uint64_t before_sec = time(NULL);
        RetryWait w;

        (void) state;
        retry_plan(retry, 7, -EIO, "no space", SEC);
        w = retry_wait(retry, SEC);
        assert_string_equal(w.reason, "no space");
        assert_false(w.put_off);
        assert_in_range(w.at_sec, before_sec + RETRY_MIN_SEC,
                        (uint64_t) time(NULL) + RETRY_MIN_SEC);
        retry_plan(retry, 7, -EAGAIN, NULL, SEC);
        w = retry_wait(retry, SEC);
        assert_string_equal(w.reason, "");
        assert_true(w.put_off);
}

static void what_is_forgotten_begins_anew(void **state)
{
        (void) state;
        retry_plan(retry, 7, -EIO, "no space", SEC);
        retry_plan(retry, 7, -EIO, "no space", SEC);
        retry_forget(retry);
        assert_int_equal(retry_wait(retry, SEC).deployment, 0);
        retry_plan(retry, 7, -EIO, "no space", SEC);
        expect_wait(7, SEC, RETRY_MIN_SEC);
}

#define test_retry(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
        const struct CMUnitTest tests[] = {
                test_retry(nothing_waits_at_first),
                test_retry(the_wait_doubles),
                test_retry(it_says_why_and_until_when),
                test_retry(what_is_forgotten_begins_anew),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
