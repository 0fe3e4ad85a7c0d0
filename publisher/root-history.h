/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "dsse.h"
#include "macro.h"
#include "store.h"
#include "trust.h"

/* All trust roots of a chain, for who asks not only what counts now, but what did once: a manifest
 * of last year may be signed by keys that have been replaced since. */

typedef struct RootHistory {
        Trust **roots; /* the first is the one of the file; the last one counts */
        size_t n_roots;
        char *first_payload; /* of the file */
        size_t first_payload_size;
        char *broken; /* why what is in the next one's place does not follow; NULL: nothing is */
} RootHistory;

void root_history_done(RootHistory *h);

/* The trust root in the file `path`, and those that follow it in the store. One that does not
 * follow ends the chain, and is no error here. */
_must_check_ int root_history_load(Store *s, const char *path, RootHistory *ret, char **reterr);

const Trust *root_history_newest(const RootHistory *h);

/* The newest trust root that the signatures of a manifest, or of a statement about a release
 * (`type`: its payload's), satisfy, which *ret becomes. When it is not the newest of all, *ret_why
 * (to be freed) says what is lacking there, else it is NULL. -EKEYREJECTED: none; *reterr says what
 * is lacking for the newest. */
_must_check_ int root_history_find(const RootHistory *h, const Envelope *e, const char *type,
                                   const Trust **ret, char **ret_why, char **reterr);
