/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stdint.h>

/* How long to wait before trying again: full jitter, so that many who failed at once do not come
 * back at once. */

/* A random wait below a limit that is base_usec after the first try (n_tried: 1) and doubles with
 * each further one, up to 20 s. `asked_sec`: what the server asks to wait (Retry-After; 0:
 * nothing): that comes before, up to 20 s of it, so that those who were told the same come back one
 * by one. */
uint64_t backoff_usec(unsigned n_tried, uint64_t base_usec, uint64_t asked_sec);

/* A random wait up to max_usec. */
uint64_t backoff_random_usec(uint64_t max_usec);

/* A wait that is never short, for what goes on for ever: base_usec to 1.25 times that after the
 * first failure (n_failed: 1), doubled with each further one, at most max_usec. */
uint64_t backoff_pause_usec(unsigned n_failed, uint64_t base_usec, uint64_t max_usec);
