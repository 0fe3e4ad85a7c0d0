/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "macro.h"
#include "site.h"

/*
 * A release that has to be confirmed (activate.health.confirm): by an administrator (slipway
 * confirm), or by the application itself (control.h). The time for it begins when the bake has gone
 * well for the first time, and stands in the state's `pending`: as a time of the clock and as a
 * time since boot. Within one boot, agents that crash and clocks that are set change nothing about
 * it; after a reboot what is left is counted by the clock, and is never more than the whole.
 */

/* For the state of a host that was restarted: what is left, counted by the clock. */
void confirmation_take_up(Site *site);

/* The time is up, and nobody has confirmed. *ret_reason (allocated) says so. */
bool confirmation_is_overdue(const Site *site, char **ret_reason);

typedef struct Confirmation Confirmation;

/* 0: confirmed; -ETIMEDOUT: not in time, `reason` says so. May free the confirmation. */
typedef void (*confirmation_done_t)(int result, const char *reason, void *userdata);

/* Waits until the pending release is confirmed, for confirm_usec; saves until when, the first time.
 * done() is never called from in here. */
_must_check_ int confirmation_start(Site *site, uint64_t confirm_usec, confirmation_done_t done,
                                    void *userdata, Confirmation **ret);
Confirmation *confirmation_free(Confirmation *c);
DEFINE_CLEANUP_FUNC(Confirmation *, confirmation_free);

/* Confirms the pending release on behalf of `by`, and saves that: who waits sees it at once, and an
 * agent that does not run, when it comes back; where that can't be saved it is not confirmed. The
 * lock must be held. -ENOENT: no release of this app waits to be confirmed. */
_must_check_ int confirmation_give(Site *site, const char *by, char **reterr);
