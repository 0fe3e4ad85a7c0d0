/* SPDX-License-Identifier: Apache-2.0 */
#include <fcntl.h>
#include <inttypes.h>
#include <time.h>

#include "app-status.h"
#include "app.h"
#include "bus-service.h"
#include "clock.h"
#include "confirmation.h"
#include "err.h"
#include "fd.h"
#include "file-order.h"
#include "journal-id.h"
#include "json-read.h"
#include "judge.h"
#include "live.h"
#include "log.h"
#include "memory.h"
#include "name.h"
#include "orders.h"
#include "poller.h"
#include "pruner.h"
#include "reporter.h"
#include "retry.h"
#include "site.h"
#include "transaction.h"

/* A window opens for a whole fleet in the same second. What sd-event may delay by ten seconds or a
 * minute, it puts at a place in there that it takes from the boot ID (sleep_between() in its
 * sd-event.c). */
#define WINDOW_SPREAD_USEC (10 * 1000 * 1000)

#define N_TOLD_MAX 8

typedef struct Told {
        app_told_t told;
        void *userdata;
} Told;

/* What a deployment that did not come to its end may have left in the spool. */
typedef struct Spooled {
        uint64_t deployment;
        Sha256 index, artifact;
} Spooled;

struct App {
        Agent *agent;
        const AppConfig *config;
        Site *site;
        BusWatch bus_watch;
        bool started; /* nobody else is at it, so that what a crash left can be taken up */

        Poller *poller;
        Brake *brake;
        bool brake_is_fresh; /* for what is considered next */
        uint64_t polled_sec;
        bool poll_ok;
        Verdict verdict;
        char *poll_text;
        char *credentials; /* a word for those of the last poll; NULL: none */
        char *refused; /* why the channel's manifest is of no use; there is none in `wanted` then */
        Told waiting[N_TOLD_MAX]; /* for the next verdict */
        size_t n_waiting;
        char *polled_by; /* in whose name it is carried out; NULL: the agent's own */

        int envelope_fd;  /* of the channel's manifest, to judge it by another trust root */
        bool is_unjudged; /* it is new */
        bool awaits_root; /* the last answer is judged when the chain has been walked */
        Manifest *wanted; /* the channel's manifest: its signatures hold, the rest is judged at each
                             poll */
        Sha256 wanted_digest;
        uint64_t expiry_told; /* serial of the manifest whose near end was told; 0: none */
        Retry *retry;
        Spooled spooled;
        bool spool_known; /* nothing is in the spool that `spooled` and the transaction don't say */

        Transaction *transaction;
        Told rollback;         /* who waits for it, if it is a rollback */
        Told order;            /* who waits for it, if it was asked for otherwise */
        Told stage;            /* who wants the channel's deployment staged, until it is judged */
        FileOrder *file_order; /* until it is judged */
        Told files;            /* who brought it */
        bool files_wait;       /* and wants to hear the end */
        char *asked_by;        /* of stage and files */
        Hold new_hold;         /* for record_hold() */
        sd_event_source *hold_source;   /* when the hold ends by itself */
        sd_event_source *window_source; /* when the window opens that is waited for */
        Plan *plan;
        plan_done_t planned; /* who waits for it */
        void *planned_userdata;
        Pruner *pruner;
        Reporter *reporter;
        bool verdict_unreported;
        const char *reported_ssm;  /* orders_channel() */
        unsigned reported_version; /* of the state */
        int round_result;          /* -EBUSY: the round goes on */
};

static void report(App *a);
static void consider(App *a);
static bool give_up(App *a, const char *why);
static void on_bus_changed(sd_bus *bus, void *userdata);
static void on_pruner_idle(void *userdata);

App *app_free(App *a)
{
        if (!a)
                return NULL;
        bus_unwatch(a->agent->bus, &a->bus_watch);
        poller_free(a->poller);
        brake_free(a->brake);
        transaction_free(a->transaction);
        plan_free(a->plan);
        pruner_free(a->pruner);
        reporter_free(a->reporter);
        sd_event_source_disable_unref(a->hold_source);
        sd_event_source_disable_unref(a->window_source);
        manifest_free(a->wanted);
        fd_close(a->envelope_fd);
        site_free(a->site);
        free(a->poll_text);
        free(a->credentials);
        free(a->refused);
        retry_free(a->retry);
        file_order_free(a->file_order);
        free(a->asked_by);
        free(a->polled_by);
        hold_done(&a->new_hold);
        free(a);
        return NULL;
}

const AppConfig *app_config(const App *a)
{
        return a->config;
}

const State *app_state(const App *a)
{
        return a->site->state;
}

int app_new(Agent *agent, const AppConfig *config, App **ret, char **reterr)
{
        _cleanup_(app_freep) App *a = calloc(1, sizeof(App));
        int r;

        if (!a)
                return -ENOMEM;
        *a = (App){
                .agent = agent,
                .config = config,
                .verdict_unreported = true,
                .round_result = -EBUSY,
                .envelope_fd = -EBADF,
        };
        a->bus_watch = (BusWatch){ .changed = on_bus_changed, .userdata = a };
        bus_watch(agent->bus, &a->bus_watch);
        r = retry_new(&a->retry);
        if (r < 0)
                return r;
        r = site_new(config, agent->event, agent->bus, &agent->unpack_identity, agent->state_dir_fd,
                     agent->runtime_dir_fd, &a->site, reterr);
        if (r < 0)
                return r;
        a->site->fetch = agent->fetch_identity;
        a->site->instance = agent->config->instance;
        a->site->unit_dir = agent->paths.unit_dir;
        r = pruner_new(a->site, on_pruner_idle, a, &a->pruner);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(a);
        return 0;
}

/* The round and those who wait for its verdict */

static void settle(App *a, int round_result)
{
        /* A service asks again, and then has another result. */
        if (a->round_result != -EBUSY && a->round_result != ROUND_UNREACHABLE)
                return;
        a->round_result = round_result;
        report(a);
        agent_app_settled(a->agent);
}

