/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "macro.h"

/*
 * A temporary directory in $TMPDIR (else /var/tmp: artifacts are too large for a /tmp in memory)
 * that is gone afterwards, whatever ends the publisher: a child of it makes the directory, waits
 * for the publisher's end, and deletes it. CI machines kill their jobs, and disks fill up with what
 * these leave.
 */

typedef struct Workspace Workspace;

_must_check_ int workspace_new(Workspace **ret, char **reterr);

/* Deletes the directory and waits until that is done. */
Workspace *workspace_free(Workspace *w);
DEFINE_CLEANUP_FUNC(Workspace *, workspace_free);

/* The directory, owned by w; empty at first, for the owner alone. */
int workspace_fd(const Workspace *w);
