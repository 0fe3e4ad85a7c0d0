/* SPDX-License-Identifier: Apache-2.0 */
#include "workspace.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "err.h"
#include "fd.h"
#include "log.h"

struct Workspace {
        char *path;
        int fd;
        int alive_fd; /* the pipe's end whose closing tells the child */
        pid_t child;
};

/* In the child: waits for the end of the publisher. */
static void clean_up_after(int fd, const char *path)
{
        char byte;
        ssize_t n;

        (void) setsid(); /* a Ctrl-C is not meant for it */
        for (int s = SIGHUP; s <= SIGTERM; s++)
                (void) signal(s, SIG_IGN);
        do
                n = read(fd, &byte, 1);
        while (n < 0 && errno == EINTR);
        _exit(remove_tree_at(AT_FDCWD, path) < 0 ? EXIT_FAILURE : EXIT_SUCCESS);
}

static int start_child(Workspace *w)
{
        int ends[2];

        if (pipe2(ends, O_CLOEXEC) < 0)
                return -errno;
        w->child = fork();
        if (w->child == 0) {
                fd_close(ends[1]);
                clean_up_after(ends[0], w->path);
        }
        int r = w->child < 0 ? -errno : 0;
        fd_close(ends[0]);
        w->alive_fd = ends[1];
        return r;
}

int workspace_new(Workspace **ret, char **reterr)
{
        const char *parent = getenv("TMPDIR");
        _cleanup_(workspace_freep) Workspace *w = calloc(1, sizeof(Workspace));
        int r;

        if (!w)
                return -ENOMEM;
        *w = (Workspace){ .fd = -EBADF, .alive_fd = -EBADF, .child = -1 };
        if (!parent || parent[0] != '/')
                parent = "/var/tmp";
        if (asprintf(&w->path, "%s/slipway-publish.XXXXXX", parent) < 0) {
                w->path = NULL;
                return -ENOMEM;
        }
        if (!mkdtemp(w->path)) {
                r = fail_errno(reterr, -errno, "can't make a temporary directory in %s (TMPDIR)",
                               parent);
                w->path = (free(w->path), NULL);
                return r;
        }
        r = start_child(w);
        if (r < 0)
                return fail_errno(reterr, r, "can't start a child process");
        w->fd = dir_open_at(AT_FDCWD, w->path);
        if (w->fd < 0)
                return fail_errno(reterr, w->fd, "%s", w->path);
        *ret = TAKE_PTR(w);
        return 0;
}

/* 0 once the directory is gone. */
static int remove_directory(const Workspace *w)
{
        int status = 0;

        if (w->child <= 0)
                return w->path ? remove_tree_at(AT_FDCWD, w->path) : 0;
        while (waitpid(w->child, &status, 0) < 0)
                if (errno != EINTR)
                        return -errno;
        return WIFEXITED(status) && WEXITSTATUS(status) == EXIT_SUCCESS ? 0 : -EIO;
}

Workspace *workspace_free(Workspace *w)
{
        if (!w)
                return NULL;
        fd_close(w->fd);
        fd_close(w->alive_fd);
        if (remove_directory(w) < 0)
                log_warning("The temporary directory %s could not be removed.", w->path);
        free(w->path);
        free(w);
        return NULL;
}

int workspace_fd(const Workspace *w)
{
        return w->fd;
}
