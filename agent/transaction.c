/* SPDX-License-Identifier: Apache-2.0 */
#include <fcntl.h>
#include <inttypes.h>

#include "err.h"
#include "fd.h"
#include "journal-id.h"
#include "log.h"
#include "outcome.h"
#include "staging.h"
#include "sweep.h"
#include "transaction.h"
#include "vetting.h"

struct Transaction {
        Site *site;
        Fetcher *fetcher;
        Manifest *manifest; /* of a deployment */
        Vetting *vetting;   /* asks where the release comes from */
        Sweep *clearing;    /* removes what is in the way of the release's directory */
        Staging *staging;
        Activation *activation;
        bool stage, from_files;
        bool was_live; /* the release, when the transaction began */
        StagingFiles files;
        StagingResult counts;              /* of what was staged */
        sd_event_source *early_end_source; /* failed before the switch, or staged */
        int error;                         /* 0: staged */
        char *reason;
        TransactionCallbacks callbacks;
        void *userdata;
};

Transaction *transaction_free(Transaction *t)
{
        if (!t)
                return NULL;
        sd_event_source_disable_unref(t->early_end_source);
        vetting_free(t->vetting);
        sweep_free(t->clearing);
        staging_free(t->staging);
        activation_free(t->activation);
        manifest_free(t->manifest);
        fd_close(t->files.index_fd);
        fd_close(t->files.artifact_fd);
        fd_close(t->files.provenance_fd);
        site_unlock(t->site);
        free(t->reason);
        free(t);
        return NULL;
}

const Manifest *transaction_manifest(const Transaction *t)
{
        return t->manifest;
}

bool transaction_is_staging(const Transaction *t)
{
        return t->stage;
}

char *transaction_waits_for(const Transaction *t)
{
        return t->activation ? activation_waits_for(t->activation) : NULL;
}

uint64_t transaction_wanted(const Transaction *t)
{
        return t->staging ? staging_wanted(t->staging) : 0;
}

uint64_t transaction_available(const Transaction *t)
{
        return t->staging ? staging_available(t->staging) : 0;
}

/* Ends before the switch */

static void end_failed(Transaction *t)
{
        State *s = t->site->state;
        ActivationResult result = { RESULT_FAILED, outcome_is_final(t->error) ? 0 : t->error,
                                    t->reason };
        int r;

        site_event(t->site, LOG_ERR, JOURNAL_FAILED,
                   "App %s: deployment %" PRIu64
                   " (release %s) failed before the switch, release %s stays: %s",
                   t->site->config->app, s->pending.deployment, s->pending.release,
                   s->current ? s->current : "none", strempty(t->reason));
        r = outcome_before_switch(s, t->error, t->reason);
        if (r >= 0)
                r = site_save(t->site);
        if (r < 0)
                s->phase = PHASE_IDLE;
        t->callbacks.ended(&result, t->userdata);
}

static void end_staged(Transaction *t)
{
        ActivationResult result = { .result = RESULT_DONE };
        State *s = t->site->state;
        int r = state_end(s, RESULT_DONE, NULL);

        if (r >= 0)
                r = site_save(t->site);
        if (r < 0) {
                s->phase = PHASE_IDLE;
                result = (ActivationResult){ RESULT_FAILED, r, "can't save the state" };
        } else
                site_event(t->site, LOG_NOTICE, JOURNAL_STAGED,
                           "App %s: release %s is staged: it goes live by slipway activate %s",
                           t->site->config->app, s->staged.release, t->site->config->app);
        t->callbacks.ended(&result, t->userdata);
}

static int on_early_end(sd_event_source *source, void *userdata)
{
        Transaction *t = userdata;

        (void) source;
        if (t->error < 0)
                end_failed(t);
        else
                end_staged(t);
        return 0;
}

static void end_later(Transaction *t)
{
        (void) sd_event_source_set_enabled(t->early_end_source, SD_EVENT_ONESHOT);
}

static void fail_later(Transaction *t, int error, const char *reason)
{
        t->error = error;
        if (state_set(&t->reason, reason) < 0)
                log_error("App %s: out of memory: %s", t->site->config->app, reason);
        t->vetting = vetting_free(t->vetting);
        t->staging = staging_free(t->staging);
        t->clearing = sweep_free(t->clearing);
        end_later(t);
}

static void fail_later_errno(Transaction *t, int error, const char *what)
{
        _cleanup_free_ char *reason = NULL;

        (void) fail_errno(&reason, error, "%s", what);
        fail_later(t, error, strempty(reason));
}

