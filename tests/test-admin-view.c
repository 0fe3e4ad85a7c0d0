/* SPDX-License-Identifier: Apache-2.0 */
#include "test.h"

#include <cJSON.h>

#include "admin-text.h"
#include "admin-view.h"
#include "json-read.h"
#include "table.h"
#include "time-text.h"

#define NOW "2026-11-22T18:00:00Z"

static ViewContext now(bool user)
{
        ViewContext c = { .user = user };

        assert_int_equal(time_parse_utc(NOW, &c.now_sec), 0);
        return c;
}

static const char *const live =
        "{\"version\":\"0.1.0\",\"instance\":\"i-1\",\"store\":\"s3://acme-deploy\",\"fetch\":"
        "\"running\",\"apps\":[{\"root\":\"/srv/web\",\"state\":{\"schema\":\"slipway/state/1\","
        "\"app\":\"web\",\"channel\":\"prod\",\"phase\":\"idle\",\"current\":\"r2\",\"last_good\":"
        "\"r2\",\"deployment\":42,\"releases\":[{\"release\":\"r1\",\"deployment\":41,\"serial\":"
        "56,\"installed\":\"2026-11-20T12:00:00Z\",\"activate\":{}},{\"release\":\"r2\","
        "\"deployment\":42,\"serial\":57,\"installed\":\"2026-11-22T15:00:00Z\",\"size\":431120384,\"activate\":{"
        "\"units\":[{\"name\":\"web.service\",\"action\":\"restart\"}]}}],\"history\":[{\"at\":"
        "\"2026-11-20T12:00:01Z\",\"action\":\"deploy\",\"release\":\"r1\",\"deployment\":41,"
        "\"result\":\"done\",\"by\":\"agent\",\"took_ms\":812},{\"at\":\"2026-11-22T15:00:05Z\","
        "\"action\":\"deploy\",\"release\":\"r2\",\"from\":\"r1\",\"deployment\":42,\"result\":"
        "\"done\",\"by\":\"agent\",\"took_ms\":5312,\"phases_ms\":{\"fetching\":1211,\"switching\":9,\"baking\":4000}}]},\"poll\":{\"at\":\"2026-11-22T17:59:56Z\","
        "\"next\":\"2026-11-22T18:00:11Z\",\"ok\":true,\"text\":\"deployment 42 is live (serial "
        "57)\",\"expires\":\"2026-12-22T14:00:00Z\"}}]}";

/* A document: `live` with members of its state replaced or added. */
static cJSON *document(const char *const *changes)
{
        cJSON *agent = NULL, *state;

        assert_int_equal(json_parse(live, strlen(live), &agent, NULL), 0);
        state = cJSON_GetObjectItem(cJSON_GetArrayItem(cJSON_GetObjectItem(agent, "apps"), 0),
                                    "state");
        for (; changes && changes[0]; changes += 2) {
                cJSON *value = cJSON_Parse(changes[1]);

                assert_non_null(value);
                cJSON_DeleteItemFromObject(state, changes[0]);
                assert_true(cJSON_AddItemToObject(state, changes[0], value));
        }
        return agent;
}

static cJSON *first_app(const cJSON *agent)
{
        return cJSON_GetArrayItem(cJSON_GetObjectItem(agent, "apps"), 0);
}

typedef enum View {
        OVERVIEW,
        APP,
        HISTORY,
        RELEASES,
} View;

static char *shown_to(View view, cJSON *agent, bool user)
{
        ViewContext c = now(user);
        char *text = NULL;
        size_t size;
        FILE *f = open_memstream(&text, &size);
        const cJSON *app = first_app(agent);
        int r = -1;

        assert_non_null(f);
        text_clean_json(agent);
        if (view == OVERVIEW)
                r = view_overview(agent, &c, f);
        else if (view == APP)
                r = view_app(agent, app, &c, f);
        else if (view == HISTORY)
                r = view_history(app, &c, f);
        else
                r = view_releases(app, &c, f);
        assert_int_equal(r, 0);
        assert_int_equal(fclose(f), 0);
        return text;
}

static char *shown(View view, cJSON *agent)
{
        return shown_to(view, agent, false);
}

static void check(View view, const char *const *changes, const char *expected)
{
        _cleanup_json_ cJSON *agent = document(changes);
        _cleanup_free_ char *text = shown(view, agent);

        assert_string_equal(text, expected);
}

