/* SPDX-License-Identifier: Apache-2.0 */
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "app.h"
#include "err.h"
#include "fd.h"
#include "lock.h"
#include "log.h"
#include "offline.h"

#define BUS_READY_MAX_USEC (UINT64_C(2) * 1000000)
#define LOCK_TRIES         40
#define LOCK_STEP_NSEC     (50 * 1000 * 1000)
#define ARGUMENTS_MAX      65536
#define END_MAX_MSEC       5000

typedef struct Outcome {
        sd_event *event;
        const App *app;
        Onlooker onlooker;
        int result;
        char *text;
} Outcome;

static void on_told(int result, const char *text, void *userdata)
{
        Outcome *o = userdata;

        o->result = result;
        o->text = strdup(text);
        (void) sd_event_exit(o->event, 0);
}

/* SIGCHLD: sd_event_add_child() wants it blocked. */
static int block_signals(void)
{
        sigset_t signals;

        sigemptyset(&signals);
        sigaddset(&signals, SIGCHLD);
        sigaddset(&signals, SIGINT);
        sigaddset(&signals, SIGTERM);
        return sigprocmask(SIG_BLOCK, &signals, NULL) < 0 ? -errno : 0;
}

/* --once or --stage, which may be shortened. */
static bool is_round(const char *arguments, size_t size)
{
        for (const char *a = arguments; a < arguments + size; a += strlen(a) + 1)
                if (strncmp(a, "--o", 3) == 0 || strncmp(a, "--s", 3) == 0)
                        return true;
        return false;
}

/* A single round is bounded by itself, and so is another `slipway`: only the service can be hung.
 */
static bool is_service(pid_t pid)
{
        _cleanup_free_ char *arguments = NULL;
        char path[64];
        size_t size;

        (void) snprintf(path, sizeof(path), "/proc/%d/cmdline", (int) pid);
        if (file_read_at(AT_FDCWD, path, ARGUMENTS_MAX, &arguments, &size) < 0 || size == 0 ||
            !streq(basename(arguments), "slipwayd"))
                return false;
        return !is_round(arguments, size);
}

static int end_holder(pid_t pid, char **reterr)
{
        _cleanup_close_ int fd = syscall(SYS_pidfd_open, pid, 0);
        struct pollfd p = { .fd = fd, .events = POLLIN };

        if (fd < 0)
                return errno == ESRCH
                               ? 0
                               : fail_errno(reterr, -errno, "can't look at process %d", (int) pid);
        if (!is_service(pid))
                return fail(reterr, -EBUSY, "app is being changed by process %d: wait for its end",
                            (int) pid);
        log_warning("slipwayd (process %d) is hung: it is ended", (int) pid);
        if (syscall(SYS_pidfd_send_signal, fd, SIGKILL, NULL, 0) < 0 && errno != ESRCH)
                return fail_errno(reterr, -errno, "can't end process %d", (int) pid);
        if (poll(&p, 1, END_MAX_MSEC) <= 0)
                return fail(reterr, -EBUSY, "process %d does not end", (int) pid);
        return 0;
}

/* Makes sure that the lock can be had. */
static int free_lock(const Agent *agent, const char *app, char **reterr)
{
        static const struct timespec step = { .tv_nsec = LOCK_STEP_NSEC };
        pid_t holder = 0;
        int fd = -EBADF, r;

        for (int i = 0; i < LOCK_TRIES; i++) {
                r = lock_take(agent->runtime_dir_fd, app, &fd, &holder);
                if (r >= 0)
                        fd = lock_release(fd);
                if (r != -EAGAIN)
                        return r < 0 ? fail_errno(reterr, r, "can't take the lock of app %s", app)
                                     : 0;
                (void) nanosleep(&step, NULL);
        }
        return holder > 0 ? end_holder(holder, reterr)
                          : fail(reterr, -EBUSY, "app %s is being changed by somebody else", app);
}

static int open_app(const AgentOptions *options, const char *name, Agent **ret, App **ret_app,
                    char **reterr)
{
        _cleanup_(agent_freep) Agent *agent = NULL;
        AgentOptions offline = *options;
        App *app;
        int r = block_signals();

        if (r < 0)
                return r;
        offline.offline = true;
        r = agent_new(&offline, &agent, reterr);
        if (r < 0)
                return r;
        /* A bus that does not answer is none. */
        if (bus_get(agent->bus) && bus_wait_ready(bus_get(agent->bus), BUS_READY_MAX_USEC) < 0)
                bus_drop(agent->bus);
        app = agent_find_app(agent, name);
        if (!app)
                return fail(reterr, -ENOENT, "the configuration has no app %s", name);
        *ret = TAKE_PTR(agent);
        *ret_app = app;
        return 0;
}

