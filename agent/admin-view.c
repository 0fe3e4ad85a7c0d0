/* SPDX-License-Identifier: Apache-2.0 */
#include "admin-view.h"

#include <errno.h>
#include <inttypes.h>

#include "admin-text.h"
#include "json-member.h"
#include "json-read.h"
#include "progress.h"
#include "table.h"
#include "time-text.h"

#define NUMBER_SIZE 24

#define BAR_COLUMNS 72

/* As in the journal: root-watch.h. */
#define TRUST_EXPIRES_SOON_SEC (UINT64_C(30) * 24 * 3600)

/* Names of changed files, of each kind. */
#define PLAN_NAMES_SHOWN 20

/* Shorter phases are not shown to people. */
#define PHASE_SHOWN_MSEC 100

static const char *ago(uint64_t now_sec, uint64_t then_sec, char buffer[static TIME_AGO_SIZE])
{
        return then_sec ? time_ago(now_sec, then_sec, buffer) : NULL;
}

static const char *number(uint64_t n, char buffer[static NUMBER_SIZE])
{
        if (n == 0)
                return NULL;
        (void) snprintf(buffer, NUMBER_SIZE, "%" PRIu64, n);
        return buffer;
}

const cJSON *view_find_app(const cJSON *agent, const char *app)
{
        const cJSON *a;

        cJSON_ArrayForEach(a, json_member(agent, "apps"))
        {
                const char *name = json_member_text(json_member(a, "state"), "app");

                if (name && streq(name, app))
                        return a;
        }
        return NULL;
}

static const cJSON *find_release(const cJSON *state, const char *release)
{
        const cJSON *r;

        cJSON_ArrayForEach(r, json_member(state, "releases"))
        {
                const char *name = json_member_text(r, "release");

                if (name && release && streq(name, release))
                        return r;
        }
        return NULL;
}

uint64_t view_live_since(const cJSON *state)
{
        const char *current = json_member_text(state, "current");
        const cJSON *event;
        uint64_t since = json_member_time(find_release(state, current), "installed");

        cJSON_ArrayForEach(event, json_member(state, "history"))
        {
                const char *result = json_member_text(event, "result");
                const char *action = json_member_text(event, "action");
                const char *left = NULL;

                if (action && streq(action, "stage"))
                        continue;

                if (result && streq(result, "done"))
                        left = json_member_text(event, "release");
                else if (result && streq(result, "reverted"))
                        left = json_member_text(event, "from");
                if (left && current && streq(left, current) && json_member_time(event, "at"))
                        since = json_member_time(event, "at");
        }
        return since;
}

static bool is_idle(const cJSON *state)
{
        const char *phase = json_member_text(state, "phase");

        return !phase || streq(phase, "idle");
}

bool view_is_failed(const cJSON *state)
{
        const cJSON *failed = json_member(state, "failed");

        return failed &&
               json_member_number(failed, "deployment") >= json_member_number(state, "deployment");
}

static bool is_poll_failed(const cJSON *app)
{
        return cJSON_IsFalse(json_member(json_member(app, "poll"), "ok"));
}

bool view_is_held(const cJSON *state, uint64_t now_sec)
{
        const cJSON *held = json_member(state, "held");
        uint64_t until_sec = json_member_time(held, "until");

        return held && (until_sec == 0 || now_sec < until_sec);
}

static const char *state_word(const cJSON *state, uint64_t now_sec)
{
        if (!is_idle(state))
                return json_member_text(state, "phase");
        if (view_is_held(state, now_sec))
                return "held";
        if (json_member(state, "pinned"))
                return "pinned";
        if (view_is_failed(state))
                return "failed";
        if (json_member(state, "staged"))
                return "staged";
        return json_member_text(state, "current") ? "live" : "nothing yet";
}

/* A bar of what is fetched. */
static void note_progress(const cJSON *app, FILE *f)
{
        uint64_t total = json_member_number(app, "artifact_bytes");
        _cleanup_free_ char *bar = NULL;

        if (total > 0 &&
            progress_format_bar("  fetched", json_member_number(app, "available_bytes"), total, 0,
                                BAR_COLUMNS, &bar) >= 0)
                fprintf(f, "%s\n", bar);
}

