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
#include "ec2.h"
#include "err.h"
#include "fd.h"
#include "journal.h"
#include "kept-root.h"
#include "log.h"
#include "memory.h"
#include "orders.h"

/* What systemd gives us beyond the limit to say that we are ready. */
#define START_MARGIN_USEC (UINT64_C(30) * 1000000)

Agent *agent_free(Agent *a)
{
        if (!a)
                return NULL;
        for (size_t i = 0; i < a->n_apps; i++)
                app_free(a->apps[i]);
        free(a->apps);
        orders_free(a->orders);
        sd_event_source_disable_unref(a->ready_limit_source);
        sd_event_source_disable_unref(a->apply_source);
        instance_watch_free(a->watch);
        instance_free(a->instance);
        root_watch_free(a->roots);
        /* Nobody comes after a round to do what was left to slipway-fetch without an answer. */
        if (a->options.once)
                fetcher_finish(a->fetcher);
        else
                fetcher_free(a->fetcher);
        trust_free(a->trust);
        config_free(a->config);
        config_free(a->next_config);
        config_source_free(a->source);
        free(a->trouble);
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

static int on_apply(sd_event_source *source, void *userdata);

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
        if (r >= 0 && fetches(a))
                r = own_directory(a->paths.fetch_state_dir, 0700, &a->fetch_identity, NULL, reterr);
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

static const Config *settings(const Agent *a)
{
        return config_source_settings(a->source);
}

/* What was last heard of who this host is, as far as there is anything. */
static int recall_instance(Agent *a, char **reterr)
{
        _cleanup_close_ int dir_fd = dir_open_at(AT_FDCWD, a->paths.state_dir);
        int r = dir_fd < 0 ? dir_fd : instance_load(dir_fd, &a->instance);

        if (r == -ENOENT)
                return 0;
        if (r == -EPROTO)
                return fail(reterr, r,
                            "%s/instance is damaged, or a newer version of Slipway wrote it",
                            a->paths.state_dir);
        return r < 0 ? fail_errno(reterr, r, "can't read %s/instance", a->paths.state_dir) : 0;
}

static int recall_config(Agent *a, char **reterr)
{
        int r = recall_instance(a, reterr);

        return r < 0 ? r : config_resolve(a->source, a->instance, &a->config, reterr);
}

/* What was heard goes before what the files say alone: under the host's name for the instance's,
 * applications would lie elsewhere. */
static void recall_for_metadata(Agent *a)
{
        _cleanup_free_ char *err = NULL;

        if (recall_instance(a, &err) < 0)
                log_warning("Nothing is known of this instance before its metadata is: %s",
                            err_text(-ENOMEM, err));
        if (a->instance) {
                a->config = config_free(a->config);
                if (config_resolve(a->source, a->instance, &a->config, NULL) < 0)
                        log_debug("What was last heard of this instance leads nowhere");
        }
        a->recalled = a->config;
}

/* Metadata is asked where it is to be had, and may tell something that the files do not. Until it
 * has answered, what is known says where applications lie that a crash may have left half changed:
 * that is taken up without waiting for anybody. Offline it is all there is. */
static int load_config(Agent *a, char **reterr)
{
        const char *path = a->options.config ? a->options.config : a->paths.config_file;
        _cleanup_free_ char *err = NULL;
        bool has_metadata = ec2_has_metadata();
        int r = config_read(path, !a->options.config && (a->options.offline || has_metadata),
                            &a->source, reterr);

        if (r < 0)
                return r;
        if (a->options.offline)
                return recall_config(a, reterr);
        r = config_resolve(a->source, NULL, &a->config, &err);
        a->asks_metadata =
                has_metadata && (r < 0 || !settings(a)->instance || !settings(a)->has_tags ||
                                 (settings(a)->ssm.enabled && !settings(a)->region));
        if (r < 0 && (!a->asks_metadata || r != -ENODATA))
                return err ? fail(reterr, r, "%s", err) : r;
        a->needs_metadata = r < 0;
        if (a->asks_metadata)
                recall_for_metadata(a);
        return 0;
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

static int load_trust(Agent *a, Envelope **ret_new, char **reterr)
{
        _cleanup_free_ char *trouble = NULL;
        int r = kept_root_load(settings(a)->trust_path, a->paths.state_dir, &a->trust, ret_new,
                               &trouble, reterr);

        if (r >= 0 && trouble)
                log_error("Trust roots: %s", trouble);
        return r;
}

/* Each judges what it has once more, or at last. */
static void on_root_walked(bool learned, void *userdata)
{
        Agent *a = userdata;

        for (size_t i = 0; i < a->n_apps; i++)
                app_root_walked(a->apps[i], learned);
}

static int watch_roots(Agent *a, Envelope *unkept)
{
        return root_watch_new(a->event, a->fetcher, a->trust, unkept, a->state_dir_fd,
                              a->options.once ? 0 : ROOT_WATCH_INTERVAL_USEC, on_root_walked, a,
                              &a->roots);
}

static int open_all(Agent *a, char **reterr)
{
        _cleanup_(envelope_freep) Envelope *new_root = NULL;
        int r = paths_init(a->options.user, &a->paths, reterr);

        /* First of all: without root, whatever can't be read is no news. */
        if (r >= 0)
                r = look_up_identities(a, reterr);
        if (r >= 0)
                r = load_config(a, reterr);
        if (r >= 0 && fetches(a))
                r = load_trust(a, &new_root, reterr);
        if (r >= 0)
                r = open_directories(a, reterr);
        if (r < 0)
                return r;
        r = sd_event_new(&a->event);
        if (r >= 0)
                r = bus_new(a->event, a->options.user, &a->bus);
        if (r >= 0 && fetches(a))
                r = fetcher_new(a->event, NULL, a->paths.cache_dir, a->paths.fetch_state_dir,
                                &a->fetch_identity, &a->fetcher);
        if (r >= 0 && a->fetcher)
                fetcher_set_bandwidth(a->fetcher, settings(a)->bandwidth_bytes);
        if (r >= 0 && !a->options.offline)
                r = watch_roots(a, TAKE_PTR(new_root));
        if (r >= 0)
                r = sd_event_add_defer(a->event, &a->apply_source, on_apply, a);
        if (r >= 0)
                r = sd_event_source_set_enabled(a->apply_source, SD_EVENT_OFF);
        if (r >= 0 && a->fetcher && a->config)
                r = fetcher_set_store(a->fetcher, a->config->store);
        if (r < 0)
                return fail_errno(reterr, r, "can't set up the event loop");
        return a->config ? make_apps(a, reterr) : 0;
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
        uint64_t limit_usec = settings(a)->ready_limit_usec;
        int r = sd_event_add_time_relative(a->event, &a->ready_limit_source, CLOCK_BOOTTIME,
                                           limit_usec, 0, on_ready_limit, a);

        if (r < 0)
                return log_error_errno(r, "Can't wait for the first round: %s", strerror(-r));
        (void) sd_notifyf(0, "EXTEND_TIMEOUT_USEC=%" PRIu64 "\nSTATUS=Deploys before it is ready",
                          limit_usec + START_MARGIN_USEC);
        return 0;
}

/* What is to be deployed is known, or will be as soon as all can give way to it. */
static bool is_known(const Agent *a)
{
        return a->next_config || (a->config && !a->recalled);
}

static bool is_settled(const Agent *a)
{
        if (!is_known(a) || a->next_config)
                return false;
        for (size_t i = 0; i < a->n_apps; i++)
                if (!app_is_settled(a->apps[i]))
                        return false;
        return true;
}

/* Whoever may have stood in the way of another configuration does not any more. */
static void apply_soon(Agent *a)
{
        if (a->next_config)
                (void) sd_event_source_set_enabled(a->apply_source, SD_EVENT_ONESHOT);
}

void agent_app_settled(Agent *a)
{
        int worst = ROUND_OK;

        apply_soon(a);
        orders_app_changed(a->orders);
        if (a->ready_limit_source && is_settled(a))
                say_ready(a);
        if (!a->options.once || !is_known(a) || a->next_config)
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
        orders_look_again(a->orders);
        agent_app_settled(a);
        return 0;
}

/* Who this host is */

/* Each failure to ask has other words, and only the first one is news. */
static void set_trouble(Agent *a, const char *text, bool unasked)
{
        bool news = text && (!a->trouble || a->unasked != unasked ||
                             (!unasked && !err_text_equal(a->trouble, text)));

        if (news)
                journal_event(LOG_WARNING, JOURNAL_NOT_KNOWN, "%s", text);
        else if (!text && a->trouble)
                log_info("Who this host is is known now");
        if (text || a->trouble)
                (void) sd_notifyf(0, "STATUS=%s", strempty(text));
        free(a->trouble);
        a->trouble = text ? strdup(text) : NULL;
        a->unasked = unasked;
}

static bool can_apply(const Agent *a)
{
        for (size_t i = 0; i < a->n_apps; i++)
                if (!app_can_retire(a->apps[i]))
                        return false;
        return true;
}

static void retire_apps(Agent *a)
{
        for (size_t i = 0; i < a->n_apps; i++)
                app_retire(a->apps[i]);
        for (size_t i = 0; i < a->n_apps; i++)
                app_free(a->apps[i]);
        free(a->apps);
        a->apps = NULL;
        a->n_apps = 0;
}

static int apply(Agent *a, char **reterr)
{
        int r;

        retire_apps(a);
        config_free(a->config);
        a->config = TAKE_PTR(a->next_config);
        a->recalled = false;
        r = fetcher_set_store(a->fetcher, a->config->store);
        if (r >= 0)
                r = make_apps(a, reterr);
        return r >= 0 && a->service ? bus_service_apps_changed(a->service) : r;
}

/* Applications go on with what they have taken up, whatever it is. */
static void confirm_recalled(Agent *a)
{
        config_take_identity(a->config, a->next_config);
        a->next_config = config_free(a->next_config);
        a->recalled = false;
}

static int on_apply(sd_event_source *source, void *userdata)
{
        Agent *a = userdata;
        _cleanup_free_ char *err = NULL;
        bool holds =
                a->recalled && a->next_config && config_deploys_equal(a->config, a->next_config);
        int r = 0;

        (void) source;
        if (!a->next_config || (!holds && !can_apply(a)))
                return 0;
        if (a->options.once)
                a->watch = instance_watch_free(a->watch);
        if (holds)
                confirm_recalled(a);
        else
                r = apply(a, &err);
        if (r < 0)
                log_error("Can't go on as this instance: %s", err_text(r, err));
        else
                r = start_apps(a);
        return r < 0 ? sd_event_exit(a->event, EXIT_FAILURE) : 0;
}

static void look_again(Agent *a)
{
        for (size_t i = 0; i < a->n_apps; i++)
                app_look_again(a->apps[i]);
}

static void take_config(Agent *a, Config *config)
{
        _cleanup_(config_freep) Config *before = TAKE_PTR(a->next_config);

        if (a->config && !a->recalled && config_deploys_equal(a->config, config)) {
                bool news = !config_identity_equal(a->config, config);
                if (news)
                        config_take_identity(a->config, config);
                config_free(config);
                orders_look_again(a->orders);
                if (news || before)
                        look_again(a);
                return;
        }
        if (!before || !config_deploys_equal(before, config))
                log_info("This host is instance %s, its store %s, apps: %zu", config->instance,
                         config->store, config->n_apps);
        a->next_config = config;
        apply_soon(a);
}

static int resolve(Agent *a, char **reterr)
{
        Config *config;
        int r = config_resolve(a->source, a->instance, &config, reterr);

        if (r >= 0)
                take_config(a, config);
        else if (a->next_config) {
                /* What was to come is not what this host is any more: what is in force stays. */
                a->next_config = config_free(a->next_config);
                look_again(a);
        }
        return r;
}

/* 1: it is news. Tags that could not be asked for are as they were. */
static int take_instance(Agent *a, Instance *instance)
{
        _cleanup_free_ char *packed = NULL;
        Instance *copy;
        size_t size;
        int r = 0;

        if (a->instance && instance_lacks_tags(instance) && streq(a->instance->id, instance->id))
                r = instance_keep_tags(instance, a->instance);
        if (r >= 0 && a->instance && instance_equal(a->instance, instance))
                return 0;
        if (r >= 0)
                r = instance_pack(instance, &packed, &size);
        if (r >= 0)
                r = instance_unpack(packed, size, &copy);
        if (r < 0)
                return log_error_errno(r, "Can't keep what the metadata says: %s", strerror(-r));
        instance_free(a->instance);
        a->instance = copy;
        return 1;
}

/* What leads nowhere, as with tags that were taken away, does not take the place of what did. */
static void save_instance(Agent *a)
{
        int r = instance_save(a->instance, a->state_dir_fd);

        if (r < 0)
                log_warning("Can't write %s/instance: %s", a->paths.state_dir, strerror(-r));
}

/* What was known stays. A host whose files say all that it must know does not wait: then what was
 * last heard, before a restart, holds as well. */
static int miss_instance(Agent *a, int error, const char *text)
{
        _cleanup_free_ char *trouble = NULL, *err = NULL;

        err_set(&trouble, "can't ask who this host is: %s", text);
        set_trouble(a, trouble, true);
        return is_known(a) || (!a->needs_metadata && resolve(a, &err) >= 0) ? 0 : error;
}

/* `lack`: why the tags could not be asked for, or NULL. */
static int follow_instance(Agent *a, bool news, const char *lack)
{
        _cleanup_free_ char *err = NULL;
        int r;

        if (!news && !lack && !a->trouble && is_known(a))
                return 0;
        r = resolve(a, &err);
        set_trouble(a, r < 0 ? err_text(r, err) : lack, r >= 0);
        if (r >= 0 && news)
                save_instance(a);
        return r;
}

static void on_instance(int result, Instance *instance, const char *text, void *userdata)
{
        Agent *a = userdata;
        _cleanup_free_ char *lack = NULL;
        int r;

        if (result >= 0 && instance_lacks_tags(instance))
                lack = strdup(instance->tags_error);
        r = result < 0 ? miss_instance(a, result, text) : take_instance(a, instance);
        if (result >= 0 && r >= 0)
                r = follow_instance(a, r > 0, lack);
        apply_soon(a);
        if (r < 0 && a->options.once)
                (void) sd_event_exit(a->event, result < 0 ? ROUND_UNREACHABLE : EXIT_FAILURE);
}

void agent_look_again(Agent *a)
{
        int r = a->watch ? instance_watch_ask(a->watch) : 0;

        if (r < 0)
                log_warning("Can't ask who this host is: %s", strerror(-r));
}

static int take_orders(Agent *a)
{
        int r = settings(a)->ssm.enabled && !a->options.once ? orders_new(a, &a->orders) : 0;

        return r < 0 ? log_error_errno(r, "Can't take orders: %s", strerror(-r)) : 0;
}

static int begin(Agent *a)
{
        int r = take_orders(a);

        if (r >= 0 && a->config)
                r = start_apps(a);
        if (r < 0 || !a->asks_metadata)
                return r;
        r = instance_watch_new(a->event, a->fetcher, settings(a)->metadata_interval_usec,
                               on_instance, a, &a->watch);
        return r < 0 ? log_error_errno(r, "Can't ask who this host is: %s", strerror(-r)) : 0;
}

/* Nothing is begun that another slipwayd may be at; and whoever waits for the start can talk to us
 * after it. */
static void on_service_settled(int result, void *userdata)
{
        Agent *a = userdata;

        bool delayed = settings(a)->ready_when_deployed;

        if (result < 0 || (delayed && delay_ready(a) < 0) || begin(a) < 0) {
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
        r = a->options.once ? begin(a) : serve(a);
        return r < 0 ? r : sd_event_loop(a->event);
}
