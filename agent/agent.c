/* SPDX-License-Identifier: Apache-2.0 */
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <unistd.h>

#include <systemd/sd-daemon.h>

#include "agent.h"
#include "app.h"
#include "bus-service.h"
#include "err.h"
#include "fd.h"
#include "log.h"
#include "memory.h"

/* What systemd gives us beyond the limit to say that we are ready. */
#define START_MARGIN_USEC (UINT64_C(30) * 1000000)

Agent *agent_free(Agent *a)
{
        if (!a)
                return NULL;
        for (size_t i = 0; i < a->n_apps; i++)
                app_free(a->apps[i]);
        free(a->apps);
        sd_event_source_disable_unref(a->ready_limit_source);
        /* Nobody comes after a round to do what was left to slipway-fetch without an answer. */
        if (a->options.once)
                fetcher_finish(a->fetcher);
        else
                fetcher_free(a->fetcher);
        trust_free(a->trust);
        config_free(a->config);
        paths_done(&a->paths);
        bus_service_free(a->service);
        bus_free(a->bus);
        sd_event_unref(a->event);
        fd_close(a->state_dir_fd);
        fd_close(a->runtime_dir_fd);
        free(a);
        return NULL;
}

/* A directory of ours, made if it is missing; with `owner` it is theirs. */
static int own_directory(const char *path, mode_t mode, const Identity *owner, int *ret_fd,
                         char **reterr)
{
        _cleanup_close_ int fd = -EBADF;
        int r = mkdir_parents(path, 0755);

        if (r < 0)
                return fail_errno(reterr, r, "can't make %s", path);
        fd = dir_open_at(AT_FDCWD, path);
        if (fd < 0)
                return fail_errno(reterr, fd, "can't open %s", path);
        if (owner->change && fchown(fd, owner->uid, owner->gid) < 0)
                return fail_errno(reterr, -errno, "can't give %s to its user", path);
        if (fchmod(fd, mode) < 0)
                return fail_errno(reterr, -errno, "can't set the mode of %s", path);
        if (ret_fd)
                *ret_fd = TAKE_FD(fd);
        return 0;
}

static bool fetches(const Agent *a)
{
        return !a->options.offline || a->options.from_files;
}

static int open_directories(Agent *a, char **reterr)
{
        static const Identity nobody = {};
        int r = own_directory(a->paths.state_dir, 0700, &nobody, &a->state_dir_fd, reterr);

        if (r >= 0)
                r = own_directory(a->paths.runtime_dir, 0700, &nobody, &a->runtime_dir_fd, reterr);
        if (r >= 0 && fetches(a))
                r = own_directory(a->paths.cache_dir, 0700, &a->fetch_identity, NULL, reterr);
        return r;
}

static int look_up_identities(Agent *a, char **reterr)
{
        int r;

        if (a->options.user)
                return 0;
        if (geteuid() != 0)
                return fail(reterr, -EPERM, "this needs root; to try it out without, use --user");
        r = identity_lookup("slipway", &a->fetch_identity, reterr);
        return r < 0 ? r : identity_lookup("slipway-unpack", &a->unpack_identity, reterr);
}

static int make_apps(Agent *a, char **reterr)
{
        int r;

        a->apps = calloc(MAX(a->config->n_apps, (size_t) 1), sizeof(App *));
        if (!a->apps)
                return -ENOMEM;
        for (; a->n_apps < a->config->n_apps; a->n_apps++) {
                r = app_new(a, &a->config->apps[a->n_apps], &a->apps[a->n_apps], reterr);
                if (r < 0)
                        return r;
        }
        return 0;
}

static int open_all(Agent *a, char **reterr)
{
        int r = paths_init(a->options.user, &a->paths, reterr);

        if (r < 0)
                return r;
        r = config_load(a->options.config ? a->options.config : a->paths.config_file, &a->config,
                        reterr);
        if (r < 0)
                return r;
        if (fetches(a)) {
                r = trust_load(a->config->trust_path, &a->trust, reterr);
                if (r < 0)
                        return r;
        }
        r = look_up_identities(a, reterr);
        if (r < 0)
                return r;
        r = open_directories(a, reterr);
        if (r < 0)
                return r;
        r = sd_event_new(&a->event);
        if (r >= 0)
                r = bus_new(a->event, a->options.user, &a->bus);
        if (r >= 0 && fetches(a))
                r = fetcher_new(a->event, a->config->store, a->paths.cache_dir, &a->fetch_identity,
                                &a->fetcher);
        return r < 0 ? fail_errno(reterr, r, "can't set up the event loop") : make_apps(a, reterr);
}

int agent_new(const AgentOptions *options, Agent **ret, char **reterr)
{
        _cleanup_(agent_freep) Agent *a = calloc(1, sizeof(Agent));
        int r;

        if (!a)
                return -ENOMEM;
        *a = (Agent){ .options = *options, .state_dir_fd = -EBADF, .runtime_dir_fd = -EBADF };
        r = open_all(a, reterr);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(a);
        return 0;
}

