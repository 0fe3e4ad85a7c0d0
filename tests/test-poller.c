/* SPDX-License-Identifier: Apache-2.0 */
#include "test.h"

#include "poller.h"

#define SEC UINT64_C(1000000)

static void waits_stay_within_their_spread(void **state)
{
        (void) state;
        assert_int_equal(poller_delay_usec(15 * SEC, 0, 0, 12345), 15 * SEC);
        assert_int_equal(poller_delay_usec(15 * SEC, 20, 0, 0), 12 * SEC);
        assert_int_equal(poller_delay_usec(15 * SEC, 20, 0, UINT32_MAX), 18 * SEC);
}

static void failures_back_off_to_a_limit(void **state)
{
        (void) state;
        assert_int_equal(poller_delay_usec(15 * SEC, 20, 1, 0), 15 * SEC);
        assert_int_equal(poller_delay_usec(15 * SEC, 20, 1, UINT32_MAX), 45 * SEC);
        assert_int_equal(poller_delay_usec(15 * SEC, 20, 1000, UINT32_MAX),
                         POLL_BACKOFF_MAX_USEC * 3 / 2);
        /* An interval longer than the limit is not shortened by a failure. */
        assert_int_equal(poller_delay_usec(3600 * SEC, 0, 5, 0), 1800 * SEC);
}

/* Within a minute, and not all hosts at once. */
static void missing_credentials_are_looked_for_soon(void **state)
{
        (void) state;
        assert_int_equal(poller_keyless_usec(15 * SEC, 0), 15 * SEC);
        assert_int_equal(poller_keyless_usec(3600 * SEC, 0), 60 * SEC);
        assert_int_equal(poller_keyless_usec(3600 * SEC, UINT32_MAX), 30 * SEC);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(waits_stay_within_their_spread),
                cmocka_unit_test(failures_back_off_to_a_limit),
                cmocka_unit_test(missing_credentials_are_looked_for_soon),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
