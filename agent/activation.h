/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <systemd/sd-bus.h>

#include "macro.h"
#include "state.h"

/*
 * The transaction that makes a release live: switch `current`, restart the units, watch them over
 * the bake time; and, when a deployment goes wrong, the way back. Used by slipwayd and by `slipway
 * rollback` without it.
 *
 * Each phase is saved before the act that it announces. The tree of the release must be on disk
 * (synced) and the app's lock held. A deployment that fails is undone: `current` goes back to the
 * release before and its units are restarted and checked; when there was none, `current` is removed
 * and the units are stopped. A rollback that fails is not undone: somebody chose that release, and
 * is told.
 */

/* What an activation works on; all of it stays the caller's and must outlive the activation. */
typedef struct Site {
        sd_bus *bus; /* NULL: none to be had; fine for releases without units */
        sd_event *event;
        int root_fd;      /* the app's root directory: releases/ and current */
        int state_dir_fd; /* for state_save() */
        State *state;
} Site;

typedef struct Activation Activation;

/* The state is idle again, saved, and has the event. `reason` is NULL when all went well. The
 * activation may be freed here. */
typedef void (*activation_done_t)(Result result, const char *reason, void *userdata);

/* A line for the journal at each step. */
typedef void (*activation_log_t)(int level, const char *text, void *userdata);

/* Starts, or after a crash goes on with, the transaction in site->state->pending, according to the
 * phase. done() is never called from in here. The release must be in the state's list (else
 * -ENOENT). */
_must_check_ int activation_start(const Site *site, activation_done_t done, activation_log_t log,
                                  void *userdata, Activation **ret);

/* Drops it where it stands, without calling back: the state keeps the phase. */
Activation *activation_free(Activation *a);
DEFINE_CLEANUP_FUNC(Activation *, activation_free);
