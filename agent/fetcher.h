/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "child.h"
#include "macro.h"
#include "message.h"

/*
 * slipwayd's side of slipway-fetch: starts it, starts it again with back-off when it dies, gives
 * each request an id and each answer to the request it belongs to. Answers to nobody, or to another
 * kind of request, are dropped: fetch may have been taken over. A fetch that owes an answer and
 * says nothing for 15 minutes (no byte more of an object) is killed; to LISTEN it owes the first
 * LISTENING alone.
 */

typedef struct Fetcher Fetcher;
typedef struct FetchRequest FetchRequest;

/* An answer to the request. With m->type 0 no other will come: m->result and m->text say why (fetch
 * died, or was silent for too long). *fd as with ChildCallbacks.message. The request may be freed
 * here. */
typedef void (*fetch_reply_t)(const Message *m, int *fd, void *userdata);

/* `store` is the store's URL, `cache_dir` where the spool may be, `state_dir` where it remembers
 * orders (NULL: it can't LISTEN). Does not start the child yet. With store NULL only IDENTIFY, OPEN
 * and LISTEN are answered, until fetcher_set_store(). With cache_dir NULL as well it is one for
 * PROBE requests only (prober.h), which is given no credentials. */
_must_check_ int fetcher_new(sd_event *event, const char *store, const char *cache_dir,
                             const char *state_dir, const Identity *identity, Fetcher **ret);
Fetcher *fetcher_free(Fetcher *f);
DEFINE_CLEANUP_FUNC(Fetcher *, fetcher_free);

/* The same, but what was sent to the child before is done, within a second. For the end of a
 * program that has waited for all its requests. */
Fetcher *fetcher_finish(Fetcher *f);

/* From now on it works for this store. If that is another one, a child that runs ends, and with it
 * requests under way and what it remembers of polls. */
_must_check_ int fetcher_set_store(Fetcher *f, const char *store);

/* Of a child that is started from now on: what all objects together may take a second, as with
 * fetch_set_bandwidth(). */
void fetcher_set_bandwidth(Fetcher *f, uint64_t bytes);

/* Where the spool is. */
const char *fetcher_cache_dir(const Fetcher *f);

bool fetcher_is_running(const Fetcher *f);

/* Sends the request (m->id is set here). A child that can't be started now is no error: the request
 * gets its m->type 0 from the event loop. The descriptor stays the caller's. */
_must_check_ int fetcher_request(Fetcher *f, Message *m, int fd, fetch_reply_t reply,
                                 void *userdata, FetchRequest **ret);

/* Another message about the same request: MESSAGE_GET_AGAIN, which is answered, or
 * MESSAGE_ORDER_NEWS, which is not, and so gives an error at once: -EAGAIN (slipway-fetch does not
 * read), -EPIPE or -EHOSTDOWN (it is gone, which the request is told as well). The descriptor stays
 * the caller's. */
_must_check_ int fetch_request_send(FetchRequest *r, Message *m, int fd);

/* Stops listening to it: what goes on in slipway-fetch for it alone is cancelled. */
FetchRequest *fetch_request_free(FetchRequest *r);
DEFINE_CLEANUP_FUNC(FetchRequest *, fetch_request_free);

/* MESSAGE_DROP for the object with this digest. */
void fetcher_drop(Fetcher *f, const Sha256 *sha256);
