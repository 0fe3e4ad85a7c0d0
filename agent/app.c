/* SPDX-License-Identifier: Apache-2.0 */
#include <inttypes.h>
#include <time.h>

#include "app-internal.h"
#include "app-poll.h"
#include "app-report.h"
#include "app-state.h"
#include "app-verdict.h"
#include "app-work.h"
#include "bus-service.h"
#include "clock.h"
#include "err.h"
#include "fd.h"
#include "journal-id.h"
#include "log.h"
#include "time-text.h"

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

static void on_pruner_idle(void *userdata)
{
        App *a = userdata;

        agent_app_settled(a->agent);
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
        a->bus_watch = (BusWatch){ .changed = app_on_bus_changed, .userdata = a };
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

void app_settle(App *a, int round_result)
{
        /* A service asks again, and then has another result. */
        if (a->round_result != -EBUSY && a->round_result != ROUND_UNREACHABLE)
                return;
        a->round_result = round_result;
        app_report(a);
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

void app_prune(App *a)
{
        if (!a->transaction && !a->agent->options.offline)
                pruner_run(a->pruner);
}

static void adopt(App *a)
{
        _cleanup_free_ char *err = NULL;
        int r = app_change_state(a, app_record_adopted, &err);

        if (r < 0)
                app_refuse(a, r, err);
        bus_service_app_changed(a->agent, a);
        app_settle(a, r < 0 ? ROUND_FAILED : ROUND_OK);
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
                app_deploy(a, a->polled_by ? a->polled_by : "agent", verdict == VERDICT_STAGE);
                return;
        case VERDICT_ADOPT:
                adopt(a);
                return;
        case VERDICT_HALTED:
        case VERDICT_HALT_UNKNOWN:
        case VERDICT_WINDOW:
                app_settle(a, ROUND_DEFERRED);
                return;
        case VERDICT_RETRY:
                app_settle(a, retry_wait(a->retry, clock_usec(CLOCK_BOOTTIME)).put_off
                                      ? ROUND_DEFERRED
                                      : ROUND_FAILED);
                return;
        case VERDICT_FAILED:
                app_settle(a, ROUND_FAILED);
                return;
        default:
                app_settle(a, ROUND_OK);
        }
}

/* An admin wants it staged, now. */
static void act_on_request(App *a, Verdict verdict)
{
        bool nothing = verdict == VERDICT_NOTHING || verdict == VERDICT_ADOPT;

        if (verdict_can_be_staged(verdict)) {
                a->order = a->stage;
                a->stage = (Told){};
                app_deploy(a, strempty(a->asked_by), true);
                if (!a->transaction)
                        app_tell(&a->order, -EIO, strempty(a->poll_text));
                return;
        }
        app_tell(&a->stage, nothing ? 0 : -EIO, strempty(a->poll_text));
        act(a, verdict);
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
        if (app_is_under_way(a))
                return 1;
        /* Left by a crash, of this program or another. */
        if (a->site->state->phase != PHASE_IDLE) {
                r = app_take_up(a, reterr);
                if (r < 0)
                        return r;
                if (app_is_under_way(a))
                        return 1;
        }
        /* The disk was full, or read-only: what happened meanwhile is not to be repeated. */
        if (a->site->unsaved) {
                r = app_change_state(a, app_record_again, reterr);
                if (r < 0)
                        return r;
        }
        return app_raise_floor(a, a->wanted, &a->wanted_digest, reterr);
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
        (void) app_change_state(a, app_record_hold_ended, NULL);
        bus_service_app_changed(a->agent, a);
        return poller_poll(a->poller);
}

void app_watch_hold(App *a)
{
        const Hold *h = &a->site->state->hold;

        a->hold_source = sd_event_source_disable_unref(a->hold_source);
        if (h->by && h->until_sec > 0 && a->poller && !a->agent->options.once)
                app_watch_clock(a, &a->hold_source, h->until_sec, 0, on_hold_ended);
}

static void on_brake(void *userdata)
{
        App *a = userdata;

        a->brake_is_fresh = true;
        if (a->wanted)
                app_consider(a);
        a->brake_is_fresh = false;
        app_forget_asker(a);
        app_report(a);
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

void app_consider(App *a)
{
        _cleanup_free_ char *err = NULL, *text = NULL;
        Verdict verdict;
        int r = prepare(a, &err);

        if (r < 0) {
                app_refuse(a, r, err);
                app_settle(a, r == -EKEYREJECTED ? ROUND_REFUSED : ROUND_FAILED);
                return;
        }
        warn_expiry(a);
        if (r > 0)
                return;
        spooled_drop_forgotten(&a->spooled, a->agent->fetcher, a->wanted, a->site->state);
        spooled_drop_others(&a->spooled, a->agent->fetcher, a->wanted);
        app_watch_hold(a);
        text = app_verdict_now(a, &verdict);
        if (ask_brake(a, verdict))
                return;
        app_accept_verdict(a, verdict, TAKE_PTR(text));
        /* Another configuration is to decide, as soon as all can give way to it. */
        if (a->agent->next_config)
                return;
        if (a->stage.told)
                act_on_request(a, verdict);
        else if (a->agent->options.stage && verdict != VERDICT_STAGED &&
                 verdict_can_be_staged(verdict))
                app_deploy(a, "agent", true);
        else
                act(a, verdict);
}

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
                reporter_on_idle(a->reporter, app_on_reporter_idle, a);
        }
        r = brake_new(a->agent->fetcher, a->config->app, a->config->channel, &a->brake);
        if (r < 0)
                return r;
        return poller_new(a->agent->event, a->agent->fetcher, &options, app_on_poll_answer, a,
                          &a->poller);
}

static void begin(App *a)
{
        _cleanup_free_ char *err = NULL;
        int r = 0;

        a->started = true;
        if (a->site->state->phase != PHASE_IDLE)
                r = app_take_up(a, &err);
        else
                app_prune(a);
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
        app_watch_hold(a);
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
                        spooled_remember(&a->spooled, m);
                a->transaction = transaction_free(a->transaction);
        } else if (a->transaction)
                site_log(a->site, LOG_DEBUG, "App %s: what is under way is taken up again",
                         a->config->app);
        /* slipway-fetch may go on, if the store stays. */
        spooled_drop(&a->spooled, a->agent->fetcher);
        memcpy(waiting, a->waiting, sizeof(waiting));
        a->n_waiting = 0;
        for (size_t i = 0; i < n; i++)
                waiting[i].told(-EIO, why, waiting[i].userdata);
        app_tell(&a->order, -EIO, why);
        app_tell(&a->stage, -EIO, why);
        app_tell(&a->files, -EIO, why);
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