static void test_overview(void **state)
{
        (void) state;
        check(OVERVIEW, NULL,
              "slipwayd 0.1.0 on i-1, store s3://acme-deploy\n"
              "\n"
              "APP  CHANNEL  LIVE  SINCE   DEPLOYMENT  STATE  LAST POLL\n"
              "web  prod     r2    2h ago  42          live   4s ago\n");
}

static void test_app(void **state)
{
        (void) state;
        check(APP, NULL,
              "slipwayd 0.1.0 on i-1, store s3://acme-deploy\n"
              "\n"
              "web, channel prod\n"
              "       live: r2 since 2026-11-22T15:00:05Z (2h ago), deployment 42\n"
              "      state: live\n"
              "    channel: deployment 42 is live (serial 57)\n"
              "  last poll: 4s ago; the next: in 11s\n"
              "    expires: in 29 days (2026-12-22T14:00:00Z)\n"
              "       root: /srv/web\n");
}

/* What stands after the first line about slipwayd. */
static void assert_trust_shown(View view, const char *trust, const char *lines)
{
        _cleanup_json_ cJSON *agent = document(NULL);
        _cleanup_free_ char *text = NULL;

        cJSON_AddItemToObject(agent, "trust", cJSON_Parse(trust));
        text = shown(view, agent);
        if (!strstr(text, lines))
                fail_msg("%s is not in %s", lines, text);
}

static void test_trust(void **state)
{
        (void) state;
        assert_trust_shown(OVERVIEW, "{\"version\":2,\"expires\":\"2026-12-23T18:00:01Z\"}",
                           "store s3://acme-deploy\n\nAPP");
        assert_trust_shown(OVERVIEW, "{\"version\":2,\"expires\":\"2026-12-02T18:00:00Z\"}",
                           "store s3://acme-deploy\nthe trust root (version 2) expires in 10 days: "
                           "slipway-publish trust edit --expires\n\nAPP");
        assert_trust_shown(OVERVIEW, "{\"version\":2,\"expires\":\"2026-11-22T18:00:00Z\"}",
                           "and nothing new is deployed: slipway-publish trust edit --expires\n\n");
        assert_trust_shown(
                OVERVIEW,
                "{\"version\":2,\"expires\":\"2036-11-22T14:00:00Z\",\"trouble\":\"a text\"}",
                "store s3://acme-deploy\na text\n\nAPP");
        assert_trust_shown(APP, "{\"version\":2,\"expires\":\"2026-12-23T18:00:01Z\"}",
                           "\n trust root: version 2, expires in 31 days (2026-12-23T18:00:01Z)\n");
}

static void assert_ssm_shown(const char *ssm, const char *lines)
{
        _cleanup_json_ cJSON *agent = document(NULL);
        cJSON *value = cJSON_Parse(ssm);
        _cleanup_free_ char *text = NULL, *wanted = NULL;

        assert_non_null(value);
        assert_true(cJSON_AddItemToObject(agent, "ssm", value));
        text = shown(OVERVIEW, agent);
        assert_true(asprintf(&wanted, "store s3://acme-deploy\n%s\nAPP", lines) > 0);
        if (!strstr(text, wanted))
                fail_msg("\"%s\", wanted \"%s\"", text, wanted);
}

static void test_ssm(void **state)
{
        (void) state;
        assert_ssm_shown("{\"channel\":\"ec2messages\",\"listening\":true,\"orders\":[]}",
                         "orders can come through AWS Systems Manager, by ec2messages\n");
        assert_ssm_shown("{\"channel\":\"auto\",\"listening\":false,\"orders\":[]}",
                         "no orders can come through AWS Systems Manager yet\n");
        assert_ssm_shown("{\"channel\":\"auto\",\"listening\":false,\"trouble\":\"refused\","
                         "\"other_agent\":\"amazon-ssm-agent.service\",\"orders\":["
                         "{\"command\":\"0-1\",\"action\":\"deploy\",\"app\":\"web\",\"release\":"
                         "\"r2\",\"at\":\"2026-11-22T17:57:00Z\",\"result\":\"done\"},"
                         "{\"command\":\"0-2\",\"action\":\"poll\",\"result\":\"failed\"}]}",
                         "no orders can come through AWS Systems Manager: refused\n"
                         "  amazon-ssm-agent.service runs here too, and they may go to it instead: "
                         "systemctl disable --now amazon-ssm-agent.service\n"
                         "  the last order: deploy web r2, done, 3min ago (0-1)\n");
}