static int on_round(sd_event_source *source, void *userdata)
{
        Outcome *o = userdata;

        (void) source;
        o->onlooker.look(o->app, o->onlooker.userdata);
        return 0;
}

/* Goes on until on_told() was called. */
static int run(Outcome *o, char **ret_live, char **reterr)
{
        sd_event_source *round_source = NULL;
        int r = sd_event_add_post(o->event, &round_source, on_round, o);

        if (r >= 0)
                r = sd_event_loop(o->event);
        sd_event_source_disable_unref(round_source);
        if (r >= 0 && !o->text)
                r = -ENOMEM;
        if (r < 0 || o->result < 0) {
                r = fail(reterr, r < 0 ? r : o->result, "%s", r < 0 ? strerror(-r) : o->text);
                free(o->text);
                return r;
        }
        *ret_live = o->text;
        return 0;
}

int offline_rollback(const AgentOptions *options, const char *name, const char *release,
                     const char *by, Onlooker onlooker, char **ret_live, char **reterr)
{
        _cleanup_(agent_freep) Agent *agent = NULL;
        Outcome o = { .onlooker = onlooker };
        App *app = NULL;
        int r = open_app(options, name, &agent, &app, reterr);

        if (r < 0)
                return r;
        o.event = agent->event;
        o.app = app;
        /* A rollback that can't be is no reason to end anybody. */
        r = app_check_rollback(app, release, reterr);
        if (r >= 0)
                r = free_lock(agent, name, reterr);
        if (r < 0)
                return r;
        r = app_rollback(app, release, by, on_told, &o, reterr);
        return r < 0 ? r : run(&o, ret_live, reterr);
}

int offline_activate(const AgentOptions *options, const char *name, const char *by,
                     Onlooker onlooker, char **ret_live, char **reterr)
{
        _cleanup_(agent_freep) Agent *agent = NULL;
        Outcome o = { .onlooker = onlooker };
        App *app = NULL;
        int r = open_app(options, name, &agent, &app, reterr);

        if (r < 0)
                return r;
        o.event = agent->event;
        o.app = app;
        r = app_activate(app, by, on_told, &o, reterr);
        return r < 0 ? r : run(&o, ret_live, reterr);
}

int offline_deploy_files(const AgentOptions *options, const char *name, const OrderFiles *files,
                         const char *by, Onlooker onlooker, char **ret_live, char **reterr)
{
        _cleanup_(agent_freep) Agent *agent = NULL;
        AgentOptions with_files = *options;
        Outcome o = { .onlooker = onlooker };
        App *app = NULL;
        int r;

        with_files.from_files = true;
        r = open_app(&with_files, name, &agent, &app, reterr);
        if (r < 0)
                return r;
        o.event = agent->event;
        o.app = app;
        r = app_deploy_files(app, files, true, by, on_told, &o, reterr);
        return r < 0 ? r : run(&o, ret_live, reterr);
}

int offline_hold(const AgentOptions *options, const char *name, const char *until,
                 const char *reason, const char *by, char **ret, char **reterr)
{
        _cleanup_(agent_freep) Agent *agent = NULL;
        App *app = NULL;
        int r = open_app(options, name, &agent, &app, reterr);

        return r < 0 ? r : app_hold(app, until, reason, by, ret, reterr);
}

int offline_confirm(const AgentOptions *options, const char *name, const char *by, char **ret,
                    char **reterr)
{
        _cleanup_(agent_freep) Agent *agent = NULL;
        App *app = NULL;
        int r = open_app(options, name, &agent, &app, reterr);

        return r < 0 ? r : app_confirm(app, by, ret, reterr);
}

int offline_resume(const AgentOptions *options, const char *name, char **reterr)
{
        _cleanup_(agent_freep) Agent *agent = NULL;
        App *app = NULL;
        int r = open_app(options, name, &agent, &app, reterr);

        return r < 0 ? r : app_resume(app, reterr);
}
