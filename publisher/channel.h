/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "dsse.h"
#include "macro.h"
#include "manifest.h"
#include "store.h"

/*
 * A channel as it lies in a store, and the one way to move it on.
 *
 * Two objects hold a channel: manifest.json, the only one that changes, and history/<serial>.json,
 * which never do. The order in which they are written decides what a race or a crash can do:
 *
 *   1. read which serials the history has, then manifest.json with its ETag
 *   2. if the history lacks the manifest just read, write it there (If-None-Match: *)
 *   3. replace manifest.json, only if it still has that ETag (If-Match; the first: If-None-Match:
 * *)
 *   4. write the new manifest to the history as well
 *
 * Step 3 alone decides who wins. The loser has changed nothing, and nobody's manifest is lost: by
 * step 2 each manifest is in the history before another one replaces it, whether or not its own
 * publisher lived to do step 4. So a publisher that dies leaves at worst a history without the
 * newest entry, which log and verify take from manifest.json itself and the next publisher writes.
 * No serial is ever reserved, so none can be blocked by a dead publisher, and the history holds
 * only what was really published. (The other order, history first as a reservation, has both
 * faults.)
 *
 * Since manifest.json only ever goes up, and is read after the listing, a history that reaches
 * higher means that someone put an older manifest back or removed it. Instances refuse a serial
 * below one they have seen, so the next one continues from the history's highest.
 *
 * After a lost answer or a 412 to a retried PUT, our own manifest may be the one in place: it is
 * when manifest.json or (by step 2) history/<our serial>.json has our bytes.
 */

/* The place; strings and store are borrowed. */
typedef struct Channel {
        Store *store;
        const char *app, *name;
} Channel;

/* A manifest as it lies in a store. */
typedef struct Published {
        char *data; /* the envelope's text */
        size_t size;
        char *etag;
        Envelope *envelope;
        Manifest *manifest; /* parsed, but nothing verified */
} Published;

Published *published_free(Published *p);
DEFINE_CLEANUP_FUNC(Published *, published_free);

/* manifest.json. 0, or STORE_ABSENT. An object that is no manifest, or one of another app or
 * channel, is -EBADMSG. */
_must_check_ int channel_read(const Channel *c, Published **ret, char **reterr);

/* The same for history/<serial>.json; another serial inside is -EBADMSG too. */
_must_check_ int channel_read_serial(const Channel *c, uint64_t serial, Published **ret,
                                     char **reterr);

/* The serials of the history by the names of its entries, ascending; *ret is to be freed. -EACCES:
 * the store does not list them. */
_must_check_ int channel_list_history(const Channel *c, uint64_t **ret, size_t *ret_n,
                                      char **reterr);

/* What a channel has, as step 1 finds it. */
typedef struct ChannelHead {
        Published *current; /* NULL: nothing published, or the manifest was removed */
        uint64_t *serials;  /* the history's, ascending */
        size_t n_serials;
        uint64_t serial, deployment; /* the highest so far; 0: none */
        bool was_set_back;           /* the history reaches higher than manifest.json */
} ChannelHead;

void channel_head_done(ChannelHead *h);
_must_check_ int channel_head(const Channel *c, ChannelHead *ret, char **reterr);

/* Reads one of the manifests that the head knows: manifest.json's or one of the history. */
_must_check_ int channel_head_read(const Channel *c, const ChannelHead *h, uint64_t serial,
                                   Published **ret, char **reterr);

/* All serials of the head, its current one included, newest first. *ret is to be freed. */
_must_check_ int channel_head_serials(const ChannelHead *h, uint64_t **ret, size_t *ret_n);

enum {
        CHANNEL_LOST = 1, /* another publisher was first; nothing was changed */
        CHANNEL_HALF,     /* published, but step 4 failed: *reterr says why */
};

/* Steps 2 to 4 with the manifest `data` (an envelope's text), whose serial must be the head's plus
 * one. A channel without a manifest first gets its halt.json, since an unknown brake makes
 * instances wait. With CHANNEL_LOST *ret_winner is what stands there now. */
_must_check_ int channel_publish(const Channel *c, const ChannelHead *h, const char *data,
                                 size_t size, Published **ret_winner, char **reterr);

/* The serial in a key of the history ("web/channels/prod/history/57.json"), 0 if it is none. */
uint64_t history_serial(const Channel *c, const char *key);