static void note_pending(const cJSON *state, FILE *f)
{
        const cJSON *p = json_member(state, "pending");
        const char *from = json_member_text(p, "from"), *action = json_member_text(p, "action");
        bool rollback = action && streq(action, "rollback");

        if (is_idle(state))
                return;
        fprintf(f, "%s to %s%s%s is under way: %s\n",
                rollback                           ? "a rollback"
                : action && streq(action, "stage") ? "a staging"
                                                   : "a deployment",
                strempty(json_member_text(p, "release")), from ? " from " : "", strempty(from),
                strempty(json_member_text(state, "phase")));
}

static const char *user_option(const ViewContext *c)
{
        return c->user ? "--user " : "";
}

static void note_confirm(const cJSON *state, const ViewContext *c, FILE *f)
{
        uint64_t until_sec =
                json_member_number(json_member(state, "pending"), "confirm_until_ms") / 1000;
        const char *phase = json_member_text(state, "phase");
        char when[TIME_AGO_SIZE];

        if (phase && streq(phase, "confirming") && until_sec > 0)
                fprintf(f, "  It is taken back (%s), unless you say: slipway %sconfirm %s\n",
                        time_ago(c->now_sec, until_sec, when), user_option(c),
                        strempty(json_member_text(state, "app")));
}

static void note_staged(const cJSON *state, const ViewContext *c, FILE *f)
{
        const cJSON *s = json_member(state, "staged");
        char when[TIME_AGO_SIZE];

        if (!s || !is_idle(state))
                return;
        fprintf(f, "release %s was staged%s%s: it goes live by: slipway %sactivate %s\n",
                strempty(json_member_text(s, "release")), json_member_time(s, "since") ? " " : "",
                strempty(ago(c->now_sec, json_member_time(s, "since"), when)), user_option(c),
                strempty(json_member_text(state, "app")));
}

static void note_held(const cJSON *state, const ViewContext *c, FILE *f)
{
        const cJSON *held = json_member(state, "held");
        const char *reason = json_member_text(held, "reason"), *by = json_member_text(held, "by");
        uint64_t until_sec = json_member_time(held, "until"),
                 since_sec = json_member_time(held, "since");
        char since[TIME_AGO_SIZE], until[TIME_AGO_SIZE];

        if (!view_is_held(state, c->now_sec))
                return;
        fprintf(f, "nothing is deployed: held by %s%s%s%s%s\n", by ? by : "somebody",
                since_sec ? " " : "", strempty(ago(c->now_sec, since_sec, since)),
                reason ? ": " : "", strempty(reason));
        if (until_sec)
                fprintf(f, "  That ends at %s (%s), or now: slipway %sresume %s\n",
                        json_member_text(held, "until"), time_ago(c->now_sec, until_sec, until),
                        user_option(c), strempty(json_member_text(state, "app")));
        else
                fprintf(f, "  To end it: slipway %sresume %s\n", user_option(c),
                        strempty(json_member_text(state, "app")));
}

static void note_pinned(const cJSON *state, const ViewContext *c, FILE *f)
{
        uint64_t now_sec = c->now_sec;
        const cJSON *p = json_member(state, "pinned");
        const char *by = json_member_text(p, "by");
        const char *app = strempty(json_member_text(state, "app"));
        char when[TIME_AGO_SIZE], n[NUMBER_SIZE];

        if (!p)
                return;
        fprintf(f, "rolled back by hand to %s%s%s%s%s\n", strempty(json_member_text(p, "release")),
                by ? " by " : "", strempty(by), json_member_time(p, "since") ? ", " : "",
                strempty(ago(now_sec, json_member_time(p, "since"), when)));
        fprintf(f,
                "  The channel's deployment %s isn't installed until the channel makes a new "
                "deployment, or you say: slipway %sresume %s\n",
                strempty(number(json_member_number(p, "deployment"), n)), user_option(c), app);
}

/* journalctl's options for the units of the failed release, or of the live one. */
static void print_journal_units(const cJSON *state, const char *release, FILE *f)
{
        const cJSON *r = find_release(state, release), *unit;

        if (!r)
                r = find_release(state, json_member_text(state, "current"));
        cJSON_ArrayForEach(unit, json_member(json_member(r, "activate"), "units"))
        {
                if (json_member_text(unit, "name"))
                        fprintf(f, " -u %s", json_member_text(unit, "name"));
        }
}

