/* SPDX-License-Identifier: Apache-2.0 */
#include <inttypes.h>

#include "app-report.h"
#include "app-state.h"
#include "app-verdict.h"
#include "app-work.h"
#include "bus-service.h"
#include "clock.h"
#include "err.h"
#include "log.h"
#include "memory.h"

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
        app_tell(&a->order,
                 result->result == RESULT_DONE                  ? 0
                 : result->result == RESULT_REVERTED || s->down ? -EIO
                                                                : -EKEYREJECTED,
                 strempty(text));
}

/* It does not wait for somebody who activates it, unless all do. */
static void note_ahead(App *a)
{
        _cleanup_free_ char *err = NULL;
        int r = a->config->activate_by_hand ? 0 : app_change_state(a, app_record_ahead, &err);

        if (r < 0)
                app_refuse(a, r, err);
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
                spooled_remember(&a->spooled, m);
                retry_plan(a->retry, m->deployment, kept.error, kept.reason,
                           clock_usec(CLOCK_BOOTTIME));
        }
        a->rollback = (Told){};
        a->transaction = transaction_free(a->transaction);
        if (staged && kept.result == RESULT_DONE && a->agent->options.stage)
                note_ahead(a);
        /* By the next poll: at once it would fail again, and again. */
        if (left) {
                app_refuse(a, kept.error, kept.reason);
                app_settle(a, ROUND_FAILED);
        } else if (!m && !rollback.told && !a->order.told && a->wanted)
                /* What was taken up after a crash is not what the round is about. */
                app_consider(a);
        else if (a->wanted && a->poll_ok && a->n_waiting == 0)
                app_judge_now(a);
        app_prune(a);
        app_report(a);
        bus_service_app_changed(a->agent, a);
        tell_rollback(rollback, &kept, a->site->state);
        tell_order(a, &kept, staged);
        if (m)
                app_settle(a, round_result_of(&kept));
        agent_app_settled(a->agent);
        memory_give_back();
}

static void on_transaction_changed(void *userdata)
{
        App *a = userdata;

        bus_service_app_changed(a->agent, a);
}

const TransactionCallbacks app_transaction_callbacks = { on_transaction_ended,
                                                         on_transaction_changed };

void app_deploy(App *a, const char *by, bool stage)
{
        Order order = { .manifest = a->wanted, .by = by, .stage = stage };
        _cleanup_free_ char *err = NULL;
        int r;

        /* What it would still remove is found again, and may be what is needed now. */
        pruner_stop(a->pruner);
        r = transaction_deploy(a->site, a->agent->fetcher, &order, &app_transaction_callbacks, a,
                               &a->transaction, &err);
        if (r < 0) {
                app_refuse(a, r, err);
                app_settle(a, ROUND_FAILED);
        }
        bus_service_app_changed(a->agent, a);
}

int app_take_up(App *a, char **reterr)
{
        return transaction_take_up(a->site, &app_transaction_callbacks, a, &a->transaction, reterr);
}

void app_take_up_left(App *a)
{
        _cleanup_free_ char *err = NULL;
        int r;

        if (!a->started || a->transaction || a->site->state->phase == PHASE_IDLE)
                return;
        r = app_take_up(a, &err);
        /* It was said when it began, and status has the phase. */
        if (r < 0)
                site_log(a->site, LOG_DEBUG, "App %s: can't take up what was left: %s",
                         a->config->app, err_text(r, err));
        bus_service_app_changed(a->agent, a);
}

void app_on_bus_changed(sd_bus *bus, void *userdata)
{
        if (bus)
                app_take_up_left(userdata);
}

char *app_under_way_text(const App *a)
{
        _cleanup_free_ char *waits_for = transaction_waits_for(a->transaction);
        const State *s = a->site->state;
        char *text = NULL;

        err_set(&text, "deployment %" PRIu64 " (release %s) is under way: %s%s%s",
                s->pending.deployment, strempty(s->pending.release), phase_to_string(s->phase),
                waits_for ? ": " : "", strempty(waits_for));
        return text;
}

bool app_works_for_channel(const App *a)
{
        return transaction_manifest(a->transaction) ||
               pending_is_by_channel(&a->site->state->pending);
}

bool app_is_under_way(App *a)
{
        const Manifest *m;

        if (!a->transaction)
                return false;
        m = transaction_manifest(a->transaction);
        if (app_works_for_channel(a) &&
            a->site->state->pending.deployment != a->wanted->deployment &&
            transaction_give_up(a->transaction, "overtaken by a newer order")) {
                if (m)
                        spooled_remember(&a->spooled, m);
                a->transaction = transaction_free(a->transaction);
                app_tell(&a->order, -EIO, "given up: the channel has a newer deployment");
                agent_app_settled(a->agent);
                return false;
        }
        app_set_verdict(a, NULL, VERDICT_UNDER_WAY, app_under_way_text(a));
        return true;
}

bool app_give_up_work(App *a, const char *why)
{
        const Manifest *m = transaction_manifest(a->transaction);
        _cleanup_free_ char *text = NULL;

        if (!transaction_give_up(a->transaction, why))
                return false;
        if (m)
                spooled_remember(&a->spooled, m);
        a->transaction = transaction_free(a->transaction);
        err_set(&text, "given up: %s", why);
        app_tell(&a->order, -EIO, strempty(text));
        agent_app_settled(a->agent);
        return true;
}
