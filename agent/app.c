/* SPDX-License-Identifier: Apache-2.0 */
#include <assert.h>
#include <dirent.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#include "activation.h"
#include "app.h"
#include "bus-service.h"
#include "err.h"
#include "fd.h"
#include "journal.h"
#include "json-read.h"
#include "judge.h"
#include "lock.h"
#include "log.h"
#include "name.h"
#include "poller.h"
#include "prune.h"
#include "reporter.h"
#include "staging.h"
#include "sweep.h"

/* The wait before a deployment that failed for a passing reason is tried again: doubling. */
#define RETRY_MIN_SEC 5
#define RETRY_MAX_SEC 600

#define N_TOLD_MAX 8

typedef struct Told {
        app_told_t told;
        void *userdata;
} Told;

struct App {
        Agent *agent;
        const AppConfig *config;
        State *state;
        struct stat state_stat; /* of the state file that `state` is */
        int root_fd, releases_fd, lock_fd;

        Poller *poller;
        uint64_t polled_sec;
        bool poll_ok;
        char *poll_text;
        Told waiting[N_TOLD_MAX]; /* for the next verdict */
        size_t n_waiting;

        Manifest *wanted; /* the channel's manifest: its signatures hold, the rest is judged at each
                             poll */
        Sha256 wanted_digest;
        Manifest *deploying; /* the one that is being staged or activated */
        uint64_t retry_sec, retry_delay_sec;
        uint64_t retry_deployment; /* that these are about */

        Staging *staging;
        Activation *activation;
        Sweep *sweep;
        Told rollback; /* who waits for the rollback under way */
        Reporter *reporter;
        int round_result; /* -EBUSY: the round goes on */
};

static void consider(App *a);
static int sweep_leftovers(App *a);
static void report(App *a);

App *app_free(App *a)
{
        if (!a)
                return NULL;
        poller_free(a->poller);
        staging_free(a->staging);
        activation_free(a->activation);
        sweep_free(a->sweep);
        reporter_free(a->reporter);
        manifest_free(a->wanted);
        manifest_free(a->deploying);
        state_free(a->state);
        fd_close(a->root_fd);
        fd_close(a->releases_fd);
        fd_close(a->lock_fd);
        free(a->poll_text);
        free(a);
        return NULL;
}

const AppConfig *app_config(const App *a)
{
        return a->config;
}

const State *app_state(const App *a)
{
        return a->state;
}

static void app_log(App *a, int level, const char *format, ...) _printf_(3, 4);

static void app_log(App *a, int level, const char *format, ...)
{
        const State *s = a->state;
        JournalFields fields = {
                .app = a->config->app,
                .release = s->pending.release ? s->pending.release : s->current,
                .phase = phase_to_string(s->phase),
        };
        va_list ap;

        va_start(ap, format);
        journal_writev(level, &fields, format, ap);
        va_end(ap);
}

/* The state and the directories */

static void remember_state_file(App *a)
{
        char name[NAME_MAX + 1];

        (void) snprintf(name, sizeof(name), "%s.json", a->config->app);
        if (fstatat(a->agent->state_dir_fd, name, &a->state_stat, 0) < 0)
                a->state_stat = (struct stat){};
}

static bool state_file_was_replaced(App *a)
{
        struct stat before = a->state_stat;

        remember_state_file(a);
        return before.st_ino != a->state_stat.st_ino || before.st_dev != a->state_stat.st_dev ||
               before.st_mtim.tv_sec != a->state_stat.st_mtim.tv_sec ||
               before.st_mtim.tv_nsec != a->state_stat.st_mtim.tv_nsec;
}

static int save(App *a)
{
        int r = state_save(a->state, a->agent->state_dir_fd);

        remember_state_file(a);
        if (r < 0)
                app_log(a, LOG_ERR, "Can't save the state of app %s in %s: %s", a->config->app,
                        a->agent->paths.state_dir, strerror(-r));
        return r;
}

/* What `current` names: a release id, or NULL when there is no such link or it is not ours. */
static int read_current(App *a, char **ret)
{
        _cleanup_free_ char *target = NULL;
        const char *id;
        int r = a->root_fd < 0 ? -ENOENT : readlink_at(a->root_fd, "current", &target);

        *ret = NULL;
        if (r == -ENOENT)
                return 0;
        if (r < 0)
                return r;
        if (strncmp(target, "releases/", STRLEN("releases/")) != 0)
                return -EINVAL;
        id = target + STRLEN("releases/");
        if (!name_is_valid(id))
                return -EINVAL;
        *ret = strdup(id);
        return *ret ? 0 : -ENOMEM;
}