static void note_failed(const cJSON *state, const ViewContext *c, FILE *f)
{
        uint64_t now_sec = c->now_sec;
        const cJSON *failed = json_member(state, "failed");
        const char *reason = json_member_text(failed, "reason");
        const char *current = json_member_text(state, "current");
        char when[TIME_AGO_SIZE], n[NUMBER_SIZE];

        if (!view_is_failed(state))
                return;
        fprintf(f, "deployment %s (release %s) failed%s%s: %s\n",
                strempty(number(json_member_number(failed, "deployment"), n)),
                strempty(json_member_text(failed, "release")),
                json_member_time(failed, "at") ? " " : "",
                strempty(ago(now_sec, json_member_time(failed, "at"), when)),
                reason ? reason : "no reason was noted");
        fprintf(f,
                "  %s%s. It isn't tried again here: publish a better release, or, when the cause "
                "was this host: slipway %sresume %s\n",
                current ? "Live is " : "Nothing is live", strempty(current), user_option(c),
                strempty(json_member_text(state, "app")));
        fprintf(f, "  What happened: journalctl %s-u slipwayd", user_option(c));
        print_journal_units(state, json_member_text(failed, "release"), f);
        fputc('\n', f);
}

/* A hook that did not go well: of the one that failed, the reason stands above already. */
static void note_hooks(const cJSON *state, FILE *f)
{
        const cJSON *hook, *line;

        cJSON_ArrayForEach(hook, json_member(state, "hooks"))
        {
                if (!cJSON_IsFalse(json_member(hook, "ok")))
                        continue;
                fprintf(f, "%s hook of release %s: %s\n", hook->string,
                        strempty(json_member_text(hook, "release")),
                        strempty(json_member_text(hook, "text")));
                cJSON_ArrayForEach(line, json_member(hook, "output"))
                {
                        fprintf(f, "    | %s\n", strempty(cJSON_GetStringValue(line)));
                }
        }
}

/* What the channel wants was put off: the poll's text says why, and until when. */
static void note_put_off(const cJSON *app, FILE *f)
{
        const cJSON *history = json_member(json_member(app, "state"), "history");
        const cJSON *last = cJSON_GetArrayItem(history, cJSON_GetArraySize(history) - 1);
        const char *result = json_member_text(last, "result");

        if (result && streq(result, "deferred") && !is_poll_failed(app))
                fprintf(f, "%s\n", strempty(json_member_text(json_member(app, "poll"), "text")));
}

static void note_poll(const cJSON *app, uint64_t now_sec, FILE *f)
{
        const cJSON *poll = json_member(app, "poll");
        uint64_t expires_sec = json_member_time(poll, "expires"),
                 next_sec = json_member_time(poll, "next");
        char when[TIME_AGO_SIZE];

        if (is_poll_failed(app)) {
                fprintf(f, "the last poll failed%s%s: %s\n",
                        json_member_time(poll, "at") ? " " : "",
                        strempty(ago(now_sec, json_member_time(poll, "at"), when)),
                        strempty(json_member_text(poll, "text")));
                fprintf(f, "  The running release is not touched. The next try: %s\n",
                        next_sec > now_sec ? time_ago(now_sec, next_sec, when) : "now");
        }
        if (expires_sec && expires_sec <= now_sec)
                fprintf(f,
                        "the channel's manifest expired %s: what is live runs on, and nothing is "
                        "deployed until it is signed anew (slipway-publish refresh) or a newer one "
                        "is published\n",
                        time_ago(now_sec, expires_sec, when));
        else if (cJSON_IsTrue(json_member(poll, "expires_soon")))
                fprintf(f,
                        "the channel's manifest expires %s, and nothing is deployed from then on: "
                        "slipway-publish refresh\n",
                        time_ago(now_sec, expires_sec, when));
}

static int print_notes(const cJSON *app, const ViewContext *c, FILE *f)
{
        uint64_t now_sec = c->now_sec;
        const cJSON *state = json_member(app, "state");
        _cleanup_free_ char *notes = NULL;
        size_t size = 0;
        FILE *m = open_memstream(&notes, &size);

        if (!m)
                return -ENOMEM;
        note_pending(state, m);
        note_confirm(state, c, m);
        note_progress(app, m);
        note_held(state, c, m);
        note_pinned(state, c, m);
        note_failed(state, c, m);
        note_put_off(app, m);
        note_hooks(state, m);
        note_staged(state, c, m);
        note_poll(app, now_sec, m);
        if (fclose(m) != 0)
                return -ENOMEM;
        if (size > 0)
                fprintf(f, "\n%s: %s", strempty(json_member_text(state, "app")), notes);
        return 0;
}

