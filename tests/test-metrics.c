/* SPDX-License-Identifier: Apache-2.0 */
#include "metrics.h"

#include <stdio.h>

#include "json-read.h"
#include "test.h"

#define NOW 1795358700 /* 2026-11-22T14:45:00Z */

static char *written(const char *json, const MetricsContext *c)
{
        _cleanup_json_ cJSON *agent = NULL;
        char *text = NULL;
        size_t size;
        FILE *f = open_memstream(&text, &size);

        assert_non_null(f);
        if (json)
                assert_int_equal(json_parse(json, strlen(json), &agent, NULL), 0);
        metrics_write(agent, c, f);
        assert_int_equal(fclose(f), 0);
        return text;
}

/* The line is there, once. */
static void assert_line(const char *text, const char *line)
{
        _cleanup_free_ char *whole = NULL;
        const char *found;

        assert_true(asprintf(&whole, "\n%s\n", line) > 0);
        found = strstr(text, whole);
        if (!found)
                print_error("%s is not in:\n%s", line, text);
        assert_non_null(found);
        assert_null(strstr(found + 1, whole));
}

static void assert_lacks(const char *text, const char *part)
{
        if (strstr(text, part))
                print_error("%s is in:\n%s", part, text);
        assert_null(strstr(text, part));
}

static void test_down(void **state)
{
        MetricsContext c = { .now_sec = NOW, .clock_synchronized = -EPERM };
        _cleanup_free_ char *text = written(NULL, &c);

        (void) state;
        assert_string_equal(text,
                            "# HELP slipway_up 1 if slipwayd runs and answers.\n"
                            "# TYPE slipway_up gauge\n"
                            "slipway_up 0\n"
                            "# HELP slipway_metrics_timestamp_seconds When these metrics were "
                            "written.\n"
                            "# TYPE slipway_metrics_timestamp_seconds gauge\n"
                            "slipway_metrics_timestamp_seconds 1795358700\n");
}

static const char agent[] =
        "{ \"version\": \"0.1.0\", \"instance\": \"i-1\", \"store\": \"s3://x\", \"fetch\": "
        "\"running\","
        "  \"ssm\": { \"listening\": false, \"other_agent\": \"amazon-ssm-agent.service\" },"
        "  \"apps\": [ { \"root\": \"/srv/web\", \"due\": true, \"state\": {"
        "    \"app\": \"web\", \"channel\": \"prod\", \"phase\": \"baking\", \"current\": \"r2\","
        "    \"down\": false, \"deployment\": 2,"
        "    \"pending\": { \"release\": \"r3\", \"phase_since_ms\": 1795355000123 },"
        "    \"held\": { \"by\": \"root\", \"since\": \"2026-11-22T14:00:00Z\", \"until\": "
        "\"2026-11-22T16:00:00Z\" },"
        "    \"releases\": [ { \"release\": \"r1\", \"size\": 1000 },"
        "      { \"release\": \"r2\", \"deployment\": 2, \"serial\": 57, \"size\": 24,"
        "        \"installed\": \"2026-11-22T14:00:00Z\" } ],"
        "    \"history\": [ { \"at\": \"2026-11-22T14:00:02Z\", \"action\": \"deploy\", \"release\": "
        "\"r2\","
        "      \"result\": \"done\", \"took_ms\": 5312, \"phases_ms\": { \"fetching\": 1211, "
        "\"switching\": 9 } } ] },"
        "    \"poll\": { \"at\": \"2026-11-22T14:44:50Z\", \"ok\": true, \"verdict\": \"halted\","
        "      \"expires\": \"2026-12-22T14:00:00Z\", \"expires_soon\": true } },"
        "  { \"root\": \"/srv/api\", \"due\": false, \"state\": { \"app\": \"api\", \"channel\": "
        "\"prod\","
        "    \"phase\": \"idle\", \"down\": true, \"deployment\": 4,"
        "    \"failed\": { \"deployment\": 4 }, \"pinned\": {}, \"releases\": [], \"history\": [] },"
        "    \"poll\": { \"ok\": false, \"text\": \"\" } } ] }";

