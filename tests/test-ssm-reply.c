/* SPDX-License-Identifier: Apache-2.0 */
#include "test.h"

#include <cJSON.h>

#include "build-config.h"
#include "ssm-reply.h"
#include "utf8.h"

#define BEGAN 1795356349607 /* 2026-11-22T14:05:49.607Z */
#define ENDED 1795356349632
#define NOW   1795356349633
#define AGENT                                                                                  \
        "\"agent\":{\"lang\":\"en-US\",\"name\":\"slipway\",\"os\":\"linux\",\"osver\":\"1\"," \
        "\"ver\":\"" SLIPWAY_VERSION                                                           \
        "\"},\"dateTime\":\"2026-11-22T14:05:49.633Z\",\"runId\":\"\","

static const SsmStep step = { (char *) "slipway", (char *) "aws:runShellScript" };

static char *build(const SsmReplyInput *input)
{
        char *text = NULL;

        assert_int_equal(ssm_reply_build(input, &text), 0);
        assert_true(strlen(text) <= SSM_REPLY_MAX);
        return text;
}

/* One step that ended. */
static char *build_one(SsmStatus status, const char *output, const char *error)
{
        const SsmResult result = { .step = &step,
                                   .status = status,
                                   .output = output,
                                   .error = error,
                                   .began_msec = BEGAN,
                                   .ended_msec = ENDED };

        return build(&(SsmReplyInput){
                .status = status, .results = &result, .n_results = 1, .now_msec = NOW });
}

/* As amazon-ssm-agent 3.3 sends it (but for the agent's name), to the letter. */
static void the_receipt(void **state)
{
        _cleanup_free_ char *text = build(&(SsmReplyInput){ .now_msec = NOW });
        _cleanup_free_ char *gateway = build(&(SsmReplyInput){ .now_msec = NOW, .gateway = true });

        (void) state;
        assert_string_equal(text, "{\"additionalInfo\":{" AGENT "\"runtimeStatusCounts\":null,"
                                  "\"ableToOpenMGSConnection\":false},"
                                  "\"documentStatus\":\"InProgress\",\"documentTraceOutput\":\"\","
                                  "\"runtimeStatus\":null}");
        assert_string_equal(gateway, "{\"additionalInfo\":{" AGENT "\"runtimeStatusCounts\":null},"
                                     "\"documentStatus\":\"InProgress\","
                                     "\"documentTraceOutput\":\"\",\"runtimeStatus\":null}");
}

static void a_result(void **state)
{
        _cleanup_free_ char *text = build_one(SSM_SUCCESS, "HELLO\n", NULL);

        (void) state;
        assert_string_equal(
                text,
                "{\"additionalInfo\":{" AGENT "\"runtimeStatusCounts\":{\"Success\":1},"
                "\"ableToOpenMGSConnection\":false},\"documentStatus\":\"Success\","
                "\"documentTraceOutput\":\"\",\"runtimeStatus\":{\"slipway\":{"
                "\"status\":\"Success\",\"code\":0,\"name\":\"aws:runShellScript\","
                "\"output\":\"HELLO\\n\",\"startDateTime\":\"2026-11-22T14:05:49.607Z\","
                "\"endDateTime\":\"2026-11-22T14:05:49.632Z\",\"outputS3BucketName\":\"\","
                "\"outputS3KeyPrefix\":\"\",\"stepName\":\"\",\"standardOutput\":\"HELLO\\n\","
                "\"standardError\":\"\"}}}");
}

static void what_goes_on_is_told_as_of_now(void **state)
{
        const SsmResult result = { .step = &step, .output = "fetching", .began_msec = BEGAN };
        _cleanup_free_ char *text = build(
                &(SsmReplyInput){ .results = &result, .n_results = 1, .now_msec = NOW + 1000 });

        (void) state;
        assert_non_null(strstr(text, "\"documentStatus\":\"InProgress\""));
        assert_non_null(strstr(text, "\"runtimeStatusCounts\":{\"InProgress\":1}"));
        assert_non_null(strstr(text, "\"status\":\"InProgress\",\"code\":0,"));
        assert_non_null(strstr(text, "\"startDateTime\":\"2026-11-22T14:05:49.607Z\""));
        assert_non_null(strstr(text, "\"endDateTime\":\"2026-11-22T14:05:50.633Z\""));
}