/* The last order that came. */
static void print_order(const cJSON *ssm, uint64_t now_sec, FILE *f)
{
        const cJSON *order = cJSON_GetArrayItem(json_member(ssm, "orders"), 0);
        const char *app = json_member_text(order, "app"),
                   *release = json_member_text(order, "release");
        char when[TIME_AGO_SIZE];

        if (order)
                fprintf(f, "  the last order: %s%s%s%s%s, %s, %s (%s)\n",
                        strempty(json_member_text(order, "action")), app ? " " : "", strempty(app),
                        release ? " " : "", strempty(release),
                        strempty(json_member_text(order, "result")),
                        strempty(ago(now_sec, json_member_time(order, "at"), when)),
                        strempty(json_member_text(order, "command")));
}

static void print_ssm(const cJSON *ssm, uint64_t now_sec, FILE *f)
{
        const char *trouble = json_member_text(ssm, "trouble"),
                   *other = json_member_text(ssm, "other_agent");

        if (!ssm)
                return;
        if (cJSON_IsTrue(json_member(ssm, "listening")))
                fprintf(f, "orders can come through AWS Systems Manager, by %s\n",
                        strempty(json_member_text(ssm, "channel")));
        else
                fprintf(f, "no orders can come through AWS Systems Manager%s%s\n",
                        trouble ? ": " : " yet", strempty(trouble));
        if (other)
                fprintf(f,
                        "  %s runs here too, and they may go to it instead: systemctl disable "
                        "--now %s\n",
                        other, other);
        print_order(ssm, now_sec, f);
}

/* Who may sign, as far as there is something to do about it; the version is in the detailed view.
 */
static void print_trust(const cJSON *trust, uint64_t now_sec, FILE *f)
{
        uint64_t expires_sec = json_member_time(trust, "expires");
        const char *trouble = json_member_text(trust, "trouble");
        char when[TIME_AGO_SIZE], n[NUMBER_SIZE];

        if (expires_sec && expires_sec <= now_sec + TRUST_EXPIRES_SOON_SEC)
                fprintf(f,
                        "the trust root (version %s) %s %s%s: slipway-publish trust edit --expires\n",
                        strempty(number(json_member_number(trust, "version"), n)),
                        expires_sec <= now_sec ? "expired" : "expires",
                        time_ago(now_sec, expires_sec, when),
                        expires_sec <= now_sec ? ", and nothing new is deployed" : "");
        if (trouble)
                fprintf(f, "%s\n", trouble);
}

static void print_agent(const cJSON *agent, uint64_t now_sec, FILE *f)
{
        const char *version = json_member_text(agent, "version"),
                   *fetch = json_member_text(agent, "fetch");
        const char *store = json_member_text(agent, "store"),
                   *trouble = json_member_text(agent, "trouble");

        if (!version)
                return;
        if (store)
                fprintf(f, "slipwayd %s on %s, store %s\n", version,
                        strempty(json_member_text(agent, "instance")), store);
        else
                fprintf(f, "slipwayd %s: what to deploy is not known yet\n", version);
        if (trouble)
                fprintf(f, "%s\n", trouble);
        if (cJSON_IsTrue(json_member(agent, "changes")))
                fprintf(f,
                        "the instance's tags changed: the applications follow when what is under "
                        "way has ended\n");
        if (fetch && !streq(fetch, "running"))
                fprintf(f, "slipway-fetch: %s: no news from the store until it runs again\n",
                        fetch);
        print_trust(json_member(agent, "trust"), now_sec, f);
        print_ssm(json_member(agent, "ssm"), now_sec, f);
        fputc('\n', f);
}

static int add_overview_row(Table *t, const cJSON *app, uint64_t now_sec)
{
        const cJSON *state = json_member(app, "state"), *poll = json_member(app, "poll");
        char since[TIME_AGO_SIZE], polled[TIME_AGO_SIZE], outcome[TIME_AGO_SIZE + 16];
        char deployment[NUMBER_SIZE];
        const char *at = ago(now_sec, json_member_time(poll, "at"), polled);

        (void) snprintf(outcome, sizeof(outcome), "%s%s", at ? at : "-",
                        is_poll_failed(app) ? ", failed" : "");
        return table_add(
                t, (const char *[]){
                           json_member_text(state, "app"), json_member_text(state, "channel"),
                           json_member_text(state, "current"),
                           ago(now_sec, view_live_since(state), since),
                           number(json_member_number(
                                          find_release(state, json_member_text(state, "current")),
                                          "deployment"),
                                  deployment),
                           state_word(state, now_sec), outcome });
}

