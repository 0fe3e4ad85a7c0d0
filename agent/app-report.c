/* SPDX-License-Identifier: Apache-2.0 */
#include <time.h>

#include "app-report.h"
#include "app-status.h"
#include "app-verdict.h"
#include "err.h"
#include "json-read.h"
#include "log.h"
#include "orders.h"

/* A deployment is under way or will be, by itself or by hand. */
static bool is_due(App *a)
{
        _cleanup_free_ char *text = NULL;
        Verdict verdict;

        if (a->transaction || !a->wanted || !a->poll_ok)
                return a->transaction || a->site->state->staged.release;
        text = app_verdict_now(a, &verdict);
        return verdict != VERDICT_HELD && verdict != VERDICT_HALTED && verdict != VERDICT_WINDOW &&
               verdict_can_be_staged(verdict);
}

void app_progress(const App *a, uint64_t *ret_available_bytes, uint64_t *ret_artifact_bytes)
{
        const Manifest *m = a->transaction ? transaction_manifest(a->transaction) : NULL;

        *ret_available_bytes = m ? transaction_available(a->transaction) : 0;
        *ret_artifact_bytes = *ret_available_bytes > 0 ? transaction_wanted(a->transaction) : 0;
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

void app_report(App *a)
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

void app_on_reporter_idle(bool well, void *userdata)
{
        App *a = userdata;

        /* What changed while it was writing. */
        if (well)
                app_report(a);
        else
                a->verdict_unreported = true;
        agent_app_settled(a->agent);
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
