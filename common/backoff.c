/* SPDX-License-Identifier: Apache-2.0 */
#include "backoff.h"

#include <sys/random.h>

#include "macro.h"

#define LIMIT_MAX_USEC UINT64_C(20000000)
#define USEC_PER_SEC   UINT64_C(1000000)

/* Without randomness, which does not happen for so few bytes: all of it. */
uint64_t backoff_random_usec(uint64_t max_usec)
{
        uint64_t random = 0;

        if (getrandom(&random, sizeof(random), 0) < 0)
                return max_usec;
        return random % (max_usec + 1);
}

uint64_t backoff_usec(unsigned n_tried, uint64_t base_usec, uint64_t asked_sec)
{
        const uint64_t asked_usec = MIN(asked_sec, LIMIT_MAX_USEC / USEC_PER_SEC) * USEC_PER_SEC;
        uint64_t limit = base_usec;

        for (unsigned i = 1; i < n_tried && limit < LIMIT_MAX_USEC; i++)
                limit *= 2;
        return asked_usec + backoff_random_usec(MIN(limit, LIMIT_MAX_USEC));
}

uint64_t backoff_pause_usec(unsigned n_failed, uint64_t base_usec, uint64_t max_usec)
{
        const uint64_t shortest_max = max_usec / 5 * 4;
        uint64_t pause = base_usec;

        for (unsigned i = 1; i < n_failed && pause < shortest_max; i++)
                pause *= 2;
        pause = MIN(pause, shortest_max);
        return pause + backoff_random_usec(pause / 4);
}