int view_overview(const cJSON *agent, const ViewContext *c, FILE *f)
{
        uint64_t now_sec = c->now_sec;
        static const char *const titles[] = { "APP",        "CHANNEL", "LIVE",      "SINCE",
                                              "DEPLOYMENT", "STATE",   "LAST POLL", NULL };
        _cleanup_(table_freep) Table *t = NULL;
        const cJSON *app;
        int r;

        r = table_new(titles, &t);
        if (r < 0)
                return r;
        cJSON_ArrayForEach(app, json_member(agent, "apps"))
        {
                r = add_overview_row(t, app, now_sec);
                if (r < 0)
                        return r;
        }
        print_agent(agent, now_sec, f);
        table_print(t, f);
        cJSON_ArrayForEach(app, json_member(agent, "apps"))
        {
                r = print_notes(app, c, f);
                if (r < 0)
                        return r;
        }
        return 0;
}

static void print_progress(const cJSON *app, FILE *f)
{
        uint64_t available = json_member_number(app, "available_bytes");
        uint64_t total = json_member_number(app, "artifact_bytes");

        if (total > 0)
                fprintf(f, ", %" PRIu64 "%%", MIN(available, total) * 100 / total);
}

static void print_line(const cJSON *app, uint64_t now_sec, FILE *f)
{
        const cJSON *state = json_member(app, "state");
        const char *pending = json_member_text(json_member(state, "pending"), "release");
        const char *current = json_member_text(state, "current");

        fprintf(f, "%s: %s", strempty(json_member_text(state, "app")),
                strempty(state_word(state, now_sec)));
        if (!is_idle(state) && pending)
                fprintf(f, " %s", pending);
        print_progress(app, f);
        if (current)
                fprintf(f, "; live is %s", current);
        if (is_idle(state) && view_is_failed(state))
                fprintf(f, "; %s failed",
                        strempty(json_member_text(json_member(state, "failed"), "release")));
        fputc('\n', f);
}

void view_lines(const cJSON *agent, const char *app, uint64_t now_sec, FILE *f)
{
        const cJSON *a;

        cJSON_ArrayForEach(
                a,
                json_member(agent,
                            "apps")) if (!app ||
                                         streq_ptr(json_member_text(json_member(a, "state"), "app"),
                                                   app)) print_line(a, now_sec, f);
}

static void print_poll(const cJSON *poll, uint64_t now_sec, FILE *f)
{
        uint64_t next_sec = json_member_time(poll, "next"),
                 expires_sec = json_member_time(poll, "expires");
        char when[TIME_AGO_SIZE];

        if (!poll)
                return;
        fprintf(f, "    channel: %s\n", strempty(json_member_text(poll, "text")));
        fprintf(f, "  last poll: %s",
                json_member_time(poll, "at") ? time_ago(now_sec, json_member_time(poll, "at"), when)
                                             : "not yet");
        fputs(cJSON_IsFalse(json_member(poll, "ok")) ? ", failed" : "", f);
        if (next_sec)
                fprintf(f, "; the next: %s",
                        next_sec > now_sec ? time_ago(now_sec, next_sec, when) : "now");
        fputc('\n', f);
        if (expires_sec)
                fprintf(f, "    expires: %s (%s)\n", time_ago(now_sec, expires_sec, when),
                        strempty(json_member_text(poll, "expires")));
}

