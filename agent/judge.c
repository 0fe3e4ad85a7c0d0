/* SPDX-License-Identifier: Apache-2.0 */
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/stat.h>

#include "dsse.h"
#include "err.h"
#include "fd.h"
#include "json-read.h"
#include "judge.h"
#include "time-text.h"

/* The packed form is smaller than the JSON it came from, but for its fixed parts. */
#define PACKED_SIZE_MAX (ENVELOPE_SIZE_MAX + 4096)

int judge_copy_envelope(int fd, Envelope **ret)
{
        _cleanup_free_ char *data = NULL;
        struct stat st;
        int r;

        /* Only a regular file (a memfd is one) can be read without waiting for somebody. */
        if (fstat(fd, &st) < 0)
                return -errno;
        if (!S_ISREG(st.st_mode))
                return -EPROTO;
        if (st.st_size < 0 || st.st_size > PACKED_SIZE_MAX)
                return -EFBIG;
        data = malloc(st.st_size + 1);
        if (!data)
                return -ENOMEM;
        r = fd_pread_exactly(fd, data, st.st_size, 0);
        if (r < 0)
                return r;
        return envelope_unpack(data, st.st_size, ret);
}

static int check_commands(const Command *commands, size_t n, const AppConfig *app, char **reterr)
{
        for (size_t i = 0; i < n; i++)
                if (!config_command_user(app, &commands[i]))
                        return fail(reterr, -EKEYREJECTED,
                                    "the manifest wants to run %s as %s, which \"hook_users\" of "
                                    "app %s in the agent's configuration does not allow",
                                    commands[i].argv[0],
                                    commands[i].user ? commands[i].user : "the default user",
                                    app->app);
        return 0;
}

static int check_users(const Activate *a, const AppConfig *app, char **reterr)
{
        int r = check_commands(a->pre, a->n_pre, app, reterr);

        if (r >= 0)
                r = check_commands(a->post, a->n_post, app, reterr);
        if (r >= 0)
                r = check_commands(a->revert, a->n_revert, app, reterr);
        return r < 0 ? r : check_commands(a->commands, a->n_commands, app, reterr);
}

static int check_place(const Manifest *m, const AppConfig *app, char **reterr)
{
        if (!streq(m->app, app->app))
                return fail(reterr, -EKEYREJECTED, "the manifest is for app %s, not %s", m->app,
                            app->app);
        if (!streq(m->channel, app->channel))
                return fail(reterr, -EKEYREJECTED, "the manifest is for channel %s, not %s",
                            m->channel, app->channel);
        for (size_t i = 0; i < m->activate.n_units; i++)
                if (!config_allows_unit(app, m->activate.units[i].name))
                        return fail(
                                reterr, -EKEYREJECTED,
                                "the manifest names unit %s, which \"units\" of app %s in the agent's "
                                "configuration does not allow",
                                m->activate.units[i].name, app->app);
        for (size_t i = 0; i < m->activate.n_unit_files; i++)
                if (!config_allows_unit_file(app, unit_file_name(m->activate.unit_files[i])))
                        return fail(
                                reterr, -EKEYREJECTED,
                                "the release brings unit file %s, which \"unit_files\" of app %s in the "
                                "agent's configuration does not allow",
                                m->activate.unit_files[i], app->app);
        return check_users(&m->activate, app, reterr);
}

int judge_envelope(int fd, const Trust *trust, const AppConfig *app, Manifest **ret,
                   Sha256 *ret_digest, char **reterr)
{
        _cleanup_(envelope_freep) Envelope *e = NULL;
        _cleanup_(manifest_freep) Manifest *m = NULL;
        Sha256 digest;
        int r;

        r = judge_copy_envelope(fd, &e);
        if (r < 0)
                return fail_errno(reterr, r, "slipway-fetch gave a broken envelope");
        if (e->payload_size > MANIFEST_SIZE_MAX)
                return fail(reterr, -EFBIG, "the manifest has %zu bytes, more than %d",
                            e->payload_size, MANIFEST_SIZE_MAX);
        r = trust_verify_manifest(trust, e, reterr);
        if (r < 0)
                return fail_prefix(reterr, r, "the manifest can't be trusted");
        r = manifest_parse(e->payload, e->payload_size, &m, reterr);
        if (r < 0)
                return fail_prefix(reterr, r, "the manifest is not valid");
        r = check_place(m, app, reterr);
        if (r < 0)
                return r;
        r = sha256(e->payload, e->payload_size, &digest);
        if (r < 0)
                return fail_errno(reterr, r, "can't hash the manifest");
        *ret = TAKE_PTR(m);
        *ret_digest = digest;
        return 0;
}

