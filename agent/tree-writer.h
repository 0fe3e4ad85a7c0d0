/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stddef.h>

#include "index.h"
#include "macro.h"

/*
 * Writes a release's tree from its tar stream. libarchive reads (plain tar, nothing else), files
 * are made here, below a directory descriptor, never through a symlink and never over something
 * that is there. The signed index decides what is made: path, type, mode, mtime, link target and
 * size. The stream must hold exactly the index's entries, in its order.
 */

/* Gives the next piece of the stream, valid until the next call. 1: got one, 0: end, or an error.
 */
typedef int (*tree_source_t)(void *userdata, const void **ret_data, size_t *ret_size,
                             char **reterr);

/* dir_fd: an empty directory. -EBADMSG: the stream differs from the index, naming the path.
 * -ENOSPC, -EDQUOT, -EROFS and other errors of the file system go up with the path; the source's go
 * up unchanged. What was made until then stays. Nothing is synced. */
_must_check_ int tree_write(int dir_fd, const Index *index, tree_source_t source, void *userdata,
                            char **reterr);
