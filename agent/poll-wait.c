/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <string.h>
#include <sys/random.h>

#include "log.h"
#include "poll-wait.h"

uint32_t poll_wait_random(void)
{
        static uint32_t x;

        /* Only spreads polls, which wait for nothing better: the kernel is asked once. */
        if (x == 0 && (getrandom(&x, sizeof(x), 0) != sizeof(x) || x == 0)) {
                log_debug("getrandom: %s", strerror(errno));
                x = 1;
        }
        x ^= x << 13;
        x ^= x >> 17;
        x ^= x << 5;
        return x;
}

uint64_t poll_wait_usec(uint64_t interval_usec, unsigned jitter_percent, unsigned n_failures,
                        uint32_t random)
{
        uint64_t delay = interval_usec, spread;

        for (unsigned i = 0; i < n_failures && delay < POLL_BACKOFF_MAX_USEC; i++)
                delay *= 2;
        if (n_failures > 0)
                delay = CLAMP(delay, interval_usec, MAX(POLL_BACKOFF_MAX_USEC, interval_usec));
        /* After failures all of it is spread: what broke for all at once comes back for all at
         * once. */
        spread = n_failures > 0 ? delay : delay / 100 * jitter_percent * 2;
        return delay - spread / 2 + (uint64_t) ((double) random / UINT32_MAX * spread);
}

uint64_t poll_wait_keyless_usec(uint64_t wait_usec, uint32_t random)
{
        uint64_t spread = POLL_KEYLESS_MAX_USEC / 2;

        return MIN(wait_usec,
                   POLL_KEYLESS_MAX_USEC - (uint64_t) ((double) random / UINT32_MAX * spread));
}
