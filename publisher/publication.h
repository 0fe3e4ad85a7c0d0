/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <cJSON.h>

#include "arguments.h"
#include "channel.h"
#include "macro.h"
#include "manifest.h"
#include "signers.h"
#include "store.h"

/* What release, promote, rollback and refresh have in common: the next signed manifest of a
 * channel. Logs its warnings. */

typedef struct Publication {
        Store *store;
        Channel channel; /* its strings are the arguments' */
        Signers signers;
        ChannelHead head;
        const char *expires; /* what was asked for, checked; a span counts from publishing */
        Window window;
} Publication;

void publication_done(Publication *p);

/* Everything that can be found wrong before any work is done: opens the store, loads keys and trust
 * root, reads the channel's head. With a trust root the channel's current manifest must satisfy it
 * (-EKEYREJECTED); without one, a current manifest that none of the keys signed is only a warning,
 * since that is what a change of keys looks like. */
_must_check_ int publication_begin(const Arguments *a, const char *channel, Publication *ret,
                                   char **reterr);

/* Whether m can be made the channel's next manifest and signed, before the work of uploading. Sets
 * what publication_finish() sets. */
_must_check_ int publication_check(const Publication *p, Manifest *m, char **reterr);

/* Publishes m as the channel's next deployment and reports it (to `result`, and without --json to
 * stdout). Sets m's channel, serial, deployment, times and window. If meanwhile the channel's
 * manifest was refreshed, and nothing else, m follows that: the head is read anew, once. Returns
 * PUBLISH_OK, PUBLISH_LOST or a negative errno. */
_must_check_ int publication_finish(Publication *p, Manifest *m, const Arguments *a, cJSON *result,
                                    char **reterr);

/* Publishes m, a copy of the channel's present manifest, once more: the same deployment, with the
 * next serial, and as long from now on as it held before, unless `expires` (as of --expires) is not
 * NULL. Reports nothing but who won, with PUBLISH_LOST. Returns as publication_finish(). */
_must_check_ int publication_renew(const Publication *p, Manifest *m, const char *expires,
                                   cJSON *result, char **reterr);

/* Members "release", "serial", "deployment", "published", "expires", "window", "source",
 * "artifact", "index" and "provenance" of a manifest, as every verb's JSON has them. */
_must_check_ int manifest_to_result(const Manifest *m, cJSON *object);

/* The present, in seconds since the epoch. */
uint64_t now_sec(void);