static void test_held(void **state)
{
        (void) state;
        check(OVERVIEW,
              (const char *[]){ "held",
                                "{\"by\":\"ann\",\"since\":\"2026-11-22T17:00:00Z\",\"until\":"
                                "\"2026-11-22T20:00:00Z\",\"reason\":\"the fair\"}",
                                NULL },
              "slipwayd 0.1.0 on i-1, store s3://acme-deploy\n"
              "\n"
              "APP  CHANNEL  LIVE  SINCE   DEPLOYMENT  STATE  LAST POLL\n"
              "web  prod     r2    2h ago  42          held   4s ago\n"
              "\n"
              "web: nothing is deployed: held by ann 60min ago: the fair\n"
              "  That ends at 2026-11-22T20:00:00Z (in 2h), or now: slipway resume web\n");
        /* One that has ended is none. */
        check(OVERVIEW,
              (const char *[]){ "held",
                                "{\"by\":\"ann\",\"since\":\"2026-11-22T17:00:00Z\",\"until\":"
                                "\"2026-11-22T18:00:00Z\"}",
                                NULL },
              "slipwayd 0.1.0 on i-1, store s3://acme-deploy\n"
              "\n"
              "APP  CHANNEL  LIVE  SINCE   DEPLOYMENT  STATE  LAST POLL\n"
              "web  prod     r2    2h ago  42          live   4s ago\n");
}

static void test_plan(void **state)
{
        static const char text[] =
                "{\"app\":\"web\",\"verdict\":\"pinned\",\"text\":\"deployment 43 is held "
                "off\",\"obstacles\":[{\"verdict\":\"pinned\",\"text\":\"deployment 43 is held "
                "off\"},{\"verdict\":\"held\",\"text\":\"ann holds it\"}],\"live\":{\"release\":\"r2\","
                "\"deployment\":42},\"wanted\":{\"release\":\"r3\",\"deployment\":43,"
                "\"travels_bytes\":90729236},\"files\":{\"n_same\":10,\"n_added\":1,\"n_changed\":0,"
                "\"n_removed\":0,\"written_bytes\":12,\"added\":[\"lib/new\"],\"changed\":[],"
                "\"removed\":[]}}";
        _cleanup_json_ cJSON *plan = NULL;
        _cleanup_free_ char *out = NULL;
        size_t size;
        FILE *f = open_memstream(&out, &size);

        (void) state;
        assert_int_equal(json_parse(text, strlen(text), &plan, NULL), 0);
        view_plan(plan, f);
        cJSON_DeleteItemFromObject(plan, "files");
        cJSON_AddNumberToObject(cJSON_GetObjectItem(plan, "wanted"), "artifact_bytes", 200729236);
        cJSON_DeleteItemFromObject(plan, "obstacles");
        assert_non_null(cJSON_AddStringToObject(cJSON_GetObjectItem(plan, "wanted"), "no_index",
                                                "the store is down"));
        view_plan(plan, f);
        cJSON *wanted = cJSON_GetObjectItem(plan, "wanted");
        cJSON_SetNumberValue(cJSON_GetObjectItem(wanted, "travels_bytes"), 0);
        view_plan(plan, f);
        cJSON_AddNumberToObject(wanted, "travels_ranges", 0);
        view_plan(plan, f);
        assert_int_equal(fclose(f), 0);
        assert_string_equal(out, "web: deployment 43 is held off\n"
                                 "  besides: ann holds it\n"
                                 "     live: r2, deployment 42\n"
                                 "  channel: r3, deployment 43\n"
                                 "  travels: 90.7 MB\n"
                                 "    files: 1 added, 0 changed, 0 removed, 10 as they are; 12 B "
                                 "new content\n"
                                 "           + lib/new\n"
                                 "web: deployment 43 is held off\n"
                                 "     live: r2, deployment 42\n"
                                 "  channel: r3, deployment 43\n"
                                 "  travels: 90.7 MB of 200.7 MB\n"
                                 "    files: not known, for want of an index: the store is down\n"
                                 "web: deployment 43 is held off\n"
                                 "     live: r2, deployment 42\n"
                                 "  channel: r3, deployment 43\n"
                                 "  travels: nothing, it is on this host\n"
                                 "    files: not known, for want of an index: the store is down\n"
                                 "web: deployment 43 is held off\n"
                                 "     live: r2, deployment 42\n"
                                 "  channel: r3, deployment 43\n"
                                 "  travels: nothing, all its files are on this host\n"
                                 "    files: not known, for want of an index: the store is down\n");
}