bool app_is_settled(const App *a)
{
        return !a->transaction && a->round_result != -EBUSY &&
               (a->round_result != ROUND_UNREACHABLE || a->site->state->current);
}

void app_hurry(App *a, bool hurry)
{
        if (a->poller)
                poller_hurry(a->poller, hurry);
}

int app_round_result(const App *a)
{
        bool busy = a->transaction || a->awaits_root || (a->brake && brake_is_asking(a->brake)) ||
                    pruner_is_busy(a->pruner) || (a->reporter && reporter_is_busy(a->reporter));

        return busy ? -EBUSY : a->round_result;
}

static void on_reporter_idle(bool well, void *userdata)
{
        App *a = userdata;

        /* What changed while it was writing. */
        if (well)
                report(a);
        else
                a->verdict_unreported = true;
        agent_app_settled(a->agent);
}

static void tell(Told *who, int result, const char *text)
{
        Told told = *who;

        *who = (Told){};
        if (told.told)
                told.told(result, text, told.userdata);
}

/* Two events may come at once: the store answers again, and the channel is halted. */
static void log_verdict(const App *a, const char *trouble, Verdict verdict, const char *text)
{
        bool well_again = !trouble && a->poll_text && !a->poll_ok;
        bool halted = !trouble && verdict == VERDICT_HALTED;

        if (well_again && halted)
                site_event(a->site, LOG_INFO, JOURNAL_POLL_WELL, "App %s: the store answers again",
                           a->config->app);
        site_event(a->site, trouble ? LOG_WARNING : LOG_INFO,
                   trouble      ? trouble
                   : halted     ? JOURNAL_HALTED
                   : well_again ? JOURNAL_POLL_WELL
                                : NULL,
                   "App %s: %s", a->config->app, text);
}

/* Sets what the last poll said and tells those who wait; `trouble` is what kept it from being well,
 * an id of journal-id.h, or NULL. Takes text. */
static void set_verdict(App *a, const char *trouble, Verdict verdict, char *text)
{
        bool ok = !trouble;
        Told waiting[N_TOLD_MAX];
        size_t n = a->n_waiting;

        if (!err_text_equal(strempty(a->poll_text), strempty(text)) || a->poll_ok != ok) {
                a->verdict_unreported = true;
                log_verdict(a, trouble, verdict, strempty(text));
        }
        free(a->poll_text);
        a->poll_text = text;
        a->poll_ok = ok;
        a->verdict = verdict;
        memcpy(waiting, a->waiting, sizeof(waiting));
        a->n_waiting = 0;
        for (size_t i = 0; i < n; i++)
                waiting[i].told(ok ? 0 : -EIO, strempty(text), waiting[i].userdata);
        if (!ok && !a->transaction)
                tell(&a->stage, -EIO, strempty(text));
}

static void refuse(App *a, int error, const char *err)
{
        set_verdict(a, error == -EKEYREJECTED ? JOURNAL_REFUSED : JOURNAL_HINDERED, VERDICT_UNKNOWN,
                    strdup(err_text(error, err)));
}

/* What the channel said last is of no use, and why is known. */
static void refuse_again(App *a)
{
        set_verdict(a, JOURNAL_REFUSED, VERDICT_UNKNOWN, strdup(err_text(-ENOMEM, a->refused)));
}

/* Pruning */

static void on_pruner_idle(void *userdata)
{
        App *a = userdata;

        agent_app_settled(a->agent);
}

/* Without slipwayd it is not done: it does it later. */
static void prune(App *a)
{
        if (!a->transaction && !a->agent->options.offline)
                pruner_run(a->pruner);
}

/* Transactions */

static void remember_spooled(App *a, const Manifest *m)
{
        a->spooled = (Spooled){ m->deployment, m->index.sha256, m->artifact.sha256 };
}

/* For another try of the same deployment it stays, to no other one it is of use. */
static void drop_spooled(App *a)
{
        const Spooled *s = &a->spooled;
        const Manifest *m = a->wanted;

        if (s->deployment == 0 || s->deployment == m->deployment)
                return;
        if (!sha256_equal(&s->index, &m->index.sha256))
                fetcher_drop(a->agent->fetcher, &s->index);
        if (!sha256_equal(&s->artifact, &m->artifact.sha256))
                fetcher_drop(a->agent->fetcher, &s->artifact);
        a->spooled = (Spooled){};
}

/* A crash may have come between the fetching of the channel's deployment and the dropping: what has
 * been taken up to its end, or is staged, is not fetched again. Once after a start. */
static void drop_forgotten(App *a)
{
        const Manifest *m = a->wanted;
        const State *s = a->site->state;

        if (a->spool_known)
                return;
        a->spool_known = true;
        if (s->deployment < m->deployment && s->staged.deployment != m->deployment)
                return;
        fetcher_drop(a->agent->fetcher, &m->index.sha256);
        fetcher_drop(a->agent->fetcher, &m->artifact.sha256);
        if (m->provenance.path)
                fetcher_drop(a->agent->fetcher, &m->provenance.sha256);
}

static void add_brake(const App *a, JudgeContext *c)
{
        uint64_t wait_usec = a->agent->config->halt_wait_usec;
        uint64_t waited_usec = brake_unknown_usec(a->brake);

        c->brake = brake_state(a->brake);
        c->brake_text = brake_text(a->brake);
        /* A single round has no time to wait in. */
        if (waited_usec < wait_usec && !a->agent->options.once)
                c->brake_wait_sec = (wait_usec - waited_usec) / 1000000 + 1;
}

/* *ret_damage is for the caller to free. */
static JudgeContext judge_context(const App *a, const Manifest *m, char **ret_damage)
{
        const Config *config = a->agent->config;
        RetryWait retry = retry_wait(a->retry, clock_usec(CLOCK_BOOTTIME));
        JudgeContext c = { .state = a->site->state,
                           .tags = config->tags,
                           .n_tags = config->n_tags,
                           .now_sec = time(NULL),
                           .activate_by_hand = a->config->activate_by_hand,
                           .retry_deployment = retry.deployment,
                           .retry_at_sec = retry.at_sec,
                           .retry_reason = retry.reason,
                           .put_off = retry.put_off };

        if (a->brake)
                add_brake(a, &c);
        if (streq_ptr(a->site->state->current, m->release))
                c.live = live_check(a->site, &m->activate, ret_damage);
        c.damage = strempty(*ret_damage);
        return c;
}

