/* SPDX-License-Identifier: Apache-2.0 */
#include "test.h"

#include "aws-error.h"

static void forms(void **state)
{
        static const struct {
                const char *header, *body, *code, *message;
        } table[] = {
                {NULL,                                                       "{\"__type\":\"NotFoundException\",\"message\":\"no key\"}",
                 "NotFoundException",                                                                                                                              "no key"  },
                { NULL,
                 "{\"__type\":\"com.amazonaws.kms#DisabledException\",\"Message\":\"off\",\"x\":[1]}",
                 "DisabledException",                                                                                                                              "off"     },
                { "AccessDeniedException:http://internal.amazon.com/coral/", "{\"message\":\"no\"}",
                 "AccessDeniedException",                                                                                                                          "no"      },
                { "Header",                                                  "{\"__type\":\"Body\"}",                                     "Header",                ""        },
                { NULL,
                 "<ErrorResponse xmlns=\"x\"><Error><Type>Sender</Type><Code>ExpiredToken</Code>"
                  "<Message>too\nlate</Message></Error><RequestId>r</RequestId></ErrorResponse>",                                         "ExpiredToken",          "too late"},
                { NULL,
                 "<?xml version=\"1.0\"?>\n<Response><Errors><Error><Code>UnauthorizedOperation"
                  "</Code><Message>&lt;no&gt;</Message></Error></Errors></Response>",                                                     "UnauthorizedOperation", "<no>"    },
                { NULL,                                                      "",                                                          "",                      ""        },
                { NULL,                                                      "<html><body>502 Bad Gateway</body></html>",                 "",                      ""        },
                { NULL,                                                      "{\"__type\":5,\"message\":{}}",                             "",                      ""        },
                { NULL,                                                      "[\"__type\"]",                                              "",                      ""        },
                { NULL,                                                      "{\"__type\":\"Cut",                                         "",                      ""        },
        };

        (void) state;
        for (size_t i = 0; i < ELEMENTSOF(table); i++) {
                _cleanup_(aws_error_done) AwsError e = {};
                assert_int_equal(aws_error_parse_parts(table[i].header, table[i].body,
                                                       strlen(table[i].body), &e),
                                 0);
                assert_string_equal(e.code, table[i].code);
                assert_string_equal(e.message, table[i].message);
        }
}

static void long_message(void **state)
{
        _cleanup_(aws_error_done) AwsError e = {};
        char body[2000];
        int n = snprintf(body, sizeof(body), "{\"message\":\"%01500d\"}", 0);

        (void) state;
        assert_int_equal(aws_error_parse_parts(NULL, body, (size_t) n, &e), 0);
        assert_int_equal(strlen(e.message), 512);
}

static void verdicts(void **state)
{
        (void) state;
        assert_int_equal(aws_error_judge(400, "ThrottlingException"), AWS_THROTTLED);
        assert_int_equal(aws_error_judge(400, "AuthorizationFailureException"), AWS_DENIED);
        assert_int_equal(aws_error_judge(503, ""), AWS_THROTTLED);
        assert_int_equal(aws_error_judge(429, "Other"), AWS_THROTTLED);
        assert_int_equal(aws_error_judge(500, "KMSInternalException"), AWS_TRANSIENT);
        assert_int_equal(aws_error_judge(504, ""), AWS_TRANSIENT);
        assert_int_equal(aws_error_judge(400, "AccessDeniedException"), AWS_DENIED);
        assert_int_equal(aws_error_judge(403, ""), AWS_DENIED);
        assert_int_equal(aws_error_judge(403, "InvalidClientTokenId"), AWS_REFUSED);
        assert_int_equal(aws_error_judge(401, "AuthFailure"), AWS_REFUSED);
        assert_int_equal(aws_error_judge(400, "NotFoundException"), AWS_FINAL);
        assert_int_equal(aws_error_judge(302, ""), AWS_FINAL);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(forms),
                cmocka_unit_test(long_message),
                cmocka_unit_test(verdicts),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
