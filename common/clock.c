/* SPDX-License-Identifier: Apache-2.0 */
#include "clock.h"

uint64_t clock_usec(clockid_t clock)
{
        struct timespec ts = {};

        (void) clock_gettime(clock, &ts);
        return (uint64_t) ts.tv_sec * 1000000 + (uint64_t) ts.tv_nsec / 1000;
}