int view_app(const cJSON *agent, const cJSON *app, const ViewContext *c, FILE *f)
{
        uint64_t now_sec = c->now_sec;
        const cJSON *state = json_member(app, "state"), *trust = json_member(agent, "trust");
        const char *current = json_member_text(state, "current"),
                   *root = json_member_text(app, "root");
        uint64_t since_sec = view_live_since(state);
        char when[TIME_AGO_SIZE], n[NUMBER_SIZE], at[TIME_TEXT_SIZE];

        print_agent(agent, now_sec, f);
        fprintf(f, "%s, channel %s\n", strempty(json_member_text(state, "app")),
                strempty(json_member_text(state, "channel")));
        fprintf(f, "       live: %s", current ? current : "nothing yet");
        if (current && since_sec)
                fprintf(f, " since %s (%s)", time_format_utc(since_sec, at),
                        time_ago(now_sec, since_sec, when));
        if (json_member_number(find_release(state, current), "deployment"))
                fprintf(f, ", deployment %s",
                        number(json_member_number(find_release(state, current), "deployment"), n));
        fputc('\n', f);
        fprintf(f, "      state: %s\n", strempty(state_word(state, now_sec)));
        print_poll(json_member(app, "poll"), now_sec, f);
        if (root)
                fprintf(f, "       root: %s\n", root);
        if (trust)
                fprintf(f, " trust root: version %s, expires %s (%s)\n",
                        strempty(number(json_member_number(trust, "version"), n)),
                        time_ago(now_sec, json_member_time(trust, "expires"), when),
                        strempty(json_member_text(trust, "expires")));
        return print_notes(app, c, f);
}

/* "fetching 1.2s, baking 4.0s", to be freed: what was worth the telling. */
static char *format_phases(const cJSON *phases)
{
        const cJSON *phase;
        char *text = NULL;
        size_t size = 0;
        FILE *f = open_memstream(&text, &size);

        if (!f)
                return NULL;
        cJSON_ArrayForEach(phase, phases)
        {
                uint64_t msec = json_number(phase);

                if (msec >= PHASE_SHOWN_MSEC)
                        fprintf(f, "%s%s %" PRIu64 ".%" PRIu64 "s", ftell(f) > 0 ? ", " : "",
                                phase->string, msec / 1000, msec % 1000 / 100);
        }
        if (fclose(f) != 0) {
                free(text);
                return NULL;
        }
        return text;
}

static int add_event_row(Table *t, const cJSON *e, uint64_t now_sec)
{
        uint64_t took_msec = json_member_number(e, "took_ms");
        _cleanup_free_ char *phases = format_phases(json_member(e, "phases_ms"));
        char when[TIME_AGO_SIZE], deployment[NUMBER_SIZE], took[NUMBER_SIZE + 8] = "";

        if (!phases)
                return -ENOMEM;

        if (json_member(e, "took_ms"))
                (void) snprintf(took, sizeof(took), "%" PRIu64 ".%" PRIu64 "s", took_msec / 1000,
                                took_msec % 1000 / 100);
        return table_add(
                t, (const char *[]){ ago(now_sec, json_member_time(e, "at"), when),
                                     json_member_text(e, "action"), json_member_text(e, "release"),
                                     json_member_text(e, "from"),
                                     number(json_member_number(e, "deployment"), deployment),
                                     json_member_text(e, "result"), took, phases,
                                     json_member_text(e, "by"), json_member_text(e, "reason") });
}

int view_history(const cJSON *app, const ViewContext *c, FILE *f)
{
        uint64_t now_sec = c->now_sec;
        static const char *const titles[] = { "WHEN",       "ACTION", "RELEASE", "FROM",
                                              "DEPLOYMENT", "RESULT", "TOOK",    "PHASES",
                                              "BY",         "REASON", NULL };
        _cleanup_(table_freep) Table *t = NULL;
        const cJSON *events = json_member(json_member(app, "state"), "history");
        int r;

        r = table_new(titles, &t);
        for (int i = cJSON_GetArraySize(events) - 1; r >= 0 && i >= 0; i--)
                r = add_event_row(t, cJSON_GetArrayItem(events, i), now_sec);
        if (r >= 0)
                table_print(t, f);
        return r;
}

static const char *release_word(const cJSON *state, const char *release)
{
        const char *failed = json_member_text(json_member(state, "failed"), "release");

        if (streq_ptr(release, json_member_text(state, "current")))
                return json_member(state, "pinned") ? "live, pinned" : "live";
        if (streq_ptr(release, failed))
                return "failed";
        if (streq_ptr(release, json_member_text(json_member(state, "staged"), "release")))
                return "staged";
        if (streq_ptr(release, json_member_text(state, "last_good")))
                return "last good";
        return NULL;
}

