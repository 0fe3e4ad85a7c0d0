/* SPDX-License-Identifier: Apache-2.0 */
#include "test.h"

#include <stdlib.h>

#include "ssm-sign.h"

#define PATH "/v1/control-channel/i-0123456789abcdef0"

/* What an unmodified amazon-ssm-agent 3.3.0.0 sent to a server on its host, with throw-away
 * credentials. */
static void as_the_other_agent(void **state)
{
        static const struct {
                const char *key, *secret, *token;
                SsmHttpRequest request;
                const char *date, *authorization;
        } table[] = {
                {"AKIDEXAMPLE",
                 "secret", NULL,
                 { .method = "POST",
                    .path = PATH,
                    .content_type = "application/json",
                    .body = "{\"MessageSchemaVersion\":\"1.0\",\"RequestId\":\"da58cc9c-eab0-428d-"
                            "bd9c-9a5dbe7f7141\"}",
                    .time = 1795356509 },
                 "20261122T140829Z", "SignedHeaders=content-type;host;x-amz-date, Signature="
                  "20359c5a334f4b9b4fc540d9576b7fcad990a4147ad3cc16d92f8e31e1637a71"},
                { "ASIAX",
                 "sk",     "tok",
                 { .method = "POST",
                    .path = PATH,
                    .content_type = "application/json",
                    .body = "{\"MessageSchemaVersion\":\"1.0\",\"RequestId\":\"fc656e57-0ab0-42d9-"
                            "8e58-1a5a3408733a\"}",
                    .time = 1795356708 },
                 "20261122T141148Z", "SignedHeaders=content-type;host;x-amz-date;x-amz-security-token, Signature="
                  "3dd09c18f38bbbd2a74b91eba3f85cde69443ea346b9b53de0618654bc4de2fb"},
                { "AKIDEXAMPLE",
                 "secret", NULL,
                 { .method = "GET",
                    .path = PATH,
                    .query = "role=subscribe&stream=input",
                    .time = 1795356509 },
                 "20261122T140829Z", "SignedHeaders=host;x-amz-date, Signature="
                  "468ce46066917038318d50131e3f4a686cd45db672f7d888add973cd542878e4"},
        };
        const AwsEndpoint endpoint = {
                .region = (char *) "us-east-1",
                .url = (char *) "https://127.0.0.1:18443",
                .host = "127.0.0.1:18443",
        };

        (void) state;
        for (size_t i = 0; i < ELEMENTSOF(table); i++) {
                _cleanup_(credentials_source_freep) CredentialsSource *credentials = NULL;
                _cleanup_(ssm_headers_done) SsmHeaders h = {};
                const char *values[4] = {}; /* in the order of `names` */
                static const char *const names[] = { "Host", "Authorization", "x-amz-date",
                                                     "x-amz-security-token" };
                assert_int_equal(setenv("AWS_ACCESS_KEY_ID", table[i].key, 1), 0);
                assert_int_equal(setenv("AWS_SECRET_ACCESS_KEY", table[i].secret, 1), 0);
                assert_int_equal(table[i].token ? setenv("AWS_SESSION_TOKEN", table[i].token, 1)
                                                : unsetenv("AWS_SESSION_TOKEN"),
                                 0);
                assert_int_equal(credentials_source_new(&credentials, NULL), 0);
                assert_int_equal(ssm_sign(&table[i].request, &endpoint, credentials, &h, NULL), 0);
                for (size_t k = 0; k < h.n; k++)
                        for (size_t n = 0; n < ELEMENTSOF(names); n++)
                                if (streq(h.headers[k].name, names[n]))
                                        values[n] = h.headers[k].value;
                assert_string_equal(values[0], "127.0.0.1:18443");
                assert_non_null(strstr(values[1], "/us-east-1/ssmmessages/aws4_request, "));
                assert_string_equal(strstr(values[1], "SignedHeaders"), table[i].authorization);
                assert_string_equal(values[2], table[i].date);
                assert_true(streq_ptr(values[3], table[i].token));
        }
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(as_the_other_agent),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
