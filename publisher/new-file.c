/* SPDX-License-Identifier: Apache-2.0 */
#include "new-file.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "err.h"
#include "fd.h"

int new_file_write(const char *path, const void *data, size_t size, mode_t mode, char **reterr)
{
        /* For the owner alone until it is whole: it may be a private key. */
        _cleanup_close_ int fd =
                open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
        int r;

        if (fd < 0 && errno == EEXIST)
                return fail(
                        reterr, -EEXIST,
                        "%s exists and is not overwritten: choose another name, or move it away",
                        path);
        if (fd < 0)
                return fail_errno(reterr, -errno, "can't make %s", path);
        r = fd_write_all(fd, data, size);
        if (r >= 0 && (fchmod(fd, mode) < 0 || fsync(fd) < 0))
                r = -errno;
        if (r < 0) {
                (void) unlink(path);
                return fail_errno(reterr, r, "can't write %s", path);
        }
        return 0;
}
