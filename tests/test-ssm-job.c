/* SPDX-License-Identifier: Apache-2.0 */
#include "test.h"

#include "ssm-job.h"

#define ID "aws.ssm.d33816ed-cfc8-47f1-9f7f-153dcebcfd87.i-0123456789abcdef0"

static int parse(const char *text, SsmJob *ret, char **reterr)
{
        return ssm_job_parse(text, strlen(text), ret, reterr);
}

static void jobs(void **state)
{
        static const char *const same[] = {
                "{\"schemaVersion\":1,\"jobId\":\"" ID "\",\"topic\":\"aws.ssm.sendCommand.us.east."
                "1.1\",\"content\":\"{\\\"a\\\":\\n1}\"}",
                "{\"JobId\":\"" ID "\",\"Topic\":\"aws.ssm.sendCommand.us.east.1.1\",\"CONTENT\":"
                "\"{\\\"a\\\":\\n1}\",\"more\":{\"jobId\":[1]}}",
        };

        (void) state;
        for (size_t i = 0; i < ELEMENTSOF(same); i++) {
                _cleanup_(ssm_job_done) SsmJob j = {};
                assert_int_equal(parse(same[i], &j, NULL), 0);
                assert_string_equal(j.id, ID);
                assert_string_equal(j.topic, "aws.ssm.sendCommand.us.east.1.1");
                assert_string_equal(j.content, "{\"a\":\n1}");
                assert_string_equal(j.destination, "i-0123456789abcdef0");
        }
        _cleanup_(ssm_job_done) SsmJob whole = {};
        assert_int_equal(parse("{\"jobId\":\"x\",\"topic\":\"t\",\"content\":\"\"}", &whole, NULL),
                         0);
        assert_string_equal(whole.destination, "x");
}

static void bad_jobs(void **state)
{
        static const struct {
                const char *text, *err;
                bool has_id;
        } table[] = {
                {"",                                                                     "",                                     false},
                { "{",                                                                   "",                                     false},
                { "[]",                                                                  "must be an object, is an array",       false},
                { "{}",                                                                  "jobId: missing",                       false},
                { "{\"jobId\":1}",                                                       "jobId: must be a string, is a number", false},
                { "{\"jobId\":\"\"}",                                                    "jobId: must not be empty",             false},
                { "{\"jobId\":\"a\\nb\"}",                                               "jobId: holds a control character",     false},
                { "{\"jobId\":\"a\",\"JOBID\":\"b\"}",                                   "jobId: comes twice",                   false},
                { "{\"jobId\":\"a\"}",                                                   "topic: missing",                       true },
                { "{\"jobId\":\"a\",\"topic\":null}",                                    "topic: must be a string, is null",     true },
                { "{\"jobId\":\"a\",\"topic\":\"t\"}",                                   "content: missing",                     true },
                { "{\"jobId\":\"a\",\"topic\":\"t\",\"content\":{}}",                    "content: must be a string",
                 true                                                                                                                 },
                { "{\"jobId\":\"a\",\"topic\":\"t\",\"content\":\"\",\"Content\":\"\"}",
                 "content: comes twice",                                                                                         true },
        };

        (void) state;
        for (size_t i = 0; i < ELEMENTSOF(table); i++) {
                _cleanup_(ssm_job_done) SsmJob j = {};
                _cleanup_free_ char *err = NULL;
                assert_int_equal(parse(table[i].text, &j, &err), -EBADMSG);
                if (!strstr(err, table[i].err) || (j.id != NULL) != table[i].has_id)
                        fail_msg("%s: %s", table[i].text, err);
        }
}