int judge_fresh(const Manifest *m, const Sha256 *digest, const State *state, const Trust *trust,
                uint64_t now_sec, char **reterr)
{
        const Floor *floor = state_floor(state);
        char expires[TIME_TEXT_SIZE], published[TIME_TEXT_SIZE], now[TIME_TEXT_SIZE];

        if (m->serial < floor->serial)
                return fail(reterr, -EKEYREJECTED,
                            "the manifest's serial is %" PRIu64 ", but %" PRIu64
                            " was seen before: an old manifest was put back",
                            m->serial, floor->serial);
        if (m->serial == floor->serial && !sha256_equal(digest, &floor->sha256))
                return fail(reterr, -EKEYREJECTED,
                            "the manifest's serial %" PRIu64 " was seen before with other content",
                            m->serial);
        if (trust_expires_sec(trust) <= now_sec)
                return fail(
                        reterr, -EKEYREJECTED,
                        "the trust root (version %" PRIu64
                        ") expired at %s: publish a next one ('slipway-publish trust edit'), or check "
                        "this host's clock",
                        trust_version(trust), time_format_utc(trust_expires_sec(trust), expires));
        /* Such a clock can't tell what has expired. */
        if (m->published_sec > now_sec + JUDGE_AHEAD_MAX_SEC)
                return fail(
                        reterr, -EKEYREJECTED,
                        "the manifest was published at %s, and here it is only %s: check this host's clock, or the publisher's",
                        time_format_utc(m->published_sec, published),
                        time_format_utc(now_sec, now));
        if (m->expires_sec <= now_sec)
                return fail(
                        reterr, -EKEYREJECTED,
                        "the manifest expired at %s: sign it anew ('slipway-publish refresh') or publish "
                        "again, or check this host's clock",
                        time_format_utc(m->expires_sec, expires));
        return 0;
}

/* The release is live, its units came up, and it is this very one (or unknown which, after the
 * state was lost). */
static bool is_live(const Manifest *m, const State *s)
{
        const Installed *i = state_find_release(s, m->release);

        return streq_ptr(s->current, m->release) && !s->down &&
               (!i || i->serial == 0 || sha256_equal(&i->index_sha256, &m->index.sha256));
}

static const char *const verdict_names[_VERDICT_MAX] = {
        [VERDICT_DEPLOY] = "deploy",
        [VERDICT_STAGE] = "stage",
        [VERDICT_ADOPT] = "adopt",
        [VERDICT_NOTHING] = "nothing",
        [VERDICT_PINNED] = "pinned",
        [VERDICT_NOT_TARGET] = "not-target",
        [VERDICT_FAILED] = "failed",
        [VERDICT_STAGED] = "staged",
        [VERDICT_HELD] = "held",
        [VERDICT_HALTED] = "halted",
        [VERDICT_HALT_UNKNOWN] = "halt-unknown",
        [VERDICT_WINDOW] = "outside-window",
        [VERDICT_RETRY] = "retry",
        [VERDICT_UNDER_WAY] = "under-way",
        [VERDICT_UNKNOWN] = "unknown",
};

const char *verdict_to_string(Verdict v)
{
        return verdict_names[v];
}

