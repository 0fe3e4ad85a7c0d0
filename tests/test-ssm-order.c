/* SPDX-License-Identifier: Apache-2.0 */
#include "test.h"

#include <cJSON.h>

#include "digest.h"
#include "ssm-order.h"

#define INSTANCE "i-0123456789abcdef0"
#define COMMAND  "d33816ed-cfc8-47f1-9f7f-153dcebcfd87"
#define OTHER    "566ddc11-108b-4240-8a75-7bbd36cad7ac"
#define ID       "aws.ssm." COMMAND "." INSTANCE
#define CREATED  "2026-11-22T14:05:49.509Z"
#define NOW      1795356349 /* CREATED */
#define CONTENT                                                                         \
        "{\"schemaVersion\":\"2.2\",\"mainSteps\":[{\"action\":\"aws:runShellScript\"," \
        "\"name\":\"slipway\",\"inputs\":{\"runCommand\":[\"exit 1\"]}}]}"
#define HEAD      "{\"CommandId\":\"" COMMAND "\",\"DocumentName\":\"Slipway-Deploy\","
#define SEND(p)   HEAD "\"Parameters\":" p ",\"DocumentContent\":" CONTENT "}"
#define ACTION(a) SEND("{\"action\":\"" a "\"}")

static SsmMessage message(const char *payload)
{
        return (SsmMessage){ .id = ID,
                             .topic = "aws.ssm.sendCommand.us.east.1.1",
                             .destination = INSTANCE,
                             .created = CREATED,
                             .payload = payload };
}

static SsmMessage cancel_message(const char *payload)
{
        SsmMessage m = message(payload);

        m.topic = "aws.ssm.cancelCommand.us.east.1.1";
        m.id = "aws.ssm." OTHER "." INSTANCE;
        return m;
}

/* What is refused as a whole leaves nothing behind. */
static void expect_bad_at(const SsmMessage *m, time_t now_sec, int error, const char *why)
{
        SsmRequest r = { .n_steps = 77 };
        _cleanup_free_ char *err = NULL;

        assert_int_equal(ssm_request_parse(m, INSTANCE, now_sec, &r, &err), error);
        assert_int_equal(r.n_steps, 77);
        assert_non_null(err);
        if (!strstr(err, why))
                fail_msg("%s", err);
        assert_null(strchr(err, '\n'));
}

static void expect_bad(const char *payload, const char *why)
{
        SsmMessage m = message(payload);

        expect_bad_at(&m, NOW, -EBADMSG, why);
}

/* What is refused in words for who sent it says so by its command and steps. */
static void expect_refused_at(const SsmMessage *m, time_t now_sec, const char *why)
{
        _cleanup_(ssm_request_done) SsmRequest r = {};
        _cleanup_free_ char *err = NULL;

        assert_int_equal(ssm_request_parse(m, INSTANCE, now_sec, &r, &err), -EPERM);
        assert_non_null(err);
        if (!strstr(err, why))
                fail_msg("%s", err);
        assert_true(strlen(err) < 400);
        assert_int_equal(r.kind, SSM_ORDER);
        assert_string_equal(r.command, COMMAND);
        assert_non_null(r.document);
        assert_null(r.order.command);
}

static void expect_refused(const char *payload, const char *why)
{
        SsmMessage m = message(payload);

        expect_refused_at(&m, NOW, why);
}

