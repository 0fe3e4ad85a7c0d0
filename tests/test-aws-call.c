/* SPDX-License-Identifier: Apache-2.0 */
#include "test.h"

#include <stdlib.h>
#include <time.h>

#include "aws-call.h"
#include "backoff.h"
#include "fault-server.h"

static FaultServer server;

static const AwsService json_service = { "kms", AWS_JSON, "TrentService" };
static const AwsService query_service = { "ec2", AWS_QUERY, "2016-11-15" };

/* scratch[] of the server, by what is counted there */
enum {
        FLAKY,
        SKEWED,
        DOWN,
        DENIED,
};

static int count(int what)
{
        return atomic_fetch_add(&fault_counts()->scratch[what], 1);
}

static void answer_text(const FaultRequest *q, int status, const char *headers, const char *text)
{
        fault_answer(q, status, headers, text, strlen(text));
}

static void serve_skewed(const FaultRequest *q)
{
        const time_t theirs = time(NULL) - 3600;
        _cleanup_free_ char *signed_at = fault_header(q, "x-amz-date");
        char date[64], hour[16];
        struct tm tm;

        (void) gmtime_r(&theirs, &tm);
        (void) strftime(hour, sizeof(hour), "%Y%m%dT%H", &tm);
        (void) strftime(date, sizeof(date), "Date: %a, %d %b %Y %H:%M:%S GMT\r\n", &tm);
        (void) count(SKEWED);
        if (strncmp(signed_at, hour, strlen(hour)) == 0)
                answer_text(q, 200, "", "in time");
        else
                answer_text(q, 400, date,
                            "{\"__type\":\"InvalidSignatureException\",\"message\":\"Signature not "
                            "yet current\"}");
}

static void serve_endless(const FaultRequest *q)
{
        static char block[65536];
        static const char head[] = "HTTP/1.1 200 X\r\nConnection: close\r\n\r\n";

        fault_write(q, head, strlen(head));
        for (;;)
                fault_write(q, block, sizeof(block));
}

static bool serve_flaky(const FaultRequest *q)
{
        switch (count(FLAKY)) {
        case 0:
                return false; /* the connection breaks */
        case 1:
                answer_text(q, 500, "", "{\"__type\":\"KMSInternalException\"}");
                return true;
        case 2:
                answer_text(q, 400, "", "{\"__type\":\"ThrottlingException\"}");
                return true;
        default:
                answer_text(q, 200, "", "at last");
                return true;
        }
}

static bool serve_action(const FaultRequest *q, const char *action)
{
        if (streq(action, "Head"))
                answer_text(q, 200, "", q->head);
        else if (streq(action, "Echo"))
                fault_answer(q, 200, "", q->body, q->body_size);
        else if (streq(action, "Empty"))
                answer_text(q, 200, "", "");
        else if (streq(action, "Denied")) {
                (void) count(DENIED);
                answer_text(q, 400, "x-amzn-RequestId: R1\r\n",
                            "{\"__type\":\"AccessDeniedException\",\"Message\":\"nobody may\"}");
        } else if (streq(action, "DeniedInXml"))
                answer_text(q, 403, "",
                            "<ErrorResponse><Error><Code>AccessDenied</Code><Message>in XML"
                            "</Message></Error></ErrorResponse>");
        else if (streq(action, "BadKey"))
                answer_text(q, 403, "",
                            "<Response><Errors><Error><Code>AuthFailure</Code></Error></Errors>"
                            "</Response>");
        else if (streq(action, "Disabled"))
                answer_text(q, 400, "",
                            "{\"__type\":\"DisabledException\",\"message\":\"it is off\"}");
        else if (streq(action, "Bare"))
                answer_text(q, 404, "", "<html>");
        else if (streq(action, "Redirect"))
                answer_text(q, 302, "Location: http://127.0.0.1:1/\r\n", "");
        else if (streq(action, "Patience"))
                answer_text(q, 429, "Retry-After: 7\r\n", "{}");
        else if (streq(action, "Down")) {
                (void) count(DOWN);
                answer_text(q, 503, "", "{}");
        } else if (streq(action, "Stall"))
                fault_stall(q);
        else if (streq(action, "Endless"))
                serve_endless(q);
        else if (streq(action, "Skewed"))
                serve_skewed(q);
        else if (streq(action, "Flaky"))
                return serve_flaky(q);
        else
                return false;
        return true;
}

