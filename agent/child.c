/* SPDX-License-Identifier: Apache-2.0 */
#include <fcntl.h>
#include <fnmatch.h>
#include <grp.h>
#include <limits.h>
#include <poll.h>
#include <pwd.h>
#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "build-config.h"
#include "child.h"
#include "err.h"
#include "fd.h"
#include "log.h"

/* Messages handled in one turn of the loop, so that a child that sends without end cannot starve
 * what else there is; the ends of children come before all messages. */
#define MESSAGES_PER_TURN 32

/* A child that says more than these turns have room for waits until the period is over. An honest
 * one does not come near: AVAILABLE, which comes most often, comes each 256 KiB. */
#define TURNS_USEC (UINT64_C(100) * 1000)
#define TURNS_MAX  100

/* What is read after a child's end: more than a socket holds at its usual size. */
#define MESSAGES_AT_END 512

struct Child {
        pid_t pid;   /* 0: ended */
        bool broken; /* it broke the protocol: nothing more is delivered */
        int socket_fd;
        sd_event_source *message_source, *exit_source;
        ChildCallbacks callbacks;
        void *userdata;
        bool *freed; /* where to note that a callback freed us */
};

int identity_lookup(const char *user, Identity *ret, char **reterr)
{
        struct passwd *p;

        errno = 0;
        p = getpwnam(user);
        if (!p && errno != 0 && errno != ENOENT)
                return fail_errno(reterr, -errno, "can't look up user %s", user);
        if (!p)
                return fail(
                        reterr, -ESRCH,
                        "there is no user %s: run systemd-sysusers, or install the package again",
                        user);
        if (p->pw_uid == 0 || p->pw_gid == 0)
                return fail(reterr, -EINVAL, "user %s has the ids of root", user);
        *ret = (Identity){ .change = true, .uid = p->pw_uid, .gid = p->pw_gid };
        return 0;
}

/* Leaves a killed process to the event loop, which reaps it when the kernel is done with it. */
static void orphan(Child *c)
{
        (void) kill(c->pid, SIGKILL);
        (void) sd_event_source_set_userdata(c->exit_source, NULL);
        (void) sd_event_source_set_floating(c->exit_source, true);
        c->exit_source = sd_event_source_unref(c->exit_source);
}

Child *child_free(Child *c)
{
        if (!c)
                return NULL;
        if (c->freed)
                *c->freed = true;
        sd_event_source_disable_unref(c->message_source);
        if (c->pid > 0)
                orphan(c);
        sd_event_source_disable_unref(c->exit_source);
        fd_close(c->socket_fd);
        free(c);
        return NULL;
}

Child *child_finish(Child *c, uint64_t usec)
{
        _cleanup_close_ int fd = -EBADF;
        struct pollfd p = { .events = POLLIN };

        if (c && c->pid > 0) {
                p.fd = fd = syscall(SYS_pidfd_open, c->pid, 0);
                if (fd >= 0 && shutdown(c->socket_fd, SHUT_WR) == 0)
                        (void) poll(&p, 1, usec / 1000);
        }
        return child_free(c);
}

static int own_directory(char ret[static PATH_MAX])
{
        ssize_t n = readlink("/proc/self/exe", ret, PATH_MAX - 1);
        char *slash;

        if (n < 0)
                return -errno;
        ret[n] = '\0';
        slash = strrchr(ret, '/');
        if (!slash)
                return -ENOENT;
        *slash = '\0';
        return 0;
}

static int program_path(const char *program, char ret[static PATH_MAX])
{
        char directory[PATH_MAX];
        int n, r = own_directory(directory);

        if (r < 0)
                return r;
        n = snprintf(ret, PATH_MAX, "%s/%s", directory, program);
        if (n < PATH_MAX && access(ret, X_OK) == 0)
                return 0;
        n = snprintf(ret, PATH_MAX, "%s/%s", SLIPWAY_LIBEXECDIR, program);
        return n < PATH_MAX ? 0 : -ENAMETOOLONG;
}