static void an_order(void **state)
{
        SsmMessage m = message("{\"Parameters\":{\"action\":\"deploy\",\"app\":\"web\","
                               "\"release\":\"2026.11.22-1f3a9c2\",\"until\":\"\",\"reason\":\"\"},"
                               "\"OutputS3BucketName\":\"\",\"CloudWatchOutputEnabled\":\"false\","
                               "\"Odd\":{\"a\":[null]},\"DocumentVersion\":\"3\","
                               "\"DocumentName\":\"Slipway-Deploy\","
                               "\"DocumentContent\":" CONTENT ",\"CommandId\":\"" COMMAND "\"}");
        _cleanup_(ssm_request_done) SsmRequest r = {};
        _cleanup_free_ char *err = NULL;

        (void) state;
        assert_int_equal(ssm_request_parse(&m, INSTANCE, NOW, &r, &err), 0);
        assert_null(err);
        assert_int_equal(r.kind, SSM_ORDER);
        assert_string_equal(r.command, COMMAND);
        assert_string_equal(r.document, "Slipway-Deploy");
        assert_int_equal(r.n_steps, 1);
        assert_string_equal(r.steps[0].name, "slipway");
        assert_string_equal(r.steps[0].plugin, "aws:runShellScript");
        assert_string_equal(r.order.command, COMMAND);
        assert_int_equal(r.order.action, ORDER_DEPLOY);
        assert_string_equal(r.order.app, "web");
        assert_string_equal(r.order.release, "2026.11.22-1f3a9c2");
        assert_null(r.order.until);
        assert_null(r.order.reason);
}

static void a_hold(void **state)
{
        SsmMessage m = message(SEND("{\"action\":\"hold\",\"until\":\"2h\","
                                    "\"reason\":\"the fair; `reboot` $(reboot) %n \\u00e4\"}"));
        _cleanup_(ssm_request_done) SsmRequest r = {};

        (void) state;
        assert_int_equal(ssm_request_parse(&m, INSTANCE, NOW, &r, NULL), 0);
        assert_int_equal(r.order.action, ORDER_HOLD);
        assert_null(r.order.app);
        assert_string_equal(r.order.until, "2h");
        assert_string_equal(r.order.reason, "the fair; `reboot` $(reboot) %n \xc3\xa4");
}

static void a_cancellation(void **state)
{
        SsmMessage m = cancel_message("{\"CancelMessageId\":\"" ID "\",\"Odd\":1}");
        _cleanup_(ssm_request_done) SsmRequest r = {};

        (void) state;
        assert_int_equal(ssm_request_parse(&m, INSTANCE, NOW + 30 * 24 * 3600, &r, NULL), 0);
        assert_int_equal(r.kind, SSM_CANCEL);
        assert_string_equal(r.command, COMMAND);
        assert_null(r.document);
        assert_null(r.order.command);
}

static void bad_cancellations(void **state)
{
        static const char *const payloads[] = {
                "{}",
                "[]",
                "{\"CancelMessageId\":null}",
                "{\"CancelMessageId\":\"\"}",
                "{\"CancelMessageId\":\"" COMMAND "\"}",
                "{\"CancelMessageId\":\"aws.ssm." COMMAND "\"}",
                "{\"CancelMessageId\":\"aws.ssm." COMMAND ".i-0123456789abcdef1\"}",
                "{\"CancelMessageId\":\"aws.ssm.../../../../../../../../etc/passwd123456789." INSTANCE
                "\"}",
                "{\"CancelMessageId\":\"" ID "\",\"CancelMessageId\":\"" ID "\"}",
        };

        (void) state;
        for (size_t i = 0; i < ELEMENTSOF(payloads); i++) {
                SsmMessage m = cancel_message(payloads[i]);

                expect_bad_at(&m, NOW, -EBADMSG, "");
        }
}

static void other_topics(void **state)
{
        static const char *const topics[] = { "", "aws.ssm.sendCommandX", "aws.ssm.send", "x",
                                              "aws.ssm.refreshAssociation.us.east.1.1" };
        SsmMessage m = message(ACTION("poll"));

        (void) state;
        for (size_t i = 0; i < ELEMENTSOF(topics); i++) {
                m.topic = topics[i];
                expect_bad_at(&m, NOW, -ENOTSUP, "topic");
        }
        m.topic = "aws.ssm.sendCommand";
        _cleanup_(ssm_request_done) SsmRequest r = {};
        assert_int_equal(ssm_request_parse(&m, INSTANCE, NOW, &r, NULL), 0);
}

