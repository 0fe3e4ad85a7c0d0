/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "macro.h"
#include "store.h"
#include "trust.h"

/* The chain of trust roots in a store (common/trust.h), walked as agents walk it. Where an agent
 * goes on with the root that it has, because what comes next is not one or can't be read, a
 * publisher fails: here somebody can find out why. */

/* Whoever makes more roots than that has others at a loss by their number. */
#define ROOT_CHAIN_MAX 1024

/* The root that follows t. 0, or STORE_ABSENT: there is none. *ret_text (may be a NULL pointer):
 * its file, to be freed. -EKEYREJECTED: what is in its place does not follow. */
_must_check_ int root_chain_next(Store *s, const Trust *t, Trust **ret, char **ret_text,
                                 char **reterr);

/* Takes t along the chain to the last root, or to version_max. *ret_text (may be a NULL pointer):
 * the file of the last one taken, to be freed; NULL: there was none. -EKEYREJECTED: what comes next
 * does not follow. */
_must_check_ int root_chain_walk(Store *s, Trust *t, uint64_t version_max, char **ret_text,
                                 char **reterr);

/* The trust root in the file `path`, taken along the chain. Warns if it has expired. */
_must_check_ int root_chain_load(Store *s, const char *path, Trust **ret, char **reterr);
