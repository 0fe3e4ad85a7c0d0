/* SPDX-License-Identifier: Apache-2.0 */
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <unistd.h>

#include "fd.h"
#include "lock.h"

static pid_t read_holder(int fd)
{
        char text[32] = {};
        ssize_t n = pread(fd, text, sizeof(text) - 1, 0);
        long pid = n > 0 ? strtol(text, NULL, 10) : 0;

        return pid > 0 && pid < INT_MAX ? pid : 0;
}

int lock_take(int runtime_dir_fd, const char *app, int *ret_fd, pid_t *ret_holder)
{
        struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
        char name[NAME_MAX + 1], text[32];
        _cleanup_close_ int fd = -EBADF;
        int n, r;

        (void) snprintf(name, sizeof(name), "%s.lock", app);
        fd = openat(runtime_dir_fd, name, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
        if (fd < 0)
                return -errno;
        if (fcntl(fd, F_OFD_SETLK, &lock) < 0) {
                if (errno != EAGAIN && errno != EACCES)
                        return -errno;
                if (ret_holder)
                        *ret_holder = read_holder(fd);
                return -EAGAIN;
        }
        /* For the message of whoever finds it taken; the lock itself does not need it. */
        n = snprintf(text, sizeof(text), "%d\n", (int) getpid());
        r = fd_pwrite_all(fd, text, n, 0);
        if (r >= 0 && ftruncate(fd, n) < 0)
                r = -errno;
        if (r < 0)
                return r;
        *ret_fd = TAKE_FD(fd);
        return 0;
}

int lock_release(int fd)
{
        struct flock lock = { .l_type = F_UNLCK, .l_whence = SEEK_SET };

        if (fd >= 0)
                (void) fcntl(fd, F_OFD_SETLK, &lock);
        return fd_close(fd);
}
