/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "macro.h"
#include "site.h"

/*
 * Makes a release live: pre hooks, switch `current`, restart the units, watch them over the bake
 * time, post hooks; and, when a deployment goes wrong, the way back. Both ways are tables of steps
 * in activation.c. Each phase is saved before the act that it announces, and each step can be done
 * again after a crash. The tree of the release must be on disk (synced), in the state's list, and
 * the site's lock held.
 *
 * Before the switch a failure leaves no trace. A deployment that fails after it is undone:
 * `current` goes back to the release before and its units are restarted and checked; when there was
 * none, `current` is removed and the units are stopped. While the disk is full or read-only
 * `current` can't go back: that is tried each second, for an hour. A rollback that fails is not
 * undone: somebody chose that release, and is told.
 *
 * When a deployment was undone, and the release before runs again, the revert hooks of the release
 * that went wrong run, in its directory: they take back what its pre and post hooks did. They do
 * not run where the pre hooks failed: nothing was switched, and a hook that fails cleans up after
 * itself. A rollback runs no hooks at all: it must not wait, nor fail, for more than the units, and
 * what the hooks of a release did long ago is not undone behind somebody's back. Hooks run again
 * after a crash.
 *
 * A hold that comes while the pre hooks of a deployment by the channel run lets these end; then it
 * goes no further (-ECANCELED).
 */

typedef struct Activation Activation;

/* How it ended. The state is idle again, saved (or the log says why not), and has the event; unless
 * a rollback could not begin (error < 0). */
typedef struct ActivationResult {
        Result result;
        int error; /* a negative errno if nothing was touched, and another try may go well (no bus,
                      full disk; -EAGAIN: put off, RESULT_DEFERRED); else 0 */
        const char *reason; /* NULL when all went well */
} ActivationResult;

/* The activation may be freed here. */
typedef void (*activation_done_t)(const ActivationResult *result, void *userdata);

/* Something about the state changed. */
typedef void (*activation_changed_t)(void *userdata);

/* Whether `release` can take the place of `from` (NULL: none is live) now: it is in the state's
 * list (else -ENOENT), and there is a bus, if units have to be restarted on the way forward or back
 * (else -EHOSTDOWN). */
_must_check_ int activation_check(const Site *site, const char *release, const char *from,
                                  char **reterr);

/* Starts, or after a crash goes on with, the transaction in site->state->pending, according to the
 * phase, after activation_check(). Without site_is_marked_running() the host was restarted since:
 * what was baking is restarted. done() is never called from in here. A rollback that can't begin
 * (error < 0) leaves the state file with the last phase that could be saved: of the rollback, which
 * is to be taken up again then, or of what it was to replace. The state in memory is not the
 * file's. */
_must_check_ int activation_start(Site *site, activation_done_t done, activation_changed_t changed,
                                  void *userdata, Activation **ret);

/* What it waits for, in words for a person: the application that holds updates off, a probe that is
 * not well, somebody to confirm the release. Allocated; NULL: nothing in particular. */
char *activation_waits_for(const Activation *a);

/* It runs hooks, which are better not cut off in what they do. */
bool activation_runs_hooks(const Activation *a);

/* Drops it where it stands, without calling back: the state keeps the phase. */
Activation *activation_free(Activation *a);
DEFINE_CLEANUP_FUNC(Activation *, activation_free);
