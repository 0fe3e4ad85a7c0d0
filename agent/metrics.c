/* SPDX-License-Identifier: Apache-2.0 */
#include "metrics.h"

#include <inttypes.h>
#include <stdarg.h>

#include "admin-view.h"
#include "json-member.h"
#include "judge.h"
#include "state.h"
#include "time-text.h"

#define VALUE_SIZE 32

/* A metric's HELP and TYPE are written before its first sample. */
typedef struct Metric {
        FILE *f;
        const char *name, *help;
        bool begun;
} Metric;

static void print_label(const char *name, const char *value, bool first, FILE *f)
{
        fprintf(f, "%s%s=\"", first ? "{" : ",", name);
        for (const char *c = value; *c; c++)
                if (*c == '\n')
                        fputs("\\n", f);
                else if (*c == '\\' || *c == '"')
                        fprintf(f, "\\%c", *c);
                else
                        fputc(*c, f);
        fputc('"', f);
}

/* Labels are pairs of name and value, ended by NULL; one whose value is NULL is left out. */
static void sample(Metric *m, const char *value, ...)
{
        const char *name, *label;
        bool first = true;
        va_list ap;

        if (!m->begun)
                fprintf(m->f, "# HELP %s %s\n# TYPE %s gauge\n", m->name, m->help, m->name);
        m->begun = true;
        fputs(m->name, m->f);
        va_start(ap, value);
        while ((name = va_arg(ap, const char *))) {
                label = va_arg(ap, const char *);
                if (!label)
                        continue;
                print_label(name, label, first, m->f);
                first = false;
        }
        va_end(ap);
        fprintf(m->f, "%s %s\n", first ? "" : "}", value);
}

static char *number_text(uint64_t n, char buffer[static VALUE_SIZE])
{
        (void) snprintf(buffer, VALUE_SIZE, "%" PRIu64, n);
        return buffer;
}

static char *seconds_text(uint64_t msec, char buffer[static VALUE_SIZE])
{
        (void) snprintf(buffer, VALUE_SIZE, "%" PRIu64 ".%03" PRIu64, msec / 1000, msec % 1000);
        return buffer;
}

/* -- of an application */

typedef struct AppView {
        const cJSON *app, *state, *poll, *live, *last; /* live: the release; last: the event */
        const char *name;
        uint64_t now_sec;
} AppView;

static AppView app_view(const cJSON *app, uint64_t now_sec)
{
        const cJSON *state = json_member(app, "state"), *history = json_member(state, "history"),
                    *release;
        const char *current = json_member_text(state, "current");
        AppView v = { .app = app,
                      .state = state,
                      .poll = json_member(app, "poll"),
                      .last = cJSON_GetArrayItem(history, cJSON_GetArraySize(history) - 1),
                      .name = json_member_text(state, "app"),
                      .now_sec = now_sec };

        cJSON_ArrayForEach(release, json_member(state, "releases"))
        {
                if (current && streq_ptr(json_member_text(release, "release"), current))
                        v.live = release;
        }
        return v;
}

static void number(Metric *m, const AppView *v, uint64_t n)
{
        char value[VALUE_SIZE];

        sample(m, number_text(n, value), "app", v->name, NULL);
}

/* A time that is not known is no sample. */
static void time_at(Metric *m, const AppView *v, uint64_t sec)
{
        if (sec > 0)
                number(m, v, sec);
}

static void release_info(Metric *m, const AppView *v)
{
        char deployment[VALUE_SIZE], serial[VALUE_SIZE];

        if (json_member_text(v->state, "current"))
                sample(m, "1", "app", v->name, "channel", json_member_text(v->state, "channel"),
                       "release", json_member_text(v->state, "current"), "deployment",
                       number_text(json_number(json_member(v->live, "deployment")), deployment),
                       "serial", number_text(json_number(json_member(v->live, "serial")), serial),
                       NULL);
}

static void release_live(Metric *m, const AppView *v)
{
        if (json_member_text(v->state, "current"))
                time_at(m, v, view_live_since(v->state));
}

static void releases(Metric *m, const AppView *v)
{
        number(m, v, (uint64_t) cJSON_GetArraySize(json_member(v->state, "releases")));
}

static void releases_bytes(Metric *m, const AppView *v)
{
        const cJSON *release;
        uint64_t sum = 0;

        cJSON_ArrayForEach(release, json_member(v->state, "releases")) sum +=
                json_number(json_member(release, "size"));
        number(m, v, sum);
}