static void test_pinned(void **state)
{
        (void) state;
        check(OVERVIEW,
              (const char *[]){ "current", "\"r1\"", "pinned",
                                "{\"release\":\"r1\",\"deployment\":42,\"by\":\"ann\",\"since\":"
                                "\"2026-11-22T17:00:00Z\"}",
                                NULL },
              "slipwayd 0.1.0 on i-1, store s3://acme-deploy\n"
              "\n"
              "APP  CHANNEL  LIVE  SINCE       DEPLOYMENT  STATE   LAST POLL\n"
              "web  prod     r1    2 days ago  41          pinned  4s ago\n"
              "\n"
              "web: rolled back by hand to r1 by ann, 60min ago\n"
              "  The channel's deployment 42 isn't installed until the channel makes a new "
              "deployment, or you say: slipway resume web\n");
}

static void test_confirming(void **state)
{
        (void) state;
        check(OVERVIEW,
              (const char *[]){ "phase", "\"confirming\"", "pending",
                                "{\"release\":\"r3\",\"from\":\"r2\",\"action\":\"deploy\","
                                "\"confirm_until_ms\":1795370700000}",
                                NULL },
              "slipwayd 0.1.0 on i-1, store s3://acme-deploy\n"
              "\n"
              "APP  CHANNEL  LIVE  SINCE   DEPLOYMENT  STATE       LAST POLL\n"
              "web  prod     r2    2h ago  42          confirming  4s ago\n"
              "\n"
              "web: a deployment to r3 from r2 is under way: confirming\n"
              "  It is taken back (in 5min), unless you say: slipway confirm web\n");
}

static void test_failed(void **state)
{
        (void) state;
        check(OVERVIEW,
              (const char *[]){ "deployment", "43", "failed",
                                "{\"release\":\"r3\",\"deployment\":43,\"reason\":\"web.service "
                                "did not start\",\"at\":\"2026-11-22T17:59:00Z\"}",
                                NULL },
              "slipwayd 0.1.0 on i-1, store s3://acme-deploy\n"
              "\n"
              "APP  CHANNEL  LIVE  SINCE   DEPLOYMENT  STATE   LAST POLL\n"
              "web  prod     r2    2h ago  42          failed  4s ago\n"
              "\n"
              "web: deployment 43 (release r3) failed 60s ago: web.service did not start\n"
              "  Live is r2. It isn't tried again here: publish a better release, or, when the "
              "cause was this host: slipway resume web\n"
              "  What happened: journalctl -u slipwayd -u web.service\n");
}

/* Hints can be pasted: with --user they say so. */
#define OVERVIEW_LIVE                                                \
        "slipwayd 0.1.0 on i-1, store s3://acme-deploy\n"            \
        "\n"                                                         \
        "APP  CHANNEL  LIVE  SINCE   DEPLOYMENT  STATE  LAST POLL\n" \
        "web  prod     r2    2h ago  42          live   4s ago\n"    \
        "\n"

static void test_hooks(void **state)
{
        (void) state;
        check(OVERVIEW,
              (const char *[]){ "hooks",
                                "{\"pre\":{\"release\":\"r3\",\"ok\":true,\"output\":[\"fine\"]},"
                                "\"post\":{\"release\":\"r3\",\"ok\":false,\"text\":"
                                "\"bin/b ended with exit status 3\",\"output\":[\"one\",\"two\"]}}",
                                NULL },
              OVERVIEW_LIVE "web: post hook of release r3: bin/b ended with exit status 3\n"
                            "    | one\n"
                            "    | two\n");
}