static void it_must_be_for_this_instance(void **state)
{
        static const char *const ids[] = {
                "",
                COMMAND,
                "aws.ssm.",
                "aws.ssm." COMMAND,
                "aws.ssm." COMMAND ".",
                "aws.ssm." COMMAND ".i-0123456789abcdef1",
                "aws.ssm." COMMAND "." INSTANCE ".x",
                "aws.ssm." OTHER "." INSTANCE,
                "aws.ssm.D33816ED-cfc8-47f1-9f7f-153dcebcfd87." INSTANCE,
                "aws.SSM." COMMAND "." INSTANCE,
        };
        SsmMessage m = message(ACTION("poll"));

        (void) state;
        m.destination = "i-0123456789abcdef1";
        expect_bad_at(&m, NOW, -EBADMSG, "another instance");
        m.destination = INSTANCE;
        for (size_t i = 0; i < ELEMENTSOF(ids); i++) {
                m.id = ids[i];
                expect_bad_at(&m, NOW, -EBADMSG, "id");
        }
}

static void the_digest_must_hold(void **state)
{
        _cleanup_(ssm_request_done) SsmRequest r = {}, upper = {};
        SsmMessage m = message(ACTION("poll"));
        char hex[SHA256_HEX_SIZE];
        Sha256 digest;

        (void) state;
        assert_int_equal(sha256(m.payload, strlen(m.payload), &digest), 0);
        m.digest = sha256_to_hex(&digest, hex);
        assert_int_equal(ssm_request_parse(&m, INSTANCE, NOW, &r, NULL), 0);
        for (size_t i = 0; hex[i]; i++)
                if (hex[i] >= 'a')
                        hex[i] -= 'a' - 'A';
        assert_int_equal(ssm_request_parse(&m, INSTANCE, NOW, &upper, NULL), 0);
        hex[0] = hex[0] == '0' ? '1' : '0';
        expect_bad_at(&m, NOW, -EBADMSG, "digest");
        m.digest = "";
        expect_bad_at(&m, NOW, -EBADMSG, "digest");
}

static void its_age_matters(void **state)
{
        static const char *const bad[] = { "",
                                           "now",
                                           "2026-11-22",
                                           "2026-11-22T14:05:49",
                                           "2026-11-22T14:05:49.Z",
                                           "2026-11-22T14:05:49.5",
                                           "2026-11-22T14:05:49.5+01:00",
                                           "2026-11-22T14:05:49,509Z",
                                           "2026-02-30T14:05:49.509Z",
                                           "2026-11-22T14:05:49.509Zx",
                                           "1795356349" };
        static const time_t good[] = { NOW, NOW + SSM_AGE_MAX_SEC, NOW - SSM_AHEAD_MAX_SEC };
        SsmMessage m = message(ACTION("poll"));

        (void) state;
        for (size_t i = 0; i < ELEMENTSOF(good); i++) {
                _cleanup_(ssm_request_done) SsmRequest r = {};

                assert_int_equal(ssm_request_parse(&m, INSTANCE, good[i], &r, NULL), 0);
        }
        expect_refused_at(&m, NOW + SSM_AGE_MAX_SEC + 1, "older than 48 hours");
        expect_refused_at(&m, NOW - SSM_AHEAD_MAX_SEC - 1, "from the future");
        expect_refused_at(&m, 0, "from the future");
        expect_refused_at(&m, -1, "from the future");
        for (size_t i = 0; i < ELEMENTSOF(bad); i++) {
                m.created = bad[i];
                expect_bad_at(&m, NOW, -EBADMSG, "made at no time");
        }
        m.created = "2026-11-22T14:05:49Z";
        _cleanup_(ssm_request_done) SsmRequest r = {};
        assert_int_equal(ssm_request_parse(&m, INSTANCE, NOW, &r, NULL), 0);
}

