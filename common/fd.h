/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <errno.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/types.h>

#include "macro.h"

/*
 * Files, directories and descriptors. Every descriptor made here is O_CLOEXEC. All functions return
 * 0 or a negative errno, unless said otherwise.
 */

/* Closes fd unless it is negative, keeps errno, returns -EBADF. */
int fd_close(int fd);

static inline void fd_closep(int *fd)
{
        fd_close(*fd);
}
#define _cleanup_close_ _cleanup_(fd_closep)

/* Reads from the file's present position to its end. *ret is NUL-terminated (not counted in
 * *ret_size, which may be NULL), to be freed. More than size_max bytes: -EFBIG. */
_must_check_ int fd_read_all(int fd, size_t size_max, char **ret, size_t *ret_size);

/* Reads exactly `size` bytes at `offset`; a shorter file is -ENODATA. */
_must_check_ int fd_pread_exactly(int fd, void *data, size_t size, uint64_t offset);

/* Writes all of it, or fails; interrupted and short writes are continued. */
_must_check_ int fd_write_all(int fd, const void *data, size_t size);
_must_check_ int fd_pwrite_all(int fd, const void *data, size_t size, uint64_t offset);

/* fd_read_all() on a regular file below dir_fd (AT_FDCWD will do). Other kinds of file: -EINVAL. */
_must_check_ int file_read_at(int dir_fd, const char *path, size_t size_max, char **ret,
                              size_t *ret_size);

/* Replaces the file `name` in the directory dir_fd, durably: written aside under a random name,
 * fsync, rename, fsync of the directory. After a crash the old or the new content is there. */
_must_check_ int file_write_atomic_at(int dir_fd, const char *name, const void *data, size_t size,
                                      mode_t mode);

/* Makes `name` in dir_fd a symlink to `target`, durably and in one step, whether or not it exists
 * (a symlink made aside under a random name, renamed over it; then fsync of the directory).
 * A directory of that name is -EISDIR. */
_must_check_ int symlink_replace_at(const char *target, int dir_fd, const char *name);

/* Removes what these two left aside for `name` in dir_fd when their process was killed in them.
 * Nobody may be replacing `name` meanwhile. */
_must_check_ int replace_leftovers_remove_at(int dir_fd, const char *name);

/* The target of a symlink, to be freed. Not a symlink: -EINVAL. Longer than PATH_MAX:
 * -ENAMETOOLONG. */
_must_check_ int readlink_at(int dir_fd, const char *path, char **ret);

/* Opens a directory for reading and for *at() calls; a symlink as last component is -ENOTDIR. */
_must_check_ int dir_open_at(int dir_fd, const char *path);

/* Makes the directory and its missing parents, all with `mode` (less the umask). An existing
 * directory is fine and keeps its mode; anything else in the way is -ENOTDIR. */
_must_check_ int mkdir_parents(const char *path, mode_t mode);

/* Deletes the file or the whole tree `name` in dir_fd, never following a symlink, never leaving the
 * file system, without recursion in C. Directories without permission bits are opened up first.
 * A missing `name` is fine. The tree may be deep and large: blocks until done. */
_must_check_ int remove_tree_at(int dir_fd, const char *name);

/* A sealed memfd (it can neither grow, shrink nor change) with the data, positioned at its start.
 * `name` is for /proc only. Returns the descriptor. */
_must_check_ int memfd_sealed(const char *name, const void *data, size_t size);

/* Fills `s` with 16 random hex digits and a NUL: for names of temporary files. */
_must_check_ int random_hex(char s[static 17]);
