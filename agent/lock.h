/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <sys/types.h>

#include "macro.h"

/*
 * The lock that makes one program at a time change an application on this host: an OFD lock
 * (fcntl_locking(2)) on /run/slipway/<app>.lock, held from the first act of a transaction to its
 * end, gone with its holder. An OFD lock belongs to the open file, not to the descriptor: a process
 * that was forked meanwhile holds it too, until it has closed its copy.
 */

/* Takes it without waiting. The descriptor is the lock: lock_release() gives it back. -EAGAIN:
 * somebody has it, and *ret_holder (if not NULL) is their process id as they wrote it, or 0. */
_must_check_ int lock_take(int runtime_dir_fd, const char *app, int *ret_fd, pid_t *ret_holder);

/* Unlocks and closes: free at once for others, even while a child between fork() and exec() still
 * has a copy of the descriptor, which close() alone would leave locked. Takes a negative fd, keeps
 * errno, returns -EBADF. */
int lock_release(int fd);
