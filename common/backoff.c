/* SPDX-License-Identifier: Apache-2.0 */
#include "backoff.h"

#include <sys/random.h>

#include "macro.h"

#define LIMIT_MAX_USEC UINT64_C(20000000)

uint64_t backoff_usec(unsigned n_tried, uint64_t base_usec)
{
        uint64_t limit = base_usec, random = 0;

        for (unsigned i = 1; i < n_tried && limit < LIMIT_MAX_USEC; i++)
                limit *= 2;
        limit = MIN(limit, LIMIT_MAX_USEC);
        if (getrandom(&random, sizeof(random), 0) < 0)
                return limit;
        return random % (limit + 1);
}
