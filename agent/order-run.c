/* SPDX-License-Identifier: Apache-2.0 */
#include "order-run.h"

#include <stdio.h>

#include "app.h"
#include "clock.h"
#include "err.h"
#include "order-words.h"

/* Below the 20 minutes after which somebody may think that nobody is there any more. */
#define QUIET_MAX_USEC (UINT64_C(15) * 60 * 1000000)

typedef enum Stage {
        STAGE_ASKED,     /* the application will call back */
        STAGE_FOLLOWING, /* something is under way */
        STAGE_SETTLING,  /* after a start: until the application's first round is over */
        STAGE_ENDED,
} Stage;

/* Tells one event of a history from the next: an event that repeats itself is renewed. */
typedef struct EventMark {
        uint64_t at_sec, took_msec, deployment;
        size_t n;
} EventMark;

struct OrderRun {
        Agent *agent;
        RemoteOrder what;
        char *by; /* BY_FAR and the command */
        char *app;
        char *before;   /* the release that was live when it began */
        EventMark mark; /* the last event before it */
        Stage stage;
        bool may_ask; /* the channel once more, if something else was under way */
        bool awaited; /* the application has yet to call back */
        bool told;    /* it has */
        bool late;    /* that will be on what the channel said before the order came */
        int told_result;
        char *told_text;
        Phase phase; /* that was told last */
        uint64_t told_usec;
        int result;
        char *words;
        void (*wake)(void *userdata);
        void *userdata;
};

OrderRun *order_run_free(OrderRun *r)
{
        if (!r)
                return NULL;
        remote_order_done(&r->what);
        free(r->by);
        free(r->app);
        free(r->before);
        free(r->told_text);
        free(r->words);
        free(r);
        return NULL;
}

/* Telling */

/* Takes words; NULL: memory is short. */
static void say(OrderRun *r, int result, char *words)
{
        free(r->words);
        r->words = words;
        r->result = result;
        r->told_usec = clock_usec(CLOCK_BOOTTIME);
}

static void end(OrderRun *r, int result, char *words)
{
        r->stage = STAGE_ENDED;
        say(r, result, words);
}

static void end_live(OrderRun *r, const State *s, int result, const char *text)
{
        end(r, result, order_words_outcome(s, text, NULL));
}

static EventMark last_event_mark(const State *s)
{
        const Event *e = s->n_events > 0 ? &s->events[s->n_events - 1] : NULL;

        return e ? (EventMark){ e->at_sec, e->took_msec, e->deployment, s->n_events }
                 : (EventMark){};
}

/* What ended since the order began; NULL: nothing. */
static const Event *new_event(const OrderRun *r, const State *s)
{
        EventMark now = last_event_mark(s);
        bool same = now.at_sec == r->mark.at_sec && now.took_msec == r->mark.took_msec &&
                    now.deployment == r->mark.deployment && now.n == r->mark.n;

        return same ? NULL : &s->events[s->n_events - 1];
}

/* The newest that is by this order. */
static const Event *own_event(const OrderRun *r, const State *s)
{
        for (size_t i = s->n_events; i > 0; i--)
                if (streq_ptr(s->events[i - 1].by, r->by))
                        return &s->events[i - 1];
        return NULL;
}

/* What to tell as the end: the order's own, whatever came after it, or else what it waited for. */
static const Event *ending_event(const OrderRun *r, const State *s)
{
        const Event *own = own_event(r, s);

        return own ? own : new_event(r, s);
}

static bool asks_channel(const OrderRun *r)
{
        return r->what.action == ORDER_POLL || r->what.action == ORDER_DEPLOY;
}

static int result_by_event(const OrderRun *r, const State *s, const Event *e)
{
        bool live = streq_ptr(s->current, r->what.release) && !s->down;

        if (e->result != RESULT_DONE)
                return e->result == RESULT_DEFERRED ? -EAGAIN : -EIO;
        /* Another deployment than the one that was ordered may have come to its end. */
        return r->what.action == ORDER_DEPLOY && !live ? -EIO : 0;
}

static void end_by_event(OrderRun *r, const App *app, const Event *e)
{
        const State *s = app_state(app);
        AppPoll poll = app_last_poll(app);
        const char *next = poll.verdict == VERDICT_RETRY ? poll.text : NULL;
        int result = result_by_event(r, s, e);

        if (asks_channel(r) && e->action == ACTION_ROLLBACK && !streq_ptr(e->by, r->by)) {
                result = -EIO;
                next = "this rollback, which somebody else asked for, came in between: what the "
                       "order was about is given up";
        }
        end(r, result, order_words_ended(s, e, r->before ? r->before : e->from, next));
}