static bool serve(const FaultRequest *q)
{
        _cleanup_free_ char *target = fault_header(q, "X-Amz-Target");
        const char *action = target ? strchr(target, '.') + 1 : q->body + STRLEN("Action=");
        char name[32];

        (void) snprintf(name, sizeof(name), "%.*s", (int) strcspn(action, "&"), action);
        return strncmp(q->head, "POST / HTTP/1.1\r\n", 17) == 0 && serve_action(q, name);
}

typedef struct Fixture {
        Http *http;
        CredentialsSource *credentials;
        AwsClient *json, *query, *unsigned_;
} Fixture;

static int setup(void **state)
{
        static const AwsLimits limits = {
                .connect_sec = 5, .stall_sec = 1, .deadline_sec = 10, .backoff_msec = 2
        };
        Fixture *f = calloc(1, sizeof(Fixture));
        char endpoint[64];

        (void) snprintf(endpoint, sizeof(endpoint), "http://127.0.0.1:%u", server.port);
        assert_int_equal(setenv("AWS_ENDPOINT_URL", endpoint, 1), 0);
        assert_int_equal(setenv("AWS_REGION", "eu-central-1", 1), 0);
        assert_int_equal(setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE", 1), 0);
        assert_int_equal(setenv("AWS_SECRET_ACCESS_KEY", "secret", 1), 0);
        assert_int_equal(setenv("AWS_SESSION_TOKEN", "token", 1), 0);
        assert_int_equal(http_new(NULL, &f->http), 0);
        assert_int_equal(credentials_source_new(&f->credentials, NULL), 0);
        assert_int_equal(aws_client_new(&json_service, "eu-west-3", f->http, NULL, f->credentials,
                                        &f->json, NULL),
                         0);
        assert_int_equal(aws_client_new(&query_service, NULL, f->http, NULL, f->credentials,
                                        &f->query, NULL),
                         0);
        assert_int_equal(
                aws_client_new(&query_service, NULL, f->http, NULL, NULL, &f->unsigned_, NULL), 0);
        aws_client_set_limits(f->json, &limits);
        aws_client_set_limits(f->query, &limits);
        *state = f;
        return 0;
}

static int teardown(void **state)
{
        Fixture *f = *state;

        (void) aws_client_free(f->json);
        (void) aws_client_free(f->query);
        (void) aws_client_free(f->unsigned_);
        (void) credentials_source_free(f->credentials);
        (void) http_free(f->http);
        free(f);
        return 0;
}

static void json_form(void **state)
{
        Fixture *f = *state;
        _cleanup_free_ char *head = NULL, *body = NULL, *nothing = NULL;
        size_t size;

        assert_int_equal(aws_call(f->json,
                                  &(AwsRequest){ .action = "Head", .what = "x", .json = "{}" },
                                  &head, &size, NULL),
                         0);
        assert_int_equal(size, strlen(head));
        assert_non_null(strstr(head, "Content-Type: application/x-amz-json-1.1\r\n"));
        assert_non_null(strstr(head, "X-Amz-Target: TrentService.Head\r\n"));
        assert_non_null(strstr(head, "x-amz-security-token: token\r\n"));
        assert_non_null(strstr(head, "Credential=AKIDEXAMPLE/"));
        assert_non_null(strstr(head, "/eu-west-3/kms/aws4_request, SignedHeaders=content-type;host;"
                                     "x-amz-date;x-amz-security-token;x-amz-target, Signature="));
        assert_null(strstr(head, "secret"));
        assert_null(strstr(head, "Expect:"));
        assert_string_equal(aws_client_region(f->json), "eu-west-3");
        assert_int_equal(
                aws_call(f->json,
                         &(AwsRequest){ .action = "Echo", .what = "x", .json = "{\"a\":1}" }, &body,
                         &size, NULL),
                0);
        assert_string_equal(body, "{\"a\":1}");
        assert_int_equal(aws_call(f->json,
                                  &(AwsRequest){ .action = "Empty", .what = "x", .json = "{}" },
                                  &nothing, &size, NULL),
                         0);
        assert_string_equal(nothing, "");
}

static void query_form(void **state)
{
        static const NameValue params[] = {
                {"Filter.1.Value.1", "i-1 2&3=/+" },
                { "Filter.1.Name",   "resource-id"},
        };
        Fixture *f = *state;
        _cleanup_free_ char *head = NULL, *body = NULL, *unsigned_head = NULL;
        size_t size;

        assert_int_equal(aws_call(f->query, &(AwsRequest){ .action = "Head", .what = "x" }, &head,
                                  &size, NULL),
                         0);
        assert_non_null(
                strstr(head, "Content-Type: application/x-www-form-urlencoded; charset=utf-8\r\n"));
        assert_non_null(strstr(head, "/eu-central-1/ec2/aws4_request"));
        assert_int_equal(aws_call(f->query,
                                  &(AwsRequest){ .action = "Echo",
                                                 .what = "x",
                                                 .params = params,
                                                 .n_params = ELEMENTSOF(params) },
                                  &body, &size, NULL),
                         0);
        assert_string_equal(body, "Action=Echo&Filter.1.Name=resource-id&Filter.1.Value.1="
                                  "i-1%202%263%3D%2F%2B&Version=2016-11-15");
        assert_int_equal(aws_call(f->unsigned_, &(AwsRequest){ .action = "Head", .what = "x" },
                                  &unsigned_head, &size, NULL),
                         0);
        assert_null(strstr(unsigned_head, "Authorization:"));
        assert_null(strstr(unsigned_head, "x-amz-"));
}

static void answers(void **state)
{
        static const AwsHint hints[] = {
                {"DisabledException", "enable it" },
                {                   }
        };
        static const struct {
                const char *action;
                int result;
                const char *text; /* the data, or a part of the error */
        } table[] = {
                {"Denied",       -EACCES,
                 "can't do it: AccessDeniedException: nobody may (status 400, request id R1); this "
                  "takes the permission kms:Denied"                                               },
                { "DeniedInXml", -EACCES,    "AccessDenied: in XML"                               },
                { "BadKey",      -EACCES,    "the credentials in use"                             },
                { "Disabled",    -EREMOTEIO, "it is off (status 400, request id not told); enable"},
                { "Bare",        -EPROTO,    "refused (status 404"                                },
                { "Redirect",    -EPROTO,    "refused (status 302"                                },
                { "Down",        -EBUSY,     "can't do it (tried 4 times):"                       },
                { "Endless",     -EFBIG,     "more than the limit of 1048576 bytes"               },
                { "Flaky",       0,          "at last"                                            },
                { "Skewed",      0,          "in time"                                            },
        };
        Fixture *f = *state;

        for (size_t i = 0; i < ELEMENTSOF(table); i++) {
                _cleanup_free_ char *data = NULL, *err = NULL;
                size_t size = 0;
                int r = aws_call(f->json,
                                 &(AwsRequest){ .action = table[i].action,
                                                .what = "do it",
                                                .json = "{}",
                                                .hints = hints },
                                 &data, &size, &err);
                if (r != table[i].result)
                        fail_msg("%s: %d (%s)", table[i].action, r, strempty(err));
                if (!strstr(r < 0 ? strempty(err) : data, table[i].text))
                        fail_msg("%s: '%s'", table[i].action, r < 0 ? strempty(err) : data);
        }
        assert_int_equal(server.counts->scratch[DENIED], 1);
        assert_int_equal(server.counts->scratch[DOWN], 4);
        assert_int_equal(server.counts->scratch[SKEWED], 2);
}

static void clock_stays_corrected(void **state)
{
        Fixture *f = *state;
        const int before = server.counts->scratch[SKEWED];

        for (int i = 0; i < 2; i++) {
                _cleanup_free_ char *data = NULL;
                size_t size;
                assert_int_equal(
                        aws_call(f->json,
                                 &(AwsRequest){ .action = "Skewed", .what = "x", .json = "{}" },
                                 &data, &size, NULL),
                        0);
        }
        assert_int_equal(server.counts->scratch[SKEWED] - before, 3);
}

static void stalls(void **state)
{
        Fixture *f = *state;
        _cleanup_free_ char *data = NULL, *err = NULL;
        const int before = server.counts->n_connections;
        size_t size;

        assert_int_equal(
                aws_call(f->json,
                         &(AwsRequest){
                                 .action = "Stall", .what = "do it", .json = "{}", .n_tries = 2 },
                         &data, &size, &err),
                -ETIMEDOUT);
        assert_non_null(strstr(err, "can't do it (tried 2 times)"));
        assert_int_equal(server.counts->n_connections - before, 2);
}

static void on_never(int result, char **data, size_t size, const char *err, void *userdata)
{
        (void) data;
        (void) size;
        (void) userdata;
        fail_msg("called back: %d, %s", result, strempty(err));
}

static void cancels(void **state)
{
        Fixture *f = *state;
        AwsCall *under_way, *waiting;
        const AwsRequest stall = { .action = "Stall", .what = "x", .json = "{}" };
        const AwsRequest down = { .action = "Down", .what = "x", .json = "{}" };

        aws_client_set_limits(f->json, &(AwsLimits){ .connect_sec = 5,
                                                     .stall_sec = 5,
                                                     .deadline_sec = 5,
                                                     .backoff_msec = 20000 });
        assert_int_equal(aws_due_in_usec(f->json), UINT64_MAX);
        assert_int_equal(aws_start(f->json, &stall, on_never, NULL, &under_way, NULL), 0);
        assert_int_equal(aws_start(f->json, &down, on_never, NULL, &waiting, NULL), 0);
        while (aws_due_in_usec(f->json) == UINT64_MAX)
                assert_true(aws_step(f->json, UINT64_MAX) >= 0);
        assert_true(aws_due_in_usec(f->json) <= 20000000);
        assert_null(aws_cancel(under_way));
        assert_null(aws_cancel(waiting));
        assert_null(aws_cancel(NULL));
        assert_int_equal(aws_due_in_usec(f->json), UINT64_MAX);
}

static void waits_as_asked(void **state)
{
        Fixture *f = *state;
        AwsCall *c;

        assert_int_equal(aws_start(f->json,
                                   &(AwsRequest){ .action = "Patience", .what = "x", .json = "{}" },
                                   on_never, NULL, &c, NULL),
                         0);
        while (aws_due_in_usec(f->json) == UINT64_MAX)
                assert_true(aws_step(f->json, UINT64_MAX) >= 0);
        /* Less what the step took; more by the random part. */
        assert_in_range(aws_due_in_usec(f->json), 2000000, 7010000);
        assert_null(aws_cancel(c));
}

static void refused_connection(void **state)
{
        Fixture *f = *state;
        _cleanup_(aws_client_freep) AwsClient *a = NULL;
        _cleanup_free_ char *data = NULL, *err = NULL;
        size_t size;

        assert_int_equal(setenv("AWS_ENDPOINT_URL_KMS", "http://127.0.0.1:1", 1), 0);
        assert_int_equal(
                aws_client_new(&json_service, NULL, f->http, NULL, f->credentials, &a, NULL), 0);
        assert_int_equal(unsetenv("AWS_ENDPOINT_URL_KMS"), 0);
        assert_int_equal(
                aws_call(a,
                         &(AwsRequest){
                                 .action = "Sign", .what = "sign", .json = "{}", .n_tries = 1 },
                         &data, &size, &err),
                -EHOSTDOWN);
        assert_non_null(strstr(err, "can't sign (tried 1 times): no answer from 127.0.0.1"));
}

/* RFC 6761, 6.4: "invalid" never resolves. */
static void unresolved_name(void **state)
{
        Fixture *f = *state;
        _cleanup_(aws_client_freep) AwsClient *a = NULL;
        _cleanup_free_ char *data = NULL, *err = NULL;
        size_t size;

        assert_int_equal(setenv("AWS_ENDPOINT_URL_KMS", "https://kms.invalid", 1), 0);
        assert_int_equal(
                aws_client_new(&json_service, NULL, f->http, NULL, f->credentials, &a, NULL), 0);
        assert_int_equal(unsetenv("AWS_ENDPOINT_URL_KMS"), 0);
        assert_int_equal(
                aws_call(a,
                         &(AwsRequest){
                                 .action = "Sign", .what = "sign", .json = "{}", .n_tries = 1 },
                         &data, &size, &err),
                -ENOENT);
        assert_non_null(strstr(err, "no answer from kms.invalid"));
}

static void own_size(void **state)
{
        Fixture *f = *state;
        AwsRequest echo = { .action = "Echo", .what = "x", .json = "{\"a\":1}", .size_max = 7 };
        _cleanup_free_ char *data = NULL, *none = NULL, *err = NULL;
        size_t size;

        assert_int_equal(aws_call(f->json, &echo, &data, &size, NULL), 0);
        echo.size_max = 6;
        assert_int_equal(aws_call(f->json, &echo, &none, &size, &err), -EFBIG);
}

static void backoffs(void **state)
{
        uint64_t longest = 0;

        (void) state;
        assert_int_equal(backoff_usec(1, 0, 0), 0);
        assert_int_equal(backoff_usec(1, 0, 3), 3000000);
        assert_int_equal(backoff_usec(1, 0, UINT64_MAX), 20000000);
        for (int i = 0; i < 1000; i++) {
                assert_true(backoff_usec(1, 10, 0) <= 10);
                assert_in_range(backoff_usec(1, 10, 3), 3000000, 3000010);
                assert_true(backoff_usec(3, 10, 0) <= 40);
                assert_true(backoff_usec(1000, 1000000, 0) <= 20000000);
                longest = MAX(longest, backoff_usec(3, 10, 0));
        }
        assert_true(longest > 20);
        assert_int_equal(backoff_pause_usec(1, 0, 100), 0);
        for (int i = 0; i < 1000; i++) {
                const uint64_t first = backoff_pause_usec(1, 2000, 300000);
                const uint64_t third = backoff_pause_usec(3, 2000, 300000);
                const uint64_t last = backoff_pause_usec(1000, 2000, 300000);
                assert_true(first >= 2000 && first <= 2500);
                assert_true(third >= 8000 && third <= 10000);
                assert_true(last >= 240000 && last <= 300000);
        }
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(json_form, setup, teardown),
                cmocka_unit_test_setup_teardown(query_form, setup, teardown),
                cmocka_unit_test_setup_teardown(answers, setup, teardown),
                cmocka_unit_test_setup_teardown(clock_stays_corrected, setup, teardown),
                cmocka_unit_test_setup_teardown(stalls, setup, teardown),
                cmocka_unit_test_setup_teardown(cancels, setup, teardown),
                cmocka_unit_test_setup_teardown(waits_as_asked, setup, teardown),
                cmocka_unit_test_setup_teardown(refused_connection, setup, teardown),
                cmocka_unit_test_setup_teardown(unresolved_name, setup, teardown),
                cmocka_unit_test_setup_teardown(own_size, setup, teardown),
                cmocka_unit_test(backoffs),
        };

        fault_server_start(&server, serve);
        int r = cmocka_run_group_tests(tests, NULL, NULL);
        fault_server_stop(&server);
        return r;
}
