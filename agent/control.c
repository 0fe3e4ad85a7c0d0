/* SPDX-License-Identifier: Apache-2.0 */
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "control.h"
#include "err.h"
#include "fd.h"
#include "name.h"

#define DIRECTORY   "control"
#define CONFIRM     "confirm"
#define UPDATE_LOCK "update.lock"

/* -ENOENT: there is none. */
static int open_directory(int root_fd, int *ret_fd, char **reterr)
{
        _cleanup_close_ int fd =
                openat(root_fd, DIRECTORY, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        struct stat st;

        if (fd < 0 && errno == ENOENT)
                return -ENOENT;
        if (fd < 0 || fstat(fd, &st) < 0)
                return fail_errno(reterr, -errno, "can't look into " DIRECTORY "/");
        if (st.st_mode & (S_IWGRP | S_IRWXO))
                return fail(reterr, -EPERM,
                            "what is in " DIRECTORY
                            "/ does not count: its mode is %04o, others may come in (make it 0700)",
                            st.st_mode & 07777);
        *ret_fd = TAKE_FD(fd);
        return 0;
}

/* Neither follows a link nor waits for anybody. -ENOENT: there is none. */
static int open_file(int root_fd, const char *name, int *ret_fd, char **reterr)
{
        _cleanup_close_ int dir = -EBADF, fd = -EBADF;
        struct stat st;
        int r = open_directory(root_fd, &dir, reterr);

        if (r < 0)
                return r;
        fd = openat(dir, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
        if (fd < 0 && errno == ENOENT)
                return -ENOENT;
        if (fd < 0 || fstat(fd, &st) < 0)
                return fail_errno(reterr, -errno, "can't look at " DIRECTORY "/%s", name);
        if (!S_ISREG(st.st_mode))
                return fail(reterr, -EINVAL, DIRECTORY "/%s is not a regular file", name);
        *ret_fd = TAKE_FD(fd);
        return 0;
}

int control_is_confirmed(int root_fd, const char *release, char **reterr)
{
        _cleanup_close_ int fd = -EBADF;
        char text[NAME_SIZE_MAX + 3];
        ssize_t n;
        int r = open_file(root_fd, CONFIRM, &fd, reterr);

        if (r < 0)
                return r == -ENOENT ? 0 : r;
        n = pread(fd, text, sizeof(text) - 1, 0);
        if (n < 0)
                return fail_errno(reterr, -errno, "can't read " DIRECTORY "/" CONFIRM);
        if (n > 0 && text[n - 1] == '\n')
                n--;
        text[n] = '\0';
        return strlen(text) == (size_t) n && streq(text, release);
}

int control_forget_confirmation(int root_fd, char **reterr)
{
        _cleanup_close_ int dir = -EBADF;
        int r = open_directory(root_fd, &dir, NULL);

        /* What does not count need not go. */
        if (r == -ENOENT || r == -EPERM)
                return 0;
        if (r >= 0 && unlinkat(dir, CONFIRM, 0) < 0 && errno != ENOENT)
                r = -errno;
        return r < 0 ? fail_errno(reterr, r, "can't remove an old " DIRECTORY "/" CONFIRM) : 0;
}

int control_is_locked(int root_fd, char **reterr)
{
        struct flock any = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
        _cleanup_close_ int fd = -EBADF;
        int r = open_file(root_fd, UPDATE_LOCK, &fd, reterr);

        if (r < 0)
                return r == -ENOENT ? 0 : r;
        if (fcntl(fd, F_OFD_GETLK, &any) < 0)
                return fail_errno(reterr, -errno, "can't look at " DIRECTORY "/" UPDATE_LOCK);
        if (any.l_type != F_UNLCK)
                return 1;
        if (flock(fd, LOCK_EX | LOCK_NB) >= 0)
                return 0; /* given back with fd */
        return errno == EWOULDBLOCK
                       ? 1
                       : fail_errno(reterr, -errno, "can't look at " DIRECTORY "/" UPDATE_LOCK);
}
