/* SPDX-License-Identifier: Apache-2.0 */
#include <inttypes.h>
#include <time.h>

#include "app-verdict.h"
#include "clock.h"
#include "err.h"
#include "journal-id.h"
#include "live.h"
#include "log.h"

/* A window opens for a whole fleet in the same second. What sd-event may delay by ten seconds or a
 * minute, it puts at a place in there that it takes from the boot ID (sleep_between() in its
 * sd-event.c). */
#define WINDOW_SPREAD_USEC (10 * 1000 * 1000)

void app_tell(Told *who, int result, const char *text)
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

void app_set_verdict(App *a, const char *trouble, Verdict verdict, char *text)
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
                app_tell(&a->stage, -EIO, strempty(text));
}

void app_refuse(App *a, int error, const char *err)
{
        app_set_verdict(a, error == -EKEYREJECTED ? JOURNAL_REFUSED : JOURNAL_HINDERED,
                        VERDICT_UNKNOWN, strdup(err_text(error, err)));
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

JudgeContext app_judge_context(const App *a, const Manifest *m, char **ret_damage)
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

char *app_verdict_now(App *a, Verdict *ret)
{
        _cleanup_free_ char *damage = NULL;
        JudgeContext context = app_judge_context(a, a->wanted, &damage);
        char *text = NULL;

        *ret = judge_wanted(a->wanted, &context, &text);
        return text;
}

void app_watch_clock(App *a, sd_event_source **source, uint64_t at_sec, uint64_t accuracy_usec,
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
                app_watch_clock(a, &a->window_source, window_opens_sec(&a->wanted->window, now_sec),
                                WINDOW_SPREAD_USEC, on_window_opens);
}

void app_accept_verdict(App *a, Verdict verdict, char *text)
{
        app_set_verdict(a, NULL, verdict, text);
        watch_window(a);
}

void app_judge_now(App *a)
{
        Verdict verdict;
        char *text = app_verdict_now(a, &verdict);

        app_accept_verdict(a, verdict, text);
}

bool verdict_can_be_staged(Verdict v)
{
        return v == VERDICT_DEPLOY || v == VERDICT_STAGE || v == VERDICT_STAGED ||
               v == VERDICT_HELD || v == VERDICT_HALTED || v == VERDICT_HALT_UNKNOWN ||
               v == VERDICT_WINDOW || v == VERDICT_RETRY;
}