static int round_result_of(const ActivationResult *result)
{
        if (result->result == RESULT_DONE)
                return ROUND_OK;
        if (result->result == RESULT_DEFERRED)
                return ROUND_DEFERRED;
        return result->error == -EHOSTDOWN || result->error == -ETIMEDOUT ||
                               result->error == -EBUSY || result->error == -EACCES ||
                               result->error == -ENOKEY
                       ? ROUND_UNREACHABLE
                       : ROUND_FAILED;
}

static void tell_rollback(Told told, const ActivationResult *result, const State *s)
{
        bool left = s->phase != PHASE_IDLE && s->pending.action == ACTION_ROLLBACK;
        _cleanup_free_ char *text = NULL;

        if (!told.told)
                return;
        if (result->result == RESULT_DONE)
                told.told(0, strempty(s->current), told.userdata);
        else {
                err_set(&text, "%s%s", strempty(result->reason),
                        left ? "; slipwayd tries it again with each poll" : "");
                told.told(-EIO, strempty(text), told.userdata);
        }
}

/* A staging, an activation of what was staged, or a deployment from files. */
static void tell_order(App *a, const ActivationResult *result, bool staged)
{
        _cleanup_free_ char *text = NULL;
        const State *s = a->site->state;

        if (result->result == RESULT_DONE && staged)
                err_set(&text, "release %s is staged", strempty(s->staged.release));
        else if (result->result == RESULT_DONE)
                text = strdup(strempty(s->current));
        else
                err_set(&text, "%s; live is %s", strempty(result->reason),
                        s->current ? s->current : "nothing");
        tell(&a->order,
             result->result == RESULT_DONE                  ? 0
             : result->result == RESULT_REVERTED || s->down ? -EIO
                                                            : -EKEYREJECTED,
             strempty(text));
}

static char *verdict_now(App *a, Verdict *ret)
{
        _cleanup_free_ char *damage = NULL;
        JudgeContext context = judge_context(a, a->wanted, &damage);
        char *text = NULL;

        *ret = judge_wanted(a->wanted, &context, &text);
        return text;
}

/* Has `handler` called at a time by the clock, which may be set meanwhile: CLOCK_REALTIME. */
static void watch_clock(App *a, sd_event_source **source, uint64_t at_sec, uint64_t accuracy_usec,
                        sd_event_time_handler_t handler)
{
        int r = sd_event_add_time(a->agent->event, source, CLOCK_REALTIME, at_sec * 1000000,
                                  accuracy_usec, handler, a);

        if (r < 0)
                site_log(a->site, LOG_WARNING,
                         "App %s: that a wait is over is seen at a poll only: %s", a->config->app,
                         strerror(-r));
}

/* What is waited for may have been overtaken, so that the channel is asked. */
static int on_window_opens(sd_event_source *source, uint64_t usec, void *userdata)
{
        App *a = userdata;

        (void) source, (void) usec;
        return poller_poll(a->poller);
}

static void watch_window(App *a)
{
        uint64_t now_sec = time(NULL);

        a->window_source = sd_event_source_disable_unref(a->window_source);
        if (a->verdict == VERDICT_WINDOW && a->poller && !a->agent->options.once)
                watch_clock(a, &a->window_source, window_opens_sec(&a->wanted->window, now_sec),
                            WINDOW_SPREAD_USEC, on_window_opens);
}

/* Takes text. */
static void accept_verdict(App *a, Verdict verdict, char *text)
{
        set_verdict(a, NULL, verdict, text);
        watch_window(a);
}

static void judge_now(App *a)
{
        Verdict verdict;
        char *text = verdict_now(a, &verdict);

        accept_verdict(a, verdict, text);
}

static void on_transaction_ended(const ActivationResult *result, void *userdata)
{
        App *a = userdata;
        const Manifest *m = transaction_manifest(a->transaction);
        Told rollback = a->rollback;
        _cleanup_free_ char *reason = result->reason ? strdup(result->reason) : NULL;
        ActivationResult kept = { result->result, result->error, reason };
        bool staged = transaction_is_staging(a->transaction);
        /* It could not begin, and is still to be taken up. */
        bool left = a->site->state->phase != PHASE_IDLE;

        if (m && kept.error < 0) {
                remember_spooled(a, m);
                retry_plan(a->retry, m->deployment, kept.error, kept.reason,
                           clock_usec(CLOCK_BOOTTIME));
        }
        a->rollback = (Told){};
        a->transaction = transaction_free(a->transaction);
        /* By the next poll: at once it would fail again, and again. */
        if (left) {
                refuse(a, kept.error, kept.reason);
                settle(a, ROUND_FAILED);
        } else if (!m && !rollback.told && !a->order.told && a->wanted)
                /* What was taken up after a crash is not what the round is about. */
                consider(a);
        else if (a->wanted && a->poll_ok && a->n_waiting == 0)
                judge_now(a);
        prune(a);
        report(a);
        bus_service_app_changed(a->agent, a);
        tell_rollback(rollback, &kept, a->site->state);
        tell_order(a, &kept, staged);
        if (m)
                settle(a, round_result_of(&kept));
        agent_app_settled(a->agent);
        memory_give_back();
}

static void on_transaction_changed(void *userdata)
{
        App *a = userdata;

        bus_service_app_changed(a->agent, a);
}

static const TransactionCallbacks transaction_callbacks = { on_transaction_ended,
                                                            on_transaction_changed };

static void deploy(App *a, const char *by, bool stage)
{
        Order order = { .manifest = a->wanted, .by = by, .stage = stage };
        _cleanup_free_ char *err = NULL;
        int r;

        /* What it would still remove is found again, and may be what is needed now. */
        pruner_stop(a->pruner);
        r = transaction_deploy(a->site, a->agent->fetcher, &order, &transaction_callbacks, a,
                               &a->transaction, &err);
        if (r < 0) {
                refuse(a, r, err);
                settle(a, ROUND_FAILED);
        }
        bus_service_app_changed(a->agent, a);
}