static bool is_passed(const char *assignment, const char *const *passed)
{
        static const char *const always[] = { "SLIPWAY_LOG_LEVEL", "JOURNAL_STREAM", NULL };
        const char *const *const lists[] = { always, passed };
        _cleanup_free_ char *name = strndup(assignment, strcspn(assignment, "="));

        for (size_t i = 0; name && i < ELEMENTSOF(lists); i++)
                for (const char *const *p = lists[i]; p && *p; p++)
                        if (fnmatch(*p, name, 0) == 0)
                                return true;
        return false;
}

/* The variables of ours that a child gets; the strings stay ours. */
static int environment_new(const char *const *passed, char ***ret)
{
        size_t n_all = 0, n = 0;
        char **e;

        while (environ && environ[n_all])
                n_all++;
        e = calloc(n_all + 1, sizeof(char *));
        if (!e)
                return -ENOMEM;
        for (size_t i = 0; i < n_all; i++)
                if (is_passed(environ[i], passed))
                        e[n++] = environ[i];
        *ret = e;
        return 0;
}

static int close_from(int first)
{
#ifdef SYS_close_range
        if (syscall(SYS_close_range, (unsigned) first, ~0U, 0U) == 0)
                return 0;
#endif
        for (int fd = first; fd < 1024; fd++)
                (void) close(fd);
        return 0;
}

static int drop_identity(const Identity *identity)
{
        if (!identity->change)
                return 0;
        if (setgroups(0, NULL) < 0 || setresgid(identity->gid, identity->gid, identity->gid) < 0 ||
            setresuid(identity->uid, identity->uid, identity->uid) < 0)
                return -errno;
        return 0;
}

_Noreturn static void child_run(const char *path, char *const argv[], char *const environment[],
                                const Identity *identity, int socket_fd, pid_t parent)
{
        sigset_t none;
        int fd = fcntl(socket_fd, F_DUPFD, MESSAGE_FD + 1);

        /* dup2 of a descriptor onto itself would leave it close-on-exec. */
        if (fd < 0 || dup2(fd, MESSAGE_FD) < 0 || close_from(MESSAGE_FD + 1) < 0 ||
            drop_identity(identity) < 0 || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 ||
            prctl(PR_SET_PDEATHSIG, SIGKILL) < 0) {
                log_error("can't start %s: %s", path, strerror(errno));
                _exit(EXIT_FAILURE);
        }
        /* PR_SET_PDEATHSIG does not see a parent that died before. */
        if (getppid() != parent)
                _exit(EXIT_FAILURE);
        sigemptyset(&none);
        (void) sigprocmask(SIG_SETMASK, &none, NULL);
        execve(path, argv, environment);
        log_error("can't start %s: %s", path, strerror(errno));
        _exit(EXIT_FAILURE);
}

void child_kill(Child *c)
{
        /* kill(0) would be for us and our whole process group. */
        if (c->pid > 0)
                (void) kill(c->pid, SIGKILL);
}

/* Hands out what is there. False: c is gone. */
static bool deliver(Child *c, int n_max)
{
        bool freed = false;
        int r = 0;

        if (c->broken)
                return true;
        c->freed = &freed;
        for (int i = 0; i < n_max; i++) {
                Message m;
                _cleanup_close_ int fd = -EBADF;

                r = message_receive(c->socket_fd, &m, &fd);
                if (r <= 0)
                        break;
                c->callbacks.message(c, &m, &fd, c->userdata);
                if (freed)
                        return false;
        }
        c->freed = NULL;
        if (r < 0 && r != -EAGAIN) {
                log_error("a helper process broke its protocol (%s): killed", strerror(-r));
                c->broken = true;
        }
        /* One that only closed its end, and lives, is of no use any more. */
        if (r <= 0 && r != -EAGAIN) {
                (void) sd_event_source_set_enabled(c->message_source, SD_EVENT_OFF);
                child_kill(c);
        }
        return true;
}