static void malformed_payloads(void **state)
{
        (void) state;
        expect_bad("", "line 1");
        expect_bad("null", "object");
        expect_bad("[]", "object");
        expect_bad("<html>", "line 1");
        expect_bad(ACTION("poll") "x", "line 1");
        expect_bad("{", "line 1");
        expect_bad("{}", "missing");
        expect_bad("{\"CommandId\":\"" OTHER "\",\"DocumentName\":\"Slipway-Deploy\","
                   "\"DocumentContent\":" CONTENT "}",
                   "another one");
        expect_bad("{\"CommandId\":\"" COMMAND "\",\"DocumentContent\":" CONTENT "}",
                   "DocumentName: missing");
        expect_bad(HEAD "\"DocumentContent\":7}", "DocumentContent: must be an object");
        expect_bad(HEAD "\"Parameters\":{}}", "DocumentContent: missing");
        expect_bad(HEAD HEAD "\"x\":1}}", "");
        expect_bad(HEAD "\"CommandId\":\"" COMMAND "\",\"DocumentContent\":" CONTENT "}", "twice");
        expect_bad(HEAD "\"Parameters\":[],\"DocumentContent\":" CONTENT "}",
                   "Parameters: must be");
        expect_bad(SEND("{\"action\":\"poll\",\"action\":\"poll\"}"), "twice");
        expect_bad(SEND("{\"action\":\"hold\",\"reason\":\"a\\u0000b\"}"), "line 1");
        expect_bad(SEND("{\"action\":\"hold\",\"reason\":\"a\nb\"}"), "line 1");
        expect_bad(SEND("{\"action\":\"poll\",\"x\":"
                        "[[[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]]]}"),
                   "line 1");
        expect_bad("{\"CommandId\":\"" COMMAND "\",\"DocumentName\":\"a\\u001b[2J\","
                   "\"DocumentContent\":" CONTENT "}",
                   "control character");
}

static void steps_are_named_as_the_schema_has_it(void **state)
{
        SsmMessage old = message(HEAD "\"Parameters\":{\"action\":\"poll\"},\"DocumentContent\":"
                                      "{\"schemaVersion\":\"1.2\",\"mainSteps\":null,"
                                      "\"runtimeConfig\":{\"aws:runShellScript\":{\"properties\":"
                                      "[{\"id\":\"0\"}]},\"aws:x\":null}}}");
        SsmMessage none = message(HEAD "\"Parameters\":{\"action\":\"poll\"},\"DocumentContent\":"
                                       "{\"schemaVersion\":\"2.2\",\"runtimeConfig\":null}}");
        _cleanup_(ssm_request_done) SsmRequest r = {}, r_none = {};

        (void) state;
        assert_int_equal(ssm_request_parse(&old, INSTANCE, NOW, &r, NULL), 0);
        assert_int_equal(r.n_steps, 2);
        assert_string_equal(r.steps[0].name, "aws:runShellScript");
        assert_string_equal(r.steps[0].plugin, "aws:runShellScript");
        assert_string_equal(r.steps[1].name, "aws:x");
        assert_int_equal(ssm_request_parse(&none, INSTANCE, NOW, &r_none, NULL), 0);
        assert_int_equal(r_none.n_steps, 0);
}

#define STEPS(s) HEAD "\"DocumentContent\":{\"schemaVersion\":\"2.2\",\"mainSteps\":" s "}}"
#define STEP(n)  "{\"name\":\"" n "\",\"action\":\"a\"}"

static void odd_steps(void **state)
{
        (void) state;
        expect_bad(STEPS("{}"), "array");
        expect_bad(STEPS("[7]"), "object");
        expect_bad(STEPS("[{}]"), "missing");
        expect_bad(STEPS("[" STEP("") "]"), "empty");
        expect_bad(STEPS("[" STEP("a\\u001b") "]"), "control character");
        expect_bad(STEPS("[" STEP("a") "," STEP("a") "]"), "second step");
        expect_bad(STEPS("[{\"name\":\"a\",\"name\":\"b\",\"action\":\"c\"}]"), "twice");
        expect_bad(HEAD
                   "\"DocumentContent\":{\"schemaVersion\":\"1.2\",\"runtimeConfig\":{\"\":1}}}",
                   "empty");
        expect_bad(HEAD "\"DocumentContent\":{\"schemaVersion\":\"1.2\",\"runtimeConfig\":7}}",
                   "object");
}

