/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stddef.h>

#include "macro.h"

/*
 * Reaches files in a tree by their paths, component by component, never through a symlink and so
 * never outside. (openat2() could do it too, but container runtimes of CI services still refuse
 * it.) The directories of the last path stay open, so that going through a tree in order opens each
 * directory about once; TREE_DEPTH_MAX descriptors at most.
 */

typedef struct Beneath Beneath;

/* root_fd stays the caller's and must stay open. */
_must_check_ int beneath_new(int root_fd, Beneath **ret);
Beneath *beneath_free(Beneath *b);
DEFINE_CLEANUP_FUNC(Beneath *, beneath_free);

/* From now on, a directory that is missing on the way is made, with mode 0700. Others may make the
 * same at the same time. *n_made counts those that are made here; it must outlive b. */
void beneath_make_missing(Beneath *b, size_t *n_made);

/* Makes a directory of that name, if there is nothing yet, in the same way. */
_must_check_ int beneath_make(int parent_fd, const char *name, size_t *n_made);

/* Returns the descriptor (for *at() calls and reading) of the directory that `path`, a valid tree
 * path, lies in; it stays b's, until the next call. *ret_name is path's last component, in `path`
 * itself. A component that is not a directory is -ENOTDIR. */
_must_check_ int beneath_parent(Beneath *b, const char *path, const char **ret_name);