/* What keeps the channel's deployment away may be ended by another order. */
static const char *next_of_verdict(Verdict v)
{
        switch (v) {
        case VERDICT_FAILED:
                return "publish a better release; or, when the cause was this host, order resume, "
                       "and it is tried again";
        case VERDICT_PINNED:
        case VERDICT_HELD:
                return "order resume, and the channel decides again";
        case VERDICT_DEPLOY:
        case VERDICT_STAGE:
                return "it is given up for now, and begins again with one of the next polls";
        default:
                return NULL;
        }
}

/* Nothing came of it but what the poll says. */
static void end_by_poll(OrderRun *r, const App *app)
{
        const State *s = app_state(app);
        AppPoll poll = app_last_poll(app);
        bool live = streq_ptr(s->current, r->what.release) && !s->down;
        bool failed = !poll.ok || poll.verdict == VERDICT_FAILED || poll.verdict == VERDICT_RETRY ||
                      poll.verdict == VERDICT_DEPLOY || poll.verdict == VERDICT_STAGE;
        int result = r->what.action == ORDER_DEPLOY ? (live ? 0 : -EIO) : failed ? -EIO : 0;

        end(r, result,
            order_words_outcome(s, poll.text ? poll.text : "the store was not asked yet",
                                next_of_verdict(poll.verdict)));
}

static bool is_idle(const State *s)
{
        return s->phase == PHASE_IDLE;
}

static void tell_progress(OrderRun *r, const State *s)
{
        r->phase = s->phase;
        say(r, ORDER_GOES_ON,
            is_idle(s) ? order_words("%s: the channel is asked", r->app)
                       : order_words_under_way(s));
}

/* Asking */

static void on_told(int result, const char *text, void *userdata)
{
        OrderRun *r = userdata;

        r->awaited = false;
        r->told = true;
        r->told_result = result;
        free(r->told_text);
        r->told_text = strdup(text);
        r->wake(r->userdata);
}

static void end_failed(OrderRun *r, int error, const char *err)
{
        end(r, error, order_words("%s", err_text(error, err)));
}

static void ask_poll(OrderRun *r, App *app)
{
        int k = app_poll_now(app, r->by, on_told, r);

        r->awaited = k >= 0;
        if (k == -EBUSY)
                end(r, k, order_words("%s: too many wait for a poll already: try again", r->app));
        else if (k < 0)
                end(r, k, order_words("%s: can't poll now: %s", r->app, strerror(-k)));
}

static char *list_releases(const State *s)
{
        char *text = NULL;
        size_t size;
        FILE *f = open_memstream(&text, &size);

        if (f && s->n_releases == 0)
                (void) fputs("none", f);
        for (size_t i = s->n_releases; f && i > 0; i--)
                (void) fprintf(f, "%s%s", i < s->n_releases ? ", " : "",
                               s->releases[i - 1].release);
        if (f && fclose(f) == 0)
                return text;
        free(text);
        return NULL;
}

static void ask_rollback(OrderRun *r, App *app)
{
        _cleanup_free_ char *err = NULL, *list = NULL;
        int k = app_rollback(app, r->what.release, r->by, on_told, r, &err);

        r->awaited = k >= 0;
        if (k >= 0) {
                r->stage = STAGE_FOLLOWING;
                return;
        }
        if (k == -ENOENT && r->what.release) {
                list = list_releases(app_state(app));
                err_set(&err, "release %s is not on this host: here are %s", r->what.release,
                        strempty(list));
        }
        end_live(r, app_state(app), k, err_text(k, err));
}

static void do_hold(OrderRun *r, App *app)
{
        _cleanup_free_ char *text = NULL, *own = NULL, *err = NULL;
        int k = app_hold(app, strempty(r->what.until), strempty(r->what.reason), r->by, &text,
                         &err);

        if (k >= 0 && strncmp(text, r->by, strlen(r->by)) == 0)
                err_set(&own, "this order%s", text + strlen(r->by));
        end_live(r, app_state(app), k, k < 0 ? err_text(k, err) : own ? own : text);
}

static void do_resume(OrderRun *r, App *app)
{
        _cleanup_free_ char *err = NULL;
        int k = app_resume(app, &err);

        end_live(r, app_state(app), k,
                 k < 0 ? err_text(k, err) : "the channel decides again, and is asked now");
}

