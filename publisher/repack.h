/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "macro.h"

/*
 * Archives made by others: .tar, .tar.gz, .tar.xz, .tar.zst and .zip are unpacked into a directory,
 * from which pack_tree() makes the artifact. libarchive reads; the files are created here, below a
 * directory descriptor, never through a symlink. A single top-level directory is kept as it is.
 */

/*
 * Unpacks the archive archive_fd (a regular file, positioned at its start) into the empty directory
 * tree_fd. `name` is for messages. Modes become 0644 or 0755, owners are dropped, mtimes are kept,
 * hard links are kept.
 *
 * Refused with -EBADMSG naming the entry: what libarchive can't read or warns about; absolute paths
 * and ".." (a leading "./" is fine); paths through a symlink; symlinks that are absolute or leave
 * the tree; hard links to what is not in the archive before; devices, fifos, sockets; setuid,
 * setgid or sticky files; files that come twice; encrypted entries; more than FILES_MAX entries.
 * Other errors are the file system's.
 */
_must_check_ int repack_unpack(int archive_fd, int tree_fd, const char *name, char **reterr);
