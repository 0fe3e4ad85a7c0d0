/* SPDX-License-Identifier: Apache-2.0 */
#include "git.h"

#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "fd.h"

#define ARGUMENTS_MAX   16
#define OUTPUT_SIZE_MAX 65536

/* Output goes to memfds: two pipes would have to be read in turns. */
static int output_fd(const char *name)
{
        int fd = memfd_create(name, MFD_CLOEXEC);

        return fd < 0 ? -errno : fd;
}

static int first_line(int fd, char **ret)
{
        _cleanup_free_ char *text = NULL;
        int r;

        if (lseek(fd, 0, SEEK_SET) < 0)
                return -errno;
        r = fd_read_all(fd, OUTPUT_SIZE_MAX, &text, NULL);
        if (r < 0)
                return r;
        text[strcspn(text, "\n")] = '\0';
        *ret = TAKE_PTR(text);
        return 0;
}

/* The environment, with LC_ALL=C: git's messages are compared. */
static int make_environment(char ***ret)
{
        size_t n = 0, k = 0;

        while (environ[n])
                n++;
        char **list = calloc(n + 2, sizeof(char *));
        if (!list)
                return -ENOMEM;
        for (size_t i = 0; i < n; i++)
                if (strncmp(environ[i], "LC_ALL=", 7) != 0 &&
                    strncmp(environ[i], "LANGUAGE=", 9) != 0)
                        list[k++] = environ[i];
        list[k] = (char *) "LC_ALL=C";
        *ret = list;
        return 0;
}

static int spawn_git(const char *directory, const char *const *arguments, int out_fd, int err_fd,
                     pid_t *ret)
{
        const char *argv[ARGUMENTS_MAX + 4] = { "git", "-C", directory };
        posix_spawn_file_actions_t actions;
        _cleanup_free_ char **environment = NULL;
        int r = make_environment(&environment);

        if (r < 0)
                return r;
        for (size_t i = 0; i < ARGUMENTS_MAX && arguments[i]; i++)
                argv[3 + i] = arguments[i];
        r = posix_spawn_file_actions_init(&actions);
        if (r != 0)
                return -r;
        r = posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
        if (r == 0)
                r = posix_spawn_file_actions_adddup2(&actions, out_fd, STDOUT_FILENO);
        if (r == 0)
                r = posix_spawn_file_actions_adddup2(&actions, err_fd, STDERR_FILENO);
        if (r == 0)
                r = posix_spawnp(ret, "git", &actions, NULL, (char *const *) argv, environment);
        (void) posix_spawn_file_actions_destroy(&actions);
        return -r;
}

static int wait_for(pid_t pid, int *ret_status)
{
        while (waitpid(pid, ret_status, 0) < 0)
                if (errno != EINTR)
                        return -errno;
        return 0;
}

int git_run(const char *directory, const char *const *arguments, char **ret, char **ret_problem)
{
        _cleanup_close_ int out_fd = output_fd("git-output"), err_fd = output_fd("git-messages");
        pid_t pid;
        int status = 0, r;

        if (out_fd < 0)
                return out_fd;
        if (err_fd < 0)
                return err_fd;
        r = spawn_git(directory, arguments, out_fd, err_fd, &pid);
        if (r < 0)
                return r;
        r = wait_for(pid, &status);
        if (r < 0)
                return r;
        if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
                return first_line(out_fd, ret);
        if (ret_problem) {
                r = first_line(err_fd, ret_problem);
                if (r < 0)
                        return r;
        }
        return 1;
}