static int take_up(App *a, char **reterr)
{
        return transaction_take_up(a->site, &transaction_callbacks, a, &a->transaction, reterr);
}

/* What a crash or a failed beginning left half-done waits for nothing but what it needs itself:
 * neither for the store, nor for a manifest that is of use. */
static void take_up_left(App *a)
{
        _cleanup_free_ char *err = NULL;
        int r;

        if (!a->started || a->transaction || a->site->state->phase == PHASE_IDLE)
                return;
        r = take_up(a, &err);
        /* It was said when it began, and status has the phase. */
        if (r < 0)
                site_log(a->site, LOG_DEBUG, "App %s: can't take up what was left: %s",
                         a->config->app, err_text(r, err));
        bus_service_app_changed(a->agent, a);
}

static void on_bus_changed(sd_bus *bus, void *userdata)
{
        if (bus)
                take_up_left(userdata);
}

/* Judging */

static int record_adopted(App *a)
{
        const Manifest *m = a->wanted;
        State *s = a->site->state;
        int r;

        s->deployment = m->deployment;
        state_unpin(s);
        if (s->staged.deployment <= m->deployment)
                state_unstage(s);
        r = state_set(&s->last_good, m->release);
        /* After the state was lost, how older releases go live is best known from this one. */
        for (size_t i = 0; r >= 0 && i < s->n_releases; i++)
                if (s->releases[i].serial == 0)
                        r = state_add_release(s, s->releases[i].release, m->deployment, m->serial,
                                              &s->releases[i].index_sha256, &m->activate);
        if (r >= 0)
                r = state_add_release(s, m->release, m->deployment, m->serial, &m->index.sha256,
                                      &m->activate);
        return r < 0 ? r : site_save(a->site);
}

/* Changes the state under the lock, which a transaction has already, by a function that saves it.
 */
static int change_state(App *a, int (*change)(App *a), char **reterr)
{
        bool locked = site_is_locked(a->site);
        int r = locked ? 0 : site_lock(a->site, NULL, reterr);

        if (r < 0)
                return r;
        r = change(a);
        if (!locked)
                site_unlock(a->site);
        return r < 0 ? fail_errno(reterr, r, "can't change the state of app %s", a->config->app)
                     : 0;
}

static int raise_floor(App *a, const Manifest *m, const Sha256 *digest, char **reterr)
{
        State *s = a->site->state;
        int r;

        if (m->serial == state_floor(s)->serial)
                return 0;
        r = site_lock(a->site, NULL, reterr);
        if (r < 0)
                return r;
        r = state_set_floor(a->site->state, m->serial, m->deployment, digest);
        if (r >= 0)
                r = site_save(a->site);
        site_unlock(a->site);
        if (r == -E2BIG)
                return fail(reterr, r,
                            "app %s has followed %d channels on this host, and can follow no other",
                            a->config->app, STATE_CHANNELS_MAX);
        return r < 0 ? fail_errno(reterr, r, "can't change the state of app %s", a->config->app)
                     : 0;
}

static void adopt(App *a)
{
        _cleanup_free_ char *err = NULL;
        int r = change_state(a, record_adopted, &err);

        if (r < 0)
                refuse(a, r, err);
        bus_service_app_changed(a->agent, a);
        settle(a, r < 0 ? ROUND_FAILED : ROUND_OK);
}

static void act(App *a, Verdict verdict)
{
        switch (verdict) {
        case VERDICT_DEPLOY:
        case VERDICT_STAGE:
                if (a->brake && brake_state(a->brake) == BRAKE_UNKNOWN)
                        site_log(
                                a->site, LOG_WARNING,
                                "App %s: whether channel %s is halted can't be known (%s): goes on "
                                "without that",
                                a->config->app, a->config->channel, brake_text(a->brake));
                deploy(a, a->polled_by ? a->polled_by : "agent", verdict == VERDICT_STAGE);
                return;
        case VERDICT_ADOPT:
                adopt(a);
                return;
        case VERDICT_HALTED:
        case VERDICT_HALT_UNKNOWN:
        case VERDICT_WINDOW:
                settle(a, ROUND_DEFERRED);
                return;
        case VERDICT_RETRY:
                settle(a, retry_wait(a->retry, clock_usec(CLOCK_BOOTTIME)).put_off ? ROUND_DEFERRED
                                                                                   : ROUND_FAILED);
                return;
        case VERDICT_FAILED:
                settle(a, ROUND_FAILED);
                return;
        default:
                settle(a, ROUND_OK);
        }
}

/* Neither a hold nor a wait stands against bringing it here. */
static bool can_be_staged(Verdict v)
{
        return v == VERDICT_DEPLOY || v == VERDICT_STAGE || v == VERDICT_STAGED ||
               v == VERDICT_HELD || v == VERDICT_HALTED || v == VERDICT_HALT_UNKNOWN ||
               v == VERDICT_WINDOW || v == VERDICT_RETRY;
}

/* An admin wants it staged, now. */
static void act_on_request(App *a, Verdict verdict)
{
        bool nothing = verdict == VERDICT_NOTHING || verdict == VERDICT_ADOPT;

        if (can_be_staged(verdict)) {
                a->order = a->stage;
                a->stage = (Told){};
                deploy(a, strempty(a->asked_by), true);
                if (!a->transaction)
                        tell(&a->order, -EIO, strempty(a->poll_text));
                return;
        }
        tell(&a->stage, nothing ? 0 : -EIO, strempty(a->poll_text));
        act(a, verdict);
}

/* There is a transaction. */
static char *under_way_text(const App *a)
{
        _cleanup_free_ char *waits_for = transaction_waits_for(a->transaction);
        const State *s = a->site->state;
        char *text = NULL;

        err_set(&text, "deployment %" PRIu64 " (release %s) is under way: %s%s%s",
                s->pending.deployment, strempty(s->pending.release), phase_to_string(s->phase),
                waits_for ? ": " : "", strempty(waits_for));
        return text;
}

