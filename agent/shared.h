/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "activate.h"
#include "macro.h"

/*
 * What the shared links of a release lead to: <root>/shared/<path>, which outlives releases and may
 * belong to the application. So it is reached by directory descriptors only, never through a
 * symlink: whoever owns a directory in there can't lead root elsewhere.
 */

/* Makes what is missing and may be made: a file or directory of that owner and mode; shared/ itself
 * and parents 0755, root's. Durable. What exists stays as it is, whatever it is; but for something
 * with no permission bit at all, which is what a crash left of this function and is finished. All
 * is looked at before anything is made: -ENOENT when something is missing that may not be made, or
 * a user or group is not known. They are looked up by getpwnam(3), only for what is missing: a host
 * that asks a directory service for them may wait here. `root` is root_fd's path, for messages. */
_must_check_ int shared_make(const char *root, int root_fd, const Activate *a, char **reterr);
