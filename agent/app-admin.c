/* SPDX-License-Identifier: Apache-2.0 */
#include <inttypes.h>
#include <time.h>

#include "app-report.h"
#include "app-state.h"
#include "app-verdict.h"
#include "app-work.h"
#include "bus-service.h"
#include "confirmation.h"
#include "err.h"
#include "journal-id.h"
#include "log.h"

/* What people ask of an application: see app.h. */

int app_check_rollback(App *a, const char *release, char **reterr)
{
        _cleanup_free_ char *found = NULL;
        int r = site_refresh(a->site, reterr);

        return r < 0 ? r : transaction_find_rollback(a->site, release, &found, reterr);
}

int app_rollback(App *a, const char *release, const char *by, app_told_t told, void *userdata,
                 char **reterr)
{
        _cleanup_free_ char *found = NULL;
        int r = 0;

        if (a->transaction && (a->rollback.told || a->site->state->phase == PHASE_REVERTING))
                return fail(reterr, -EBUSY,
                            "app %s is on its way back already: see slipway status %s",
                            a->config->app, a->config->app);
        /* A wrong name or a lost bus must not cost what is under way. */
        if (a->transaction)
                r = transaction_find_rollback(a->site, release, &found, reterr);
        if (r < 0)
                return r;
        /* What is being fetched or baked is given up: the state says where it stood. */
        a->transaction = transaction_free(a->transaction);
        app_tell(&a->order, -EIO, "given up for a rollback");
        pruner_stop(a->pruner);
        r = transaction_rollback(a->site, found ? found : release, by, &app_transaction_callbacks,
                                 a, &a->transaction, reterr);
        if (r < 0) {
                app_take_up_left(a);
                return r;
        }
        a->rollback = (Told){ told, userdata };
        bus_service_app_changed(a->agent, a);
        return 0;
}

static int fail_busy(const App *a, char **reterr)
{
        return fail(reterr, -EBUSY, "app %s is being changed: see slipway status %s",
                    a->config->app, a->config->app);
}

/* Something is under way, or will be. */
static bool is_asked(const App *a)
{
        return a->transaction || a->stage.told || a->file_order;
}

int app_stage(App *a, const char *by, app_told_t told, void *userdata, char **reterr)
{
        int r;

        if (!a->poller)
                return fail(reterr, -EHOSTDOWN,
                            "who this host is, and so where its store is, is not known yet: see "
                            "slipway status");
        if (is_asked(a))
                return fail_busy(a, reterr);
        r = state_set(&a->asked_by, by);
        if (r >= 0)
                r = poller_poll(a->poller);
        if (r < 0)
                return fail_errno(reterr, r, "can't poll");
        a->stage = (Told){ told, userdata };
        return 0;
}

int app_activate(App *a, const char *by, app_told_t told, void *userdata, char **reterr)
{
        int r;

        if (is_asked(a))
                return fail_busy(a, reterr);
        pruner_stop(a->pruner);
        r = transaction_activate(a->site, by, &app_transaction_callbacks, a, &a->transaction,
                                 reterr);
        if (r < 0)
                return r;
        a->order = (Told){ told, userdata };
        bus_service_app_changed(a->agent, a);
        return 0;
}

/* 1: there is nothing to do. *ret_text says what it means. */
static int judge_files(App *a, char **ret_text, char **reterr)
{
        Manifest *m = file_order_manifest(a->file_order);
        const Sha256 *digest = file_order_digest(a->file_order);
        _cleanup_free_ char *damage = NULL;
        JudgeContext context;
        int r;

        if (a->transaction)
                return fail_busy(a, reterr);
        r = site_refresh(a->site, reterr);
        if (r >= 0)
                r = judge_fresh(m, digest, a->site->state, a->agent->trust, time(NULL), reterr);
        if (r >= 0)
                r = app_raise_floor(a, m, digest, reterr);
        if (r < 0)
                return r;
        context = app_judge_context(a, m, &damage);
        context.by_hand = true;
        switch (judge_wanted(m, &context, ret_text)) {
        case VERDICT_DEPLOY:
        case VERDICT_STAGE:
        case VERDICT_STAGED:
                return 0;
        case VERDICT_NOTHING:
        case VERDICT_ADOPT:
                return 1;
        default:
                return fail(reterr, -EPERM, "%s", strempty(*ret_text));
        }
}