static void failures_have_codes(void **state)
{
        static const struct {
                SsmStatus status;
                const char *status_text;
                int code;
        } cases[] = {
                {SSM_SUCCESS,    "Success",   0  },
                { SSM_FAILED,    "Failed",    1  },
                { SSM_CANCELLED, "Cancelled", 137},
        };

        (void) state;
        for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
                _cleanup_free_ char *text = build_one(cases[i].status, NULL, "why"), *wanted = NULL;

                err_set(&wanted, "\"status\":\"%s\",\"code\":%d,", cases[i].status_text,
                        cases[i].code);
                assert_non_null(strstr(text, wanted));
                free(wanted);
                wanted = NULL;
                err_set(&wanted, "\"documentStatus\":\"%s\"", cases[i].status_text);
                assert_non_null(strstr(text, wanted));
                assert_non_null(strstr(text, "\"output\":\"\\n----------ERROR-------\\nwhy\""));
        }
}

static void a_document_fails_as_a_whole(void **state)
{
        _cleanup_free_ char *text = build(&(SsmReplyInput){
                .status = SSM_FAILED, .trace = "no \"such\" document", .now_msec = NOW });

        (void) state;
        assert_non_null(strstr(text, "\"runtimeStatusCounts\":{},"));
        assert_non_null(strstr(text, "\"documentStatus\":\"Failed\",\"documentTraceOutput\":"
                                     "\"no \\\"such\\\" document\",\"runtimeStatus\":{}}"));
}

/* A text of n times `unit`. */
static char *repeat(const char *unit, size_t n)
{
        size_t size = strlen(unit);
        char *text = malloc(size * n + 1), *p = text;

        assert_non_null(text);
        *text = '\0';
        while (n-- > 0)
                p = stpcpy(p, unit);
        return text;
}

static cJSON *parse(const char *text)
{
        cJSON *o = cJSON_Parse(text);

        assert_non_null(o);
        return o;
}

static const char *member(const cJSON *o, const char *name)
{
        const cJSON *status = cJSON_GetObjectItem(o, "runtimeStatus");
        const char *s = cJSON_GetStringValue(cJSON_GetObjectItem(status->child, name));

        assert_non_null(s);
        return s;
}

static void assert_ends(const char *text, const char *end)
{
        assert_true(strlen(text) >= strlen(end));
        assert_string_equal(text + strlen(text) - strlen(end), end);
}

static void assert_utf8(const char *s)
{
        size_t left = strlen(s), size;

        for (; left > 0; s += size, left -= size) {
                size = utf8_sequence_size((const unsigned char *) s, left);
                assert_true(size > 0);
        }
}

static void streams_are_cut_at_24000_bytes(void **state)
{
        static const struct {
                const char *unit;
                size_t n, size; /* size 0: cut */
        } cases[] = {
                {"x",                  24000,   24000},
                { "x",                 24001,   0    },
                { "x",                 1000000, 0    },
                { "\xc3\xa4",          12000,   24000},
                { "\xc3\xa4",          12001,   0    },
                { "\xe2\x82\xac",      8000,    24000},
                { "\xe2\x82\xac",      8001,    0    },
                { "x\xf0\x9f\x9a\x80", 4800,    24000},
                { "x\xf0\x9f\x9a\x80", 4801,    0    },
        };

        (void) state;
        for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
                _cleanup_free_ char *much = repeat(cases[i].unit, cases[i].n);
                _cleanup_free_ char *text = build_one(SSM_FAILED, much, much);
                static const char *const names[] = { "standardOutput", "standardError" };
                cJSON *o = parse(text);

                for (size_t k = 0; k < ELEMENTSOF(names); k++) {
                        const char *s = member(o, names[k]);

                        assert_utf8(s);
                        if (cases[i].size > 0)
                                assert_string_equal(s, much);
                        else {
                                assert_in_range(strlen(s), 24000 - 3, 24000);
                                assert_ends(s, "\n--output truncated--");
                        }
                }
                assert_in_range(strlen(member(o, "output")), 2500 - 6, 2500);
                cJSON_Delete(o);
        }
}