/* There is a transaction: of a deployment that brings the channel here, also one that was taken up;
 * not of something that was here, and is made live by hand. */
static bool is_for_channel(const App *a)
{
        return transaction_manifest(a->transaction) ||
               pending_is_by_channel(&a->site->state->pending);
}

/* A transaction goes on; a newer order overtakes one that has not switched yet. True: it is still
 * there. */
static bool is_under_way(App *a)
{
        const Manifest *m;

        if (!a->transaction)
                return false;
        m = transaction_manifest(a->transaction);
        if (is_for_channel(a) && a->site->state->pending.deployment != a->wanted->deployment &&
            transaction_give_up(a->transaction, "overtaken by a newer order")) {
                if (m)
                        remember_spooled(a, m);
                a->transaction = transaction_free(a->transaction);
                tell(&a->order, -EIO, "given up: the channel has a newer deployment");
                agent_app_settled(a->agent);
                return false;
        }
        set_verdict(a, NULL, VERDICT_UNDER_WAY, under_way_text(a));
        return true;
}

static int record_again(App *a)
{
        return site_save(a->site);
}

/* Everything that must hold before the channel's manifest may decide anything. 1: a transaction is
 * under way. */
static int prepare(App *a, char **reterr)
{
        int r;

        if (!a->transaction) {
                r = site_refresh(a->site, reterr);
                if (r < 0)
                        return r;
        }
        r = judge_fresh(a->wanted, &a->wanted_digest, a->site->state, a->agent->trust, time(NULL),
                        reterr);
        if (r < 0)
                return r;
        if (is_under_way(a))
                return 1;
        /* Left by a crash, of this program or another. */
        if (a->site->state->phase != PHASE_IDLE) {
                r = take_up(a, reterr);
                if (r < 0)
                        return r;
                if (is_under_way(a))
                        return 1;
        }
        /* The disk was full, or read-only: what happened meanwhile is not to be repeated. */
        if (a->site->unsaved) {
                r = change_state(a, record_again, reterr);
                if (r < 0)
                        return r;
        }
        return raise_floor(a, a->wanted, &a->wanted_digest, reterr);
}

/* Holds */

static int record_hold_ended(App *a)
{
        hold_done(&a->site->state->hold);
        return site_save(a->site);
}

/* The channel is asked again, as by somebody who resumes it. */
static int on_hold_ended(sd_event_source *source, uint64_t usec, void *userdata)
{
        App *a = userdata;
        const State *s = a->site->state;

        (void) source, (void) usec;
        if (!s->hold.by || hold_is_on(&s->hold, time(NULL)))
                return 0;
        site_event(a->site, LOG_NOTICE, JOURNAL_RESUMED, "App %s: the hold by %s has ended",
                   a->config->app, s->hold.by);
        /* What can't be saved now is over nevertheless. */
        (void) change_state(a, record_hold_ended, NULL);
        bus_service_app_changed(a->agent, a);
        return poller_poll(a->poller);
}

/* Others may have changed the state: looked at with each poll. */
static void watch_hold(App *a)
{
        const Hold *h = &a->site->state->hold;

        a->hold_source = sd_event_source_disable_unref(a->hold_source);
        if (h->by && h->until_sec > 0 && a->poller && !a->agent->options.once)
                watch_clock(a, &a->hold_source, h->until_sec, 0, on_hold_ended);
}

/* The verdict on the manifest is carried out, or nothing comes of it. */
static void forget_asker(App *a)
{
        if (!a->awaits_root && (!a->brake || !brake_is_asking(a->brake)))
                free(TAKE_PTR(a->polled_by));
}

static void on_brake(void *userdata)
{
        App *a = userdata;

        a->brake_is_fresh = true;
        if (a->wanted)
                consider(a);
        a->brake_is_fresh = false;
        forget_asker(a);
        report(a);
}

/* Whether the channel is halted is asked for only where it matters. True: on_brake() goes on. */
static bool ask_brake(App *a, Verdict v)
{
        int r;

        if (!a->brake || a->brake_is_fresh ||
            (v != VERDICT_DEPLOY && v != VERDICT_STAGE && v != VERDICT_HALTED &&
             v != VERDICT_HALT_UNKNOWN))
                return false;
        r = brake_ask(a->brake, on_brake, a);
        if (r < 0)
                site_log(a->site, LOG_WARNING,
                         "App %s: can't ask whether its channel is halted: %s", a->config->app,
                         strerror(-r));
        return r >= 0;
}

/* Once for each manifest and start, while there is time to do something about it. */
static void warn_expiry(App *a)
{
        const Manifest *m = a->wanted;
        char at[TIME_TEXT_SIZE];

        if (m->serial == a->expiry_told || !manifest_expires_soon(m, time(NULL)))
                return;
        a->expiry_told = m->serial;
        a->verdict_unreported = true;
        site_event(a->site, LOG_WARNING, JOURNAL_EXPIRES,
                   "App %s: the manifest of channel %s (serial %" PRIu64
                   ") expires at %s, and nothing is deployed from then on: sign it anew before "
                   "('slipway-publish refresh')",
                   a->config->app, a->config->channel, m->serial,
                   time_format_utc(m->expires_sec, at));
}

/* What the channel's manifest means now. */
static void consider(App *a)
{
        _cleanup_free_ char *err = NULL, *text = NULL;
        Verdict verdict;
        int r = prepare(a, &err);

        if (r < 0) {
                refuse(a, r, err);
                settle(a, r == -EKEYREJECTED ? ROUND_REFUSED : ROUND_FAILED);
                return;
        }
        warn_expiry(a);
        if (r > 0)
                return;
        drop_forgotten(a);
        drop_spooled(a);
        watch_hold(a);
        text = verdict_now(a, &verdict);
        if (ask_brake(a, verdict))
                return;
        accept_verdict(a, verdict, TAKE_PTR(text));
        /* Another configuration is to decide, as soon as all can give way to it. */
        if (a->agent->next_config)
                return;
        if (a->stage.told)
                act_on_request(a, verdict);
        else
                act(a, verdict);
}