static void phase(Metric *m, const AppView *v)
{
        const char *now = json_member_text(v->state, "phase");

        for (Phase p = PHASE_IDLE; now && p < _PHASE_MAX; p++)
                sample(m, streq(phase_to_string(p), now) ? "1" : "0", "app", v->name, "phase",
                       phase_to_string(p), NULL);
}

static void phase_started(Metric *m, const AppView *v)
{
        time_at(m, v,
                json_number(json_member(json_member(v->state, "pending"), "phase_since_ms")) /
                        1000);
}

static void due(Metric *m, const AppView *v)
{
        if (json_member(v->app, "due"))
                number(m, v, cJSON_IsTrue(json_member(v->app, "due")));
}

static void failed(Metric *m, const AppView *v)
{
        number(m, v, view_is_failed(v->state));
}

static void down(Metric *m, const AppView *v)
{
        number(m, v, cJSON_IsTrue(json_member(v->state, "down")));
}

static void held(Metric *m, const AppView *v)
{
        number(m, v, view_is_held(v->state, v->now_sec));
}

static void held_since(Metric *m, const AppView *v)
{
        if (view_is_held(v->state, v->now_sec))
                time_at(m, v, json_member_time(json_member(v->state, "held"), "since"));
}

static void held_until(Metric *m, const AppView *v)
{
        if (view_is_held(v->state, v->now_sec))
                time_at(m, v, json_member_time(json_member(v->state, "held"), "until"));
}

static void pinned(Metric *m, const AppView *v)
{
        number(m, v, json_member(v->state, "pinned") != NULL);
}

static void staged(Metric *m, const AppView *v)
{
        number(m, v, json_member(v->state, "staged") != NULL);
}

static void poll_ok(Metric *m, const AppView *v)
{
        if (json_member(v->poll, "at"))
                number(m, v, cJSON_IsTrue(json_member(v->poll, "ok")));
}

static void poll_at(Metric *m, const AppView *v)
{
        time_at(m, v, json_member_time(v->poll, "at"));
}

static void verdict(Metric *m, const AppView *v)
{
        if (json_member_text(v->poll, "verdict"))
                sample(m, "1", "app", v->name, "verdict", json_member_text(v->poll, "verdict"),
                       NULL);
}

static void halted(Metric *m, const AppView *v)
{
        if (json_member_text(v->poll, "verdict"))
                number(m, v,
                       streq(json_member_text(v->poll, "verdict"),
                             verdict_to_string(VERDICT_HALTED)));
}

static void expires(Metric *m, const AppView *v)
{
        time_at(m, v, json_member_time(v->poll, "expires"));
}

static void expires_soon(Metric *m, const AppView *v)
{
        if (json_member(v->poll, "expires_soon"))
                number(m, v, cJSON_IsTrue(json_member(v->poll, "expires_soon")));
}

static void last_info(Metric *m, const AppView *v)
{
        if (v->last)
                sample(m, "1", "app", v->name, "action", json_member_text(v->last, "action"),
                       "result", json_member_text(v->last, "result"), "release",
                       json_member_text(v->last, "release"), NULL);
}

static void last_at(Metric *m, const AppView *v)
{
        time_at(m, v, json_member_time(v->last, "at"));
}

static void last_took(Metric *m, const AppView *v)
{
        char value[VALUE_SIZE];

        if (json_member(v->last, "took_ms"))
                sample(m, seconds_text(json_number(json_member(v->last, "took_ms")), value), "app",
                       v->name, NULL);
}

static void last_phases(Metric *m, const AppView *v)
{
        char value[VALUE_SIZE];
        const cJSON *took;

        cJSON_ArrayForEach(took, json_member(v->last, "phases_ms"))
                sample(m, seconds_text(json_number(took), value), "app", v->name, "phase",
                       took->string, NULL);
}

