/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>

#include "index.h"
#include "macro.h"

/*
 * What is in a directory tree, as it may go into an artifact: in bytewise order of the paths, modes
 * made 0644 or 0755. The tree may be anybody's: symlinks are not followed, and what has no place
 * in a release is refused with its path (see pack.h).
 */

typedef struct TreeEntry {
        char *path, *link; /* link: symlinks only */
        FileType type;
        unsigned mode;
        struct stat st; /* as it was seen, for finding changes */
} TreeEntry;

typedef struct Tree Tree;

_must_check_ int tree_scan(int tree_fd, Tree **ret, char **reterr);
Tree *tree_free(Tree *t);
DEFINE_CLEANUP_FUNC(Tree *, tree_free);

size_t tree_n_entries(const Tree *t);
const TreeEntry *tree_entry(const Tree *t, size_t n);

/* When one of its files was last changed, in seconds; 0: before 1970, or there is none. */
uint64_t tree_newest_sec(const Tree *t);

/* Whether the file is not the one that was scanned, or was written to since. */
bool tree_entry_changed(const TreeEntry *e, const struct stat *st);