static int on_message(sd_event_source *source, int fd, uint32_t revents, void *userdata)
{
        (void) source;
        (void) fd;
        (void) revents;
        (void) deliver(userdata, MESSAGES_PER_TURN);
        return 0;
}

/* Nobody tells a process who killed it; what the kernel killed stands in its own log. */
static void say_how(const Child *c, const siginfo_t *si, char *how, size_t size)
{
        if (si->si_code == CLD_EXITED)
                (void) snprintf(how, size, "exit status %d", si->si_status);
        else if (si->si_status == SIGKILL && !c->broken)
                (void) snprintf(how, size, "signal 9: killed by hand, or as memory ran out");
        else
                (void) snprintf(how, size, "signal %d", si->si_status);
}

static int on_exit_event(sd_event_source *source, const siginfo_t *si, void *userdata)
{
        Child *c = userdata;
        char how[64];

        if (!c) {
                /* An orphan: this was all that was left of it. */
                (void) sd_event_source_set_floating(source, false);
                return 0;
        }
        c->pid = 0;
        if (!deliver(c, MESSAGES_AT_END))
                return 0;
        say_how(c, si, how, sizeof(how));
        c->callbacks.exited(c, how, c->userdata);
        return 0;
}

/* A process that can't be watched is ended here: it has hardly begun, so this is no long wait. */
static int watch(Child *c, sd_event *event, pid_t pid)
{
        int r = sd_event_add_io(event, &c->message_source, c->socket_fd, EPOLLIN, on_message, c);

        if (r >= 0)
                r = sd_event_source_set_ratelimit(c->message_source, TURNS_USEC, TURNS_MAX);
        if (r >= 0)
                r = sd_event_add_child(event, &c->exit_source, pid, WEXITED, on_exit_event, c);
        if (r < 0) {
                (void) kill(pid, SIGKILL);
                while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
                        ;
                return r;
        }
        c->pid = pid;
        /* Before messages, which a child may send without end. */
        return sd_event_source_set_priority(c->exit_source, SD_EVENT_PRIORITY_NORMAL - 10);
}

int child_spawn(sd_event *event, const char *program, char *const argv[], const char *const *passed,
                const Identity *identity, const ChildCallbacks *callbacks, void *userdata,
                Child **ret, char **reterr)
{
        _cleanup_(child_freep) Child *c = calloc(1, sizeof(Child));
        _cleanup_free_ char **environment = NULL;
        _cleanup_close_ int theirs = -EBADF;
        char path[PATH_MAX];
        int r, fds[2];
        pid_t pid, parent = getpid();

        if (!c)
                return -ENOMEM;
        *c = (Child){ .socket_fd = -EBADF, .callbacks = *callbacks, .userdata = userdata };
        r = program_path(program, path);
        if (r < 0)
                return fail_errno(reterr, r, "can't find %s", program);
        r = environment_new(passed, &environment);
        if (r < 0)
                return r;
        r = message_pair(fds);
        if (r < 0)
                return fail_errno(reterr, r, "can't make a socket for %s", program);
        c->socket_fd = fds[0];
        theirs = fds[1];
        pid = fork();
        if (pid < 0)
                return fail_errno(reterr, -errno, "can't fork for %s", program);
        if (pid == 0)
                child_run(path, argv, environment, identity, theirs, parent);
        r = watch(c, event, pid);
        if (r < 0)
                return fail_errno(reterr, r, "can't watch %s", program);
        *ret = TAKE_PTR(c);
        return 0;
}

int child_send(Child *c, const Message *m, int fd)
{
        int r = message_send(c->socket_fd, m, fd);

        /* It ended, or stopped listening for good: then it ends now. */
        if (r == -EPIPE)
                child_kill(c);
        return r;
}