static void only_so_many_steps_are_listed(void **state)
{
        _cleanup_free_ char *payload = malloc(65536);
        _cleanup_(ssm_request_done) SsmRequest r = {};
        SsmMessage m = message(payload);
        char *p;

        (void) state;
        assert_non_null(payload);
        p = stpcpy(payload, HEAD "\"Parameters\":{\"action\":\"poll\"},\"DocumentContent\":"
                                 "{\"schemaVersion\":\"2.2\",\"mainSteps\":[");
        for (int i = 0; i < 1000; i++)
                p += sprintf(p, "%s{\"name\":\"%d\",\"action\":\"a\"}", i > 0 ? "," : "", i);
        stpcpy(p, "]}}");
        assert_int_equal(ssm_request_parse(&m, INSTANCE, NOW, &r, NULL), 0);
        assert_int_equal(r.n_steps, SSM_STEPS_MAX);
        assert_string_equal(r.steps[SSM_STEPS_MAX - 1].name, "31");
}

/* Each says what to do instead. */
static void other_documents(void **state)
{
        SsmMessage m = message("{\"CommandId\":\"" COMMAND
                               "\",\"DocumentName\":\"AWS-RunShellScript\",\"Parameters\":"
                               "{\"commands\":[\"reboot\"],\"workingDirectory\":\"\"},"
                               "\"DocumentContent\":{\"schemaVersion\":\"1.2\",\"runtimeConfig\":"
                               "{\"aws:runShellScript\":{\"properties\":[]}}}}");
        _cleanup_(ssm_request_done) SsmRequest r = {};
        _cleanup_free_ char *err = NULL;

        (void) state;
        assert_int_equal(ssm_request_parse(&m, INSTANCE, NOW, &r, &err), -EPERM);
        assert_string_equal(err, "AWS-RunShellScript is not carried out here: Slipway takes no "
                                 "shell commands, only orders about deployments; use the document "
                                 "Slipway-Deploy, or run it by an agent that does, such as "
                                 "amazon-ssm-agent");
        assert_string_equal(r.document, "AWS-RunShellScript");
        assert_int_equal(r.n_steps, 1);
        assert_string_equal(r.steps[0].name, "aws:runShellScript");
        expect_refused("{\"CommandId\":\"" COMMAND "\",\"DocumentName\":\"slipway-deploy\","
                       "\"Parameters\":null,\"DocumentContent\":" CONTENT "}",
                       "use the document Slipway-Deploy");
        expect_refused("{\"CommandId\":\"" COMMAND "\",\"DocumentName\":\"%s%n\","
                       "\"DocumentContent\":{\"schemaVersion\":\"99\"}}",
                       "%s%n is not carried out here");
}

static void schemas(void **state)
{
        static const char *const known[] = { "1.2", "2.0", "2.0.1", "2.0.2", "2.0.3", "2.2" };
        static const char *const unknown[] = { "0.3", "1.0", "2.1", "2.3", "3.0", "2.2 " };

        (void) state;
        for (size_t i = 0; i < ELEMENTSOF(known) + ELEMENTSOF(unknown); i++) {
                bool good = i < ELEMENTSOF(known);
                _cleanup_free_ char *payload = NULL;

                err_set(&payload,
                        HEAD "\"Parameters\":{\"action\":\"poll\"},"
                             "\"DocumentContent\":{\"schemaVersion\":\"%s\"}}",
                        good ? known[i] : unknown[i - ELEMENTSOF(known)]);
                if (good) {
                        _cleanup_(ssm_request_done) SsmRequest r = {};
                        SsmMessage m = message(payload);
                        assert_int_equal(ssm_request_parse(&m, INSTANCE, NOW, &r, NULL), 0);
                } else
                        expect_refused(payload, "schemaVersion: ");
        }
}