/* The poll's text says why and until when. */
static void test_put_off(void **state)
{
        (void) state;
        check(OVERVIEW,
              (const char *[]){ "history",
                                "[{\"at\":\"2026-11-22T15:00:05Z\",\"action\":\"deploy\","
                                "\"release\":\"r2\",\"deployment\":42,\"result\":\"done\"},"
                                "{\"at\":\"2026-11-22T17:00:00Z\",\"action\":\"deploy\","
                                "\"release\":\"r3\",\"deployment\":43,\"result\":\"deferred\"}]",
                                NULL },
              OVERVIEW_LIVE "web: deployment 42 is live (serial 57)\n");
}

static void test_hints_for_user(void **state)
{
        _cleanup_json_ cJSON *agent = document(
                (const char *[]){ "deployment", "43", "failed",
                                  "{\"release\":\"r3\",\"deployment\":43,\"reason\":\"x\"}",
                                  "pinned", "{\"release\":\"r1\",\"deployment\":43}", NULL });
        _cleanup_free_ char *text = shown_to(OVERVIEW, agent, true);

        (void) state;
        assert_non_null(strstr(text, "say: slipway --user resume web\n"));
        assert_non_null(strstr(text, "host: slipway --user resume web\n"));
        assert_non_null(strstr(text, "journalctl --user -u slipwayd -u web.service\n"));
}

/* An older failure is no news any more. */
static void test_failed_before(void **state)
{
        _cleanup_json_ cJSON *agent =
                document((const char *[]){ "failed",
                                           "{\"release\":\"r0\",\"deployment\":40,\"reason\":\"x\","
                                           "\"at\":\"2026-11-19T00:00:00Z\"}",
                                           NULL });
        _cleanup_free_ char *text = shown(OVERVIEW, agent);

        (void) state;
        assert_null(strstr(text, "failed"));
}

static void test_pending(void **state)
{
        _cleanup_json_ cJSON *agent =
                document((const char *[]){ "phase", "\"baking\"", "pending",
                                           "{\"release\":\"r3\",\"deployment\":43,\"from\":\"r2\","
                                           "\"action\":\"deploy\"}",
                                           NULL });
        _cleanup_free_ char *text = shown(OVERVIEW, agent);

        (void) state;
        assert_non_null(strstr(text, "baking  4s ago\n"));
        assert_non_null(strstr(text, "web: a deployment to r3 from r2 is under way: baking\n"));
}

static void test_poll_failed(void **state)
{
        _cleanup_json_ cJSON *agent = document(NULL);
        cJSON *poll = cJSON_GetObjectItem(first_app(agent), "poll");
        _cleanup_free_ char *text = NULL;

        (void) state;
        cJSON_ReplaceItemInObject(poll, "ok", cJSON_CreateFalse());
        cJSON_ReplaceItemInObject(poll, "text", cJSON_CreateString("the store refused us"));
        cJSON_ReplaceItemInObject(poll, "expires", cJSON_CreateString("2026-11-20T18:00:00Z"));
        text = shown(OVERVIEW, agent);
        assert_non_null(strstr(text, "4s ago, failed\n"));
        assert_non_null(strstr(text, "web: the last poll failed 4s ago: the store refused us\n"
                                     "  The running release is not touched. The next try: in 11s\n"
                                     "the channel's manifest expired 2 days ago: what is live runs "
                                     "on, and nothing is deployed until"));
}

static void test_expires_soon(void **state)
{
        static const char note[] = "web: the channel's manifest expires in 29 days, and nothing is "
                                   "deployed from then on: slipway-publish refresh\n";
        _cleanup_json_ cJSON *agent = document(NULL);
        cJSON *poll = cJSON_GetObjectItem(first_app(agent), "poll");
        _cleanup_free_ char *soon = NULL, *later = NULL;

        (void) state;
        /* How soon that is the agent says, which knows the manifest. */
        cJSON_AddFalseToObject(poll, "expires_soon");
        later = shown(OVERVIEW, agent);
        assert_null(strstr(later, "expires in"));
        cJSON_ReplaceItemInObject(poll, "expires_soon", cJSON_CreateTrue());
        soon = shown(OVERVIEW, agent);
        assert_non_null(strstr(soon, note));
}

