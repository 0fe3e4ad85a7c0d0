/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "macro.h"

/* Runs `git -C directory ARGUMENTS...` (arguments end with NULL) without a shell, with LC_ALL=C and
 * nothing to read. 0: *ret has its first line of output, without the newline, to be freed. 1: it
 * failed; *ret_problem (to be freed; may be a NULL pointer) has the first line of its messages.
 * -ENOENT: there is no git. */
_must_check_ int git_run(const char *directory, const char *const *arguments, char **ret,
                         char **ret_problem);
