/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "macro.h"

/*
 * What an application says to slipwayd by files, in the directory <root>/control:
 *
 *   confirm      its content is the id of the release that confirms itself, a newline may follow
 *   update.lock  as long as somebody has a lock on it, flock(2) or fcntl(2), no update begins
 *
 * Root makes the directory (install -d -o web -m 0700 /srv/web/control), or it is not there and
 * nothing is said. Who may come in speaks for the application: with any permission for others, or
 * to write for the group, what is in it does not count. A file of another kind than a regular one
 * does not count either. `root_fd` is the application's root; *reterr says what is wrong.
 */

/* 1: the release has confirmed itself; 0: not (yet). -EPERM, -EINVAL: the above; or another errno.
 */
_must_check_ int control_is_confirmed(int root_fd, const char *release, char **reterr);

/* Removes what an earlier release may have left: done right before a switch, so that a confirmation
 * that is found is always of the release that came by it. */
_must_check_ int control_forget_confirmation(int root_fd, char **reterr);

/* 1: the application holds updates off now; 0: not. Else as above. A lock by fcntl(2) is looked at
 * (F_OFD_GETLK); for flock(2) there is no such question, so that one is taken for a moment: who
 * tries it then with LOCK_NB is told that it is locked. */
_must_check_ int control_is_locked(int root_fd, char **reterr);
