/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "macro.h"
#include "store.h"

/* What lies in a store, by the names of its objects alone: slipway-store(5). */

/* More is -EFBIG: some millions of objects. */
#define STORE_LISTING_SIZE_MAX (UINT64_C(256) << 20)

typedef struct ListedChannel {
        char *app, *name;
        bool is_published; /* it has a manifest or a history */
} ListedChannel;

typedef struct ListedRelease {
        char *app, *id;
        bool has_index, has_artifact;
} ListedRelease;

typedef struct StoreListing {
        ListedChannel *channels; /* ascending, as are the others */
        size_t n_channels;
        ListedRelease *releases;
        size_t n_releases;
        uint64_t *roots; /* versions of trust roots */
        size_t n_roots;
        char *other; /* an object that is nothing of Slipway's; NULL: there is none */
        size_t n_others;
} StoreListing;

void store_listing_done(StoreListing *l);

/* Lists the whole store. -EACCES: it may not be listed. */
_must_check_ int store_listing_load(Store *s, StoreListing *ret, char **reterr);

/* From a list of keys, one a line, in any order; `keys` is changed. */
_must_check_ int store_listing_parse(char *keys, StoreListing *ret);