/* Polls that find the manifest unchanged do not judge it again, and others may fail meanwhile. */
static void remember_refused(App *a, const char *text)
{
        a->wanted = manifest_free(a->wanted);
        free(a->refused);
        a->refused = strdup(text);
}

static bool poll_failed(App *a, int result, const char *text)
{
        bool refused = result == -EBADMSG || result == -EFBIG;
        char *verdict = NULL;

        /* An envelope that can't be opened is what the channel says now, and "unchanged" means it
         * from now on. One that is too large to be read is asked for anew each time. */
        if (result == -EBADMSG) {
                a->envelope_fd = fd_close(a->envelope_fd);
                a->is_unjudged = false;
                remember_refused(a, text);
        }
        if (result == POLL_ABSENT)
                err_set(&verdict,
                        "the store has no %s: nothing was published to channel %s yet, or it was "
                        "removed",
                        a->config->manifest_path, a->config->channel);
        else if (result == POLL_UNKNOWN)
                err_set(&verdict,
                        "the store refuses %s (or it is not there, and we may not list): %s",
                        a->config->manifest_path, text);
        else if (refused)
                verdict = strdup(text);
        else
                err_set(&verdict, "can't ask the store: %s", text[0] ? text : strerror(-result));
        set_verdict(a, refused ? JOURNAL_REFUSED : JOURNAL_POLL_FAILED, VERDICT_UNKNOWN, verdict);
        settle(a, refused ? ROUND_REFUSED : ROUND_UNREACHABLE);
        /* One that can't be reached is not spared by waiting, and is asked as soon as it is back;
         * one that is too busy is. Without credentials it is not asked. */
        return result > 0 || refused || result == -EHOSTDOWN || result == -ETIMEDOUT ||
               result == -ENOKEY;
}

static void take_manifest(App *a)
{
        _cleanup_free_ char *err = NULL;
        int r;

        a->is_unjudged = false;
        a->wanted = manifest_free(a->wanted);
        r = judge_envelope(a->envelope_fd, a->agent->trust, a->config, &a->wanted,
                           &a->wanted_digest, &err);
        if (r < 0) {
                remember_refused(a, err_text(r, err));
                refuse_again(a);
                settle(a, ROUND_REFUSED);
        }
}

/* With a good answer the text is a word for the credentials. */
static void note_credentials(App *a, int result, const char *text)
{
        const char *word = text[0] && strlen(text) <= NAME_SIZE_MAX ? text : NULL;

        if ((result != 0 && result != POLL_UNCHANGED && result != POLL_ABSENT) ||
            streq_ptr(a->credentials, word))
                return;
        free(a->credentials);
        a->credentials = word ? strdup(word) : NULL;
        a->verdict_unreported = true;
}

static void end_poll(App *a)
{
        forget_asker(a);
        if (pruner_is_due(a->pruner))
                prune(a);
        report(a);
}

/* What the channel says by now. */
static void judge_channel(App *a)
{
        if (a->is_unjudged)
                take_manifest(a);
        else if (!a->wanted) {
                /* Unchanged, and what was there was refused: it still is. */
                refuse_again(a);
                settle(a, ROUND_REFUSED);
        }
        if (a->wanted)
                consider(a);
        end_poll(a);
}

/* A manifest that is new, or was of no use, may be signed by a key of which only a newer trust root
 * tells, or one that was revoked. Whoever polls by hand wants to know what holds now. */
static bool needs_root(const App *a)
{
        return a->agent->roots &&
               (a->is_unjudged || (!a->wanted && a->envelope_fd >= 0) || a->n_waiting > 0 ||
                trust_expires_sec(a->agent->trust) <= (uint64_t) time(NULL));
}

static int keep_envelope(App *a, int fd)
{
        a->envelope_fd = fd_close(a->envelope_fd);
        a->envelope_fd = fcntl(fd, F_DUPFD_CLOEXEC, 3);
        a->is_unjudged = a->envelope_fd >= 0;
        return a->is_unjudged ? 0 : -errno;
}

/* fd < 0: it is unchanged. */
static void on_manifest(App *a, int fd)
{
        int r = fd >= 0 ? keep_envelope(a, fd) : 0;

        if (r < 0)
                remember_refused(a, strerror(-r));
        if (a->awaits_root)
                return;
        r = needs_root(a) ? root_watch_ask(a->agent->roots) : -ENOTSUP;
        a->awaits_root = r >= 0;
        if (a->awaits_root)
                return;
        if (r != -ENOTSUP)
                site_log(a->site, LOG_WARNING, "App %s: can't ask for trust roots: %s",
                         a->config->app, strerror(-r));
        judge_channel(a);
}

void app_root_walked(App *a, bool learned)
{
        bool awaited = a->awaits_root;

        a->awaits_root = false;
        a->verdict_unreported = a->verdict_unreported || learned;
        a->is_unjudged = a->is_unjudged || (learned && a->envelope_fd >= 0);
        if (awaited || a->is_unjudged)
                judge_channel(a);
        /* Who ordered it may have been revoked meanwhile. */
        if (learned && !a->wanted && a->transaction && is_for_channel(a))
                (void) give_up(a, "its manifest can't be trusted any more");
}

/* Nothing here waits for a poll: neither what the channel wants nor what others may have done. */
static bool is_calm(const App *a)
{
        return a->poll_ok && a->verdict == VERDICT_NOTHING && !a->transaction && !a->awaits_root &&
               !needs_root(a) && !a->site->unsaved && a->site->state->phase == PHASE_IDLE;
}

static PollOutcome on_poll_answer(int result, int fd, const char *text, void *userdata)
{
        App *a = userdata;
        bool well = true;

        a->polled_sec = time(NULL);
        take_up_left(a);
        note_credentials(a, result, text);
        /* A refusal or an absence is positive as well, and no answer about the manifest. */
        if (result < 0 || result == POLL_ABSENT || result == POLL_UNKNOWN) {
                well = poll_failed(a, result, text);
                end_poll(a);
        } else
                on_manifest(a, result == 0 ? fd : -EBADF);
        return well ? (is_calm(a) ? POLL_CALM : POLL_GOOD) : POLL_BAD;
}