int view_releases(const cJSON *app, const ViewContext *c, FILE *f)
{
        uint64_t now_sec = c->now_sec;
        static const char *const titles[] = { "RELEASE", "DEPLOYMENT", "INSTALLED",
                                              "SIZE",    "STATE",      NULL };
        _cleanup_(table_freep) Table *t = NULL;
        const cJSON *state = json_member(app, "state"), *releases = json_member(state, "releases");
        char when[TIME_AGO_SIZE], n[NUMBER_SIZE], size[BYTES_TEXT_SIZE];
        int r;

        r = table_new(titles, &t);
        for (int i = cJSON_GetArraySize(releases) - 1; r >= 0 && i >= 0; i--) {
                const cJSON *e = cJSON_GetArrayItem(releases, i);
                const char *release = json_member_text(e, "release");

                r = table_add(t, (const char *[]){
                                         release, number(json_member_number(e, "deployment"), n),
                                         ago(now_sec, json_member_time(e, "installed"), when),
                                         json_member_number(e, "size")
                                                 ? bytes_format(json_member_number(e, "size"), size)
                                                 : NULL,
                                         release ? release_word(state, release) : NULL });
        }
        if (r >= 0)
                table_print(t, f);
        return r;
}

static void print_plan_part(const cJSON *part, const char *title, FILE *f)
{
        const char *release = json_member_text(part, "release");
        char n[NUMBER_SIZE];

        fprintf(f, "  %s: %s", title, release ? release : "nothing yet");
        if (json_member_number(part, "deployment"))
                fprintf(f, ", deployment %s", number(json_member_number(part, "deployment"), n));
        fputc('\n', f);
}

static void print_changed_files(const cJSON *files, const char *list, const char *sign, FILE *f)
{
        size_t n = 0;
        const cJSON *name;

        cJSON_ArrayForEach(name, json_member(files, list))
        {
                if (n++ == PLAN_NAMES_SHOWN)
                        break;
                fprintf(f, "           %s %s\n", sign, strempty(cJSON_GetStringValue(name)));
        }
        if (n > PLAN_NAMES_SHOWN)
                fprintf(f, "           %s ... (all of them: --json)\n", sign);
}

static void print_plan_files(const cJSON *plan, FILE *f)
{
        const cJSON *files = json_member(plan, "files");
        const char *why = json_member_text(json_member(plan, "wanted"), "no_index");
        char written[BYTES_TEXT_SIZE];

        if (!why)
                why = json_member_text(json_member(plan, "live"), "no_index");
        if (!files) {
                if (why)
                        fprintf(f, "    files: not known, for want of an index: %s\n", why);
                return;
        }
        fprintf(f,
                "    files: %" PRIu64 " added, %" PRIu64 " changed, %" PRIu64 " removed, %" PRIu64
                " as they are; %s new content\n",
                json_member_number(files, "n_added"), json_member_number(files, "n_changed"),
                json_member_number(files, "n_removed"), json_member_number(files, "n_same"),
                bytes_format(json_member_number(files, "written_bytes"), written));
        print_changed_files(files, "added", "+", f);
        print_changed_files(files, "changed", "~", f);
        print_changed_files(files, "removed", "-", f);
}

static void print_travels(const cJSON *wanted, FILE *f)
{
        uint64_t bytes = json_member_number(wanted, "travels_bytes");
        uint64_t all_bytes = json_member_number(wanted, "artifact_bytes");
        char travels[BYTES_TEXT_SIZE], all[BYTES_TEXT_SIZE];

        if (bytes == 0)
                fprintf(f, "  travels: nothing, %s on this host\n",
                        json_member(wanted, "travels_ranges") ? "all its files are" : "it is");
        else if (bytes < all_bytes)
                fprintf(f, "  travels: %s of %s\n", bytes_format(bytes, travels),
                        bytes_format(all_bytes, all));
        else
                fprintf(f, "  travels: %s\n", bytes_format(bytes, travels));
}

void view_plan(const cJSON *plan, FILE *f)
{
        const cJSON *wanted = json_member(plan, "wanted"), *obstacle;

        fprintf(f, "%s: %s\n", strempty(json_member_text(plan, "app")),
                strempty(json_member_text(plan, "text")));
        cJSON_ArrayForEach(obstacle, json_member(plan, "obstacles"))
        {
                const char *text = json_member_text(obstacle, "text");

                if (text && !streq_ptr(text, json_member_text(plan, "text")))
                        fprintf(f, "  besides: %s\n", text);
        }
        print_plan_part(json_member(plan, "live"), "   live", f);
        if (!wanted)
                return;
        print_plan_part(wanted, "channel", f);
        print_travels(wanted, f);
        print_plan_files(plan, f);
}