/* Activation */

static void on_activated(const ActivationResult *result, void *userdata)
{
        Transaction *t = userdata;

        site_clear_running(t->site);
        /* A rollback that could not begin: what it was to replace is still in the file. */
        if (result->error < 0 && !t->manifest)
                site_reload(t->site);
        t->callbacks.ended(result, t->userdata);
}

static void on_changed(void *userdata)
{
        Transaction *t = userdata;

        t->callbacks.changed(t->userdata);
}

static int activate(Transaction *t, char **reterr)
{
        const Pending *p = &t->site->state->pending;
        int r = activation_check(t->site, p->release, p->from, reterr);

        if (r < 0)
                return r;
        r = activation_start(t->site, on_activated, on_changed, t, &t->activation);
        return r < 0 ? fail_errno(reterr, r, "can't activate release %s", p->release) : 0;
}

/* The tree is on disk: it joins the list, and goes live or waits. */
static void take_in(Transaction *t)
{
        const Manifest *m = t->manifest;
        _cleanup_free_ char *err = NULL;
        int r = state_add_release(t->site->state, m->release, m->deployment, m->serial,
                                  &m->index.sha256, &m->activate);

        if (r >= 0 && t->counts.tree_bytes > 0)
                state_set_release_size(t->site->state, m->release, t->counts.tree_bytes,
                                       t->counts.own_bytes);
        if (r >= 0 && t->stage) {
                end_later(t);
                return;
        }
        if (r >= 0)
                r = activate(t, &err);
        if (r < 0)
                fail_later(t, r, err_text(r, err));
}

/* A crash may have come between the unpacking and the dropping: what is on disk is not fetched
 * again. */
static void drop_spool(const Transaction *t)
{
        if (t->from_files)
                return;
        fetcher_drop(t->fetcher, &t->manifest->index.sha256);
        fetcher_drop(t->fetcher, &t->manifest->artifact.sha256);
}

/* Staging */

static void log_staged(const Transaction *t)
{
        site_log(t->site, LOG_INFO,
                 "App %s: %u files of release %s were here already; %" PRIu64 " of %" PRIu64
                 " bytes of its artifact were fetched",
                 t->site->config->app, t->counts.n_taken_over, t->manifest->release,
                 t->from_files ? 0 : staging_wanted(t->staging), t->manifest->artifact.size_bytes);
}

static void on_staged(int result, const char *reason, void *userdata)
{
        Transaction *t = userdata;

        if (result < 0) {
                fail_later(t, result, reason ? reason : strerror(-result));
                return;
        }
        t->counts = staging_result(t->staging);
        log_staged(t);
        t->staging = staging_free(t->staging);
        take_in(t);
}

static void stage(Transaction *t)
{
        StagingPlace place = { .event = t->site->event,
                               .fetcher = t->fetcher,
                               .identity = t->site->unpack,
                               .releases_fd = t->site->releases_fd,
                               .root = t->site->config->root,
                               .reserve_bytes = t->site->config->reserve_bytes,
                               .app = t->site->config->app,
                               .state = t->site->state,
                               .state_dir_fd = t->site->state_dir_fd };
        int r = staging_start(&place, t->manifest, t->from_files ? &t->files : NULL, on_staged, t,
                              &t->staging);

        if (r < 0)
                fail_later_errno(t, r, "can't begin to fetch");
        else
                staging_on_progress(t->staging, on_changed);
}

static void on_cleared(int result, const char *reason, void *userdata)
{
        Transaction *t = userdata;

        if (result < 0) {
                fail_later(t, result, reason);
                return;
        }
        t->clearing = sweep_free(t->clearing);
        stage(t);
}

/* Something with the release's name is there that is not known to be the release. */
static int clear_way(Transaction *t)
{
        char **names = calloc(1, sizeof(char *));

        if (!names)
                return -ENOMEM;
        names[0] = strdup(t->manifest->release);
        if (!names[0]) {
                free(names);
                return -ENOMEM;
        }
        return sweep_start(t->site->event, &t->site->unpack, t->site->releases_fd, names, 1,
                           on_cleared, t, &t->clearing);
}

static bool is_needed(const State *s, const char *release)
{
        return streq_ptr(s->current, release) || streq_ptr(s->last_good, release) ||
               streq_ptr(s->pinned, release);
}

