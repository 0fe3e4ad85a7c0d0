/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "child.h"
#include "macro.h"

/*
 * Removes what nobody needs from a releases directory: one slipway-unpack is given the names one
 * after the other, because deleting large trees blocks and slipwayd does not. After an hour it is
 * killed: a failure of the tree that it was at.
 */

typedef struct Sweep Sweep;

/* result: 0, or the first failure; what could be removed is gone. The sweep may be freed here. */
typedef void (*sweep_done_t)(int result, const char *reason, void *userdata);

/* Starts to remove `names` (taken over, also on failure). */
_must_check_ int sweep_start(sd_event *event, const Identity *identity, int releases_fd,
                             char **names, size_t n_names, sweep_done_t done, void *userdata,
                             Sweep **ret);

/* Ends it where it stands, without calling back. */
Sweep *sweep_free(Sweep *s);
DEFINE_CLEANUP_FUNC(Sweep *, sweep_free);