static void do_confirm(OrderRun *r, App *app)
{
        _cleanup_free_ char *release = NULL, *err = NULL, *text = NULL;
        int k = app_confirm(app, r->by, &release, &err);

        if (k >= 0)
                err_set(&text, "release %s is confirmed", release);
        end_live(r, app_state(app), k, k < 0 ? err_text(k, err) : strempty(text));
}

static void ask(OrderRun *r, App *app)
{
        switch (r->what.action) {
        case ORDER_POLL:
        case ORDER_DEPLOY:
                r->late = app_is_polling(app);
                ask_poll(r, app);
                return;
        case ORDER_ROLLBACK:
                ask_rollback(r, app);
                return;
        case ORDER_HOLD:
                do_hold(r, app);
                return;
        case ORDER_RESUME:
                do_resume(r, app);
                return;
        case ORDER_CONFIRM:
                do_confirm(r, app);
                return;
        default:
                end(r, 0, order_words_status(app));
        }
}

/* A deployment of a release that the channel does not have: of one that is on this host. */

static void deploy_older(OrderRun *r, App *app, const char *channels)
{
        const State *s = app_state(app);
        _cleanup_free_ char *list = NULL, *text = NULL;

        if (streq_ptr(s->current, r->what.release) && !s->down && s->phase < PHASE_SWITCHING) {
                err_set(&text,
                        is_idle(s) ? "release %s is live already; channel %s has %s"
                                   : "release %s is live, but what channel %s has, %s, is on "
                                     "its way: to keep it, order a hold",
                        r->what.release, s->channel, channels);
                end_live(r, s, is_idle(s) ? 0 : -EBUSY, strempty(text));
                return;
        }
        if (state_find_release(s, r->what.release)) {
                ask_rollback(r, app);
                return;
        }
        list = list_releases(s);
        err_set(&text,
                "release %s is neither the channel's nor on this host: channel %s has %s, here are "
                "%s",
                r->what.release, s->channel, channels, strempty(list));
        end_live(r, s, -ENOENT, strempty(text));
}

/* The poll was answered, and what it wants begun. */
static void take_verdict(OrderRun *r, App *app)
{
        const State *s = app_state(app);
        AppPoll poll = app_last_poll(app);
        const Event *e;

        if (r->late) {
                r->late = r->told = false;
                ask_poll(r, app);
                return;
        }
        if (r->told_result < 0) {
                end_live(r, s, r->told_result, strempty(r->told_text));
                return;
        }
        if (r->what.action == ORDER_DEPLOY && !streq_ptr(poll.release, r->what.release)) {
                deploy_older(r, app, poll.release ? poll.release : "nothing");
                return;
        }
        e = is_idle(s) ? ending_event(r, s) : NULL;
        if (e)
                end_by_event(r, app, e);
        else if (is_idle(s))
                end_by_poll(r, app);
        else
                r->stage = STAGE_FOLLOWING;
}

/* What has ended is not what the channel has by now, which would begin with the next poll. */
static bool was_other(const OrderRun *r, const App *app, const Event *e)
{
        AppPoll poll = app_last_poll(app);
        bool wants = r->what.action == ORDER_POLL ||
                     (r->what.action == ORDER_DEPLOY && !streq_ptr(e->release, r->what.release));

        return wants && poll.ok && poll.verdict == VERDICT_DEPLOY;
}

static void ask_once_more(OrderRun *r, App *app)
{
        r->may_ask = false;
        r->mark = last_event_mark(app_state(app));
        r->told = false;
        r->stage = STAGE_ASKED;
        ask_poll(r, app);
}

/* What was under way is not any more. */
static void take_end(OrderRun *r, App *app)
{
        const State *s = app_state(app);
        const Event *e = ending_event(r, s);

        if (e && r->may_ask && was_other(r, app, e))
                ask_once_more(r, app);
        else if (e)
                end_by_event(r, app, e);
        else if (r->told && !asks_channel(r))
                end_live(r, s, r->told_result, strempty(r->told_text));
        else
                end_by_poll(r, app);
}

/* Orders that were handed over before slipwayd was started, or lost when slipway-fetch ended */

static void end_unknown(OrderRun *r, const State *s, const char *what)
{
        _cleanup_free_ char *text = NULL;

        err_set(&text, "Slipway was started anew before it could say what became of this order; %s",
                what);
        end_live(r, s, -EINTR, strempty(text));
}

