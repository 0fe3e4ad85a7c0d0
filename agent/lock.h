/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <sys/types.h>

#include "macro.h"

/*
 * The lock that makes one program at a time change an application on this host: an OFD lock
 * (fcntl_locking(2)) on /run/slipway/<app>.lock, held from the first act of a transaction to its
 * end, gone with its holder.
 */

/* Takes it without waiting. The descriptor is the lock: closing it gives the lock back. -EAGAIN:
 * somebody has it, and *ret_holder (if not NULL) is their process id as they wrote it, or 0. */
_must_check_ int lock_take(int runtime_dir_fd, const char *app, int *ret_fd, pid_t *ret_holder);
