/* SPDX-License-Identifier: Apache-2.0 */
#include "admin-output.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <sys/stat.h>

#include "admin.h"
#include "err.h"
#include "fd.h"
#include "log.h"

const char *arg_output = NULL;

static int write_file(const char *path, const char *text, size_t size, mode_t mode, char **reterr)
{
        _cleanup_free_ char *dir = strdup(path), *name = strdup(path);
        _cleanup_close_ int fd = -EBADF;
        struct stat st;

        if (!dir || !name)
                return -ENOMEM;
        /* /dev/null, for one, is not to be replaced. */
        if (lstat(path, &st) == 0 && !S_ISREG(st.st_mode))
                return fail(reterr, -EINVAL, "it is there, and no regular file");
        fd = open(dirname(dir), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        return fd < 0 ? -errno : file_write_atomic_at(fd, basename(name), text, size, mode);
}

int admin_output(int (*write)(FILE *f, void *userdata), void *userdata, mode_t mode)
{
        _cleanup_free_ char *text = NULL;
        _cleanup_free_ char *err = NULL;
        size_t size = 0;
        FILE *m = open_memstream(&text, &size);
        int r;

        if (!m) {
                log_error("cannot write this: %s", strerror(ENOMEM));
                return ADMIN_FAILED;
        }
        r = write(m, userdata);
        if (fclose(m) != 0 && r >= 0)
                r = -ENOMEM;
        if (r >= 0 && arg_output)
                r = write_file(arg_output, text, size, mode, &err);
        else if (r >= 0)
                fwrite(text, 1, size, stdout); /* admin_main() looks for errors */
        if (r >= 0)
                return ADMIN_OK;
        log_error("cannot write %s: %s", arg_output ? arg_output : "this", err_text(r, err));
        return ADMIN_FAILED;
}