static void on_settled(int result, const char *text, void *userdata)
{
        OrderRun *r = userdata;

        (void) result, (void) text;
        r->awaited = false;
        r->wake(r->userdata);
}

/* It failed, and the channel may have it begun again: what was cut off before the switch. */
static bool begins_again(const OrderRun *r, const App *app, const Event *e)
{
        const State *s = app_state(app);

        return asks_channel(r) && e->result == RESULT_FAILED && app_round_result(app) == -EBUSY &&
               !(s->failed && s->failed_deployment == e->deployment);
}

/* Has the channel asked at once, as it is asked after a start in any case. */
static void settle(OrderRun *r, App *app)
{
        r->stage = STAGE_SETTLING;
        if (app_round_result(app) == -EBUSY && is_idle(app_state(app)))
                r->awaited = app_poll_now(app, NULL, on_settled, r) >= 0;
}

/* What came since the start, or else what it was cut off in. */
static void take_settled(OrderRun *r, const App *app)
{
        const State *s = app_state(app);
        const Event *e = new_event(r, s);

        if (!e)
                e = own_event(r, s);
        if (e)
                end_by_event(r, app, e);
        else
                end_by_poll(r, app);
}

/* The history has nothing that this order began. */
static void recall_by_state(OrderRun *r, App *app)
{
        const State *s = app_state(app);

        switch (r->what.action) {
        case ORDER_POLL:
        case ORDER_DEPLOY:
                settle(r, app);
                return;
        case ORDER_HOLD:
                if (streq_ptr(s->hold.by, r->by))
                        end_live(r, s, 0, "nothing is deployed: held by this order");
                else
                        end_unknown(r, s, "it holds nothing now");
                return;
        case ORDER_RESUME:
                if (!s->hold.by && !s->pinned)
                        end_live(r, s, 0, "the channel decides, and is asked as ever");
                else
                        end_unknown(r, s, "the application is held or pinned now");
                return;
        case ORDER_CONFIRM:
                if (streq_ptr(s->pending.confirmed_by, r->by))
                        end_live(r, s, 0, "the release is confirmed");
                else
                        end_unknown(r, s, "no release that is under way was confirmed by it");
                return;
        case ORDER_STATUS:
                end(r, 0, order_words_status(app));
                return;
        default:
                end_unknown(r, s, "it began nothing");
        }
}

static void recall(OrderRun *r, App *app)
{
        const State *s = app_state(app);
        const Event *e = own_event(r, s);

        if (!is_idle(s) && streq_ptr(s->pending.by, r->by))
                r->stage = STAGE_FOLLOWING;
        else if (e && !begins_again(r, app, e))
                end_by_event(r, app, e);
        else
                recall_by_state(r, app);
}

/* Beginning */

/* "web, api" */
static char *list_apps(const Agent *a)
{
        char *text = NULL;
        size_t size;
        FILE *f = open_memstream(&text, &size);

        for (size_t i = 0; f && i < a->n_apps; i++)
                (void) fprintf(f, "%s%s", i > 0 ? ", " : "", app_config(a->apps[i])->app);
        if (f && fclose(f) == 0)
                return text;
        free(text);
        return NULL;
}

static App *find_app(const OrderRun *r, char **reterr)
{
        Agent *a = r->agent;
        _cleanup_free_ char *list = NULL;
        App *app = NULL;

        if (r->what.app)
                app = agent_find_app(a, r->what.app);
        else if (a->n_apps == 1)
                app = a->apps[0];
        if (app)
                return app;
        list = list_apps(a);
        if (a->n_apps == 0)
                err_set(reterr, "what this host deploys is not known yet%s%s",
                        a->trouble ? ": " : "", strempty(a->trouble));
        else if (r->what.app)
                err_set(reterr, "there is no application %s on this host; there are: %s",
                        r->what.app, strempty(list));
        else
                err_set(reterr, "say which application of this host; there are: %s",
                        strempty(list));
        return NULL;
}

static int note_beginning(OrderRun *r, const App *app)
{
        const State *s = app_state(app);

        r->mark = last_event_mark(s);
        r->app = strdup(app_config(app)->app);
        if (s->current)
                r->before = strdup(s->current);
        return r->app && (!s->current || r->before) ? 0 : -ENOMEM;
}

