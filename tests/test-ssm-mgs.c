/* SPDX-License-Identifier: Apache-2.0 */
#include "test.h"

#include <stdlib.h>
#include <time.h>

#include "json-read.h"
#include "ssm-frame.h"
#include "ssm-mgs.h"
#include "ws-frame.h"
#include "ws-server.h"

#define ZEROS    "00000000-0000-4000-8000-000000000000"
#define FRAME_ID "01234567-89ab-4cde-8f01-23456789abcd"
#define REPLY_ID "76543210-89ab-4cde-8f01-23456789abcd"
#define CREATED  UINT64_C(1795356349509)

static FaultServer server;
static WsFrame frame; /* of the server's processes */

/* scratch[] of the server */
enum {
        N_TOKENS,    /* how often it was asked for one */
        N_SOCKETS,   /* and for a websocket */
        ACK_CODE,    /* of the last acknowledgement */
        WRONG,       /* something was not as it should be: its line */
        GOODBYE,     /* status of the client's close */
        CREDENTIALS, /* how often they were asked for */
};

static int get(int what)
{
        return atomic_load(&server.counts->scratch[what]);
}

static int count(int what)
{
        return atomic_fetch_add(&fault_counts()->scratch[what], 1);
}

#define expect(condition)                                                        \
        ({                                                                       \
                if (!(condition))                                                \
                        atomic_store(&fault_counts()->scratch[WRONG], __LINE__); \
        })

static void answer(const FaultRequest *q, int status, const char *headers, const char *text)
{
        fault_answer(q, status, headers, text, strlen(text));
}

static void send_message(const FaultRequest *q, const char *type, const char *payload)
{
        SsmFrame f = { .id = FRAME_ID,
                       .created_msec = CREATED,
                       .payload = payload,
                       .payload_size = strlen(payload) };
        void *data;
        size_t size;

        (void) snprintf(f.type, sizeof(f.type), "%s", type);
        expect(ssm_frame_pack(&f, &data, &size) == 0);
        ws_write(q, WS_FIN | WS_BINARY, data, size);
        free(data);
}

#define JOB(id)                                                                                  \
        "{\"schemaVersion\":1,\"jobId\":\"aws.ssm." id ".i-x\",\"topic\":\"aws.ssm.sendCommand." \
        "us.east.1.1\",\"content\":\"{\\\"a\\\":1}\"}"

/* Reads the next message of the client; the JSON is to be freed. NULL: it closed. */
static cJSON *read_message(const FaultRequest *q, SsmFrame *ret)
{
        while (ws_read(q, &frame)) {
                if (frame.first == (WS_FIN | WS_BINARY)) {
                        cJSON *o;
                        expect(ssm_frame_unpack(frame.data, frame.size, ret, NULL) == 0);
                        expect(ret->digest_holds);
                        o = cJSON_Parse(ret->payload);
                        expect(o);
                        return o;
                }
                if (frame.first == (WS_FIN | WS_CLOSE))
                        atomic_store(&fault_counts()->scratch[GOODBYE],
                                     (uint8_t) frame.data[0] << 8 | (uint8_t) frame.data[1]);
        }
        return NULL;
}

static const char *text_of(const cJSON *o, const char *name)
{
        return strempty(cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(o, name)));
}

static void read_ack(const FaultRequest *q, const char *job_id)
{
        SsmFrame f = {};
        _cleanup_json_ cJSON *o = read_message(q, &f);

        if (!o)
                return;
        expect(streq(f.type, "agent_job_ack"));
        expect(streq(text_of(o, "jobId"), job_id));
        expect(streq(text_of(o, "acknowledgedMessageId"), FRAME_ID));
        expect(streq(text_of(o, "createdDate"), "2026-11-22T14:05:49.509Z"));
        atomic_store(&fault_counts()->scratch[ACK_CODE], atoi(text_of(o, "statusCode")));
}