static int open_existing_root(App *a)
{
        int fd;

        if (a->releases_fd >= 0)
                return 0;
        fd_close(a->root_fd);
        a->root_fd = dir_open_at(AT_FDCWD, a->config->root);
        if (a->root_fd < 0)
                return a->root_fd;
        fd = dir_open_at(a->root_fd, "releases");
        if (fd < 0)
                return fd;
        a->releases_fd = fd;
        return 0;
}

/* The root directory belongs to us, releases/ to slipway-unpack. */
static int make_root(App *a, char **reterr)
{
        const Identity *unpack = &a->agent->unpack_identity;
        int r = mkdir_parents(a->config->root, 0755);

        if (r < 0)
                return fail_errno(
                        reterr, r,
                        "can't make %s; a root outside /srv needs ReadWritePaths= in a drop-in of slipwayd.service",
                        a->config->root);
        fd_close(a->root_fd);
        fd_close(TAKE_FD(a->releases_fd));
        a->root_fd = dir_open_at(AT_FDCWD, a->config->root);
        if (a->root_fd < 0)
                return fail_errno(reterr, a->root_fd, "can't open %s", a->config->root);
        if (mkdirat(a->root_fd, "releases", 0755) < 0 && errno != EEXIST)
                return fail_errno(reterr, -errno, "can't make %s/releases", a->config->root);
        r = dir_open_at(a->root_fd, "releases");
        if (r < 0)
                return fail_errno(reterr, r, "can't open %s/releases", a->config->root);
        a->releases_fd = r;
        if (unpack->change && fchown(a->releases_fd, unpack->uid, unpack->gid) < 0)
                return fail_errno(reterr, -errno, "can't give %s/releases to slipway-unpack",
                                  a->config->root);
        if (faccessat(a->root_fd, ".", W_OK, 0) < 0)
                return fail_errno(reterr, -errno, "can't write to %s", a->config->root);
        return fsync(a->root_fd) < 0 ? fail_errno(reterr, -errno, "can't sync %s", a->config->root)
                                     : 0;
}

/* After the state file was lost: what lies in releases/ can be rolled back to. How these releases
 * go live is taken from the channel's manifest, when it comes (serial 0 marks them). */
