/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "macro.h"
#include "site.h"

/*
 * An application that holds updates off by its lock (control.h), for at most as long as the
 * configuration lets it ("update_lock"): counted from when slipwayd first had to wait for it, until
 * it finds the lock free. So a lock that is held for ever costs an update the limit once, and the
 * next ones nothing.
 */

/* Whether an update has to wait for the application now. What can't be looked at holds nothing off,
 * and is logged. */
bool update_lock_is_held(Site *site);

/* What a person is told while it is: since when. Allocated; NULL when memory is short. */
char *update_lock_text(const Site *site);

typedef struct UpdateLock UpdateLock;

/* The application lets it go, or has held it for too long. May free the lock. */
typedef void (*update_lock_done_t)(void *userdata);

/* Waits for that; done() is never called from in here. */
_must_check_ int update_lock_wait(Site *site, update_lock_done_t done, void *userdata,
                                  UpdateLock **ret);
UpdateLock *update_lock_free(UpdateLock *l);
DEFINE_CLEANUP_FUNC(UpdateLock *, update_lock_free);