/* What is not a command for us, then one that is. */
static void serve_noise(const FaultRequest *q)
{
        ws_write(q, WS_FIN | WS_TEXT, "{}", 2);
        ws_write(q, WS_FIN | WS_BINARY, "short", 5);
        send_message(q, "interactive_shell", "{}");
        send_message(q, "agent_job", "no JSON");
        send_message(q, "agent_job", "{}");
        send_message(q, "agent_job_reply_ack", "{}");
        send_message(q, "agent_job_reply_ack",
                     "{\"jobId\":\"x\",\"acknowledgedMessageId\":\"" FRAME_ID "\"}");
        send_message(q, "agent_job", "{\"jobId\":\"aws.ssm.c.i-x\"}");
        read_ack(q, "aws.ssm.c.i-x");
        expect(atomic_load(&fault_counts()->scratch[ACK_CODE]) == 51408);
        send_message(q, "agent_job", JOB("ok"));
        read_ack(q, "aws.ssm.ok.i-x");
}

static void serve_replies(const FaultRequest *q, bool acknowledge)
{
        SsmFrame f = {};

        for (;;) {
                _cleanup_json_ cJSON *o = read_message(q, &f);
                char ack[256];
                if (!o)
                        return;
                expect(streq(f.type, "agent_job_reply") && streq(f.id, REPLY_ID));
                expect(streq(text_of(o, "jobId"), "aws.ssm.c.i-x"));
                expect(streq(text_of(o, "content"), "{\"b\":\"\xc3\xa4\"}"));
                expect(streq(text_of(o, "topic"), "aws.ssm.sendCommand"));
                (void) snprintf(ack, sizeof(ack),
                                "{\"jobId\":\"aws.ssm.c.i-x\",\"acknowledgedMessageId\":\"%s\"}",
                                acknowledge ? f.id : ZEROS);
                send_message(q, "agent_job_reply_ack", ack);
        }
}

/* Acknowledges a reply when something else has come. */
static void serve_late(const FaultRequest *q)
{
        SsmFrame f = {};
        char ack[256];

        cJSON_Delete(read_message(q, &f));
        (void) snprintf(ack, sizeof(ack), "{\"acknowledgedMessageId\":\"%s\"}", f.id);
        cJSON_Delete(read_message(q, &f));
        send_message(q, "agent_job_reply_ack", ack);
}

static bool serve_socket(const FaultRequest *q, const char *name)
{
        _cleanup_json_ cJSON *o = NULL;
        const bool first = count(N_SOCKETS) == 0;

        if (streq(name, "wrong-key")) {
                const char *text = "HTTP/1.1 101 x\r\nUpgrade: websocket\r\nConnection: upgrade\r\n"
                                   "Sec-WebSocket-Accept: x\r\n\r\n";
                fault_write(q, text, strlen(text));
                return false;
        }
        if (streq(name, "forbidden")) {
                answer(q, 403, "",
                       "<AccessDeniedException><Message>no</Message>"
                       "</AccessDeniedException>");
                return false;
        }
        ws_accept(q, "");
        if (!ws_read(q, &frame))
                return false;
        expect(frame.first == (WS_FIN | WS_TEXT));
        o = cJSON_Parse(frame.data);
        expect(cJSON_IsNull(cJSON_GetObjectItem(o, "Cookie")));
        expect(streq(text_of(o, "MessageSchemaVersion"), "1.0"));
        expect(strlen(text_of(o, "RequestId")) == 36);
        expect(streq(text_of(o, "TokenValue"), "a<token>"));
        expect(strchr(text_of(o, "AgentVersion"), '.'));
        expect(streq(text_of(o, "PlatformType"), "linux"));
        if (streq(name, "noise"))
                serve_noise(q);
        else if (streq(name, "reply"))
                serve_replies(q, true);
        else if (streq(name, "no-ack"))
                serve_replies(q, false);
        else if (streq(name, "late"))
                serve_late(q);
        else if (streq(name, "half-open"))
                fault_stall(q);
        else if (streq(name, "large")) {
                static char large[SSM_MESSAGE_SIZE_MAX + 65536 + 1];
                ws_write(q, WS_FIN | WS_BINARY, large, sizeof(large));
        } else if (streq(name, "drop") && first)
                return false;
        else if (streq(name, "drop-reply")) {
                (void) ws_read(q, &frame);
                return false;
        }
        for (int i = 0; i < 4 && streq(name, "jobs"); i++) {
                send_message(q, "agent_job", JOB("c"));
                read_ack(q, "aws.ssm.c.i-x");
        }
        cJSON_Delete(read_message(q, &(SsmFrame){}));
        return false;
}