static void parameters_are_refused_by_their_names(void **state)
{
        (void) state;
        expect_refused(SEND("null"), "Parameters.action: missing");
        expect_refused(SEND("{}"), "Parameters.action: missing");
        expect_refused(ACTION(""), "Parameters.action: there is no such one; use one of poll");
        expect_refused(ACTION("reboot"), "Parameters.action: ");
        expect_refused(ACTION("poll; reboot"), "Parameters.action: ");
        expect_refused(SEND("{\"action\":[\"poll\"]}"), "Parameters.action: must be a string");
        expect_refused(SEND("{\"action\":null}"), "Parameters.action: must be a string");
        expect_refused(SEND("{\"action\":\"poll\",\"commands\":[\"reboot\"]}"),
                       "Parameters.commands: must be a string");
        expect_refused(SEND("{\"action\":\"poll\",\"commands\":\"reboot\"}"),
                       "Parameters.commands: there is no such parameter; there are action");
        expect_refused(SEND("{\"action\":\"poll\",\"Action\":\"poll\"}"), "Parameters.Action: ");
        expect_refused(SEND("{\"action\":\"poll\",\"\\u001b[2J%n\":\"\"}"),
                       "Parameters[\"?[2J%n\"]");
        expect_refused(ACTION("deploy"), "Parameters.release: deploy needs one");
        expect_refused(SEND("{\"action\":\"poll\",\"release\":\"1\"}"), "Parameters.release: poll");
        expect_refused(SEND("{\"action\":\"deploy\",\"release\":\"../../etc\"}"),
                       "Parameters.release: ");
        expect_refused(SEND("{\"action\":\"deploy\",\"release\":\"$(reboot)\"}"),
                       "Parameters.release: ");
        expect_refused(SEND("{\"action\":\"poll\",\"app\":\"web;reboot\"}"), "Parameters.app: ");
        expect_refused(SEND("{\"action\":\"poll\",\"app\":\"web\\nreboot\"}"), "Parameters.app: ");
        expect_refused(SEND("{\"action\":\"poll\",\"app\":{\"a\":\"b\"}}"), "Parameters.app: ");
        expect_refused(SEND("{\"action\":\"poll\",\"until\":\"2h\"}"), "Parameters.until: ");
        expect_refused(SEND("{\"action\":\"hold\",\"until\":\"`reboot`\"}"), "Parameters.until: ");
        expect_refused(SEND("{\"action\":\"status\",\"reason\":\"x\"}"), "Parameters.reason: ");
        expect_refused(SEND("{\"action\":\"hold\",\"reason\":\"a\\nb\"}"), "Parameters.reason: ");
        expect_refused(SEND("{\"action\":\"hold\",\"reason\":\"a\\u001b[2J\"}"),
                       "Parameters.reason: ");
}

static char *with_parameter(const char *name, size_t size)
{
        char *payload = malloc(size + 1024), *p;

        assert_non_null(payload);
        p = payload + sprintf(payload, HEAD "\"Parameters\":{\"action\":\"hold\",\"%s\":\"", name);
        memset(p, 'x', size);
        stpcpy(p + size, "\"},\"DocumentContent\":" CONTENT "}");
        return payload;
}

static void a_parameter_of_a_megabyte(void **state)
{
        static const char *const names[] = { "app", "release", "until", "reason", "action", "x" };

        (void) state;
        for (size_t i = 0; i < ELEMENTSOF(names); i++) {
                _cleanup_free_ char *much = with_parameter(names[i], SSM_MESSAGE_SIZE_MAX - 1024);
                _cleanup_free_ char *more = with_parameter(names[i], SSM_MESSAGE_SIZE_MAX);

                if (streq(names[i], "action"))
                        expect_bad(much, "twice");
                else
                        expect_refused(much, names[i]);
                expect_bad(more, "larger than 1048576 bytes");
        }
}

static void steps_can_be_added(void **state)
{
        SsmStep *steps = NULL;
        size_t n = 0;

        (void) state;
        for (int i = 0; i < SSM_STEPS_MAX; i++) {
                const char name[] = { 'a' + i / 26, 'a' + i % 26, '\0' };

                assert_int_equal(ssm_steps_add(&steps, &n, name, "p"), 0);
                assert_int_equal(ssm_steps_add(&steps, &n, name, "q"), -EEXIST);
        }
        assert_int_equal(ssm_steps_add(&steps, &n, "z", "p"), -E2BIG);
        assert_int_equal(n, SSM_STEPS_MAX);
        ssm_steps_free(steps, n);
}

