/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stdint.h>

#include "macro.h"

/*
 * The engine of slipway-fetch: does what slipwayd's messages (message.h) ask for, all at once on
 * one thread. It is trusted with availability only: it checks sizes, nothing else, because what it
 * brings is checked by those who use it.
 *
 * Polls remember the ETag of the last answer by path, for an hour, so that an unchanged manifest is
 * a 304 (or its like) and no work for slipwayd. An envelope that can't be opened is remembered as
 * well: slipwayd has refused it, and would again. Of trust roots nothing is remembered. A watch
 * polls at intervals by itself, on a connection of the store that is made for that, so that an
 * unchanged manifest wakes nobody but fetch. Its waits are by CLOCK_BOOTTIME, but seen through by
 * poll(2): after a suspension one may last as much longer as was left of it. Objects:
 * fetch-object.h.
 */

typedef struct Fetch Fetch;

/* `state_dir` is where it remembers orders; NULL: it takes none. `socket_fd` and the strings must
 * outlive it. The store is opened at the first request, and again
 * after a failure, so that a missing setting is an answer with its reason. With store_url NULL it
 * can tell who this host is, and open files. */
_must_check_ int fetch_new(const char *store_url, const char *cache_dir, const char *state_dir,
                           int socket_fd, Fetch **ret, char **reterr);
Fetch *fetch_free(Fetch *f);
DEFINE_CLEANUP_FUNC(Fetch *, fetch_free);

/* What all objects together may take a second, on average and at least FETCH_BANDWIDTH_MIN_BYTES;
 * 0, as at the start: there is no limit. Everything else is small and not counted. */
#define FETCH_BANDWIDTH_MIN_BYTES (64 * 1024)
void fetch_set_bandwidth(Fetch *f, uint64_t bytes);

/* Waits for something to do, and does it. 0: go on; 1: slipwayd has closed the socket. */
_must_check_ int fetch_step(Fetch *f);