static void test_progress(void **state)
{
        static const char text[] =
                "{\"apps\":[{\"state\":{\"app\":\"web\",\"phase\":\"fetching\",\"current\":\"r1\","
                "\"pending\":{\"release\":\"r2\",\"action\":\"deploy\"}},\"available_bytes\":500000,"
                "\"artifact_bytes\":1000000},{\"state\":{\"app\":\"db\",\"phase\":\"idle\",\"deployment\":"
                "3,\"current\":\"r7\",\"failed\":{\"release\":\"r8\",\"deployment\":3}}}]}";
        _cleanup_json_ cJSON *agent = NULL;
        _cleanup_free_ char *out = NULL, *lines = NULL;
        size_t size;
        FILE *f = open_memstream(&lines, &size);

        (void) state;
        assert_int_equal(json_parse(text, strlen(text), &agent, NULL), 0);
        out = shown(OVERVIEW, agent);
        assert_non_null(strstr(out, "\n  fetched  50% [####"));
        assert_non_null(strstr(out, "] 500.0 kB/1.0 MB\n"));
        view_lines(agent, NULL, 1795370400, f);
        view_lines(agent, "db", 1795370400, f);
        assert_int_equal(fclose(f), 0);
        assert_string_equal(lines, "web: fetching r2, 50%; live is r1\n"
                                   "db: failed; live is r7; r8 failed\n"
                                   "db: failed; live is r7; r8 failed\n");
}

/* Nothing deployed yet, and slipwayd not asked. */
static void test_nothing_yet(void **state)
{
        static const char text[] = "{\"apps\":[{\"root\":\"/srv/web\",\"state\":{\"app\":\"web\","
                                   "\"channel\":\"prod\",\"phase\":\"idle\"}}]}";
        _cleanup_json_ cJSON *agent = NULL;
        _cleanup_free_ char *out = NULL, *history = NULL;

        (void) state;
        assert_int_equal(json_parse(text, strlen(text), &agent, NULL), 0);
        out = shown(OVERVIEW, agent);
        assert_string_equal(out, "APP  CHANNEL  LIVE  SINCE  DEPLOYMENT  STATE        LAST POLL\n"
                                 "web  prod     -     -      -           nothing yet  -\n");
        history = shown(HISTORY, agent);
        assert_string_equal(history, "");
}

static void test_history(void **state)
{
        (void) state;
        check(HISTORY, NULL,
              "WHEN        ACTION  RELEASE  FROM  DEPLOYMENT  RESULT  TOOK  PHASES                      BY     REASON\n"
              "2h ago      deploy  r2       r1    42          done    5.3s  fetching 1.2s, baking 4.0s  agent  -\n"
              "2 days ago  deploy  r1       -     41          done    0.8s  -                           agent  -\n");
}

static void test_releases(void **state)
{
        (void) state;
        check(RELEASES, NULL,
              "RELEASE  DEPLOYMENT  INSTALLED   SIZE      STATE\n"
              "r2       42          3h ago      431.1 MB  live\n"
              "r1       41          2 days ago  -         -\n");
}

static bool is_printable(const char *s)
{
        for (; *s; s++)
                if (((unsigned char) *s < ' ' && *s != '\n' && *s != '\t') || *s == 0x7f)
                        return false;
        return true;
}

/* What a manifest's author or a broken unit writes must not steer the terminal. */
static void test_control_characters(void **state)
{
        static const char *const bad = "\"a\\u001b[2Jb\\u009bc\\u202ed\\u007fe\\nf\"";
        _cleanup_free_ char *failed = NULL, *json = NULL;

        (void) state;
        assert_true(asprintf(&failed, "{\"release\":%s,\"deployment\":43,\"reason\":%s,\"at\":%s}",
                             bad, bad, bad) > 0);
        for (View v = OVERVIEW; v <= RELEASES; v++) {
                _cleanup_json_ cJSON *agent =
                        document((const char *[]){ "deployment", "43", "current", bad, "channel",
                                                   bad, "failed", failed, NULL });
                _cleanup_free_ char *text = shown(v, agent);

                assert_true(is_printable(text));
                assert_null(strstr(text, "\xc2\x9b"));
                assert_null(strstr(text, "\xe2\x80\xae"));
                if (v == OVERVIEW)
                        assert_non_null(strstr(text, "a?[2Jb?c?d?e?f"));
        }
        {
                _cleanup_json_ cJSON *agent = document((const char *[]){ "failed", failed, NULL });
                _cleanup_json_ cJSON *again = NULL;

                assert_int_equal(text_format_json(agent, &json), 0);
                assert_true(is_printable(json));
                assert_non_null(strstr(json, "a\\u001b[2Jb\\u009bc\\u202ed\\u007fe\\nf"));
                assert_int_equal(json_parse(json, strlen(json), &again, NULL), 0);
                assert_true(cJSON_Compare(agent, again, true));
        }
}

