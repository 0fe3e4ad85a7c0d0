/* SPDX-License-Identifier: Apache-2.0 */
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>

#include "admin-bus.h"
#include "check.h"
#include "environment-file.h"
#include "err.h"
#include "fd.h"
#include "fetcher.h"
#include "json-member.h"
#include "json-read.h"
#include "judge.h"
#include "secret.h"
#include "state-file.h"
#include "time-text.h"

#define AREA "store"

#define ENVIRONMENT_FILE "/etc/slipway/environment"
#define LIMIT_USEC       (UINT64_C(60) * 1000000)

/* What is asked for one application. */
typedef struct Question {
        struct Round *round;
        const AppConfig *app;
        FetchRequest *request;
} Question;

typedef struct Round {
        Check *check;
        sd_event *event;
        Fetcher *fetcher;
        Question *questions;
        size_t n_open;
} Round;

static void round_done(Round *r)
{
        for (size_t i = 0; r->questions && i < r->check->config->n_apps; i++)
                fetch_request_free(r->questions[i].request);
        free(r->questions);
        fetcher_free(r->fetcher);
        sd_event_unref(r->event);
}

/* -- what comes */

static int load_state(Check *c, const AppConfig *a, State **ret)
{
        _cleanup_close_ int dir_fd = dir_open_at(AT_FDCWD, c->paths.state_dir);
        int r = dir_fd < 0 ? -ENOENT : state_load(dir_fd, a->app, ret, NULL);

        if (r < 0)
                return state_new(a->app, a->channel, ret);
        return state_set(&(*ret)->channel, a->channel);
}

static void judge_manifest(Check *c, const AppConfig *a, int fd)
{
        _cleanup_(manifest_freep) Manifest *m = NULL;
        _cleanup_(state_freep) State *s = NULL;
        _cleanup_free_ char *err = NULL;
        char expires[TIME_TEXT_SIZE];
        Sha256 digest;
        int r = judge_envelope(fd, c->trust, a, &m, &digest, &err);

        if (r >= 0)
                r = load_state(c, a, &s);
        if (r >= 0)
                r = judge_fresh(m, &digest, s, c->trust, c->now_sec, &err);
        if (r < 0) {
                findings_add(&c->findings, FINDING_FAIL, AREA, "app %s: %s", a->app,
                             err_text(r, err));
                findings_mend(&c->findings,
                              "compare with what the publisher says: slipway-publish verify");
                return;
        }
        (void) time_format_utc(m->expires_sec, expires);
        if (manifest_expires_soon(m, c->now_sec)) {
                findings_add(&c->findings, FINDING_WARN, AREA,
                             "app %s: the manifest of channel %s expires at %s", a->app, a->channel,
                             expires);
                findings_mend(&c->findings, "sign it anew before that: slipway-publish refresh");
        } else
                findings_add(&c->findings, FINDING_OK, AREA,
                             "app %s: channel %s has release %s (deployment %" PRIu64
                             ", serial %" PRIu64 "), signed, expires at %s",
                             a->app, a->channel, m->release, m->deployment, m->serial, expires);
}

static void judge_failure(Check *c, const AppConfig *a, int result, const char *text)
{
        if (result == POLL_ABSENT) {
                findings_add(&c->findings, FINDING_FAIL, AREA, "app %s: the store has no %s",
                             a->app, a->manifest_path);
                findings_mend(&c->findings,
                              "publish a release to channel %s, or correct the app's "
                              "channel",
                              a->channel);
        } else if (result == POLL_UNKNOWN) {
                findings_add(&c->findings, FINDING_FAIL, AREA,
                             "app %s: the store refuses %s (or it is not there, and we may not "
                             "list): %s",
                             a->app, a->manifest_path, text);
                findings_mend(&c->findings,
                              "allow s3:GetObject and s3:ListBucket to this host's "
                              "credentials, or publish to channel %s",
                              a->channel);
        } else {
                findings_add(&c->findings, FINDING_FAIL, AREA, "app %s: %s", a->app,
                             text[0] ? text : strerror(-result));
                if (result == -EACCES || result == -EINVAL || result == -ENOKEY)
                        findings_mend(
                                &c->findings,
                                "give the instance a role, or set region and credentials in " ENVIRONMENT_FILE);
                else
                        findings_mend(&c->findings, "see that %s can be reached from here",
                                      c->config->store);
        }
}

