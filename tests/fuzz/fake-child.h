/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "child.h"
#include "message.h"

/*
 * Children of slipwayd (child.h) without processes: the other end of a child's socket is the
 * target's, which plays the child. Whoever links this links no agent/child.c.
 */

/* One that runs, or NULL: the last one of this name that was started. */
Child *fake_child_find(const char *program);

/* The child's end. */
int fake_child_fd(const Child *c);

/* It ends when the event loop runs. */
void fake_child_exit(Child *c);