/* Says it of the manifest's deployment: "deployment 43 (release r3) ...". */
#define say(ret_text, m, format, ...)                                                     \
        err_set(ret_text, "deployment %" PRIu64 " (release %s) " format, (m)->deployment, \
                (m)->release, ##__VA_ARGS__)

/* Each judges one thing; VERDICT_DEPLOY: it is no obstacle. Set *ret_text if it is one. */

static Verdict judge_targets(const Manifest *m, const JudgeContext *c, char **ret_text)
{
        if (targets_match(&m->targets, c->tags, c->n_tags))
                return VERDICT_DEPLOY;
        say(ret_text, m, "is not for this instance: its tags match none of the manifest's targets");
        return VERDICT_NOT_TARGET;
}

static Verdict judge_pin(const Manifest *m, const JudgeContext *c, char **ret_text)
{
        const State *s = c->state;

        if (!s->pinned || m->deployment > s->pinned_deployment)
                return VERDICT_DEPLOY;
        say(ret_text, m, "is held off: rolled back by hand to release %s", s->pinned);
        return VERDICT_PINNED;
}

static Verdict judge_failed(const Manifest *m, const JudgeContext *c, char **ret_text)
{
        const State *s = c->state;

        if (!s->failed || m->deployment != s->failed_deployment)
                return VERDICT_DEPLOY;
        say(ret_text, m, "went wrong here and is not tried again: %s", strempty(s->failed_reason));
        return VERDICT_FAILED;
}

static Verdict judge_live(const Manifest *m, const JudgeContext *c, char **ret_text)
{
        const State *s = c->state;

        /* What was staged goes live when somebody says so, and not for this. */
        if (!is_live(m, s) || (c->live == LIVE_DAMAGED && !c->activate_by_hand))
                return VERDICT_DEPLOY;
        if (c->live != LIVE_WHOLE) {
                say(ret_text, m, "was made live here, but %s", strempty(c->damage));
                return VERDICT_NOTHING;
        }
        say(ret_text, m, "is live");
        return m->deployment == s->deployment && !s->pinned ? VERDICT_NOTHING : VERDICT_ADOPT;
}

static Verdict judge_staged(const Manifest *m, const JudgeContext *c, char **ret_text)
{
        const State *s = c->state;

        if (!s->staged.release || m->deployment != s->staged.deployment)
                return VERDICT_DEPLOY;
        say(ret_text, m, "is staged: it goes live by slipway activate %s", m->app);
        return VERDICT_STAGED;
}

static Verdict judge_hold(const Manifest *m, const JudgeContext *c, char **ret_text)
{
        const Hold *h = &c->state->hold;
        _cleanup_free_ char *text = NULL;

        if (!hold_is_on(h, c->now_sec))
                return VERDICT_DEPLOY;
        text = hold_to_text(h);
        say(ret_text, m, "is to be deployed, but %s", strempty(text));
        return VERDICT_HELD;
}

static Verdict judge_brake(const Manifest *m, const JudgeContext *c, char **ret_text)
{
        const char *text = strempty(c->brake_text);

        if (c->brake == BRAKE_ON) {
                say(ret_text, m, "is to be deployed, but channel %s is halted%s%s", m->channel,
                    text[0] ? ", " : "", text);
                return VERDICT_HALTED;
        }
        if (c->brake == BRAKE_OFF || c->brake_wait_sec == 0)
                return VERDICT_DEPLOY;
        say(ret_text, m,
            "is to be deployed, but whether channel %s is halted can't be known (%s); in %" PRIu64
            " s it goes on without that",
            m->channel, text, c->brake_wait_sec);
        return VERDICT_HALT_UNKNOWN;
}

static Verdict judge_window(const Manifest *m, const JudgeContext *c, char **ret_text)
{
        const State *s = c->state;
        _cleanup_free_ char *text = NULL;

        if (!s->current || s->down || is_live(m, s) || c->activate_by_hand || c->by_hand ||
            window_is_open(&m->window, c->now_sec))
                return VERDICT_DEPLOY;
        text = window_to_text(&m->window, c->now_sec);
        say(ret_text, m, "is to be deployed in its window, %s", strempty(text));
        return VERDICT_WINDOW;
}

static Verdict judge_retry(const Manifest *m, const JudgeContext *c, char **ret_text)
{
        char at[TIME_TEXT_SIZE];

        if (c->by_hand || c->retry_deployment != m->deployment)
                return VERDICT_DEPLOY;
        say(ret_text, m, "%s, and is tried again after %s: %s",
            c->put_off ? "is put off" : "failed", time_format_utc(c->retry_at_sec, at),
            strempty(c->retry_reason));
        return VERDICT_RETRY;
}

static Verdict (*const obstacles[])(const Manifest *m, const JudgeContext *c, char **ret_text) = {
        judge_targets, judge_pin,   judge_failed, judge_live,  judge_staged,
        judge_hold,    judge_brake, judge_window, judge_retry,
};

Verdict judge_obstacle(const Manifest *m, const JudgeContext *c, size_t n, char **ret_text)
{
        for (size_t i = 0; i < ELEMENTSOF(obstacles); i++) {
                _cleanup_free_ char *text = NULL;
                Verdict v = obstacles[i](m, c, &text);

                if (v == VERDICT_DEPLOY || n-- > 0)
                        continue;
                *ret_text = TAKE_PTR(text);
                return v;
        }
        return VERDICT_DEPLOY;
}

Verdict judge_wanted(const Manifest *m, const JudgeContext *c, char **ret_text)
{
        Verdict v = judge_obstacle(m, c, 0, ret_text);

        if (v != VERDICT_DEPLOY)
                return v;
        if (is_live(m, c->state))
                say(ret_text, m, "is to be deployed again: %s", strempty(c->damage));
        else
                say(ret_text, m, "is to be %s", c->activate_by_hand ? "staged" : "deployed");
        return c->activate_by_hand ? VERDICT_STAGE : VERDICT_DEPLOY;
}