static int deploy(Transaction *t, char **reterr)
{
        const Manifest *m = t->manifest;
        State *s = t->site->state;
        const Installed *i = state_find_release(s, m->release);
        int r = site_make_root(t->site, reterr);

        if (r < 0)
                return r;
        if (site_has_release(t->site, m->release)) {
                if (i && sha256_equal(&i->index_sha256, &m->index.sha256)) {
                        drop_spool(t);
                        take_in(t);
                        return 0;
                }
                if (is_needed(s, m->release))
                        return fail(
                                reterr, -EBADMSG,
                                "release %s is in use on this host with other content: publish it under another id",
                                m->release);
        }
        state_remove_release(s, m->release);
        state_move(s, PHASE_FETCHING);
        r = site_save(t->site);
        if (r < 0)
                return fail_errno(reterr, r, "can't save the state");
        if (!site_has_release(t->site, m->release)) {
                stage(t);
                return 0;
        }
        r = clear_way(t);
        return r < 0 ? fail_errno(reterr, r, "can't remove an unknown %s", m->release) : 0;
}

/* Where it comes from */

static void on_vetted(int result, const char *reason, void *userdata)
{
        _cleanup_free_ char *err = NULL;
        Transaction *t = userdata;
        int r = result < 0 ? fail(&err, result, "%s", reason) : 0;

        if (r >= 0) {
                t->vetting = vetting_free(t->vetting);
                r = deploy(t, &err);
        }
        if (r < 0)
                fail_later(t, r, err_text(r, err));
}

/* Nothing but links of it is missing: a policy that came later is no reason to leave it so. */
static bool is_live_and_here(const Transaction *t)
{
        const Manifest *m = t->manifest;
        const Installed *i = state_find_release(t->site->state, m->release);

        return t->was_live && i && sha256_equal(&i->index_sha256, &m->index.sha256) &&
               site_has_release(t->site, m->release);
}

/* Deploys it, where the configuration asks for it after its provenance. */
static int vet(Transaction *t, char **reterr)
{
        const AppConfig *app = t->site->config;
        int r;

        if (!app->provenance.required || is_live_and_here(t))
                return deploy(t, reterr);
        if (t->files.provenance_fd >= 0) {
                r = vetting_judge_file(app, t->manifest, t->files.provenance_fd, reterr);
                /* What a try without the file left behind. */
                fetcher_drop(t->fetcher, &t->manifest->provenance.sha256);
                return r < 0 ? r : deploy(t, reterr);
        }
        state_move(t->site->state, PHASE_FETCHING);
        r = site_save(t->site);
        if (r < 0)
                return fail_errno(reterr, r, "can't save the state");
        return vetting_start(t->site->event, t->fetcher, app, t->manifest, VETTING_TIMEOUT_USEC,
                             on_vetted, t, &t->vetting, reterr);
}

/* Beginnings */

static int transaction_new(Site *site, Manifest *manifest, const TransactionCallbacks *callbacks,
                           void *userdata, Transaction **ret, char **reterr)
{
        Transaction *t;
        int r = site_lock(site, NULL, reterr);

        if (r < 0)
                return r;
        t = calloc(1, sizeof(Transaction));
        if (!t) {
                site_unlock(site);
                return -ENOMEM;
        }
        *t = (Transaction){
                .site = site,
                .manifest = manifest ? manifest_ref(manifest) : NULL,
                .files = {-EBADF, -EBADF, -EBADF},
                .callbacks = *callbacks,
                .userdata = userdata
        };
        r = sd_event_add_defer(site->event, &t->early_end_source, on_early_end, t);
        if (r >= 0)
                r = sd_event_source_set_enabled(t->early_end_source, SD_EVENT_OFF);
        if (r < 0) {
                transaction_free(t);
                return fail_errno(reterr, r, "can't begin a transaction");
        }
        *ret = t;
        return 0;
}

static int keep_files(Transaction *t, const StagingFiles *files)
{
        t->from_files = true;
        t->files.index_fd = fcntl(files->index_fd, F_DUPFD_CLOEXEC, 0);
        t->files.artifact_fd = fcntl(files->artifact_fd, F_DUPFD_CLOEXEC, 0);
        if (t->files.index_fd < 0 || t->files.artifact_fd < 0)
                return -errno;
        if (files->provenance_fd < 0)
                return 0;
        t->files.provenance_fd = fcntl(files->provenance_fd, F_DUPFD_CLOEXEC, 0);
        return t->files.provenance_fd < 0 ? -errno : 0;
}