static const struct AppMetric {
        const char *name, *help;
        void (*write)(Metric *m, const AppView *v);
} app_metrics[] = {
        {"slipway_release_info",                        "1; the labels say which release is live.",                              release_info },
        { "slipway_release_live_timestamp_seconds",     "When the live release went live.",
         release_live                                                                                                                         },
        { "slipway_releases",                           "Releases on the disk.",                                                 releases     },
        { "slipway_releases_bytes",                     "What they take on the disk, as far as it is known.",
         releases_bytes                                                                                                                       },
        { "slipway_phase",                              "1 for the phase in which the application is, idle if nothing changes.",
         phase                                                                                                                                },
        { "slipway_phase_started_timestamp_seconds",
         "When it came to this phase; missing if it is idle.",                                                                   phase_started},
        { "slipway_deployment_due",                     "1 if a deployment is under way, staged, or to come.",                   due          },
        { "slipway_deployment_failed",
         "1 if the newest deployment failed here, and is not tried again.",                                                      failed       },
        { "slipway_down",                               "1 if what is live did not come up.",                                    down         },
        { "slipway_held",                               "1 if an administrator holds deployments off.",                          held         },
        { "slipway_held_since_timestamp_seconds",       "Since when.",                                                           held_since   },
        { "slipway_held_until_timestamp_seconds",       "Until when; missing if it has no end.",
         held_until                                                                                                                           },
        { "slipway_pinned",                             "1 if an administrator rolled back, which holds the channel off.",
         pinned                                                                                                                               },
        { "slipway_staged",                             "1 if a release is on the disk that goes live by hand.",                 staged       },
        { "slipway_halted",                             "1 if the publisher halted the channel's rollout.",                      halted       },
        { "slipway_poll_ok",                            "1 if the store answered the last poll, and what it says is accepted.",
         poll_ok                                                                                                                              },
        { "slipway_poll_timestamp_seconds",             "When the store was polled last, well or not.",
         poll_at                                                                                                                              },
        { "slipway_verdict_info",                       "1; the label says what comes of the channel's deployment.",
         verdict                                                                                                                              },
        { "slipway_manifest_expiry_timestamp_seconds",  "When the channel's manifest expires.",
         expires                                                                                                                              },
        { "slipway_manifest_expires_soon",
         "1 if the channel's manifest expires soon, or has: slipway-publish refresh.",                                           expires_soon },
        { "slipway_last_change_info",                   "1; the labels say what happened last and how it ended.",
         last_info                                                                                                                            },
        { "slipway_last_change_timestamp_seconds",      "When it ended.",                                                        last_at      },
        { "slipway_last_change_duration_seconds",       "How long it took.",                                                     last_took    },
        { "slipway_last_change_phase_duration_seconds", "How long it was in each phase.",
         last_phases                                                                                                                          },
};

/* -- of the host */

static void host_number(FILE *f, const char *name, const char *help, uint64_t n)
{
        Metric m = { f, name, help, false };
        char value[VALUE_SIZE];

        sample(&m, number_text(n, value), NULL);
}

static void write_agent(const cJSON *agent, FILE *f)
{
        Metric m = { f, "slipway_agent_info", "1; the labels say which slipwayd runs here.",
                     false };
        const cJSON *ssm = json_member(agent, "ssm");

        sample(&m, "1", "version", json_member_text(agent, "version"), "instance_id",
               json_member_text(agent, "instance"), NULL);
        host_number(f, "slipway_fetch_up", "1 if slipway-fetch runs, which talks to the store.",
                    streq_ptr(json_member_text(agent, "fetch"), "running"));
        host_number(f, "slipway_identity_known",
                    "1 if who this host is, and what that means, is known.",
                    !json_member(agent, "trouble"));
        if (!ssm)
                return;
        host_number(f, "slipway_orders_listening",
                    "1 if orders can come through AWS Systems Manager.",
                    cJSON_IsTrue(json_member(ssm, "listening")));
        host_number(f, "slipway_orders_rival", "1 if another agent may get them instead.",
                    json_member(ssm, "other_agent") != NULL);
}

static void write_host(const cJSON *agent, const MetricsContext *c, FILE *f)
{
        host_number(f, "slipway_up", "1 if slipwayd runs and answers.", c->up);
        host_number(f, "slipway_metrics_timestamp_seconds", "When these metrics were written.",
                    c->now_sec);
        if (c->clock_synchronized >= 0)
                host_number(f, "slipway_clock_synchronized",
                            "1 if something keeps this host's clock right.",
                            (uint64_t) c->clock_synchronized);
        if (c->trust_expires_sec > 0)
                host_number(f, "slipway_trust_expiry_timestamp_seconds",
                            "When the trust root expires.", c->trust_expires_sec);
        if (c->up)
                write_agent(agent, f);
}

void metrics_write(const cJSON *agent, const MetricsContext *c, FILE *f)
{
        const cJSON *app;

        write_host(agent, c, f);
        for (size_t i = 0; i < ELEMENTSOF(app_metrics); i++) {
                Metric m = { f, app_metrics[i].name, app_metrics[i].help, false };

                cJSON_ArrayForEach(app, json_member(agent, "apps"))
                {
                        AppView v = app_view(app, c->now_sec);

                        app_metrics[i].write(&m, &v);
                }
        }
}
