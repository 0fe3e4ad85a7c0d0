/* SPDX-License-Identifier: Apache-2.0 */
#include "workspace.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "err.h"
#include "fd.h"
#include "log.h"

struct Workspace {
        char *path;
        int fd;
        int alive_fd; /* the socket whose closing tells the child */
        pid_t child;
};

/* In the child: makes the directory, tells so, and waits for the end of the publisher. Making it is
 * the child's work as well, or a publisher that is killed right after it would leave it. */
static _Noreturn void keep_directory(int fd, const char *path)
{
        static const int signals[] = { SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGPIPE };
        char byte;
        ssize_t n;

        (void) setsid(); /* a Ctrl-C is not meant for it */
        for (size_t i = 0; i < ELEMENTSOF(signals); i++)
                (void) signal(signals[i], SIG_IGN);
        int error = mkdir(path, 0700) < 0 ? errno : 0;
        if (write(fd, &error, sizeof(error)) != sizeof(error) && error > 0)
                _exit(EXIT_FAILURE);
        do
                n = read(fd, &byte, 1);
        while (n < 0 && errno == EINTR);
        _exit(error > 0 || remove_tree_at(AT_FDCWD, path) < 0 ? EXIT_FAILURE : EXIT_SUCCESS);
}

static int start_child(Workspace *w)
{
        int ends[2];

        if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) < 0)
                return -errno;
        w->child = fork();
        if (w->child == 0) {
                fd_close(ends[1]);
                keep_directory(ends[0], w->path);
        }
        int r = w->child < 0 ? -errno : 0;
        fd_close(ends[0]);
        w->alive_fd = ends[1];
        return r;
}

/* What became of the child's mkdir(). */
static int wait_until_made(const Workspace *w)
{
        int error = 0;
        ssize_t n;

        do
                n = read(w->alive_fd, &error, sizeof(error));
        while (n < 0 && errno == EINTR);
        if (n < 0)
                return -errno;
        return n == sizeof(error) ? -error : -ECHILD;
}

int workspace_new(Workspace **ret, char **reterr)
{
        const char *parent = getenv("TMPDIR");
        _cleanup_(workspace_freep) Workspace *w = calloc(1, sizeof(Workspace));
        char hex[17];
        int r;

        if (!w)
                return -ENOMEM;
        *w = (Workspace){ .fd = -EBADF, .alive_fd = -EBADF, .child = -1 };
        if (!parent || parent[0] != '/')
                parent = "/var/tmp";
        r = random_hex(hex);
        if (r < 0)
                return r;
        if (asprintf(&w->path, "%s/slipway-publish.%s", parent, hex) < 0) {
                w->path = NULL;
                return -ENOMEM;
        }
        r = start_child(w);
        if (r >= 0)
                r = wait_until_made(w);
        if (r >= 0)
                r = w->fd = dir_open_at(AT_FDCWD, w->path);
        if (r < 0)
                return fail_errno(reterr, r, "can't make a temporary directory in %s (TMPDIR)",
                                  parent);
        *ret = TAKE_PTR(w);
        return 0;
}

/* 0 once the directory is gone. */
static int remove_directory(const Workspace *w)
{
        int status = 0;

        if (w->child <= 0)
                return 0;
        while (waitpid(w->child, &status, 0) < 0)
                if (errno != EINTR)
                        return -errno;
        return WIFEXITED(status) && WEXITSTATUS(status) == EXIT_SUCCESS ? 0 : -EIO;
}

Workspace *workspace_free(Workspace *w)
{
        if (!w)
                return NULL;
        fd_close(w->alive_fd);
        if (remove_directory(w) < 0 && w->fd >= 0)
                log_warning("The temporary directory %s could not be removed.", w->path);
        fd_close(w->fd);
        free(w->path);
        free(w);
        return NULL;
}

int workspace_fd(const Workspace *w)
{
        return w->fd;
}
