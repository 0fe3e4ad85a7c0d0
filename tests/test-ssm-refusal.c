/* SPDX-License-Identifier: Apache-2.0 */
#include "test.h"

#include "ssm-refusal.h"

static void forms(void **state)
{
        static const struct {
                unsigned status;
                const char *body;
                int result;
                AwsVerdict verdict;
                const char *code, *message;
        } table[] = {
                {400,  "<AccessDeniedException><Message>no\nway</Message></AccessDeniedException>",
                 -EACCES,                                                                                                              AWS_DENIED,    "AccessDeniedException",     "no way"          },
                { 400, "<AccessDeniedException/>",                                                                         -EACCES,    AWS_DENIED,    "AccessDeniedException",
                 ""                                                                                                                                                                                  },
                { 200, "<AccessDeniedException><Mess",                                                                     -EACCES,    AWS_DENIED,    "AccessDeniedException",
                 ""                                                                                                                                                                                  },
                { 400, "<BadRequest xmlns=\"\"><message>it is Throttling</message></BadRequest>",
                 -EBUSY,                                                                                                               AWS_THROTTLED, "BadRequest",                "it is Throttling"},
                { 400, "<BadRequest xmlns=\"\"><message>bad</message></BadRequest>",                                       -EREMOTEIO,
                 AWS_FINAL,                                                                                                                           "BadRequest",                "bad"             },
                { 400,
                 "<ErrorResponse><Error><Code>ExpiredTokenException</Code><Message>old</Message></Error></ErrorResponse>",
                 -EACCES,                                                                                                              AWS_REFUSED,   "ExpiredTokenException",     "old"             },
                { 403, "{\"__type\":\"x#InvalidSignatureException\",\"message\":\"m\"}",                                   -EACCES,
                 AWS_REFUSED,                                                                                                                         "InvalidSignatureException", "m"               },
                { 403, "",                                                                                                 -EACCES,    AWS_DENIED,    "",                          ""                },
                { 503, "<html><hr></html>",                                                                                -EBUSY,     AWS_THROTTLED, "",                          ""                },
                { 502, "<HTML><body>Bad Gateway</body></HTML>",                                                            -EBUSY,     AWS_TRANSIENT, "",                          ""                },
                { 500, "{}",                                                                                               -EBUSY,     AWS_TRANSIENT, "",                          ""                },
                { 302, "moved",                                                                                            -EREMOTEIO, AWS_FINAL,     "",                          ""                },
        };

        (void) state;
        for (size_t i = 0; i < ELEMENTSOF(table); i++) {
                _cleanup_(ssm_refusal_done) SsmRefusal f = {};
                assert_int_equal(ssm_refusal_parse(table[i].status, table[i].body,
                                                   strlen(table[i].body), &f),
                                 0);
                assert_int_equal(f.result, table[i].result);
                assert_int_equal(f.verdict, table[i].verdict);
                assert_string_equal(f.error.code, table[i].code);
                assert_string_equal(f.error.message, table[i].message);
        }
}

static void long_message(void **state)
{
        static char body[2000];
        _cleanup_(ssm_refusal_done) SsmRefusal f = {};

        (void) state;
        (void) strcpy(body, "<A><message>");
        memset(body + 12, 'x', 1000);
        (void) strcpy(body + 1012, "</message></A>");
        assert_int_equal(ssm_refusal_parse(400, body, strlen(body), &f), 0);
        assert_int_equal(strlen(f.error.message), 512);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(forms),
                cmocka_unit_test(long_message),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
