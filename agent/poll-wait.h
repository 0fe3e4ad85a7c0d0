/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stdint.h>

#include "macro.h"

/*
 * How long to wait before a store is asked again: each wait is drawn anew from interval +- jitter,
 * so that a fleet never polls in step; after failures it grows, doubling up to
 * POLL_BACKOFF_MAX_USEC. `random` is any number.
 */

#define POLL_BACKOFF_MAX_USEC (UINT64_C(300) * 1000000)

/* Credentials that are not there yet (-ENOKEY) are looked for within this, whatever the interval.
 */
#define POLL_KEYLESS_MAX_USEC (UINT64_C(60) * 1000000)

uint32_t poll_wait_random(void);

/* The wait after n_failures in a row. */
uint64_t poll_wait_usec(uint64_t interval_usec, unsigned jitter_percent, unsigned n_failures,
                        uint32_t random);

/* What becomes of it without credentials. */
uint64_t poll_wait_keyless_usec(uint64_t wait_usec, uint32_t random);