static bool is_cut_off_early(const App *a)
{
        return a->site->state->phase == PHASE_FETCHING || a->site->state->phase == PHASE_WAITING;
}

static int begin_files(App *a, char **ret_text, char **reterr)
{
        StagingFiles files = file_order_files(a->file_order);
        Manifest *m = file_order_manifest(a->file_order);
        Order order = { .manifest = m, .by = strempty(a->asked_by), .files = &files };
        int r;

        /* Cut off before the switch, by a crash: nothing but a word in the state. */
        r = is_cut_off_early(a) ? app_take_up(a, reterr) : 0;
        if (r < 0)
                return r;
        pruner_stop(a->pruner);
        r = transaction_deploy(a->site, a->agent->fetcher, &order, &app_transaction_callbacks, a,
                               &a->transaction, reterr);
        if (r < 0)
                return r;
        err_set(ret_text, "deployment %" PRIu64 " (release %s) begins", m->deployment, m->release);
        return 0;
}

static void on_file_order(int result, const char *reason, void *userdata)
{
        _cleanup_free_ char *text = NULL, *err = NULL;
        App *a = userdata;
        int r = result < 0 ? fail(&err, result, "%s", reason) : judge_files(a, &text, &err);

        if (r == 0)
                r = begin_files(a, &text, &err);
        a->file_order = file_order_free(a->file_order);
        if (r < 0) {
                site_event(a->site, a->agent->options.offline ? LOG_DEBUG : LOG_WARNING,
                           JOURNAL_REFUSED, "App %s: the files that %s brought are refused: %s",
                           a->config->app, strempty(a->asked_by), err_text(r, err));
                app_tell(&a->files, -EKEYREJECTED, err_text(r, err));
        } else if (a->transaction && a->files_wait) {
                a->order = a->files;
                a->files = (Told){};
        } else
                app_tell(&a->files, 0, strempty(a->files_wait ? a->site->state->current : text));
        bus_service_app_changed(a->agent, a);
}

int app_deploy_files(App *a, const OrderFiles *files, bool wait, const char *by, app_told_t told,
                     void *userdata, char **reterr)
{
        int r;

        if (is_asked(a))
                return fail_busy(a, reterr);
        r = state_set(&a->asked_by, by);
        if (r >= 0)
                r = file_order_new(a->agent->fetcher, a->agent->trust, a->config, files,
                                   on_file_order, a, &a->file_order, reterr);
        if (r < 0)
                return r;
        a->files = (Told){ told, userdata };
        a->files_wait = wait;
        return 0;
}

/* What is under way is given up for a hold, unless it has switched or changes nothing that is live.
 */
static bool give_up_for_hold(App *a)
{
        return a->transaction && app_works_for_channel(a) &&
               !transaction_is_staging(a->transaction) &&
               app_give_up_work(a, "held by an administrator");
}

int app_give_up(App *a, const char *by, char **reterr)
{
        const State *s = a->site->state;

        if (!a->transaction || !streq_ptr(s->pending.by, by))
                return fail(reterr, -ENOENT, "nothing by %s is under way", by);
        if (s->pending.action == ACTION_ROLLBACK)
                return fail(reterr, -EBUSY, "a rollback is not given up");
        if (!app_give_up_work(a, "cancelled by who ordered it"))
                return fail(reterr, -EBUSY,
                            s->phase > PHASE_PREPARING ? "release %s was switched to already (%s)"
                                                       : "the pre hooks of release %s run (%s)",
                            strempty(s->pending.release), phase_to_string(s->phase));
        bus_service_app_changed(a->agent, a);
        app_report(a);
        return 0;
}

static const char *hold_outcome(const App *a, bool given_up)
{
        const State *s = a->site->state;

        if (given_up)
                return "; the deployment that was under way is given up before the switch";
        if (a->transaction && transaction_is_staging(a->transaction))
                return "; what is being staged goes on, and is not made live";
        if (a->transaction && s->phase <= PHASE_PREPARING && pending_is_by_channel(&s->pending))
                return "; the deployment that is under way is given up when its pre hooks have ended";
        if (a->transaction && s->phase <= PHASE_PREPARING)
                return "; what is under way was asked for by hand, and goes on";
        if (a->transaction)
                return "; what is under way has switched already, and goes on";
        if (s->phase > PHASE_PREPARING)
                return "; what was cut off after the switch goes on when slipwayd runs";
        return "";
}