int transaction_deploy(Site *site, Fetcher *fetcher, const Order *order,
                       const TransactionCallbacks *callbacks, void *userdata, Transaction **ret,
                       char **reterr)
{
        _cleanup_(transaction_freep) Transaction *t = NULL;
        _cleanup_free_ char *err = NULL;
        Manifest *m = order->manifest;
        int foreign, r = transaction_new(site, m, callbacks, userdata, &t, reterr);

        if (r < 0)
                return r;
        if (site->state->phase != PHASE_IDLE)
                return fail(reterr, -EBUSY, "app %s has an unfinished change", site->config->app);
        t->fetcher = fetcher;
        t->stage = order->stage;
        r = order->files ? keep_files(t, order->files) : 0;
        if (r < 0)
                return fail_errno(reterr, r, "can't keep the files of the release");
        /* Where its link is gone, nothing is live from here on. */
        t->was_live = streq_ptr(site->state->current, m->release);
        foreign = site_reconcile(site);
        r = state_begin(site->state, order->stage ? ACTION_STAGE : ACTION_DEPLOY, m->release,
                        site->state->current, m->deployment, m->serial, order->by);
        if (r >= 0)
                r = state_set(&site->state->root, site->config->root);
        if (r < 0)
                return r;
        site_event(site, LOG_NOTICE, JOURNAL_BEGINS,
                   "App %s: deployment %" PRIu64 " %s: release %s (now %s)", site->config->app,
                   m->deployment, order->stage ? "is being staged" : "begins", m->release,
                   site->state->current ? site->state->current : "none");
        if (foreign < 0)
                r = fail_errno(
                        &err, foreign,
                        "%s/current is not a link to a release of Slipway: move it away first",
                        site->config->root);
        else
                r = vet(t, &err);
        if (r < 0)
                fail_later(t, r, err_text(r, err));
        *ret = TAKE_PTR(t);
        return 0;
}

static int find_rollback(const Site *site, const char *wanted, char **ret, char **reterr)
{
        const State *s = site->state;
        const char *release = wanted ? wanted : state_release_before(s);

        if (!release)
                return fail(reterr, -ENOENT, "there is no release before %s on this host",
                            s->current ? s->current : "the first");
        if (!state_find_release(s, release) || !site_has_release(site, release))
                return fail(reterr, -ENOENT,
                            "release %s is not on this host: see slipway releases %s", release,
                            site->config->app);
        if (streq_ptr(s->current, release) && s->phase < PHASE_SWITCHING && !s->down)
                return fail(reterr, -EEXIST, "release %s is live already", release);
        *ret = strdup(release);
        return *ret ? 0 : -ENOMEM;
}

int transaction_find_rollback(const Site *site, const char *wanted, char **ret, char **reterr)
{
        _cleanup_free_ char *live = NULL, *release = NULL;
        int r = site_read_current(site, &live);

        if (r < 0)
                return fail_errno(reterr, r, "can't read %s/current", site->config->root);
        r = find_rollback(site, wanted, &release, reterr);
        if (r >= 0)
                r = activation_check(site, release, live, reterr);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(release);
        return 0;
}

int transaction_rollback(Site *site, const char *wanted, const char *by,
                         const TransactionCallbacks *callbacks, void *userdata, Transaction **ret,
                         char **reterr)
{
        _cleanup_(transaction_freep) Transaction *t = NULL;
        _cleanup_free_ char *release = NULL;
        uint64_t deployment;
        State *s;
        int r = transaction_new(site, NULL, callbacks, userdata, &t, reterr);

        if (r < 0)
                return r;
        s = site->state;
        r = site_reconcile(site);
        if (r < 0)
                return fail_errno(reterr, r, "can't read %s/current", site->config->root);
        r = find_rollback(site, wanted, &release, reterr);
        if (r < 0)
                return r;
        deployment = MAX(s->deployment, s->pending.deployment);
        deployment = MAX(deployment, state_floor(s)->deployment);
        s->phase = PHASE_IDLE;
        r = state_begin(s, ACTION_ROLLBACK, release, s->current, deployment,
                        state_find_release(s, release)->serial, by);
        if (r >= 0)
                r = activate(t, reterr);
        if (r < 0) {
                site_reload(site);
                return fail_prefix(reterr, r, "can't roll app %s back", site->config->app);
        }
        site_event(site, LOG_NOTICE, JOURNAL_BEGINS, "App %s: %s rolls back to release %s (now %s)",
                   site->config->app, by, release, s->current ? s->current : "none");
        *ret = TAKE_PTR(t);
        return 0;
}

