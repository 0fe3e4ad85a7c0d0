/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stdint.h>
#include <time.h>

/* What a clock of clock_gettime(2) says, in microseconds: CLOCK_MONOTONIC for waits of a program,
 * CLOCK_BOOTTIME where a suspended machine's time counts. */
uint64_t clock_usec(clockid_t clock);