static void too_large(void **state)
{
        static const char start[] = "{\"jobId\":\"a\",\"topic\":\"t\",\"content\":\"";
        static char text[sizeof(start) + SSM_MESSAGE_SIZE_MAX + 10];
        _cleanup_(ssm_job_done) SsmJob j = {};
        _cleanup_free_ char *err = NULL;

        (void) state;
        memset(text, 'x', (sizeof(start) - 1) + SSM_MESSAGE_SIZE_MAX + 1);
        memcpy(text, start, (sizeof(start) - 1));
        memcpy(text + (sizeof(start) - 1) + SSM_MESSAGE_SIZE_MAX + 1, "\"}", 3);
        assert_int_equal(parse(text, &j, &err), -EBADMSG);
        assert_string_equal(err, "content: is longer than 1048576 bytes");
}

static void acks(void **state)
{
        static const SsmMessage m = {
                .id = ID,
                .created = "2026-11-22T14:05:49.509Z",
                .frame_id = "01234567-89ab-4cde-8f01-23456789abcd",
        };
        static const char *const codes[] = {
                "\"200\",\"errorMessage\":\"Successful\"}",
                "\"51405\",\"errorMessage\":\"DuplicateCommand\"}",
                "\"51408\",\"errorMessage\":\"AgentJobMessageParseError\"}",
                "\"51403\",\"errorMessage\":\"UnexpectedDocumentType\"}",
        };
        static const char start[] =
                "{\"jobId\":\"" ID "\",\"acknowledgedMessageId\":\"01234567-89ab-"
                "4cde-8f01-23456789abcd\",\"createdDate\":\"2026-11-22T14:05:49"
                ".509Z\",\"statusCode\":";

        (void) state;
        for (SsmReceipt i = SSM_RECEIPT_TAKEN; i <= SSM_RECEIPT_NO_HANDLER; i++) {
                _cleanup_free_ char *text = NULL;
                assert_int_equal(ssm_job_format_ack(&m, i, &text), 0);
                assert_memory_equal(text, start, sizeof(start) - 1);
                assert_string_equal(text + sizeof(start) - 1, codes[i]);
        }
}

static void replies(void **state)
{
        _cleanup_free_ char *text = NULL, *err = NULL;
        char id[UUID_TEXT_SIZE];
        const char *ack = "{\"JobId\":1,\"AcknowledgedMessageId\":"
                          "\"01234567-89AB-4cde-8f01-23456789abcd\"}";

        (void) state;
        assert_int_equal(ssm_job_format_reply(&(SsmReply){ .message_id = ID,
                                                           .topic = "aws.ssm.cancelCommand",
                                                           .payload = "{\"a\":\"\n\"}" },
                                              &text),
                         0);
        assert_string_equal(text,
                            "{\"schemaVersion\":1,\"jobId\":\"" ID "\",\"content\":\"{\\\"a\\\":"
                            "\\\"\\n\\\"}\",\"topic\":\"aws.ssm.cancelCommand\"}");
        assert_int_equal(ssm_job_parse_reply_ack(ack, strlen(ack), id, NULL), 0);
        assert_string_equal(id, "01234567-89ab-4cde-8f01-23456789abcd");
        assert_int_equal(ssm_job_parse_reply_ack("{\"acknowledgedMessageId\":\"x\"}", 29, id, &err),
                         -EBADMSG);
        assert_string_equal(err, "acknowledgedMessageId: is no UUID");
        assert_int_equal(ssm_job_parse_reply_ack("{}", 2, id, NULL), -EBADMSG);
        assert_int_equal(ssm_job_parse_reply_ack("<a/>", 4, id, NULL), -EBADMSG);
}

static void times(void **state)
{
        char text[SSM_TIME_SIZE];

        (void) state;
        assert_string_equal(ssm_time_format(UINT64_C(1795356349509), text),
                            "2026-11-22T14:05:49.509Z");
        assert_string_equal(ssm_time_format(7, text), "1970-01-01T00:00:00.007Z");
        assert_string_equal(ssm_time_format(UINT64_MAX, text), "9999-12-31T23:59:59.615Z");
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(jobs), cmocka_unit_test(bad_jobs), cmocka_unit_test(too_large),
                cmocka_unit_test(acks), cmocka_unit_test(replies),  cmocka_unit_test(times),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
