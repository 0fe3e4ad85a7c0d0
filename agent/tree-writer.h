/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stddef.h>

#include "delta.h"
#include "index.h"
#include "macro.h"

/*
 * Writes a release's tree from its tar stream. libarchive reads (plain tar, nothing else), files
 * are made here, below a directory descriptor, never through a symlink and never over something
 * that is there. The signed index decides what is made: path, type, mode, mtime, link target and
 * size. The stream must hold exactly those of the index's entries that a delta says (delta.h), in
 * its order; what ends an archive may be missing.
 */

/* Makes all directories and symlinks, by the index alone. dir_fd: an empty directory. -EEXIST: for
 * the file system names are the same that are not. Other errors as below. */
_must_check_ int tree_prepare(int dir_fd, const Index *index, char **reterr);

/* Gives the next piece of the stream, valid until the next call. 1: got one, 0: end, or an error.
 */
typedef int (*tree_source_t)(void *userdata, const void **ret_data, size_t *ret_size,
                             char **reterr);

/* Writes the files that are not reused, then gives all directories their modes and times. dir_fd
 * has what tree_prepare() made, and the files that are reused. -EBADMSG: the stream differs from
 * the index, naming the path. -ENOSPC, -EDQUOT, -EROFS and other errors of the file system go up
 * with the path; the source's go up unchanged. What was made until then stays. Nothing is synced.
 */
_must_check_ int tree_write(int dir_fd, const Index *index, const Delta *delta,
                            tree_source_t source, void *userdata, char **reterr);
