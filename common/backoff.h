/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stdint.h>

/* How long to wait before trying again: full jitter, so that many who failed at once do not come
 * back at once. */

/* A random wait below a limit that is base_usec after the first try (n_tried: 1) and doubles with
 * each further one, up to 20 s. */
uint64_t backoff_usec(unsigned n_tried, uint64_t base_usec);
