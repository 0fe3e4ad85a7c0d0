/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "fetcher.h"
#include "macro.h"
#include "trust.h"

/*
 * Follows the chain of trust roots in the store (common/trust.h), from the one that this host goes
 * by: asks for the next version, and for the one after it, until there is none. slipway-fetch
 * brings them; each is verified here. What was learned is kept (kept-root.h) before it counts.
 *
 * A store that does not answer, or has something that does not follow, changes nothing: the root
 * that is known goes on. Who withholds newer ones gains time until it expires, of which it is
 * warned in the journal, once a day.
 *
 * It is asked before a manifest is judged that is new, and by itself about once an hour: not with
 * each poll. One walk is bounded in steps and time, and the next one goes on where it ended.
 */

#define ROOT_WATCH_STEPS_MAX     256
#define ROOT_WATCH_WALK_USEC     (UINT64_C(120) * 1000000)  /* then no further step is begun */
#define ROOT_WATCH_INTERVAL_USEC (UINT64_C(3600) * 1000000) /* varied by half of it at random */
#define ROOT_WATCH_EXPIRES_SEC   (UINT64_C(30) * 24 * 3600) /* so long before it is warned */

typedef struct RootWatch RootWatch;

/* A walk has ended; `learned`: `trust` is another root now. From the event loop. */
typedef void (*root_watch_walked_t)(bool learned, void *userdata);

/* `trust` becomes what is learned (trust_become()); `unkept` is its envelope, if it is to be kept
 * (taken), or NULL. Asks nothing yet; with an interval of 0 nor by itself later. */
_must_check_ int root_watch_new(sd_event *event, Fetcher *fetcher, Trust *trust, Envelope *unkept,
                                int state_dir_fd, uint64_t interval_usec,
                                root_watch_walked_t walked, void *userdata, RootWatch **ret);
RootWatch *root_watch_free(RootWatch *w);
DEFINE_CLEANUP_FUNC(RootWatch *, root_watch_free);

/* Walks; walked() will be called, never from in here. While it walks already, that one is for both.
 */
_must_check_ int root_watch_ask(RootWatch *w);
bool root_watch_is_asking(const RootWatch *w);

/* Why it is not known whether there is a newer one, or could not be kept; NULL: nothing is wrong.
 */
const char *root_watch_trouble(const RootWatch *w);
