/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * A child of slipwayd that was taken over, after it has confined itself: the real program, in which
 * a function that its main() calls then is ours (ld's --wrap), tries what it must not be able to
 * do, says what came of it, and goes on with its real work. Everything that an attempt makes or
 * changes is undone at once.
 *
 * A line on stderr, which is the journal, for each attempt: "breakout PHASE WHAT = ERRNO", with 0
 * for what went well. What must come of each stands in e2e/test_breakout.py. Without the file
 * BREAKOUT_ORDERS ("SIBLING ARCHITECTURE": a process, and "-", "x32" or "i386" for system calls by
 * that one, of which a process may die) nothing is tried.
 */

#define BREAKOUT_ORDERS "/run/breakout"

/* Reads the orders, and remembers who the parent is: later that may be impossible. */
void breakout_prepare(void);

/* Tries everything. `phase` is a word; staging_fd: the directory that is being filled, or -EBADF.
 */
void breakout_try(const char *phase, int staging_fd);