static void test_all(void **state)
{
        MetricsContext c = {
                .now_sec = NOW, .up = true, .clock_synchronized = 1, .trust_expires_sec = 12
        };
        static const char *const lines[] = {
                "slipway_up 1",
                "slipway_clock_synchronized 1",
                "slipway_trust_expiry_timestamp_seconds 12",
                "slipway_agent_info{version=\"0.1.0\",instance_id=\"i-1\"} 1",
                "slipway_fetch_up 1",
                "slipway_identity_known 1",
                "slipway_orders_listening 0",
                "slipway_orders_rival 1",
                "slipway_release_info{app=\"web\",channel=\"prod\",release=\"r2\",deployment=\"2\","
                "serial=\"57\"} 1",
                "slipway_release_live_timestamp_seconds{app=\"web\"} 1795356002",
                "slipway_releases{app=\"web\"} 2",
                "slipway_releases_bytes{app=\"web\"} 1024",
                "slipway_phase{app=\"web\",phase=\"baking\"} 1",
                "slipway_phase{app=\"web\",phase=\"idle\"} 0",
                "slipway_phase{app=\"api\",phase=\"idle\"} 1",
                "slipway_phase_started_timestamp_seconds{app=\"web\"} 1795355000",
                "slipway_deployment_due{app=\"web\"} 1",
                "slipway_deployment_failed{app=\"web\"} 0",
                "slipway_deployment_failed{app=\"api\"} 1",
                "slipway_down{app=\"api\"} 1",
                "slipway_held{app=\"web\"} 1",
                "slipway_held{app=\"api\"} 0",
                "slipway_pinned{app=\"api\"} 1",
                "slipway_staged{app=\"web\"} 0",
                "slipway_halted{app=\"web\"} 1",
                "slipway_poll_ok{app=\"web\"} 1",
                "slipway_manifest_expires_soon{app=\"web\"} 1",
                "slipway_verdict_info{app=\"web\",verdict=\"halted\"} 1",
                "slipway_last_change_info{app=\"web\",action=\"deploy\",result=\"done\",release="
                "\"r2\"} 1",
                "slipway_last_change_duration_seconds{app=\"web\"} 5.312",
                "slipway_last_change_phase_duration_seconds{app=\"web\",phase=\"switching\"} 0.009",
        };
        _cleanup_free_ char *text = written(agent, &c);

        (void) state;
        for (size_t i = 1; i < ELEMENTSOF(lines); i++)
                assert_line(text, lines[i]);
        /* nothing was polled, and nothing is live: no zero that would be a time */
        assert_lacks(text, "slipway_poll_timestamp_seconds{app=\"api\"}");
        assert_lacks(text, "slipway_poll_ok{app=\"api\"}");
        assert_lacks(text, "slipway_manifest_expires_soon{app=\"api\"}");
        assert_lacks(text, "slipway_release_info{app=\"api\"");
        assert_lacks(text, "slipway_phase_started_timestamp_seconds{app=\"api\"}");
        assert_lacks(text, " 0\nslipway_held_until");
}

static void test_hold_has_ended(void **state)
{
        MetricsContext c = { .now_sec = NOW + 86400, .up = true, .clock_synchronized = 0 };
        _cleanup_free_ char *text = written(agent, &c);

        (void) state;
        assert_line(text, "slipway_held{app=\"web\"} 0");
        assert_line(text, "slipway_clock_synchronized 0");
        assert_lacks(text, "slipway_held_until_timestamp_seconds");
        assert_lacks(text, "slipway_trust_expiry");
}

static void test_labels(void **state)
{
        MetricsContext c = { .now_sec = NOW, .up = true };
        _cleanup_free_ char *text = written(
                "{ \"version\": \"a\\\"b\\\\c\\nd} 1\\n# x\", \"instance\": \"\\u00e9\", "
                "\"apps\": [ { \"state\": { \"history\": [ { \"phases_ms\": { \"a\\\"\\n\": 1 "
                "} } ] } } ] }",
                &c);

        (void) state;
        assert_line(
                text,
                "slipway_agent_info{version=\"a\\\"b\\\\c\\nd} 1\\n# x\",instance_id=\"\u00e9\"} 1");
        assert_line(text, "slipway_last_change_phase_duration_seconds{phase=\"a\\\"\\n\"} 0.001");
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_down),
                cmocka_unit_test(test_all),
                cmocka_unit_test(test_hold_has_ended),
                cmocka_unit_test(test_labels),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