/* Reporting */

/* A deployment is under way or will be, by itself or by hand. */
static bool is_due(App *a)
{
        _cleanup_free_ char *text = NULL;
        Verdict verdict;

        if (a->transaction || !a->wanted || !a->poll_ok)
                return a->transaction || a->site->state->staged.release;
        text = verdict_now(a, &verdict);
        return verdict != VERDICT_HELD && verdict != VERDICT_HALTED && verdict != VERDICT_WINDOW &&
               can_be_staged(verdict);
}

void app_progress(const App *a, uint64_t *ret_available_bytes, uint64_t *ret_artifact_bytes)
{
        const Manifest *m = a->transaction ? transaction_manifest(a->transaction) : NULL;

        *ret_available_bytes = m ? transaction_available(a->transaction) : 0;
        *ret_artifact_bytes = m && *ret_available_bytes > 0 ? m->artifact.size_bytes : 0;
}

static AppStatus status_now(App *a)
{
        AppStatus s = {
                .config = a->config,
                .state = a->site->state,
                .host = a->agent->config,
                .credentials = a->credentials,
                .ssm = orders_channel(a->agent->orders),
                .poll_ok = a->poll_ok,
                .verdict = a->poll_text ? verdict_to_string(a->verdict) : NULL,
                .poll_text = strempty(a->poll_text),
                .due = is_due(a),
                .polled_sec = a->polled_sec,
                .next_poll_sec = a->poller ? time(NULL) + poller_next_sec(a->poller) : 0,
                .expires_sec = a->wanted ? a->wanted->expires_sec : 0,
                .expires_soon = a->wanted && manifest_expires_soon(a->wanted, time(NULL)),
                .trust = a->agent->trust,
                .trust_trouble = a->agent->roots ? root_watch_trouble(a->agent->roots) : NULL,
        };

        app_progress(a, &s.available_bytes, &s.artifact_bytes);
        return s;
}

/* Most polls change nothing: seen before a status object is made, which costs more than the poll.
 */
static bool has_news(const App *a)
{
        return a->verdict_unreported || a->reported_version != a->site->state_version ||
               a->reported_ssm != orders_channel(a->agent->orders);
}

static void report(App *a)
{
        _cleanup_json_ cJSON *status = NULL;
        AppStatus now;
        int r;

        if (!a->reporter || reporter_is_busy(a->reporter) || !has_news(a))
                return;
        a->verdict_unreported = false;
        a->reported_version = a->site->state_version;
        now = status_now(a);
        a->reported_ssm = now.ssm;
        r = app_status_report(&now, &status);
        if (r >= 0)
                r = reporter_send(a->reporter, status);
        if (r < 0) {
                a->verdict_unreported = true;
                site_log(a->site, LOG_WARNING, "App %s: can't report its status: %s",
                         a->config->app, strerror(-r));
        }
}

int app_describe(App *a, cJSON **ret)
{
        _cleanup_free_ char *err = NULL;
        AppStatus status;
        int r = a->transaction ? 0 : site_refresh(a->site, &err);

        status = status_now(a);
        if (r < 0)
                status.error = err_text(r, err);
        return app_status_describe(&status, ret);
}

/* Starting */

static int add_network_parts(App *a)
{
        const Config *c = a->agent->config;
        PollerOptions options = { .path = a->config->manifest_path,
                                  .interval_usec = c->poll_interval_usec,
                                  .jitter_percent = c->jitter_percent };
        _cleanup_free_ char *path = NULL;
        int r;

        err_set(&path, "%s/channels/%s/instances/%s.json", a->config->app, a->config->channel,
                c->instance);
        if (!path)
                return -ENOMEM;
        if (c->report) {
                r = reporter_new(a->agent->fetcher, path, &a->reporter);
                if (r < 0)
                        return r;
                reporter_on_idle(a->reporter, on_reporter_idle, a);
        }
        r = brake_new(a->agent->fetcher, a->config->app, a->config->channel, &a->brake);
        if (r < 0)
                return r;
        return poller_new(a->agent->event, a->agent->fetcher, &options, on_poll_answer, a,
                          &a->poller);
}

static void begin(App *a)
{
        _cleanup_free_ char *err = NULL;
        int r = 0;

        a->started = true;
        if (a->site->state->phase != PHASE_IDLE)
                r = take_up(a, &err);
        else
                prune(a);
        /* Tried again with each poll, and when the bus comes back. */
        if (r < 0)
                site_log(a->site, LOG_ERR, "App %s: can't take up what was left: %s",
                         a->config->app, err_text(r, err));
}

int app_start(App *a)
{
        int r;

        if (!a->started)
                begin(a);
        if (a->agent->recalled)
                return 0;
        r = add_network_parts(a);
        if (r < 0)
                return r;
        watch_hold(a);
        if (a->agent->options.once)
                poller_stop(a->poller);
        else if (a->agent->ready_limit_source)
                poller_hurry(a->poller, true);
        else
                return poller_start(a->poller);
        return poller_poll(a->poller);
}

bool app_can_retire(const App *a)
{
        return !a->plan && (!a->transaction || transaction_can_give_up(a->transaction));
}

void app_retire(App *a)
{
        static const char why[] = "given up: the instance's tags or identity changed";
        const Manifest *m = a->transaction ? transaction_manifest(a->transaction) : NULL;
        Told waiting[N_TOLD_MAX];
        size_t n = a->n_waiting;

        if (a->transaction && transaction_give_up(a->transaction, "the instance's tags changed")) {
                if (m)
                        remember_spooled(a, m);
                a->transaction = transaction_free(a->transaction);
        } else if (a->transaction)
                site_log(a->site, LOG_DEBUG, "App %s: what is under way is taken up again",
                         a->config->app);
        /* slipway-fetch may go on, if the store stays. */
        if (a->spooled.deployment > 0) {
                fetcher_drop(a->agent->fetcher, &a->spooled.index);
                fetcher_drop(a->agent->fetcher, &a->spooled.artifact);
        }
        memcpy(waiting, a->waiting, sizeof(waiting));
        a->n_waiting = 0;
        for (size_t i = 0; i < n; i++)
                waiting[i].told(-EIO, why, waiting[i].userdata);
        tell(&a->order, -EIO, why);
        tell(&a->stage, -EIO, why);
        tell(&a->files, -EIO, why);
}

