/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "fetch-socket.h"
#include "macro.h"
#include "store.h"

/*
 * The objects that slipway-fetch brings into the spool (spool.h): in ascending pieces, several at a
 * time, each with If-Match on the ETag of the first. What arrived stays in the spool, be it part of
 * a piece whose call failed or was cancelled; of each piece on its way the spool is told every MiB,
 * for a process that is killed. Of an object that several ask for each byte that one of them wants
 * is fetched once: each gets all answers, one that cancels leaves the others, and when the path of
 * one fails, it goes on by that of another.
 */

typedef struct FetchObjects FetchObjects;

/* The socket must outlive it. */
_must_check_ int fetch_objects_new(const char *cache_dir, FetchSocket *socket, FetchObjects **ret,
                                   char **reterr);

/* Before the store goes. */
FetchObjects *fetch_objects_free(FetchObjects *o);
DEFINE_CLEANUP_FUNC(FetchObjects *, fetch_objects_free);

/* These do what the message of this name asks for; the store is always the same. An error is the
 * answer. */
_must_check_ int fetch_objects_get(FetchObjects *o, Store *store, const Message *m, int fd,
                                   char **reterr);
_must_check_ int fetch_objects_get_again(FetchObjects *o, const Message *m);
void fetch_objects_drop(FetchObjects *o, const Message *m);

/* What they take a second together, on average; 0: there is no limit. Pieces become smaller, begin
 * later, and those of several objects take turns. What is over is paid for by waiting. */
void fetch_objects_set_bandwidth(FetchObjects *o, uint64_t bytes);

/* When to call fetch_objects_start_due(); UINT64_MAX: there is nothing to wait for. */
uint64_t fetch_objects_due_in_usec(FetchObjects *o);
void fetch_objects_start_due(FetchObjects *o);

/* Request `id`, if there is one. */
void fetch_objects_cancel(FetchObjects *o, uint64_t id);