static void the_summary_has_both(void **state)
{
        static const struct {
                size_t output, error;
                bool cut_output, cut_error;
        } cases[] = {
                {2500,   0,    false, false},
                { 2501,  0,    true,  false},
                { 0,     2476, false, false},
                { 0,     2477, false, true },
                { 100,   2376, false, false},
                { 100,   2377, false, true },
                { 2376,  100,  false, false},
                { 2377,  100,  true,  false},
                { 1238,  1238, false, false},
                { 1239,  1238, true,  false},
                { 1238,  1239, false, true },
                { 1239,  1239, true,  true },
                { 24000, 9,    true,  false},
        };

        (void) state;
        for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
                _cleanup_free_ char *output = repeat("o", cases[i].output),
                                    *error = repeat("e", cases[i].error);
                _cleanup_free_ char *text = build_one(SSM_FAILED, output, error);
                cJSON *o = parse(text);
                const char *s = member(o, "output");

                assert_true(strlen(s) <= 2500);
                if (cases[i].cut_output || cases[i].cut_error)
                        assert_true(strlen(s) == 2500);
                assert_int_equal(!!strstr(s, "o\n---Output truncated---"), cases[i].cut_output);
                assert_int_equal(!!strstr(s, "e\n---Error truncated----"), cases[i].cut_error);
                assert_int_equal(!!strstr(s, "\n----------ERROR-------\n"), cases[i].error > 0);
                cJSON_Delete(o);
        }
}

static void what_is_no_text_is_replaced(void **state)
{
#define R "\xef\xbf\xbd"
        static const struct {
                const char *in, *out;
        } cases[] = {
                {"a\xff"
                  "b",  "a" R "b"        },
                { "\xc3",                R                },
                { "\xe2\x82",            R R              },
                { "\xc0\xaf",            R R              },
                { "\xed\xa0\x80",        R R R            },
                { "a\x1b[2J\r\x7f",      "a" R "[2J" R R  },
                { "\xc2\x9b"
                  "2J", R "2J"           },
                { "a\tb\nc\xc3\xa4",     "a\tb\nc\xc3\xa4"},
                { "%s%n \"\\</",         "%s%n \"\\</"    },
        };

        (void) state;
        for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
                _cleanup_free_ char *text = build_one(SSM_FAILED, cases[i].in, NULL);
                cJSON *o = parse(text);

                assert_string_equal(member(o, "standardOutput"), cases[i].out);
                assert_string_equal(member(o, "output"), cases[i].out);
                cJSON_Delete(o);
        }
}

/* What grows in JSON, and most of all. */
static const char *const worst[] = { "\x01", "\"", "\n", "\\", "\xff", "\xf0\x9f\x9a\x80", "x" };

static void a_reply_fits_the_gateway(void **state)
{
        (void) state;
        for (size_t i = 0; i < ELEMENTSOF(worst); i++) {
                _cleanup_free_ char *much = repeat(worst[i], 100000);
                const SsmResult result = { .step = &step, .output = much, .error = much };
                _cleanup_free_ char *text = build(&(SsmReplyInput){
                        .trace = much, .results = &result, .n_results = 1, .now_msec = NOW });
                cJSON *o = parse(text);
                const char *trace =
                        cJSON_GetStringValue(cJSON_GetObjectItem(o, "documentTraceOutput"));

                assert_in_range(strlen(trace), 2500 - 3, 2500);
                assert_ends(trace, "---Output truncated---");
                cJSON_Delete(o);
        }
}

static void many_results_share_the_room(void **state)
{
        _cleanup_free_ char *name = repeat("\"", SSM_STEP_NAME_MAX - 1);
        SsmStep steps[SSM_STEPS_MAX];
        SsmResult results[SSM_STEPS_MAX + 1];

        (void) state;
        for (size_t i = 0; i < ELEMENTSOF(worst); i++)
                for (size_t n = 2; n <= SSM_STEPS_MAX; n++) {
                        _cleanup_free_ char *much = repeat(worst[i], 30000);

                        for (size_t k = 0; k < n; k++) {
                                steps[k] = (SsmStep){ NULL, name };
                                assert_true(asprintf(&steps[k].name, "%c%s", 'A' + (int) k, name) >
                                            0);
                                results[k] = (SsmResult){ .step = &steps[k],
                                                          .status = SSM_FAILED,
                                                          .output = much,
                                                          .error = much };
                        }
                        _cleanup_free_ char *text = build(&(SsmReplyInput){ .status = SSM_FAILED,
                                                                            .trace = much,
                                                                            .results = results,
                                                                            .n_results = n,
                                                                            .now_msec = NOW });
                        cJSON *o = parse(text);
                        assert_ends(member(o, "standardError"), "\n--output truncated--");
                        cJSON_Delete(o);
                        for (size_t k = 0; k < n; k++)
                                free(steps[k].name);
                }
}