void app_look_again(App *a)
{
        int r = a->poller ? poller_poll(a->poller) : 0;

        if (r < 0)
                site_log(a->site, LOG_WARNING, "App %s: can't poll: %s", a->config->app,
                         strerror(-r));
        a->verdict_unreported = true;
}

void app_leave(App *a)
{
        if (a->transaction)
                transaction_leave(a->transaction);
}

/* What admins ask for */

int app_poll_now(App *a, const char *by, app_told_t told, void *userdata)
{
        int r;

        if (!a->poller)
                return -EHOSTDOWN;
        if (a->n_waiting == N_TOLD_MAX)
                return -EBUSY;
        r = by && !a->polled_by ? state_set(&a->polled_by, by) : 0;
        if (r >= 0)
                r = poller_poll(a->poller);
        if (r >= 0)
                a->waiting[a->n_waiting++] = (Told){ told, userdata };
        agent_look_again(a->agent);
        return r;
}

bool app_is_polling(const App *a)
{
        return (a->poller && poller_is_polling(a->poller)) || a->awaits_root ||
               (a->brake && brake_is_asking(a->brake));
}

AppPoll app_last_poll(const App *a)
{
        return (AppPoll){ .ok = a->poll_ok,
                          .verdict = a->poll_text ? a->verdict : VERDICT_UNKNOWN,
                          .text = a->poll_text,
                          .release = a->wanted ? a->wanted->release : NULL };
}

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
        tell(&a->order, -EIO, "given up for a rollback");
        pruner_stop(a->pruner);
        r = transaction_rollback(a->site, found ? found : release, by, &transaction_callbacks, a,
                                 &a->transaction, reterr);
        if (r < 0) {
                take_up_left(a);
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
        r = transaction_activate(a->site, by, &transaction_callbacks, a, &a->transaction, reterr);
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
                r = raise_floor(a, m, digest, reterr);
        if (r < 0)
                return r;
        context = judge_context(a, m, &damage);
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
        r = is_cut_off_early(a) ? take_up(a, reterr) : 0;
        if (r < 0)
                return r;
        pruner_stop(a->pruner);
        r = transaction_deploy(a->site, a->agent->fetcher, &order, &transaction_callbacks, a,
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
                tell(&a->files, -EKEYREJECTED, err_text(r, err));
        } else if (a->transaction && a->files_wait) {
                a->order = a->files;
                a->files = (Told){};
        } else
                tell(&a->files, 0, strempty(a->files_wait ? a->site->state->current : text));
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

/* There is a transaction. False: it has switched, or runs its pre hooks. */
static bool give_up(App *a, const char *why)
{
        const Manifest *m = transaction_manifest(a->transaction);
        _cleanup_free_ char *text = NULL;

        if (!transaction_give_up(a->transaction, why))
                return false;
        if (m)
                remember_spooled(a, m);
        a->transaction = transaction_free(a->transaction);
        err_set(&text, "given up: %s", why);
        tell(&a->order, -EIO, strempty(text));
        agent_app_settled(a->agent);
        return true;
}

/* What is under way is given up for a hold, unless it has switched or changes nothing that is live.
 */
static bool give_up_for_hold(App *a)
{
        return a->transaction && is_for_channel(a) && !transaction_is_staging(a->transaction) &&
               give_up(a, "held by an administrator");
}

int app_give_up(App *a, const char *by, char **reterr)
{
        const State *s = a->site->state;

        if (!a->transaction || !streq_ptr(s->pending.by, by))
                return fail(reterr, -ENOENT, "nothing by %s is under way", by);
        if (s->pending.action == ACTION_ROLLBACK)
                return fail(reterr, -EBUSY, "a rollback is not given up");
        if (!give_up(a, "cancelled by who ordered it"))
                return fail(reterr, -EBUSY,
                            s->phase > PHASE_PREPARING ? "release %s was switched to already (%s)"
                                                       : "the pre hooks of release %s run (%s)",
                            strempty(s->pending.release), phase_to_string(s->phase));
        bus_service_app_changed(a->agent, a);
        report(a);
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

static int record_hold(App *a)
{
        Hold *h = &a->site->state->hold;

        hold_done(h);
        *h = a->new_hold;
        a->new_hold = (Hold){};
        return site_save(a->site);
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
                r = change_state(a, record_hold, reterr);
        if (r < 0)
                return r;
        given_up = give_up_for_hold(a);
        watch_hold(a);
        text = hold_to_text(&a->site->state->hold);
        site_event(a->site, LOG_NOTICE, JOURNAL_HELD, "App %s: %s%s", a->config->app,
                   strempty(text), hold_outcome(a, given_up));
        if (a->wanted && a->poll_ok && !a->transaction && a->n_waiting == 0)
                judge_now(a);
        bus_service_app_changed(a->agent, a);
        report(a);
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
                context = judge_context(a, a->wanted, &damage);
        if (a->transaction) {
                under_way = under_way_text(a);
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

static int record_resumed(App *a)
{
        hold_done(&a->site->state->hold);
        state_unstage(a->site->state);
        state_unpin(a->site->state);
        state_forget_failure(a->site->state);
        return site_save(a->site);
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
        r = change_state(a, a->transaction ? record_hold_ended : record_resumed, reterr);
        if (r < 0)
                return r;
        site_event(a->site, LOG_NOTICE, JOURNAL_RESUMED, "App %s: the channel decides again",
                   a->config->app);
        watch_hold(a);
        bus_service_app_changed(a->agent, a);
        return a->poller ? poller_poll(a->poller) : 0;
}
