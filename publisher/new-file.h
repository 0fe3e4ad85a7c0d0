/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stddef.h>
#include <sys/types.h>

#include "macro.h"

/* Writes a file that must not exist yet (-EEXIST names it), with exactly this mode, and syncs it.
 * Nothing is left behind on failure. */
_must_check_ int new_file_write(const char *path, const void *data, size_t size, mode_t mode,
                                char **reterr);