static void on_reply(const Message *m, int *fd, void *userdata)
{
        Question *q = userdata;
        Round *round = q->round;

        if (m->type == MESSAGE_POLLED && m->result == 0 && *fd >= 0)
                judge_manifest(round->check, q->app, *fd);
        else
                judge_failure(round->check, q->app, m->result, m->text);
        q->request = fetch_request_free(q->request);
        if (--round->n_open == 0)
                (void) sd_event_exit(round->event, 0);
}

/* -- asking */

static int on_limit(sd_event_source *source, uint64_t usec, void *userdata)
{
        Round *round = userdata;
        Check *c = round->check;

        (void) source, (void) usec;
        for (size_t i = 0; i < c->config->n_apps; i++)
                if (round->questions[i].request)
                        judge_failure(c, &c->config->apps[i], -ETIMEDOUT,
                                      "the store did not answer within a minute");
        return sd_event_exit(round->event, 0);
}

static int ask(Round *round, size_t n)
{
        Question *q = &round->questions[n];
        Message m = { .type = MESSAGE_POLL };
        int r;

        *q = (Question){ .round = round, .app = &round->check->config->apps[n] };
        (void) stpncpy(m.text, q->app->manifest_path, MESSAGE_TEXT_MAX);
        r = fetcher_request(round->fetcher, &m, -1, on_reply, q, &q->request);
        round->n_open += r >= 0;
        return r;
}

static int ask_all(Round *round, char **reterr)
{
        Check *c = round->check;
        Identity identity = {};
        sigset_t signals;
        int r = c->user ? 0 : identity_lookup("slipway", &identity, reterr);

        if (r < 0)
                return r;
        /* sd_event_add_child() wants it so. */
        sigemptyset(&signals);
        sigaddset(&signals, SIGCHLD);
        if (sigprocmask(SIG_BLOCK, &signals, NULL) < 0)
                return -errno;
        round->questions = calloc(c->config->n_apps, sizeof(Question));
        if (!round->questions)
                return -ENOMEM;
        r = sd_event_new(&round->event);
        if (r >= 0)
                r = fetcher_new(round->event, NULL, c->paths.cache_dir, NULL, &identity,
                                &round->fetcher);
        if (r >= 0)
                r = fetcher_set_store(round->fetcher, c->config->store);
        if (r >= 0)
                r = sd_event_add_time_relative(round->event, NULL, CLOCK_BOOTTIME, LIMIT_USEC, 0,
                                               on_limit, round);
        for (size_t i = 0; r >= 0 && i < c->config->n_apps; i++)
                r = ask(round, i);
        return r < 0 ? r : sd_event_loop(round->event);
}

/* The service may see less than we: no /home, a /tmp of its own, other credentials. */
static void check_service_view(Check *c)
{
        _cleanup_free_ char *text = NULL;
        _cleanup_json_ cJSON *agent = NULL;
        const cJSON *app;

        if (!c->bus || admin_bus_describe(c->bus, &text, NULL) < 0 ||
            json_parse(text, strlen(text), &agent, NULL) < 0)
                return;
        cJSON_ArrayForEach(app, json_member(agent, "apps"))
        {
                const cJSON *poll = json_member(app, "poll");
                const char *says = json_member_text(poll, "text");

                if (!json_member(poll, "at") || !cJSON_IsFalse(json_member(poll, "ok")))
                        continue;
                findings_add(&c->findings, FINDING_WARN, AREA, "slipwayd's last poll failed: %s",
                             strempty(says));
                findings_mend(&c->findings, "what it says; it sees no /home and has its own /tmp, "
                                            "see man slipwayd");
        }
}

void check_store(Check *c)
{
        Round round = { .check = c };
        _cleanup_free_ char *err = NULL;
        int r;

        if (!c->config || !c->trust)
                return;
        r = secret_process(&err);
        if (r >= 0 && !c->user)
                r = environment_file_load(ENVIRONMENT_FILE, &err);
        if (r >= 0)
                r = ask_all(&round, &err);
        if (r < 0)
                findings_add(&c->findings, FINDING_FAIL, AREA, "the store can't be asked: %s",
                             err_text(r, err));
        round_done(&round);
        check_service_view(c);
}