/* packaging/aws/slipway-deploy.json, as the service would send it. */

static cJSON *document(void)
{
        _cleanup_free_ char *path = NULL, *text = NULL;
        cJSON *o;

        err_set(&path, "%s/packaging/aws/slipway-deploy.json", getenv("SLIPWAY_SOURCE_ROOT"));
        assert_int_equal(file_read_at(AT_FDCWD, path, 65536, &text, NULL), 0);
        o = cJSON_Parse(text);
        assert_non_null(o);
        return o;
}

/* Takes the given parameters, and the defaults of the others. */
static char *render(const cJSON *content, cJSON *parameters)
{
        cJSON *payload = cJSON_CreateObject();
        const cJSON *definition;
        char *text;

        cJSON_ArrayForEach(definition, cJSON_GetObjectItem(content, "parameters"))
        {
                const char *standard =
                        cJSON_GetStringValue(cJSON_GetObjectItem(definition, "default"));
                if (standard && !cJSON_GetObjectItem(parameters, definition->string))
                        cJSON_AddStringToObject(parameters, definition->string, standard);
        }
        cJSON_AddStringToObject(payload, "CommandId", COMMAND);
        cJSON_AddStringToObject(payload, "DocumentName", SSM_DOCUMENT);
        cJSON_AddItemToObject(payload, "Parameters", parameters);
        cJSON_AddItemToObject(payload, "DocumentContent", cJSON_Duplicate(content, true));
        text = cJSON_PrintUnformatted(payload);
        cJSON_Delete(payload);
        assert_non_null(text);
        return text;
}

static void the_document_is_understood(void **state)
{
        cJSON *content = document();
        const cJSON *names = cJSON_GetObjectItem(content, "parameters"), *actions, *action;
        int n = 0;

        (void) state;
        actions = cJSON_GetObjectItem(cJSON_GetObjectItem(names, "action"), "allowedValues");
        cJSON_ArrayForEach(action, actions)
        {
                cJSON *parameters = cJSON_CreateObject();
                OrderAction a = order_action_from_string(action->valuestring);
                _cleanup_(ssm_request_done) SsmRequest r = {};
                _cleanup_free_ char *payload = NULL, *err = NULL;

                cJSON_AddStringToObject(parameters, "action", action->valuestring);
                if (a == ORDER_DEPLOY || a == ORDER_ROLLBACK)
                        cJSON_AddStringToObject(parameters, "release", "1");
                if (a == ORDER_HOLD)
                        cJSON_AddStringToObject(parameters, "reason", "why");
                payload = render(content, parameters);
                SsmMessage m = message(payload);
                if (ssm_request_parse(&m, INSTANCE, NOW, &r, &err) < 0)
                        fail_msg("%s: %s", action->valuestring, err);
                assert_int_equal(r.order.action, a);
                assert_int_equal(r.n_steps, 1);
                assert_string_equal(r.steps[0].name, "slipway");
                n++;
        }
        assert_int_equal(n, _ORDER_ACTION_MAX);
        assert_int_equal(cJSON_GetArraySize(names), 5);
        cJSON_Delete(content);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(an_order),
                cmocka_unit_test(a_hold),
                cmocka_unit_test(a_cancellation),
                cmocka_unit_test(bad_cancellations),
                cmocka_unit_test(other_topics),
                cmocka_unit_test(it_must_be_for_this_instance),
                cmocka_unit_test(the_digest_must_hold),
                cmocka_unit_test(its_age_matters),
                cmocka_unit_test(malformed_payloads),
                cmocka_unit_test(steps_are_named_as_the_schema_has_it),
                cmocka_unit_test(odd_steps),
                cmocka_unit_test(only_so_many_steps_are_listed),
                cmocka_unit_test(other_documents),
                cmocka_unit_test(schemas),
                cmocka_unit_test(parameters_are_refused_by_their_names),
                cmocka_unit_test(a_parameter_of_a_megabyte),
                cmocka_unit_test(steps_can_be_added),
                cmocka_unit_test(the_document_is_understood),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