static int begin(OrderRun *r, bool again)
{
        const Config *c = r->agent->config;
        _cleanup_free_ char *err = NULL;
        const char *action = order_action_to_string(r->what.action);
        App *app;
        int k;

        if (c && !again && !c->ssm.allowed[r->what.action]) {
                end(r, -EPERM,
                    order_words("this host's configuration does not allow %s to be ordered from "
                                "far away (\"ssm\" in slipway-agent.json)",
                                action));
                return 0;
        }
        app = find_app(r, &err);
        if (!app) {
                end_failed(r, -ENOENT, err);
                return 0;
        }
        k = note_beginning(r, app);
        if (k < 0)
                return k;
        if (again) {
                /* What is live now is no word on what was, and the event has that. */
                free(TAKE_PTR(r->before));
                recall(r, app);
        } else {
                r->may_ask = true;
                ask(r, app);
        }
        if (r->stage != STAGE_ENDED)
                tell_progress(r, app_state(app));
        return 0;
}

int order_run_new(Agent *agent, RemoteOrder *what, bool again, void (*wake)(void *userdata),
                  void *userdata, OrderRun **ret)
{
        _cleanup_(order_run_freep) OrderRun *r = calloc(1, sizeof(OrderRun));
        int k;

        if (!r)
                return -ENOMEM;
        *r = (OrderRun){ .agent = agent,
                         .what = *what,
                         .result = ORDER_GOES_ON,
                         .wake = wake,
                         .userdata = userdata };
        *what = (RemoteOrder){};
        err_set(&r->by, BY_FAR "%s", r->what.command);
        if (!r->by)
                return -ENOMEM;
        k = begin(r, again);
        if (k < 0)
                return k;
        *ret = TAKE_PTR(r);
        return 0;
}

/* Going on */

static void advance(OrderRun *r, App *app)
{
        const State *s = app_state(app);

        if (r->stage == STAGE_ASKED && r->told)
                take_verdict(r, app);
        else if (r->stage == STAGE_FOLLOWING && is_idle(s) && !r->awaited)
                take_end(r, app);
        else if (r->stage == STAGE_SETTLING && app_round_result(app) != -EBUSY && !r->awaited)
                take_settled(r, app);
        if (r->stage != STAGE_ENDED &&
            (s->phase != r->phase || clock_usec(CLOCK_BOOTTIME) - r->told_usec >= QUIET_MAX_USEC))
                tell_progress(r, s);
}

bool order_run_step(OrderRun *r)
{
        uint64_t told_usec = r->told_usec;
        App *app;

        if (r->stage == STAGE_ENDED)
                return false;
        app = agent_find_app(r->agent, r->app);
        if (app)
                advance(r, app);
        else
                end(r, -ENOENT,
                    order_words("%s is not an application of this host any more: its "
                                "configuration or its tags changed",
                                r->app));
        return r->told_usec != told_usec;
}

/* Nothing was begun, or by somebody else. */
static void end_cancelled(OrderRun *r, const App *app, const char *text)
{
        if (app)
                end_live(r, app_state(app), -ECANCELED, text);
        else
                end(r, -ECANCELED, order_words("%s: %s", r->app, text));
}

void order_run_cancel(OrderRun *r)
{
        _cleanup_free_ char *err = NULL;
        App *app;
        int k;

        if (r->stage == STAGE_ENDED)
                return;
        app = agent_find_app(r->agent, r->app);
        k = app ? app_give_up(app, r->by, &err) : -ENOENT;
        if (k == -EBUSY)
                say(r, ORDER_NOT_STOPPED,
                    order_words("%s: too late to cancel: %s; it goes on", r->app, strempty(err)));
        else if (k >= 0)
                end_cancelled(r, app,
                              "given up before the switch; where the channel still wants it, it "
                              "begins again with the next poll: to prevent that, order a hold");
        else
                end_cancelled(r, app,
                              "cancelled: nothing that this order began is under way; what the "
                              "channel wants is done as ever: to prevent that, order a hold");
}

/* What is known of it */

int order_run_result(const OrderRun *r)
{
        return r->result;
}

const char *order_run_words(const OrderRun *r)
{
        return strempty(r->words);
}

void order_run_told(OrderRun *r)
{
        if (r->result == ORDER_NOT_STOPPED)
                r->result = ORDER_GOES_ON;
}

bool order_run_has_ended(const OrderRun *r)
{
        return r->stage == STAGE_ENDED;
}

bool order_run_is_busy(const OrderRun *r)
{
        return r->stage != STAGE_ENDED || r->awaited;
}

const RemoteOrder *order_run_what(const OrderRun *r)
{
        return &r->what;
}

const char *order_run_app(const OrderRun *r)
{
        return r->app;
}