static void what_does_not_fit_is_no_reply(void **state)
{
        _cleanup_free_ char *name = repeat("x", SSM_REPLY_MAX);
        const SsmStep long_name = { name, (char *) "p" };
        const SsmResult results[SSM_STEPS_MAX + 1] = { { .step = &long_name } };
        SsmReplyInput input = { .results = results, .n_results = 1 };
        char *text = NULL;

        (void) state;
        assert_int_equal(ssm_reply_build(&input, &text), -EMSGSIZE);
        input.n_results = ELEMENTSOF(results);
        assert_int_equal(ssm_reply_build(&input, &text), -E2BIG);
        assert_null(text);
}

/* Replies that amazon-ssm-agent sent; not part of this repository. */
#define RECORDED          "../shared/reference/ssm-requests.json"
#define RECORDED_SIZE_MAX (1024 * 1024)

/* The same members in the same order, of the same types. */
static void assert_same_form(const cJSON *a, const cJSON *b)
{
        assert_int_equal(a->type & 0xff, b->type & 0xff);
        for (a = a->child, b = b->child; a && b; a = a->next, b = b->next) {
                assert_string_equal(strempty(a->string), strempty(b->string));
                assert_same_form(a, b);
        }
        assert_true(!a && !b);
}

static bool compare_recorded(const cJSON *q)
{
        cJSON *body = cJSON_Parse(cJSON_GetStringValue(cJSON_GetObjectItem(q, "body")));
        const char *payload = cJSON_GetStringValue(cJSON_GetObjectItem(body, "Payload"));

        if (payload) {
                cJSON *theirs = parse(payload);
                const cJSON *status = cJSON_GetObjectItem(theirs, "runtimeStatus");
                _cleanup_free_ char *text = cJSON_IsNull(status)
                                                    ? build(&(SsmReplyInput){ .now_msec = NOW })
                                                    : build_one(SSM_SUCCESS, "x", NULL);
                cJSON *ours = parse(text);

                assert_same_form(ours, theirs);
                cJSON_Delete(ours);
                cJSON_Delete(theirs);
        }
        cJSON_Delete(body);
        return payload;
}

static void recorded_replies_have_the_same_form(void **state)
{
        _cleanup_free_ char *path = NULL, *text = NULL;
        cJSON *recorded, *q;
        int n = 0;

        (void) state;
        err_set(&path, "%s/" RECORDED, strempty(getenv("SLIPWAY_SOURCE_ROOT")));
        int r = file_read_at(AT_FDCWD, path, RECORDED_SIZE_MAX, &text, NULL);
        if (r == -ENOENT) {
                print_message("skipped: no %s\n", path);
                skip();
        }
        assert_return_code(r, 0);
        recorded = parse(text);
        cJSON_ArrayForEach(q, cJSON_GetObjectItem(recorded, "requests")) n += compare_recorded(q);
        assert_true(n > 0);
        cJSON_Delete(recorded);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(the_receipt),
                cmocka_unit_test(a_result),
                cmocka_unit_test(what_goes_on_is_told_as_of_now),
                cmocka_unit_test(failures_have_codes),
                cmocka_unit_test(a_document_fails_as_a_whole),
                cmocka_unit_test(streams_are_cut_at_24000_bytes),
                cmocka_unit_test(the_summary_has_both),
                cmocka_unit_test(what_is_no_text_is_replaced),
                cmocka_unit_test(a_reply_fits_the_gateway),
                cmocka_unit_test(many_results_share_the_room),
                cmocka_unit_test(what_does_not_fit_is_no_reply),
                cmocka_unit_test(recorded_replies_have_the_same_form),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