static int rebuild_releases(App *a)
{
        static const Activate nothing = { .bake_usec = BAKE_DEFAULT_USEC,
                                          .deadline_usec = DEADLINE_DEFAULT_USEC };
        static const Sha256 unknown = {};
        struct dirent *entry;
        DIR *dir;
        int fd, r = 0;

        if (a->releases_fd < 0)
                return 0;
        fd = openat(a->releases_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        dir = fd < 0 ? NULL : fdopendir(fd);
        if (!dir) {
                r = -errno;
                fd_close(fd);
                return r;
        }
        while (r >= 0 && (errno = 0, entry = readdir(dir)))
                if (name_is_valid(entry->d_name))
                        r = state_add_release(a->state, entry->d_name, 0, 0, &unknown, &nothing);
        if (r >= 0)
                r = -errno;
        (void) closedir(dir);
        return r;
}

static int rebuild(App *a, const char *why)
{
        int r = state_set_aside(a->agent->state_dir_fd, a->config->app);

        log_error(
                "%s; it was set aside, and the state of app %s is rebuilt from what is on disk: serials, history and local rollbacks are forgotten",
                why, a->config->app);
        if (r < 0)
                return r;
        r = state_new(a->config->app, a->config->channel, &a->state);
        return r < 0 ? r : rebuild_releases(a);
}

static int load_state(App *a, char **reterr)
{
        _cleanup_free_ char *err = NULL;
        int r = state_load(a->agent->state_dir_fd, a->config->app, &a->state, &err);

        if (r == -ENOENT)
                r = state_new(a->config->app, a->config->channel, &a->state);
        else if (r == -EBADMSG || r == -EFBIG)
                r = rebuild(a, err_text(r, err));
        if (r < 0)
                return fail_errno(reterr, r, "can't load the state of app %s", a->config->app);
        remember_state_file(a);
        return state_set(&a->state->channel, a->config->channel);
}

/* The link is the truth about what is live. */
static int reconcile_current(App *a)
{
        _cleanup_free_ char *live = NULL;
        State *s = a->state;
        int r = read_current(a, &live);

        if (r < 0) {
                app_log(a, LOG_WARNING,
                        "%s/current is not a link to releases/<id>: the next deployment replaces it, unless it is a directory",
                        a->config->root);
                return 0;
        }
        if (s->phase > PHASE_FETCHING || streq_ptr(live, s->current))
                return 0;
        if (s->current)
                app_log(a, LOG_WARNING, "'current' names release %s, not %s as this agent left it",
                        live ? live : "none", s->current);
        return state_set(&s->current, live);
}

int app_new(Agent *agent, const AppConfig *config, App **ret, char **reterr)
{
        _cleanup_(app_freep) App *a = calloc(1, sizeof(App));
        int r;

        if (!a)
                return -ENOMEM;
        *a = (App){ .agent = agent,
                    .config = config,
                    .root_fd = -EBADF,
                    .releases_fd = -EBADF,
                    .lock_fd = -EBADF,
                    .round_result = -EBUSY };
        r = open_existing_root(a);
        if (r < 0 && r != -ENOENT)
                log_warning("Can't open %s: %s", config->root, strerror(-r));
        r = load_state(a, reterr);
        if (r < 0)
                return r;
        r = reconcile_current(a);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(a);
        return 0;
}

/* Reads the state again if another program changed it. Not while a transaction of ours is under
 * way. */
static int refresh_state(App *a)
{
        _cleanup_(state_freep) State *s = NULL;
        _cleanup_free_ char *err = NULL;
        int r;

        if (a->lock_fd >= 0 || !state_file_was_replaced(a))
                return 0;
        r = state_load(a->agent->state_dir_fd, a->config->app, &s, &err);
        if (r < 0) {
                app_log(a, LOG_ERR, "%s", err_text(r, err));
                return r;
        }
        r = state_set(&s->channel, a->config->channel);
        if (r < 0)
                return r;
        state_free(a->state);
        a->state = TAKE_PTR(s);
        return 0;
}

static void unlock(App *a)
{
        a->lock_fd = fd_close(a->lock_fd);
}

static int take_lock(App *a, char **reterr)
{
        _cleanup_close_ int fd = -EBADF;
        pid_t holder = 0;
        int r;

        if (a->lock_fd >= 0)
                return 0;
        r = lock_take(a->agent->runtime_dir_fd, a->config->app, &fd, &holder);
        if (r == -EAGAIN)
                return fail(reterr, -EBUSY, "app %s is being changed by process %d", a->config->app,
                            (int) holder);
        if (r < 0)
                return fail_errno(reterr, r, "can't take the lock of app %s in %s", a->config->app,
                                  a->agent->paths.runtime_dir);
        r = refresh_state(a);
        if (r < 0)
                return fail_errno(reterr, r, "can't read the state of app %s", a->config->app);
        a->lock_fd = TAKE_FD(fd);
        return 0;
}

/* The round and those who wait for its verdict */

static void settle(App *a, int round_result)
{
        if (a->round_result != -EBUSY)
                return;
        a->round_result = round_result;
        agent_app_settled(a->agent);
}

int app_round_result(const App *a)
{
        return a->sweep || (a->reporter && reporter_is_busy(a->reporter)) ? -EBUSY
                                                                          : a->round_result;
}

static void on_reporter_idle(bool well, void *userdata)
{
        App *a = userdata;

        /* What changed while it was writing. */
        if (well)
                report(a);
        agent_app_settled(a->agent);
}

/* Sets what the last poll said and tells those who wait. Takes text. */
static void set_verdict(App *a, bool ok, char *text)
{
        Told waiting[N_TOLD_MAX];
        size_t n = a->n_waiting;

        if (!streq_ptr(a->poll_text, text) || a->poll_ok != ok)
                app_log(a, ok ? LOG_INFO : LOG_WARNING, "App %s: %s", a->config->app,
                        strempty(text));
        free(a->poll_text);
        a->poll_text = text;
        a->poll_ok = ok;
        memcpy(waiting, a->waiting, sizeof(waiting));
        a->n_waiting = 0;
        for (size_t i = 0; i < n; i++)
                waiting[i].told(ok ? 0 : -EIO, strempty(text), waiting[i].userdata);
}

static char *words(const char *format, ...) _printf_(1, 2);

static char *words(const char *format, ...)
{
        char *text = NULL;
        va_list ap;

        va_start(ap, format);
        if (vasprintf(&text, format, ap) < 0)
                text = NULL;
        va_end(ap);
        return text;
}

/* Transactions */

static void on_swept(int result, const char *reason, void *userdata)
{
        App *a = userdata;

        if (result < 0)
                app_log(a, LOG_WARNING, "App %s: %s; it is tried again after the next deployment",
                        a->config->app, reason);
        a->sweep = sweep_free(a->sweep);
        agent_app_settled(a->agent);
}

/* Removes what is not needed; never while something is staged, which would look like a leftover. */
static int sweep_leftovers(App *a)
{
        char **names = NULL;
        size_t n = 0;
        int r;

        if (a->sweep || a->staging || a->releases_fd < 0)
                return 0;
        r = prune_select(a->releases_fd, a->state, a->config->keep, &names, &n);
        if (r < 0 || n == 0) {
                free(names);
                return r;
        }
        r = save(a);
        if (r < 0) {
                for (size_t i = 0; i < n; i++)
                        free(names[i]);
                free(names);
                return r;
        }
        return sweep_start(a->agent->event, &a->agent->unpack_identity, a->releases_fd, names, n,
                           on_swept, a, &a->sweep);
}

/* The end of every transaction: whatever it was, it is over, saved, and others may go on. */
static void transaction_ended(App *a)
{
        int r = sweep_leftovers(a);

        if (r < 0)
                app_log(a, LOG_WARNING, "App %s: can't look for what is not needed any more: %s",
                        a->config->app, strerror(-r));
        a->deploying = manifest_free(a->deploying);
        remember_state_file(a);
        unlock(a);
        report(a);
        bus_service_app_changed(a->agent, a);
}

static void plan_retry(App *a, uint64_t deployment)
{
        if (a->retry_deployment != deployment)
                a->retry_delay_sec = 0;
        a->retry_deployment = deployment;
        a->retry_delay_sec = CLAMP(a->retry_delay_sec * 2, RETRY_MIN_SEC, RETRY_MAX_SEC);
        a->retry_sec = time(NULL) + a->retry_delay_sec;
}

/* Ends a deployment before the switch. A release that is bad in itself is not tried again. */
static void deployment_failed(App *a, int error, const char *reason)
{
        State *s = a->state;
        bool bad = error == -EBADMSG || error == -EKEYREJECTED;
        uint64_t deployment = s->pending.deployment;
        int r = 0;

        app_log(a, LOG_ERR,
                "App %s: deployment %" PRIu64
                " (release %s) failed before the switch, release %s stays: %s",
                a->config->app, deployment, s->pending.release, s->current ? s->current : "none",
                reason);
        if (bad) {
                s->failed_deployment = deployment;
                s->failed_sec = time(NULL);
                r = state_set(&s->failed, s->pending.release);
                if (r >= 0)
                        r = state_set(&s->failed_reason, reason);
        } else
                plan_retry(a, deployment);
        if (r >= 0)
                r = state_end(s, RESULT_FAILED, reason);
        if (r >= 0)
                r = state_move(s, PHASE_IDLE, a->agent->state_dir_fd);
        if (r < 0)
                app_log(a, LOG_ERR, "Can't save the state of app %s: %s", a->config->app,
                        strerror(-r));
        s->phase = PHASE_IDLE;
        transaction_ended(a);
        settle(a, error == -EHOSTDOWN || error == -ETIMEDOUT || error == -EACCES ? ROUND_UNREACHABLE
                                                                                 : ROUND_FAILED);
}

static void on_activated(Result result, const char *reason, void *userdata)
{
        App *a = userdata;
        Told rollback = a->rollback;
        _cleanup_free_ char *why = reason ? strdup(reason) : NULL;

        a->rollback = (Told){};
        a->activation = activation_free(a->activation);
        transaction_ended(a);
        if (rollback.told)
                rollback.told(result == RESULT_DONE ? 0 : -EIO,
                              result == RESULT_DONE ? strempty(a->state->current) : strempty(why),
                              rollback.userdata);
        settle(a, result == RESULT_DONE ? ROUND_OK : ROUND_FAILED);
}

static void on_activation_log(int level, const char *text, void *userdata)
{
        App *a = userdata;

        app_log(a, level, "App %s: %s", a->config->app, text);
        bus_service_app_changed(a->agent, a);
}

static int activate(App *a)
{
        Site site = { .bus = a->agent->bus,
                      .event = a->agent->event,
                      .root_fd = a->root_fd,
                      .state_dir_fd = a->agent->state_dir_fd,
                      .state = a->state };

        return activation_start(&site, on_activated, on_activation_log, a, &a->activation);
}

/* The tree is on disk: it joins the list, and goes live. */
static int take_in(App *a)
{
        const Manifest *m = a->deploying;
        int r = state_add_release(a->state, m->release, m->deployment, m->serial, &m->index.sha256,
                                  &m->activate);

        return r < 0 ? r : activate(a);
}

static void on_staged(int result, const char *reason, void *userdata)
{
        App *a = userdata;
        _cleanup_free_ char *why = NULL;

        /* The reason belongs to the staging. */
        if (result < 0)
                why = strdup(reason ? reason : strerror(-result));
        a->staging = staging_free(a->staging);
        if (result >= 0) {
                result = take_in(a);
                if (result < 0)
                        (void) fail_errno(&why, result, "can't activate it");
        }
        if (result < 0)
                deployment_failed(a, result, strempty(why));
}

static int start_staging(App *a)
{
        StagingPlace place = { .event = a->agent->event,
                               .fetcher = a->agent->fetcher,
                               .identity = a->agent->unpack_identity,
                               .releases_fd = a->releases_fd };

        return staging_start(&place, a->deploying, on_staged, a, &a->staging);
}

static void on_way_clear(int result, const char *reason, void *userdata)
{
        App *a = userdata;
        _cleanup_free_ char *why = NULL;
        int r = result;

        if (r < 0)
                why = strdup(strempty(reason));
        a->sweep = sweep_free(a->sweep);
        if (r >= 0) {
                r = start_staging(a);
                if (r < 0)
                        (void) fail_errno(&why, r, "can't start to fetch");
        }
        if (r < 0)
                deployment_failed(a, r, strempty(why));
}

/* A directory with the release's name that is not known to be that release. */
static int clear_way(App *a)
{
        char **names = calloc(1, sizeof(char *));

        if (!names)
                return -ENOMEM;
        names[0] = strdup(a->deploying->release);
        if (!names[0]) {
                free(names);
                return -ENOMEM;
        }
        state_remove_release(a->state, a->deploying->release);
        return sweep_start(a->agent->event, &a->agent->unpack_identity, a->releases_fd, names, 1,
                           on_way_clear, a, &a->sweep);
}

static bool release_is_here(const App *a, const Manifest *m)
{
        const Installed *i = state_find_release(a->state, m->release);

        return i && sha256_equal(&i->index_sha256, &m->index.sha256) &&
               faccessat(a->releases_fd, m->release, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

/* From begin_deployment() on: the state has the transaction. */
static int stage_or_activate(App *a, char **reterr)
{
        const Manifest *m = a->deploying;
        int r = make_root(a, reterr);

        if (r < 0)
                return r;
        if (release_is_here(a, m))
                r = take_in(a);
        else {
                r = state_move(a->state, PHASE_FETCHING, a->agent->state_dir_fd);
                if (r < 0)
                        return fail_errno(reterr, r, "can't save the state in %s",
                                          a->agent->paths.state_dir);
                r = faccessat(a->releases_fd, m->release, F_OK, AT_SYMLINK_NOFOLLOW) == 0
                            ? clear_way(a)
                            : start_staging(a);
        }
        return r < 0 ? fail_errno(reterr, r, "can't begin") : 0;
}

static void begin_deployment(App *a)
{
        _cleanup_free_ char *err = NULL;
        const Manifest *m = a->wanted;
        int r = take_lock(a, &err);

        if (r >= 0)
                r = state_begin(a->state, ACTION_DEPLOY, m->release, a->state->current,
                                m->deployment, m->serial, "agent");
        if (r < 0) {
                app_log(a, LOG_WARNING, "App %s: %s", a->config->app, err_text(r, err));
                unlock(a);
                settle(a, ROUND_FAILED);
                return;
        }
        app_log(a, LOG_NOTICE, "App %s: deployment %" PRIu64 " begins: release %s (now %s)",
                a->config->app, m->deployment, m->release,
                a->state->current ? a->state->current : "none");
        manifest_free(a->deploying);
        a->deploying = manifest_ref(a->wanted);
        r = stage_or_activate(a, &err);
        if (r < 0)
                deployment_failed(a, r, err_text(r, err));
        bus_service_app_changed(a->agent, a);
}

/* The release is live already; only what is known about it changes. */
static void adopt(App *a)
{
        _cleanup_free_ char *err = NULL;
        const Manifest *m = a->wanted;
        State *s;
        int r = take_lock(a, &err);

        if (r < 0) {
                app_log(a, LOG_WARNING, "App %s: %s", a->config->app, err_text(r, err));
                return;
        }
        s = a->state;
        s->deployment = m->deployment;
        s->pinned_deployment = 0;
        r = state_set(&s->pinned, NULL);
        if (r >= 0)
                r = state_set(&s->pinned_by, NULL);
        if (r >= 0)
                r = state_set(&s->last_good, m->release);
        for (size_t i = 0; r >= 0 && i < s->n_releases; i++)
                if (s->releases[i].serial == 0)
                        r = state_add_release(s, s->releases[i].release, m->deployment, m->serial,
                                              &s->releases[i].index_sha256, &m->activate);
        if (r >= 0)
                r = state_add_release(s, m->release, m->deployment, m->serial, &m->index.sha256,
                                      &m->activate);
        if (r >= 0)
                r = save(a);
        if (r < 0)
                app_log(a, LOG_ERR, "App %s: can't take up deployment %" PRIu64 ": %s",
                        a->config->app, m->deployment, strerror(-r));
        transaction_ended(a);
}

/* Judging */

static int raise_floor(App *a)
{
        int r;

        if (a->wanted->serial == state_floor(a->state)->serial)
                return 0;
        r = state_set_floor(a->state, a->wanted->serial, &a->wanted_digest);
        return r < 0 ? r : save(a);
}

static bool is_busy(const App *a)
{
        return a->staging || a->activation || a->lock_fd >= 0;
}

/* A newer order overtakes what is still being fetched. */
static void drop_staging(App *a)
{
        int r;

        app_log(a, LOG_NOTICE,
                "App %s: a newer order came: deployment %" PRIu64 " is given up before the switch",
                a->config->app, a->state->pending.deployment);
        a->staging = staging_free(a->staging);
        r = state_end(a->state, RESULT_FAILED, "overtaken by a newer order");
        if (r >= 0)
                r = state_move(a->state, PHASE_IDLE, a->agent->state_dir_fd);
        if (r < 0)
                app_log(a, LOG_ERR, "Can't save the state of app %s: %s", a->config->app,
                        strerror(-r));
        transaction_ended(a);
}

static void act(App *a, Verdict verdict)
{
        switch (verdict) {
        case VERDICT_DEPLOY:
                if (a->retry_deployment == a->wanted->deployment &&
                    (uint64_t) time(NULL) < a->retry_sec)
                        return;
                begin_deployment(a);
                return;
        case VERDICT_ADOPT:
                adopt(a);
                settle(a, ROUND_OK);
                return;
        case VERDICT_FAILED:
                settle(a, ROUND_FAILED);
                return;
        default:
                settle(a, ROUND_OK);
        }
}

/* What the channel's manifest means now. */
static void consider(App *a)
{
        _cleanup_free_ char *err = NULL;
        char *text = NULL;
        Verdict verdict;
        int r = refresh_state(a);

        if (r >= 0)
                r = judge_fresh(a->wanted, &a->wanted_digest, a->state, time(NULL), &err);
        if (r >= 0)
                r = raise_floor(a);
        if (r < 0) {
                set_verdict(a, false, strdup(err_text(r, err)));
                settle(a, ROUND_REFUSED);
                return;
        }
        if (a->staging && a->deploying->deployment != a->wanted->deployment)
                drop_staging(a);
        if (is_busy(a)) {
                set_verdict(a, true,
                            words("deployment %" PRIu64 " (release %s) is under way: %s",
                                  a->state->pending.deployment, strempty(a->state->pending.release),
                                  phase_to_string(a->state->phase)));
                return;
        }
        verdict = judge_wanted(a->wanted, a->state, a->agent->config->tags,
                               a->agent->config->n_tags, &text);
        set_verdict(a, true, text);
        act(a, verdict);
}

static bool poll_failed(App *a, int result, const char *text)
{
        if (result == POLL_ABSENT)
                set_verdict(a, false,
                            words("nothing was published to channel %s yet: the store has no %s",
                                  a->config->channel, a->config->manifest_path));
        else if (result == POLL_UNKNOWN)
                set_verdict(
                        a, false,
                        words("the store refuses %s (or it is not there, and we may not list): %s",
                              a->config->manifest_path, text));
        else
                set_verdict(a, false,
                            words("can't ask the store: %s", text[0] ? text : strerror(-result)));
        settle(a, ROUND_UNREACHABLE);
        return result > 0;
}

static bool on_poll_answer(int result, int fd, const char *text, void *userdata)
{
        App *a = userdata;
        _cleanup_(manifest_freep) Manifest *m = NULL;
        _cleanup_free_ char *err = NULL;
        int r;

        a->polled_sec = time(NULL);
        if (result < 0 || result == POLL_ABSENT || result == POLL_UNKNOWN)
                return poll_failed(a, result, text);
        if (result == 0) {
                a->wanted = manifest_free(a->wanted);
                r = judge_envelope(fd, a->agent->trust, a->config, &m, &a->wanted_digest, &err);
                if (r < 0) {
                        set_verdict(a, false, strdup(err_text(r, err)));
                        settle(a, ROUND_REFUSED);
                        return true;
                }
                a->wanted = TAKE_PTR(m);
        }
        /* Unchanged, and what was there was refused: it still is. */
        if (!a->wanted)
                set_verdict(a, false, strdup(strempty(a->poll_text)));
        else
                consider(a);
        report(a);
        return true;
}

/* Reporting */

static int status_object(App *a, cJSON **ret)
{
        _cleanup_json_ cJSON *o = cJSON_CreateObject();
        cJSON *state = NULL;
        int r;

        if (!o || !cJSON_AddStringToObject(o, "schema", "slipway/status/1") ||
            !cJSON_AddStringToObject(o, "instance", a->agent->config->instance) ||
            !cJSON_AddBoolToObject(o, "ok", a->poll_ok) ||
            !cJSON_AddStringToObject(o, "text", strempty(a->poll_text)))
                return -ENOMEM;
        r = state_format(a->state, &state);
        if (r < 0)
                return r;
        if (!cJSON_AddItemToObject(o, "state", state)) {
                cJSON_Delete(state);
                return -ENOMEM;
        }
        *ret = TAKE_PTR(o);
        return 0;
}

static void report(App *a)
{
        _cleanup_json_ cJSON *status = NULL;
        int r;

        if (!a->reporter)
                return;
        r = status_object(a, &status);
        if (r >= 0)
                r = reporter_send(a->reporter, status);
        if (r < 0)
                app_log(a, LOG_WARNING, "Can't report the status of app %s: %s", a->config->app,
                        strerror(-r));
}

static bool add_poll(App *a, cJSON *o)
{
        cJSON *poll = cJSON_AddObjectToObject(o, "poll");
        char at[TIME_TEXT_SIZE];

        if (!poll || !cJSON_AddBoolToObject(poll, "ok", a->poll_ok) ||
            !cJSON_AddStringToObject(poll, "text", strempty(a->poll_text)))
                return false;
        if (a->polled_sec > 0 &&
            !cJSON_AddStringToObject(poll, "at", time_format_utc(a->polled_sec, at)))
                return false;
        if (a->poller &&
            !cJSON_AddStringToObject(poll, "next",
                                     time_format_utc(time(NULL) + poller_next_sec(a->poller), at)))
                return false;
        return !a->wanted || cJSON_AddStringToObject(poll, "expires",
                                                     time_format_utc(a->wanted->expires_sec, at));
}

int app_describe(App *a, cJSON **ret)
{
        _cleanup_json_ cJSON *o = cJSON_CreateObject();
        cJSON *state = NULL;
        int r = refresh_state(a);

        if (r < 0)
                return r;
        if (!o || !cJSON_AddStringToObject(o, "root", a->config->root) || !add_poll(a, o))
                return -ENOMEM;
        if (a->staging &&
            (!cJSON_AddNumberToObject(o, "available_bytes", staging_available(a->staging)) ||
             !cJSON_AddNumberToObject(o, "artifact_bytes", a->deploying->artifact.size_bytes)))
                return -ENOMEM;
        r = state_format(a->state, &state);
        if (r < 0)
                return r;
        if (!cJSON_AddItemToObject(o, "state", state)) {
                cJSON_Delete(state);
                return -ENOMEM;
        }
        *ret = TAKE_PTR(o);
        return 0;
}

/* Starting */

/* What a crash left. Before the switch nothing has changed, and the channel is asked again; after
 * it the activation goes on. */
static int take_up(App *a)
{
        _cleanup_free_ char *err = NULL;
        State *s = a->state;
        int r;

        if (s->phase == PHASE_IDLE)
                return sweep_leftovers(a);
        r = take_lock(a, &err);
        if (r < 0)
                return log_error_errno(r, "App %s: %s", a->config->app, err_text(r, err));
        s = a->state;
        if (s->phase == PHASE_FETCHING) {
                app_log(a, LOG_NOTICE,
                        "App %s: fetching release %s was cut off; the channel decides again",
                        a->config->app, s->pending.release);
                s->phase = PHASE_IDLE;
                r = state_end(s, RESULT_FAILED, "cut off before the switch");
                if (r >= 0)
                        r = save(a);
                transaction_ended(a);
                return r;
        }
        app_log(a, LOG_NOTICE,
                "App %s: goes on with the %s of release %s, which was cut off while %s",
                a->config->app, action_to_string(s->pending.action), s->pending.release,
                phase_to_string(s->phase));
        s->pending.attempts++;
        r = save(a);
        return r < 0 ? r : activate(a);
}

static int add_network_parts(App *a)
{
        const Config *c = a->agent->config;
        PollerOptions options = { .path = a->config->manifest_path,
                                  .interval_usec = c->poll_interval_usec,
                                  .jitter_percent = c->jitter_percent };
        _cleanup_free_ char *path = words("%s/channels/%s/instances/%s.json", a->config->app,
                                          a->config->channel, c->instance);
        int r;

        if (!path)
                return -ENOMEM;
        if (c->report) {
                r = reporter_new(a->agent->fetcher, path, &a->reporter);
                if (r < 0)
                        return r;
                reporter_on_idle(a->reporter, on_reporter_idle, a);
        }
        r = poller_new(a->agent->event, a->agent->fetcher, &options, on_poll_answer, a, &a->poller);
        if (r < 0)
                return r;
        if (!a->agent->options.once)
                return poller_start(a->poller);
        poller_stop(a->poller);
        return poller_poll(a->poller);
}

int app_start(App *a)
{
        int r;

        if (!a->agent->options.offline) {
                r = add_network_parts(a);
                if (r < 0)
                        return r;
        }
        r = take_up(a);
        if (r < 0)
                app_log(a, LOG_ERR, "App %s: can't take up what was left: %s", a->config->app,
                        strerror(-r));
        return 0;
}

/* What admins ask for */

int app_poll_now(App *a, app_told_t told, void *userdata)
{
        if (!a->poller)
                return -EHOSTDOWN;
        if (a->n_waiting == N_TOLD_MAX)
                return -EBUSY;
        a->waiting[a->n_waiting++] = (Told){ told, userdata };
        return poller_poll(a->poller);
}

/* The release that was live before the present one, as far as it is still here. */
static const char *release_before(const App *a)
{
        const State *s = a->state;

        if (s->pending.release && s->pending.action == ACTION_DEPLOY && s->phase > PHASE_FETCHING)
                return s->pending.from;
        for (size_t i = s->n_events; i > 0; i--) {
                const Event *e = &s->events[i - 1];
                if (e->result != RESULT_DONE)
                        continue;
                if (!streq_ptr(e->release, s->current) && state_find_release(s, e->release))
                        return e->release;
                if (e->from && !streq_ptr(e->from, s->current) && state_find_release(s, e->from))
                        return e->from;
        }
        return NULL;
}

static int find_rollback(const App *a, const char *wanted, const char **ret, char **reterr)
{
        const char *release = wanted ? wanted : release_before(a);

        if (!release)
                return fail(reterr, -ENOENT, "there is no release before %s on this host",
                            a->state->current ? a->state->current : "the first");
        if (!state_find_release(a->state, release) || a->releases_fd < 0 ||
            faccessat(a->releases_fd, release, F_OK, AT_SYMLINK_NOFOLLOW) < 0)
                return fail(reterr, -ENOENT,
                            "release %s is not on this host: see slipway releases %s", release,
                            a->config->app);
        if (streq_ptr(a->state->current, release) && a->state->phase <= PHASE_FETCHING)
                return fail(reterr, -EEXIST, "release %s is live already", release);
        *ret = release;
        return 0;
}

static void unlock_if_idle(App *a)
{
        if (!a->staging && !a->activation)
                unlock(a);
}

static int pin(State *s, const char *release, const char *by, uint64_t deployment)
{
        int r = state_set(&s->pinned, release);

        if (r >= 0)
                r = state_set(&s->pinned_by, by);
        s->pinned_deployment = deployment;
        s->pinned_sec = time(NULL);
        return r;
}

int app_rollback(App *a, const char *wanted, const char *by, app_told_t told, void *userdata,
                 char **reterr)
{
        _cleanup_free_ char *release = NULL, *from = NULL;
        const char *found = NULL;
        State *s;
        uint64_t deployment;
        int r = take_lock(a, reterr);

        if (r < 0)
                return r;
        s = a->state;
        if (a->rollback.told || (a->activation && s->phase == PHASE_REVERTING))
                return fail(reterr, -EBUSY,
                            "app %s is on its way back already: see slipway status %s",
                            a->config->app, a->config->app);
        (void) open_existing_root(a);
        r = find_rollback(a, wanted, &found, reterr);
        if (r < 0) {
                unlock_if_idle(a);
                return r;
        }
        deployment = MAX(s->deployment, s->pending.deployment);
        if (a->wanted)
                deployment = MAX(deployment, a->wanted->deployment);
        release = strdup(found);
        r = read_current(a, &from);
        if (r < 0 || !release)
                return fail_errno(reterr, r < 0 ? r : -ENOMEM, "can't roll app %s back",
                                  a->config->app);
        a->staging = staging_free(a->staging);
        a->activation = activation_free(a->activation);
        s->phase = PHASE_IDLE;
        r = pin(s, release, by, deployment);
        if (r >= 0)
                r = state_begin(s, ACTION_ROLLBACK, release, from, deployment,
                                state_find_release(s, release)->serial, by);
        if (r >= 0)
                r = activate(a);
        if (r < 0) {
                unlock(a);
                return fail_errno(reterr, r, "can't roll app %s back", a->config->app);
        }
        a->rollback = (Told){ told, userdata };
        return 0;
}

int app_resume(App *a, char **reterr)
{
        State *s;
        int r = take_lock(a, reterr);

        if (r < 0)
                return r;
        s = a->state;
        s->pinned_deployment = s->failed_deployment = 0;
        r = state_set(&s->pinned, NULL);
        if (r >= 0)
                r = state_set(&s->pinned_by, NULL);
        if (r >= 0)
                r = state_set(&s->failed, NULL);
        if (r >= 0)
                r = state_set(&s->failed_reason, NULL);
        if (r >= 0)
                r = save(a);
        a->retry_deployment = 0;
        unlock_if_idle(a);
        if (r < 0)
                return fail_errno(reterr, r, "can't save the state of app %s", a->config->app);
        bus_service_app_changed(a->agent, a);
        return a->poller ? poller_poll(a->poller) : 0;
}
