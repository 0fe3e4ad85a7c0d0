/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "digest.h"
#include "fetcher.h"
#include "manifest.h"
#include "state.h"

/* What a deployment that did not come to its end may have left in the spool. Zeroed: nothing. */
typedef struct Spooled {
        uint64_t deployment;
        Sha256 index, artifact;
        bool is_known; /* nothing is in the spool that this and the transaction don't say */
} Spooled;

void spooled_remember(Spooled *s, const Manifest *m);

/* For another try of the same deployment it stays, to no other one it is of use. */
void spooled_drop_others(Spooled *s, Fetcher *fetcher, const Manifest *wanted);

/* A crash may have come between the fetching of the channel's deployment and the dropping: what has
 * been taken up to its end, or is staged, is not fetched again. Once after a start. */
void spooled_drop_forgotten(Spooled *s, Fetcher *fetcher, const Manifest *wanted,
                            const State *state);

/* All that is remembered. */
void spooled_drop(const Spooled *s, Fetcher *fetcher);