static int find_staged(const Site *site, char **reterr)
{
        const Staged *staged = &site->state->staged;

        if (site->state->phase > PHASE_WAITING)
                return fail(reterr, -EBUSY, "app %s has an unfinished change", site->config->app);
        if (!staged->release)
                return fail(reterr, -ENOENT, "nothing is staged: see slipway stage %s",
                            site->config->app);
        if (!state_find_release(site->state, staged->release) ||
            !site_has_release(site, staged->release))
                return fail(reterr, -ENOENT,
                            "release %s was removed since it was staged: slipway stage %s again",
                            staged->release, site->config->app);
        return 0;
}

int transaction_activate(Site *site, const char *by, const TransactionCallbacks *callbacks,
                         void *userdata, Transaction **ret, char **reterr)
{
        _cleanup_(transaction_freep) Transaction *t = NULL;
        State *s;
        int r = transaction_new(site, NULL, callbacks, userdata, &t, reterr);

        if (r < 0)
                return r;
        s = site->state;
        r = site_reconcile(site);
        if (r < 0)
                return fail_errno(reterr, r, "can't read %s/current", site->config->root);
        r = find_staged(site, reterr);
        if (r < 0)
                return r;
        s->phase = PHASE_IDLE;
        r = state_begin(s, ACTION_DEPLOY, s->staged.release, s->current, s->staged.deployment,
                        s->staged.serial, by);
        if (r >= 0)
                r = activate(t, reterr);
        if (r < 0) {
                site_reload(site);
                return fail_prefix(reterr, r, "can't activate what is staged");
        }
        site_event(site, LOG_NOTICE, JOURNAL_BEGINS,
                   "App %s: %s makes live what was staged: release %s (now %s)", site->config->app,
                   by, s->pending.release, s->current ? s->current : "none");
        *ret = TAKE_PTR(t);
        return 0;
}

/* Before the switch nothing has changed, and the channel is asked again. */
static int end_early(Site *site)
{
        State *s = site->state;
        int r;

        site_event(site, LOG_NOTICE, JOURNAL_GIVEN_UP,
                   "App %s: release %s was cut off before the switch; the channel decides again",
                   site->config->app, s->pending.release);
        r = state_end(s, RESULT_FAILED, "cut off before the switch");
        if (r >= 0)
                r = site_save(site);
        if (r >= 0)
                site_clear_running(site);
        return r;
}

int transaction_take_up(Site *site, const TransactionCallbacks *callbacks, void *userdata,
                        Transaction **ret, char **reterr)
{
        _cleanup_(transaction_freep) Transaction *t = NULL;
        State *s;
        int r = transaction_new(site, NULL, callbacks, userdata, &t, reterr);

        if (r < 0)
                return r;
        *ret = NULL;
        s = site->state;
        if (s->phase == PHASE_IDLE)
                return 0;
        if (s->phase <= PHASE_WAITING)
                return end_early(site);
        r = activation_check(site, s->pending.release, s->pending.from, reterr);
        if (r < 0)
                return r;
        site_event(site, LOG_NOTICE, JOURNAL_TAKEN_UP,
                   "App %s: goes on with the %s of release %s, which was cut off while %s",
                   site->config->app, action_to_string(s->pending.action), s->pending.release,
                   phase_to_string(s->phase));
        s->pending.attempts++;
        /* Not counted is better than not taken up; the log has why. */
        (void) site_save(site);
        r = activate(t, reterr);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(t);
        return 0;
}

void transaction_leave(Transaction *t)
{
        State *s = t->site->state;

        if (s->phase <= PHASE_WAITING || s->pending.attempts == 0)
                return;
        s->pending.attempts--;
        site_save(t->site);
}

bool transaction_can_give_up(const Transaction *t)
{
        const State *s = t->site->state;

        return s->phase != PHASE_IDLE && s->phase <= PHASE_PREPARING &&
               !(t->activation && activation_runs_hooks(t->activation));
}

bool transaction_give_up(Transaction *t, const char *why)
{
        State *s = t->site->state;

        if (!transaction_can_give_up(t))
                return false;
        site_event(t->site, LOG_NOTICE, JOURNAL_GIVEN_UP,
                   "App %s: deployment %" PRIu64 " is given up before the switch: %s",
                   t->site->config->app, s->pending.deployment, why);
        if (state_end(s, RESULT_FAILED, why) < 0)
                s->phase = PHASE_IDLE;
        (void) site_save(t->site);
        site_clear_running(t->site);
        return true;
}