static void test_clean(void **state)
{
        static const char *const cases[][2] = {
                {"",                                     ""                                   },
                { "plain",                               "plain"                              },
                { "Gr\xc3\xbc\xc3\x9f"
                  "e \xf0\x9f\x9a\xa2", "Gr\xc3\xbc\xc3\x9f"
                  "e \xf0\x9f\x9a\xa2"},
                { "\x1b]0;x\a",                          "?]0;x?"                             },
                { "\xff\xfe",                            "??"                                 },
                { "\xc0\xaf",                            "??"                                 }, /* overlong */
                { "\xed\xa0\x80",                        "???"                                }, /* a surrogate */
                { "\xf4\x90\x80\x80",                    "????"                               }, /* above U+10FFFF */
                { "end\xe2\x80",                         "end??"                              }, /* cut off */
                { "\xe2\x80\xa8"
                  "x",                  "?x"                                 }, /* line separator */
        };

        (void) state;
        for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
                _cleanup_free_ char *s = strdup(cases[i][0]);

                assert_non_null(s);
                assert_string_equal(text_clean(s), cases[i][1]);
        }
}

static void test_time_ago(void **state)
{
        static const struct {
                int64_t then;
                const char *text;
        } cases[] = {
                {0,        "now"       },
                { -4,      "4s ago"    },
                { -119,    "119s ago"  },
                { -120,    "2min ago"  },
                { -7199,   "119min ago"},
                { -7200,   "2h ago"    },
                { -172799, "47h ago"   },
                { -172800, "2 days ago"},
                { 11,      "in 11s"    },
                { 3600,    "in 60min"  },
        };
        char buffer[TIME_AGO_SIZE];

        (void) state;
        for (size_t i = 0; i < ELEMENTSOF(cases); i++)
                assert_string_equal(time_ago(1000000, (uint64_t) (1000000 + cases[i].then), buffer),
                                    cases[i].text);
        assert_string_equal(time_ago(UINT64_MAX, 1, buffer), "213503982334601 days ago");
}

/* Columns are as wide as their widest cell, in characters. */
static void test_table(void **state)
{
        _cleanup_(table_freep) Table *t = NULL;
        _cleanup_free_ char *text = NULL;
        size_t size;
        FILE *f = open_memstream(&text, &size);

        (void) state;
        assert_non_null(f);
        assert_int_equal(table_new((const char *const[]){ "A", "B", NULL }, &t), 0);
        table_print(t, f);
        assert_int_equal(ftell(f), 0);
        assert_int_equal(table_add(t, (const char *[]){ "\xc3\xbc\xc3\xbc\xc3\xbc", "x" }), 0);
        assert_int_equal(table_add(t, (const char *[]){ NULL, "" }), 0);
        table_print(t, f);
        assert_int_equal(fclose(f), 0);
        assert_string_equal(text, "A    B\n\xc3\xbc\xc3\xbc\xc3\xbc  x\n-    -\n");
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_ssm),           cmocka_unit_test(test_held),
                cmocka_unit_test(test_plan),          cmocka_unit_test(test_progress),
                cmocka_unit_test(test_overview),      cmocka_unit_test(test_app),
                cmocka_unit_test(test_pinned),        cmocka_unit_test(test_confirming),
                cmocka_unit_test(test_failed),        cmocka_unit_test(test_hints_for_user),
                cmocka_unit_test(test_failed_before), cmocka_unit_test(test_pending),
                cmocka_unit_test(test_poll_failed),   cmocka_unit_test(test_expires_soon),
                cmocka_unit_test(test_nothing_yet),   cmocka_unit_test(test_history),
                cmocka_unit_test(test_releases),      cmocka_unit_test(test_control_characters),
                cmocka_unit_test(test_clean),         cmocka_unit_test(test_time_ago),
                cmocka_unit_test(test_hooks),         cmocka_unit_test(test_put_off),
                cmocka_unit_test(test_table),         cmocka_unit_test(test_trust),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