static void say_ready(Agent *a)
{
        a->ready_limit_source = sd_event_source_disable_unref(a->ready_limit_source);
        for (size_t i = 0; i < a->n_apps; i++)
                app_hurry(a->apps[i], false);
        (void) sd_notify(0, "READY=1\nSTATUS=");
        memory_give_back();
}

static int on_ready_limit(sd_event_source *source, uint64_t usec, void *userdata)
{
        (void) source, (void) usec;
        log_warning("Not everything could be deployed in the time that \"ready_limit\" gives: what "
                    "waits for it starts now");
        say_ready(userdata);
        return 0;
}

/* What is ordered after us waits meanwhile, and systemd for us. */
static int delay_ready(Agent *a)
{
        uint64_t limit_usec = a->config->ready_limit_usec;
        int r = sd_event_add_time_relative(a->event, &a->ready_limit_source, CLOCK_BOOTTIME,
                                           limit_usec, 0, on_ready_limit, a);

        if (r < 0)
                return log_error_errno(r, "Can't wait for the first round: %s", strerror(-r));
        (void) sd_notifyf(0, "EXTEND_TIMEOUT_USEC=%" PRIu64 "\nSTATUS=Deploys before it is ready",
                          limit_usec + START_MARGIN_USEC);
        return 0;
}

static bool is_settled(const Agent *a)
{
        for (size_t i = 0; i < a->n_apps; i++)
                if (!app_is_settled(a->apps[i]))
                        return false;
        return true;
}

void agent_app_settled(Agent *a)
{
        int worst = ROUND_OK;

        if (a->ready_limit_source && is_settled(a))
                say_ready(a);
        if (!a->options.once)
                return;
        for (size_t i = 0; i < a->n_apps; i++) {
                int result = app_round_result(a->apps[i]);
                if (result == -EBUSY)
                        return;
                if (worst == ROUND_OK || result != ROUND_DEFERRED)
                        worst = worst == ROUND_DEFERRED && result != ROUND_OK ? result
                                                                              : MAX(worst, result);
        }
        (void) sd_event_exit(a->event, worst);
}

App *agent_find_app(Agent *a, const char *name)
{
        for (size_t i = 0; i < a->n_apps; i++)
                if (streq(app_config(a->apps[i])->app, name))
                        return a->apps[i];
        return NULL;
}

static int on_signal(sd_event_source *source, const struct signalfd_siginfo *si, void *userdata)
{
        Agent *a = userdata;

        (void) source;
        log_info("Stopping (signal %u); what is under way is taken up at the next start",
                 si->ssi_signo);
        (void) sd_notify(0, "STOPPING=1");
        for (size_t i = 0; i < a->n_apps; i++)
                app_leave(a->apps[i]);
        /* A round that was cut short has no result. */
        return sd_event_exit(a->event, a->options.once ? EXIT_FAILURE : 0);
}

static int start_apps(Agent *a)
{
        int r;

        for (size_t i = 0; i < a->n_apps; i++) {
                r = app_start(a->apps[i]);
                if (r < 0)
                        return log_error_errno(r, "Can't start with app %s: %s",
                                               app_config(a->apps[i])->app, strerror(-r));
        }
        if (a->n_apps == 0)
                log_warning("The configuration names no apps: nothing to do");
        agent_app_settled(a);
        return 0;
}

/* Nothing is begun that another slipwayd may be at; and whoever waits for the start can talk to us
 * after it. */
static void on_service_settled(int result, void *userdata)
{
        Agent *a = userdata;

        bool delayed = a->config->ready_when_deployed;

        if (result < 0 || (delayed && delay_ready(a) < 0) || start_apps(a) < 0) {
                (void) sd_event_exit(a->event, EXIT_FAILURE);
                return;
        }
        if (!delayed)
                say_ready(a);
}

static int serve(Agent *a)
{
        _cleanup_free_ char *err = NULL;
        int r = sd_event_set_watchdog(a->event, true);

        if (r < 0)
                return log_error_errno(r, "Can't set the watchdog: %s", strerror(-r));
        r = bus_service_new(a, on_service_settled, a, &a->service, &err);
        return r < 0 ? log_error_errno(r, "%s", err_text(r, err)) : 0;
}

int agent_run(Agent *a)
{
        sigset_t signals;
        int r;

        sigemptyset(&signals);
        sigaddset(&signals, SIGTERM);
        sigaddset(&signals, SIGINT);
        sigaddset(&signals, SIGCHLD);
        if (sigprocmask(SIG_BLOCK, &signals, NULL) < 0)
                return -errno;
        r = sd_event_add_signal(a->event, NULL, SIGTERM, on_signal, a);
        if (r >= 0)
                r = sd_event_add_signal(a->event, NULL, SIGINT, on_signal, a);
        if (r < 0)
                return log_error_errno(r, "Can't watch signals: %s", strerror(-r));
        r = a->options.once ? start_apps(a) : serve(a);
        return r < 0 ? r : sd_event_loop(a->event);
}