#define TOKEN                                                                                     \
        "<?xml version=\"1.0\"?><CreateControlChannelResponse xmlns=\"x\"><MessageSchemaVersion>" \
        "1.0</MessageSchemaVersion><TokenValue>a&lt;token&gt;</TokenValue>"                       \
        "</CreateControlChannelResponse>"

static void serve_skewed(const FaultRequest *q)
{
        const time_t theirs = time(NULL) - 3600;
        _cleanup_free_ char *signed_at = fault_header(q, "x-amz-date");
        char date[64], hour[16];
        struct tm tm;

        (void) gmtime_r(&theirs, &tm);
        (void) strftime(hour, sizeof(hour), "%Y%m%dT%H", &tm);
        (void) strftime(date, sizeof(date), "Date: %a, %d %b %Y %H:%M:%S GMT\r\n", &tm);
        if (strncmp(signed_at, hour, strlen(hour)) == 0)
                answer(q, 201, "", TOKEN);
        else
                answer(q, 403, date, "<InvalidSignatureException/>");
}

static bool serve_token(const FaultRequest *q, const char *name)
{
        static const struct {
                const char *name;
                int status;
                const char *body;
        } table[] = {
                {"denied",       400,
                 "<AccessDeniedException><Message>nobody may</Message></AccessDeniedException>"    },
                { "throttled",   400,
                 "<BadRequest xmlns=\"\"><message>throttling it</message></BadRequest>"            },
                { "two-hundred", 200, TOKEN                                                        },
                { "html",        201, "<html><br>"                                                 },
                { "empty",       201, ""                                                           },
                { "tokenless",   201, "<A><TokenValue></TokenValue></A>"                           },
                { "two",         201, "<A><TokenValue>a</TokenValue><TokenValue>b</TokenValue></A>"},
                { "broken",      500, ""                                                           },
                { "expired",     400, "{\"__type\":\"ExpiredTokenException\",\"message\":\"old\"}" },
        };
        _cleanup_free_ char *authorization = fault_header(q, "Authorization"),
                            *type = fault_header(q, "Content-Type");
        const int n = count(N_TOKENS);

        expect(strncmp(q->body, "{\"MessageSchemaVersion\":\"1.0\",\"RequestId\":\"", 42) == 0);
        expect(q->body_size == 81);
        expect(streq(strempty(type), "application/json"));
        expect(strstr(strempty(authorization), "/eu-central-1/ssmmessages/aws4_request"));
        if (streq(name, "reset"))
                return false;
        if (streq(name, "flaky") && n < 2) {
                answer(q, 503, "", "");
                return true;
        }
        if (streq(name, "rotated") && strstr(authorization, "Credential=KEY0/")) {
                answer(q, 400, "", "<ExpiredTokenException/>");
                return true;
        }
        if (streq(name, "skewed")) {
                serve_skewed(q);
                return true;
        }
        for (size_t i = 0; i < ELEMENTSOF(table); i++)
                if (streq(name, table[i].name)) {
                        answer(q, table[i].status, "", table[i].body);
                        return true;
                }
        answer(q, 201, "", TOKEN);
        return true;
}