int app_hold(App *a, const char *until, const char *reason, const char *by, char **ret,
             char **reterr)
{
        uint64_t until_sec = 0, now_sec = time(NULL);
        _cleanup_free_ char *text = NULL;
        bool given_up;
        int r = until[0] ? hold_parse_until(until, now_sec, &until_sec, reterr) : 0;

        if (r >= 0)
                r = hold_set(&a->new_hold, by, reason, now_sec, until_sec);
        if (r >= 0)
                r = app_change_state(a, app_record_hold, reterr);
        if (r < 0)
                return r;
        given_up = give_up_for_hold(a);
        app_watch_hold(a);
        text = hold_to_text(&a->site->state->hold);
        site_event(a->site, LOG_NOTICE, JOURNAL_HELD, "App %s: %s%s", a->config->app,
                   strempty(text), hold_outcome(a, given_up));
        if (a->wanted && a->poll_ok && !a->transaction && a->n_waiting == 0)
                app_judge_now(a);
        bus_service_app_changed(a->agent, a);
        app_report(a);
        err_set(ret, "%s%s", strempty(text), hold_outcome(a, given_up));
        return *ret ? 0 : -ENOMEM;
}

static void on_planned(const char *json, const int *fds, size_t n_fds, void *userdata)
{
        App *a = userdata;
        _cleanup_(plan_freep) Plan *ended = TAKE_PTR(a->plan); /* owns the rest */

        (void) ended;
        a->planned(json, fds, n_fds, a->planned_userdata);
        agent_app_settled(a->agent);
}

int app_plan(App *a, plan_done_t done, void *userdata, char **reterr)
{
        _cleanup_free_ char *damage = NULL, *under_way = NULL;
        JudgeContext context = {};
        PlanInput input = { .site = a->site,
                            .fetcher = a->agent->fetcher,
                            .manifest = a->wanted,
                            .context = &context,
                            .text = a->poll_text ? a->poll_text : "the store was not asked yet" };
        int r;

        if (a->plan)
                return fail(reterr, -EBUSY, "somebody else asks for a plan of app %s: try again",
                            a->config->app);
        r = a->transaction ? 0 : site_refresh(a->site, reterr);
        if (r < 0)
                return r;
        if (a->wanted)
                context = app_judge_context(a, a->wanted, &damage);
        if (a->transaction) {
                under_way = app_under_way_text(a);
                input.text = strempty(under_way);
        }
        input.verdict = a->transaction            ? VERDICT_UNDER_WAY
                        : a->wanted && a->poll_ok ? VERDICT_DEPLOY
                                                  : VERDICT_UNKNOWN;
        r = plan_new(&input, on_planned, a, &a->plan);
        if (r < 0)
                return fail_errno(reterr, r, "can't make a plan");
        a->planned = done;
        a->planned_userdata = userdata;
        return 0;
}

int app_confirm(App *a, const char *by, char **ret, char **reterr)
{
        /* With a transaction the lock is ours already. */
        int r = a->transaction ? 0 : site_lock(a->site, NULL, reterr);
        char *release = NULL;

        if (r < 0)
                return r;
        r = confirmation_give(a->site, by, reterr);
        if (r >= 0) {
                release = strdup(a->site->state->pending.release);
                r = release ? 0 : -ENOMEM;
        }
        if (!a->transaction)
                site_unlock(a->site);
        if (r >= 0)
                *ret = release;
        bus_service_app_changed(a->agent, a);
        return r;
}

int app_resume(App *a, char **reterr)
{
        int r;

        retry_forget(a->retry);
        /* A hold that began while something was under way ends in the same way. */
        if (a->transaction && !a->site->state->hold.by)
                return fail_busy(a, reterr);
        r = app_change_state(a, a->transaction ? app_record_hold_ended : app_record_resumed,
                             reterr);
        if (r < 0)
                return r;
        site_event(a->site, LOG_NOTICE, JOURNAL_RESUMED, "App %s: the channel decides again",
                   a->config->app);
        app_watch_hold(a);
        bus_service_app_changed(a->agent, a);
        return a->poller ? poller_poll(a->poller) : 0;
}