static bool serve(const FaultRequest *q)
{
        char name[64], text[256];

        if (strncmp(q->head, "GET /credentials ", 17) == 0) {
                (void) snprintf(text, sizeof(text),
                                "{\"AccessKeyId\":\"KEY%d\",\"SecretAccessKey\":\"s\","
                                "\"Token\":\"t\",\"Expiration\":\"2099-01-01T00:00:00Z\"}",
                                count(CREDENTIALS));
                answer(q, 200, "", text);
                return true;
        }
        if (sscanf(q->head, "POST /v1/control-channel/i-%63[^ ] HTTP/1.1", name) == 1)
                return serve_token(q, name);
        if (sscanf(q->head, "GET /v1/control-channel/i-%63[^?]", name) == 1) {
                expect(strstr(q->head, "?role=subscribe&stream=input HTTP/1.1\r\nHost: 127."));
                expect(strstr(q->head, "SignedHeaders=host;x-amz-date"));
                return serve_socket(q, name);
        }
        return false;
}

typedef struct Peer {
        Http *http;
        CredentialsSource *credentials;
        SsmMgs *mgs;
        int n_states, result; /* of state() */
        char *why;
        int n_messages;
        bool no_receipt;
        int n_replied, reply_result;
        char *reply_why;
        bool reply_again;
} Peer;

static void on_message(const SsmMessage *m, void *userdata)
{
        Peer *p = userdata;

        assert_non_null(m->id);
        assert_string_equal(m->topic, "aws.ssm.sendCommand.us.east.1.1");
        assert_string_equal(m->destination, "i-x");
        assert_string_equal(m->created, "2026-11-22T14:05:49.509Z");
        assert_string_equal(m->payload, "{\"a\":1}");
        assert_string_equal(m->frame_id, FRAME_ID);
        assert_null(m->digest);
        ssm_mgs_receipt(p->mgs, m, p->n_messages++ % 4);
}

static void on_state(int result, const char *why, void *userdata)
{
        Peer *p = userdata;

        p->n_states++;
        p->result = result;
        free(p->why);
        p->why = why ? strdup(why) : NULL;
        assert_true((result < 0) == (why != NULL));
}

static int reply(Peer *p, const char *payload);

static void on_replied(const char *id, int result, const char *why, void *userdata)
{
        Peer *p = userdata;

        if (!streq(id, REPLY_ID)) {
                assert_int_equal(result, 0); /* what the service makes up */
                return;
        }
        p->n_replied++;
        p->reply_result = result;
        free(p->reply_why);
        p->reply_why = why ? strdup(why) : NULL;
        assert_true((result < 0) == (why != NULL));
        if (p->reply_again)
                assert_int_equal(reply(p, "{}"), 0);
}

static int reply(Peer *p, const char *payload)
{
        const int n_before = p->n_replied;
        int r = ssm_mgs_reply(p->mgs, &(SsmReply){ .message_id = "aws.ssm.c.i-x",
                                                   .id = REPLY_ID,
                                                   .topic = "aws.ssm.sendCommand",
                                                   .payload = payload });

        assert_int_equal(p->n_replied, n_before);
        return r;
}

static const SsmMgsLimits limits_of_tests = {
        .socket = {.connect_sec = 10,
                   .open_msec = 10000,
                   .ping_msec = 10000,
                   .silence_msec = 10000,
                   .close_msec = 1000,
                   .message_size_max = SSM_MESSAGE_SIZE_MAX + 65536},
        .token_msec = 10000,
        .lost_msec = 5,
        .retry_msec = 2,
        .retry_max_msec = 20,
        .worked_msec = 60000,
        .reply_msec = 10000,
};

static int setup(void **state)
{
        Peer *p = calloc(1, sizeof(Peer));
        char endpoint[64];

        (void) snprintf(endpoint, sizeof(endpoint), "http://127.0.0.1:%u", server.port);
        assert_int_equal(setenv("AWS_ENDPOINT_URL_SSMMESSAGES", endpoint, 1), 0);
        assert_int_equal(setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE", 1), 0);
        assert_int_equal(setenv("AWS_SECRET_ACCESS_KEY", "secret", 1), 0);
        for (size_t i = 0; i < ELEMENTSOF(server.counts->scratch); i++)
                atomic_store(&server.counts->scratch[i], 0);
        assert_int_equal(http_new(NULL, &p->http), 0);
        *state = p;
        return 0;
}

static int teardown(void **state)
{
        Peer *p = *state;

        (void) ssm_mgs_free(p->mgs);
        (void) credentials_source_free(p->credentials);
        (void) http_free(p->http);
        free(p->why);
        free(p->reply_why);
        free(p);
        if (get(WRONG) > 0)
                fail_msg("the server did not expect what it got: line %d", get(WRONG));
        return 0;
}

static void open_as(Peer *p, const char *instance, const SsmMgsLimits *limits)
{
        assert_int_equal(credentials_source_new(&p->credentials, NULL), 0);
        assert_int_equal(
                ssm_mgs_new(p->http, p->credentials,
                            &(SsmIdentity){ .instance = instance, .region = "eu-central-1" },
                            &(SsmChannelCallbacks){ .message = on_message,
                                                    .state = on_state,
                                                    .replied = on_replied },
                            p, &p->mgs, NULL),
                0);
        ssm_mgs_set_limits(p->mgs, limits);
}

static void step(Peer *p)
{
        assert_int_equal(http_step(p->http, -1, ssm_mgs_due_in_usec(p->mgs)), 0);
        ssm_mgs_start_due(p->mgs);
}

static void open_and_wait(Peer *p, const char *instance, const SsmMgsLimits *limits)
{
        open_as(p, instance, limits);
        while (p->n_states == 0)
                step(p);
        if (p->result < 0)
                fail_msg("%s: %s", instance, p->why);
}

static void receipts(void **state)
{
        static const int codes[] = { 200, 51405, 51408, 51403 };
        Peer *p = *state;

        open_and_wait(p, "i-jobs", &limits_of_tests);
        for (size_t i = 0; i < ELEMENTSOF(codes); i++)
                while (get(ACK_CODE) != codes[i])
                        assert_int_equal(http_step(p->http, -1, 1000), 0);
        assert_int_equal(p->n_messages, 4);
        assert_int_equal(p->n_states, 1);
        p->mgs = ssm_mgs_free(p->mgs);
        while (get(GOODBYE) == 0)
                assert_int_equal(http_step(p->http, -1, 1000), 0);
        assert_int_equal(get(GOODBYE), WS_GOING_AWAY);
}

static void noise(void **state)
{
        Peer *p = *state;

        open_and_wait(p, "i-noise", &limits_of_tests);
        while (get(ACK_CODE) != 200)
                assert_int_equal(http_step(p->http, -1, 1000), 0);
        assert_int_equal(p->n_messages, 1);
        assert_int_equal(p->n_states, 1);
}

static void replies(void **state)
{
        Peer *p = *state;

        open_and_wait(p, "i-reply", &limits_of_tests);
        for (int i = 1; i < 4; i++) {
                assert_int_equal(reply(p, "{\"b\":\"\xc3\xa4\"}"), 0);
                while (p->n_replied < i)
                        step(p);
                assert_int_equal(p->reply_result, 0);
        }
        assert_int_equal(ssm_mgs_reply(p->mgs, &(SsmReply){ .id = "x" }), -EINVAL);
}

static void reply_too_large(void **state)
{
        static char large[SSM_MGS_REPLY_SIZE_MAX + 2];
        Peer *p = *state;

        memset(large, 'x', sizeof(large) - 1);
        open_and_wait(p, "i-reply", &limits_of_tests);
        assert_int_equal(reply(p, large), 0);
        while (p->n_replied < 1)
                step(p);
        assert_int_equal(p->reply_result, -EREMOTEIO);
        assert_string_equal(p->reply_why, "the reply has more than 120000 bytes");
}

static void reply_not_acknowledged(void **state)
{
        SsmMgsLimits hasty = limits_of_tests;
        Peer *p = *state;

        hasty.reply_msec = 50;
        open_and_wait(p, "i-no-ack", &hasty);
        assert_int_equal(reply(p, "{\"b\":\"\xc3\xa4\"}"), 0);
        while (p->n_replied < 1)
                step(p);
        assert_int_equal(p->reply_result, -ETIMEDOUT);
        assert_int_equal(p->n_states, 1);
        /* Another acknowledgement, of nothing: passed over. */
        assert_int_equal(reply(p, "{\"b\":\"\xc3\xa4\"}"), 0);
        while (p->n_replied < 2)
                step(p);
        assert_int_equal(p->reply_result, -ETIMEDOUT);
}

static void reply_acknowledged_late(void **state)
{
        static const SsmMessage message = { .id = "c", .created = "", .frame_id = FRAME_ID };
        SsmMgsLimits hasty = limits_of_tests;
        Peer *p = *state;

        hasty.reply_msec = 1;
        open_and_wait(p, "i-late", &hasty);
        assert_int_equal(reply(p, "{}"), 0);
        while (p->n_replied < 1)
                step(p);
        assert_int_equal(p->reply_result, -ETIMEDOUT);
        ssm_mgs_receipt(p->mgs, &message, SSM_RECEIPT_TAKEN);
        while (p->n_replied < 2)
                step(p);
        assert_int_equal(p->reply_result, 0);
}

static void reply_lost(void **state)
{
        Peer *p = *state;

        open_as(p, "i-drop-reply", &limits_of_tests);
        assert_int_equal(reply(p, "{}"), 0); /* before it is open */
        while (p->n_replied < 1)
                step(p);
        assert_int_equal(p->reply_result, -ENOTCONN);
        while (p->n_states == 0)
                step(p);
        assert_int_equal(p->result, 0);
        assert_int_equal(reply(p, "{}"), 0);
        while (p->n_replied < 2)
                step(p);
        assert_int_equal(p->reply_result, -EHOSTDOWN);
        assert_string_equal(p->reply_why, "the connection to the message gateway broke");
}

/* Whoever replies anew at each failure holds nothing up. */
static void reply_again(void **state)
{
        Peer *p = *state;

        open_as(p, "i-denied", &limits_of_tests);
        p->reply_again = true;
        assert_int_equal(reply(p, "{}"), 0);
        while (p->n_replied < 3 || p->n_states == 0)
                step(p);
        assert_int_equal(p->reply_result, -ENOTCONN);
}

static void failures(void **state)
{
        static const struct {
                const char *instance;
                int result;
                const char *why;
        } table[] = {
                {"i-denied",       -EACCES,
                 "can't open a control channel: AccessDeniedException: nobody may (status 400); this takes the permissions ssmmessages:CreateControlChannel and"},
                { "i-throttled",   -EBUSY,
                 "can't open a control channel: BadRequest: throttling it (status 400)"                                                                         },
                { "i-two-hundred", -EPROTO,    "answered with status 200, not with 201 and a token"                                                             },
                { "i-html",        -EPROTO,    "answered without a token"                                                                                       },
                { "i-empty",       -EPROTO,    "answered without a token"                                                                                       },
                { "i-tokenless",   -EPROTO,    "answered without a token"                                                                                       },
                { "i-two",         -EPROTO,    "answered without a token"                                                                                       },
                { "i-broken",      -EBUSY,     " refused (status 500)"                                                                                          },
                { "i-expired",     -EACCES,
                 "ExpiredTokenException: old (status 400); the credentials in use are not taken"                                                                },
                { "i-reset",       -EHOSTDOWN, "can't open a control channel: no answer from 127.0.0.1"                                                         },
                { "i-wrong-key",   -EPROTO,    "can't open a control channel: 127.0.0.1:"                                                                       },
                { "i-forbidden",   -EACCES,
                 "AccessDeniedException: no (status 403); this takes the permissions"                                                                           },
        };

        for (size_t i = 0; i < ELEMENTSOF(table); i++) {
                Peer *p = *state;
                open_as(p, table[i].instance, &limits_of_tests);
                while (get(N_TOKENS) < 3) /* it goes on trying */
                        step(p);
                if (p->result != table[i].result || !strstr(p->why, table[i].why))
                        fail_msg("%s: %d, %s", table[i].instance, p->result, p->why);
                /* The same is said once. */
                assert_int_equal(p->n_states, 1);
                assert_int_equal(teardown(state), 0);
                assert_int_equal(setup(state), 0);
        }
}

static void works_at_last(void **state)
{
        Peer *p = *state;

        open_as(p, "i-flaky", &limits_of_tests);
        while (p->n_states == 0 || p->result < 0)
                step(p);
        assert_int_equal(get(N_TOKENS), 3);
        assert_int_equal(p->n_states, 2);
}

/* Doubling waits are not from its own start: the first is at least retry_msec. */
static void backs_off(void **state)
{
        SsmMgsLimits slow = limits_of_tests;
        Peer *p = *state;

        slow.retry_msec = 100000;
        slow.retry_max_msec = 150000;
        open_as(p, "i-denied", &slow);
        while (p->n_states == 0)
                step(p);
        assert_in_range(ssm_mgs_due_in_usec(p->mgs), 99000000, 150000000);
}

static void opens_again(void **state)
{
        Peer *p = *state;

        open_as(p, "i-drop", &limits_of_tests);
        while (get(N_SOCKETS) < 2 || p->result < 0)
                step(p);
        assert_int_equal(p->n_states, 3); /* works, lost, works */
        assert_int_equal(get(N_TOKENS), 2);
}

/* The service ends connections now and then: as long as there is another one, all is well. */
static void opens_again_quietly(void **state)
{
        SsmMgsLimits limits = limits_of_tests;
        Peer *p = *state;

        limits.worked_msec = 0;
        open_as(p, "i-drop-reply", &limits);
        for (int i = 1; i < 4; i++) {
                while (get(N_SOCKETS) < i)
                        step(p);
                do {
                        const int n = p->n_replied;
                        assert_int_equal(reply(p, "{}"), 0);
                        while (p->n_replied == n)
                                step(p);
                } while (p->reply_result == -ENOTCONN);
                assert_int_equal(p->reply_result, -EHOSTDOWN);
        }
        assert_int_equal(p->n_states, 1);
        assert_int_equal(p->result, 0);
}

static void half_open(void **state)
{
        SsmMgsLimits hasty = limits_of_tests;
        Peer *p = *state;

        hasty.socket.ping_msec = 10;
        hasty.socket.silence_msec = 40;
        open_and_wait(p, "i-half-open", &hasty);
        while (p->n_states < 2)
                step(p);
        assert_int_equal(p->result, -ETIMEDOUT);
        assert_non_null(strstr(p->why, "the control channel ended: nothing comes from 127.0.0.1"));
        while (get(N_SOCKETS) < 2)
                step(p);
}

static void too_large(void **state)
{
        Peer *p = *state;

        open_and_wait(p, "i-large", &limits_of_tests);
        while (p->n_states < 2)
                step(p);
        assert_int_equal(p->result, -EPROTO);
        assert_non_null(strstr(p->why, "a message of more than the limit of"));
        assert_int_equal(get(GOODBYE), WS_TOO_BIG);
}

static void credentials_rotated(void **state)
{
        Peer *p = *state;
        char url[64];

        (void) snprintf(url, sizeof(url), "http://127.0.0.1:%u/credentials", server.port);
        assert_int_equal(unsetenv("AWS_ACCESS_KEY_ID"), 0);
        assert_int_equal(unsetenv("AWS_SECRET_ACCESS_KEY"), 0);
        assert_int_equal(setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", url, 1), 0);
        open_and_wait(p, "i-rotated", &limits_of_tests);
        assert_int_equal(unsetenv("AWS_CONTAINER_CREDENTIALS_FULL_URI"), 0);
        assert_int_equal(get(CREDENTIALS), 2);
        assert_int_equal(get(N_TOKENS), 2);
        assert_int_equal(p->n_states, 1);
}

static void no_credentials(void **state)
{
        SsmMgsLimits slow = limits_of_tests;
        Peer *p = *state;

        assert_int_equal(unsetenv("AWS_ACCESS_KEY_ID"), 0);
        assert_int_equal(unsetenv("AWS_SECRET_ACCESS_KEY"), 0);
        assert_int_equal(
                setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", "http://127.0.0.1:1/credentials", 1),
                0);
        slow.retry_msec = slow.retry_max_msec = 2400000;
        open_as(p, "i-jobs", &slow);
        while (p->n_states == 0)
                step(p);
        assert_int_equal(unsetenv("AWS_CONTAINER_CREDENTIALS_FULL_URI"), 0);
        assert_int_equal(p->result, -ENOKEY);
        /* A role that is given later is found soon. */
        assert_in_range(ssm_mgs_due_in_usec(p->mgs), 1, 60000000);
        assert_int_equal(get(N_TOKENS), 0);
}

static void clock_wrong(void **state)
{
        Peer *p = *state;

        open_and_wait(p, "i-skewed", &limits_of_tests);
        assert_int_equal(get(N_TOKENS), 2);
        assert_int_equal(p->n_states, 1);
}

static void no_endpoint(void **state)
{
        Peer *p = *state;
        _cleanup_free_ char *err = NULL;

        assert_int_equal(setenv("AWS_ENDPOINT_URL_SSMMESSAGES", "http://192.0.2.1", 1), 0);
        assert_int_equal(credentials_source_new(&p->credentials, NULL), 0);
        assert_int_equal(ssm_mgs_new(p->http, p->credentials,
                                     &(SsmIdentity){ .instance = "i-x", .region = "eu-central-1" },
                                     &(SsmChannelCallbacks){}, p, &p->mgs, &err),
                         -EINVAL);
        assert_non_null(strstr(err, "https"));
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(receipts, setup, teardown),
                cmocka_unit_test_setup_teardown(noise, setup, teardown),
                cmocka_unit_test_setup_teardown(replies, setup, teardown),
                cmocka_unit_test_setup_teardown(reply_too_large, setup, teardown),
                cmocka_unit_test_setup_teardown(reply_not_acknowledged, setup, teardown),
                cmocka_unit_test_setup_teardown(reply_acknowledged_late, setup, teardown),
                cmocka_unit_test_setup_teardown(reply_lost, setup, teardown),
                cmocka_unit_test_setup_teardown(reply_again, setup, teardown),
                cmocka_unit_test_setup_teardown(failures, setup, teardown),
                cmocka_unit_test_setup_teardown(works_at_last, setup, teardown),
                cmocka_unit_test_setup_teardown(backs_off, setup, teardown),
                cmocka_unit_test_setup_teardown(opens_again, setup, teardown),
                cmocka_unit_test_setup_teardown(opens_again_quietly, setup, teardown),
                cmocka_unit_test_setup_teardown(half_open, setup, teardown),
                cmocka_unit_test_setup_teardown(too_large, setup, teardown),
                cmocka_unit_test_setup_teardown(credentials_rotated, setup, teardown),
                cmocka_unit_test_setup_teardown(no_credentials, setup, teardown),
                cmocka_unit_test_setup_teardown(clock_wrong, setup, teardown),
                cmocka_unit_test_setup_teardown(no_endpoint, setup, teardown),
        };

        fault_server_start(&server, serve);
        int r = cmocka_run_group_tests(tests, NULL, NULL);
        fault_server_stop(&server);
        return r;
}
