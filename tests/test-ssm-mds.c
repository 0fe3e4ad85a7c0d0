/* SPDX-License-Identifier: Apache-2.0 */
#include "test.h"

#include <sys/mman.h>

#include "clock.h"
#include "fault-server.h"
#include "ssm-mds.h"
#include "ssm-requests.h"
#include "uuid.h"

#define INSTANCE "i-0123456789abcdef0"
#define ID(n)    "aws.ssm.0000000" #n "-cfc8-47f1-9f7f-153dcebcfd87." INSTANCE
#define MESSAGE(n)                                                                          \
        "{\"MessageId\":\"" ID(n) "\",\"Topic\":\"aws.ssm.sendCommand.us.east.1.1\","       \
                                  "\"Destination\":\"" INSTANCE "\",\"CreatedDate\":"       \
                                  "\"2026-11-22T14:05:49.509Z\",\"PayloadDigest\":\"abc\"," \
                                  "\"Unknown\":[1],\"Payload\":\"{\\n}\"}"
#define HEAD "{\"Destination\":\"" INSTANCE "\",\"MessagesRequestId\":\"x\",\"Messages\":["

/* What the server does with a request. */
typedef enum Act {
        HOLD, /* answers never */
        EMPTY,
        TWO,
        UNFIT,
        SLOW_RESET, /* breaks off after a while */
        RESET,
        HALF,
        BRACES,
        HTML,
        GARBAGE,
        NUL,
        BAD_UTF8,
        ENDLESS,
        LARGE,
        DOWN,
        THROTTLED,
        EXPIRED,
        DENIED,
        UNKNOWN_ID,
        NOT_FOUND, /* as by a proxy */
        OK,
} Act;

typedef struct Record {
        uint64_t at_usec;
        char action[32], head[2048], body[1024];
} Record;

#define N_MAX 32

/* Between the test and the server's processes. */
static struct Shared {
        Act polls[N_MAX], errands[N_MAX]; /* one after the other */
        atomic_int n_polls, n_errands;    /* that are recorded */
        atomic_int n_polls_came, n_errands_came, n_keys;
        Record poll_records[N_MAX], errand_records[N_MAX];
} * shared;

static FaultServer server;

static void text(const FaultRequest *q, int status, const char *body)
{
        fault_answer(q, status, "", body, strlen(body));
}

static void send_endless(const FaultRequest *q)
{
        static char block[65536];
        static const char head[] = "HTTP/1.1 200 X\r\nConnection: close\r\n\r\n";

        fault_write(q, head, strlen(head));
        for (;;)
                fault_write(q, block, sizeof(block));
}

/* A payload of 1 MiB, all of it escaped. */
static void send_large(const FaultRequest *q)
{
        static const char head[] =
                HEAD "{\"MessageId\":\"" ID(1) "\",\"Topic\":\"t\","
                                               "\"Destination\":\"d\",\"CreatedDate\":\"c\","
                                               "\"Payload\":\"";
        static const char tail[] = "\"}]}";
        static char body[sizeof(head) + 2 * SSM_MESSAGE_SIZE_MAX + sizeof(tail)];
        char *at = stpcpy(body, head);

        for (size_t i = 0; i < SSM_MESSAGE_SIZE_MAX; i++)
                at = stpcpy(at, "\\\"");
        text(q, 200, (stpcpy(at, tail), body));
}

static void answer_well(const FaultRequest *q, Act act)
{
        switch (act) {
        case EMPTY:
                text(q, 200, HEAD "]}");
                break;
        case TWO:
                text(q, 200, HEAD MESSAGE(1) "," MESSAGE(2) "]}");
                break;
        case UNFIT:
                text(q, 200,
                     HEAD "7,{\"Topic\":\"t\"},{\"MessageId\":\"" ID(
                             1) "\",\"Topic\":\"t\"}," MESSAGE(2) "]}");
                break;
        case LARGE:
                send_large(q);
                break;
        default:
                text(q, 200, "{}");
        }
}

static void answer_nonsense(const FaultRequest *q, Act act)
{
        static const char half[] = "HTTP/1.1 200 X\r\nContent-Length: 1000\r\n\r\n" HEAD;

        switch (act) {
        case HTML:
                text(q, 200, "<html>hello</html>");
                break;
        case GARBAGE:
                text(q, 200, HEAD "}}");
                break;
        case NUL:
                text(q, 200, HEAD "{\"MessageId\":\"a\\u0000b\"}]}");
                break;
        case BAD_UTF8:
                text(q, 200, HEAD "{\"MessageId\":\"a\xff\"}]}");
                break;
        case ENDLESS:
                send_endless(q);
                break;
        default: /* HALF */
                fault_write(q, half, strlen(half));
        }
}

static void answer_error(const FaultRequest *q, Act act)
{
        switch (act) {
        case DOWN:
                text(q, 500, "{\"__type\":\"InternalServerException\"}");
                break;
        case THROTTLED:
                text(q, 400, "{\"__type\":\"ThrottlingException\",\"message\":\"slowly\"}");
                break;
        case EXPIRED:
                text(q, 400, "{\"__type\":\"ExpiredTokenException\",\"message\":\"too old\"}");
                break;
        case UNKNOWN_ID:
                text(q, 400, "{\"__type\":\"InvalidMessageIdException\",\"Message\":\"no such\"}");
                break;
        case NOT_FOUND:
                text(q, 404, "<html>");
                break;
        default: /* DENIED */
                text(q, 400,
                     "{\"__type\":\"AccessDeniedException\",\"Message\":\"Caller instance identity "
                     "does not match the given instanceId\"}");
        }
}

static bool act_on(const FaultRequest *q, Act act)
{
        if (act == HOLD)
                fault_stall(q);
        else if (act == SLOW_RESET)
                (void) usleep(100000);
        else if (act == EMPTY || act == TWO || act == UNFIT || act == LARGE || act == BRACES ||
                 act == OK)
                answer_well(q, act);
        else if (act >= DOWN)
                answer_error(q, act);
        else if (act != RESET)
                answer_nonsense(q, act);
        return act != HOLD && act != RESET && act != SLOW_RESET && act != HALF;
}

/* As a container's credentials come; others each time. */
static bool serve_keys(const FaultRequest *q)
{
        char keys[256];

        (void) snprintf(keys, sizeof(keys),
                        "{\"AccessKeyId\":\"AKID%d\",\"SecretAccessKey\":\"secret\","
                        "\"Token\":\"token\",\"Expiration\":\"2099-01-01T00:00:00Z\"}",
                        atomic_fetch_add(&shared->n_keys, 1));
        text(q, 200, keys);
        return true;
}

static void record(Record *r, const FaultRequest *q, const char *action)
{
        r->at_usec = clock_usec(CLOCK_MONOTONIC);
        (void) snprintf(r->action, sizeof(r->action), "%s", action);
        (void) snprintf(r->head, sizeof(r->head), "%s", q->head);
        (void) snprintf(r->body, sizeof(r->body), "%s", q->body);
}

static bool serve(const FaultRequest *q)
{
        _cleanup_free_ char *target = fault_header(q, "X-Amz-Target");
        const char *action = target ? strchr(target, '.') + 1 : NULL;

        if (!action)
                return serve_keys(q);
        const bool poll = streq(action, "GetMessages");
        const int i = atomic_fetch_add(poll ? &shared->n_polls_came : &shared->n_errands_came, 1);
        if (i >= N_MAX)
                return false;
        record(poll ? &shared->poll_records[i] : &shared->errand_records[i], q, action);
        atomic_fetch_add(poll ? &shared->n_polls : &shared->n_errands, 1);
        return act_on(q, poll ? shared->polls[i] : shared->errands[i]);
}

/* --- the one that is tested --- */

typedef struct Event {
        int result;
        char text[512];
} Event;

typedef struct Fixture {
        Http *http;
        CredentialsSource *credentials;
        SsmMds *mds;
        Event messages[N_MAX], states[N_MAX], replies[N_MAX];
        int n_messages, n_states, n_replies;
        size_t payload_size;
        SsmReceipt receipt;
        bool silent; /* no receipts */
} Fixture;

static void note(Event *e, int *n, int result, const char *s)
{
        assert_true(*n < N_MAX);
        e[*n].result = result;
        (void) snprintf(e[(*n)++].text, sizeof(e->text), "%s", s);
}

static void on_message(const SsmMessage *m, void *userdata)
{
        Fixture *f = userdata;

        note(f->messages, &f->n_messages, 0, m->id);
        f->payload_size = strlen(m->payload);
        assert_non_null(m->topic);
        assert_non_null(m->destination);
        assert_non_null(m->created);
        assert_null(m->frame_id);
        if (!f->silent)
                ssm_mds_receipt(f->mds, m, f->receipt);
}

static void on_state(int result, const char *why, void *userdata)
{
        Fixture *f = userdata;

        assert_int_equal(result == 0, !why);
        note(f->states, &f->n_states, result, strempty(why));
}

static void on_replied(const char *reply_id, int result, const char *why, void *userdata)
{
        Fixture *f = userdata;

        assert_int_equal(result == 0, !why);
        note(f->replies, &f->n_replies, result, reply_id);
}

static const SsmMdsLimits quick = { .deadline_sec = 10,
                                    .fast_msec = 5000,
                                    .slow_msec = 5000,
                                    .pause_msec = 20,
                                    .pause_max_msec = 200,
                                    .visibility_msec = 5000,
                                    .retry_msec = 2 };

static const SsmIdentity identity = { .instance = INSTANCE, .region = "us-east-1" };

static const SsmChannelCallbacks callbacks = { .message = on_message,
                                               .state = on_state,
                                               .replied = on_replied };

static int setup(void **state)
{
        Fixture *f = calloc(1, sizeof(Fixture));
        char endpoint[64];

        /* Each test has its own: what was sent to an earlier one's must not count. */
        shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1,
                      0);
        assert_true(shared != MAP_FAILED);
        fault_server_start(&server, serve);
        for (size_t i = 0; i < N_MAX; i++)
                shared->errands[i] = OK;
        (void) snprintf(endpoint, sizeof(endpoint), "http://127.0.0.1:%u", server.port);
        assert_int_equal(setenv("AWS_ENDPOINT_URL", endpoint, 1), 0);
        assert_int_equal(setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE", 1), 0);
        assert_int_equal(setenv("AWS_SECRET_ACCESS_KEY", "secret", 1), 0);
        assert_int_equal(http_new(NULL, &f->http), 0);
        assert_int_equal(credentials_source_new(&f->credentials, NULL), 0);
        assert_int_equal(
                ssm_mds_new(f->http, f->credentials, &identity, &callbacks, f, &f->mds, NULL), 0);
        ssm_mds_set_limits(f->mds, &quick);
        *state = f;
        return 0;
}

static int teardown(void **state)
{
        Fixture *f = *state;

        (void) ssm_mds_free(f->mds);
        (void) credentials_source_free(f->credentials);
        (void) http_free(f->http);
        fault_server_stop(&server);
        (void) munmap(shared, sizeof(*shared));
        free(f);
        return 0;
}

static void script(Act *acts, size_t n, const Act *given)
{
        memcpy(acts, given, n * sizeof(Act));
}

#define POLLS(...) \
        script(shared->polls, sizeof((Act[]){ __VA_ARGS__ }) / sizeof(Act), (Act[]){ __VA_ARGS__ })
#define ERRANDS(...)                                                          \
        script(shared->errands, sizeof((Act[]){ __VA_ARGS__ }) / sizeof(Act), \
               (Act[]){ __VA_ARGS__ })

static void step(Fixture *f)
{
        ssm_mds_start_due(f->mds);
        assert_true(http_step(f->http, -1, MIN(ssm_mds_due_in_usec(f->mds), UINT64_C(10000))) >= 0);
}

#define UNTIL(f, condition)                                                             \
        ({                                                                              \
                const uint64_t _end = clock_usec(CLOCK_MONOTONIC) + UINT64_C(20000000); \
                while (!(condition)) {                                                  \
                        if (clock_usec(CLOCK_MONOTONIC) > _end)                         \
                                fail_msg("line %d: %s", __LINE__, #condition);          \
                        step(f);                                                        \
                }                                                                       \
        })

static void request_id(int i, char ret[static UUID_TEXT_SIZE])
{
        static const char name[] = "\"MessagesRequestId\":\"";
        const char *at = strstr(shared->poll_records[i].body, name);

        assert_non_null(at);
        (void) snprintf(ret, UUID_TEXT_SIZE, "%.*s", UUID_TEXT_SIZE - 1, at + strlen(name));
        uint8_t bytes[UUID_SIZE];
        assert_return_code(uuid_parse(ret, bytes), 0);
}

static bool same_request(int i, int k)
{
        char one[UUID_TEXT_SIZE], other[UUID_TEXT_SIZE];

        request_id(i, one);
        request_id(k, other);
        return streq(one, other);
}

static uint64_t gap_usec(int i)
{
        return shared->poll_records[i + 1].at_usec - shared->poll_records[i].at_usec;
}

static void reply(Fixture *f, const char *id)
{
        assert_int_equal(ssm_mds_reply(f->mds, &(SsmReply){ .message_id = ID(1),
                                                            .id = id,
                                                            .topic = "aws.ssm.sendCommand",
                                                            .payload = "{\"a\":\"b\"}" }),
                         0);
}

/* --- polls --- */

static void polls(void **state)
{
        Fixture *f = *state;

        POLLS(EMPTY, EMPTY, HOLD);
        assert_int_equal(ssm_mds_due_in_usec(f->mds), 0);
        UNTIL(f, shared->n_polls == 3);
        assert_int_equal(f->n_states, 1);
        assert_int_equal(f->states[0].result, 0);
        assert_false(same_request(0, 1));
        assert_false(same_request(1, 2));
        assert_true(gap_usec(0) >= 20000);
        assert_true(gap_usec(1) >= 20000);
        assert_int_equal(ssm_mds_due_in_usec(f->mds), UINT64_MAX);
        assert_int_equal(shared->n_errands, 0);
}

/* An answer that was waited for is followed by the next poll without a pause. */
static void no_pause(void **state)
{
        Fixture *f = *state;
        SsmMdsLimits limits = quick;

        limits.fast_msec = 0;
        limits.pause_msec = limits.pause_max_msec = 60000;
        ssm_mds_set_limits(f->mds, &limits);
        POLLS(EMPTY, TWO, EMPTY, HOLD);
        UNTIL(f, shared->n_polls == 4);
        assert_int_equal(f->n_messages, 2);
}

static void two_messages(void **state)
{
        Fixture *f = *state;

        POLLS(TWO, HOLD);
        UNTIL(f, shared->n_errands == 2 && shared->n_polls == 2);
        assert_int_equal(f->n_messages, 2);
        assert_string_equal(f->messages[0].text, ID(1));
        assert_string_equal(f->messages[1].text, ID(2));
        assert_int_equal(f->payload_size, 3);
        for (int i = 0; i < 2; i++)
                assert_string_equal(shared->errand_records[i].action, "AcknowledgeMessage");
}

static void repeats(void **state)
{
        Fixture *f = *state;

        POLLS(RESET, HALF, DOWN, THROTTLED, EMPTY, DENIED, HTML, HOLD);
        UNTIL(f, shared->n_polls == 8);
        for (int i = 0; i < 4; i++)
                assert_true(same_request(i, i + 1));
        for (int i = 4; i < 7; i++)
                assert_false(same_request(i, i + 1));
        assert_int_equal(f->states[0].result, -EHOSTDOWN);
        assert_int_equal(f->n_messages, 0);
}

/* What breaks after long may be the doing of something on the way; when it does so again, not. */
static void slow_break(void **state)
{
        Fixture *f = *state;
        SsmMdsLimits limits = quick;

        limits.slow_msec = 50;
        limits.pause_msec = 300;
        limits.pause_max_msec = 500;
        ssm_mds_set_limits(f->mds, &limits);
        POLLS(SLOW_RESET, EMPTY, SLOW_RESET, SLOW_RESET, SLOW_RESET, SLOW_RESET);
        UNTIL(f, f->n_states == 1);
        assert_true(same_request(0, 1));
        assert_int_equal(f->states[0].result, 0);
        UNTIL(f, f->n_states == 2);
        assert_int_equal(f->states[1].result, -EHOSTDOWN);
        /* libcurl repeats one by itself, on the connection that was used before. */
        const int n = shared->n_polls;
        assert_true(n >= 4);
        UNTIL(f, shared->n_polls == n + 1);
        assert_true(gap_usec(n - 1) >= 400000);
}

static void backs_off(void **state)
{
        Fixture *f = *state;

        POLLS(DOWN, DOWN, DOWN, DOWN, DOWN, EMPTY, DOWN, HOLD);
        UNTIL(f, f->n_states == 3);
        for (int i = 0; i < 3; i++)
                assert_true(gap_usec(i) >= UINT64_C(20000) << i);
        assert_true(gap_usec(4) >= 160000);
        /* After a good one it begins anew. */
        assert_true(ssm_mds_due_in_usec(f->mds) <= 25000);
        assert_int_equal(f->states[0].result, -EBUSY);
        assert_non_null(strstr(f->states[0].text, "InternalServerException"));
        assert_int_equal(f->states[1].result, 0);
        assert_int_equal(f->states[2].result, -EBUSY);
}

static void bad_answers(void **state)
{
        static const struct {
                Act act;
                int result;
                const char *text;
        } table[] = {
                {BRACES,      -EBADMSG,   "GetMessages answers makes no sense: Messages: missing"},
                { HTML,       -EBADMSG,   "makes no sense"                                       },
                { GARBAGE,    -EBADMSG,   "makes no sense"                                       },
                { NUL,        -EBADMSG,   "makes no sense"                                       },
                { BAD_UTF8,   -EBADMSG,   "makes no sense"                                       },
                { ENDLESS,    -EFBIG,     "more than the limit of 4194304 bytes"                 },
                { HALF,       -EHOSTDOWN, "no answer from 127.0.0.1"                             },
                { THROTTLED,  -EBUSY,     "ThrottlingException: slowly"                          },
                { DENIED,     -EACCES,    "of this very instance's role"                         },
                { EXPIRED,    -EACCES,    "ExpiredTokenException: too old"                       },
                { UNKNOWN_ID, -EREMOTEIO, "InvalidMessageIdException: no such"                   },
        };
        Fixture *f = *state;

        for (size_t i = 0; i < ELEMENTSOF(table); i++) {
                POLLS(table[i].act, table[i].act, EMPTY, HOLD);
                UNTIL(f, f->n_states == 2);
                if (f->states[0].result != table[i].result ||
                    !strstr(f->states[0].text, table[i].text) || f->states[1].result != 0)
                        fail_msg("%zu: %d '%s', %d '%s'", i, f->states[0].result, f->states[0].text,
                                 f->states[1].result, f->states[1].text);
                UNTIL(f, shared->n_polls == 4);
                (void) teardown(state);
                (void) setup(state);
                f = *state;
        }
}

static void region_without(void **state)
{
        Fixture *f = *state;

        f->mds = ssm_mds_free(f->mds);
        assert_int_equal(setenv("AWS_ENDPOINT_URL_EC2MESSAGES", "https://ec2messages.invalid", 1),
                         0);
        assert_int_equal(
                ssm_mds_new(f->http, f->credentials, &identity, &callbacks, f, &f->mds, NULL), 0);
        assert_int_equal(unsetenv("AWS_ENDPOINT_URL_EC2MESSAGES"), 0);
        ssm_mds_set_limits(f->mds, &quick);
        UNTIL(f, f->n_states == 1);
        assert_int_equal(f->states[0].result, -ENOENT);
        assert_non_null(strstr(f->states[0].text, "the region us-east-1 has no endpoint of "
                                                  "ec2messages"));
}

/* Others in place of the fixture's, from a container's service. */
static void set_keys(Fixture *f, const char *url)
{
        f->mds = ssm_mds_free(f->mds);
        f->credentials = credentials_source_free(f->credentials);
        assert_int_equal(unsetenv("AWS_ACCESS_KEY_ID"), 0);
        assert_int_equal(unsetenv("AWS_SECRET_ACCESS_KEY"), 0);
        assert_int_equal(setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", url, 1), 0);
        assert_int_equal(credentials_source_new(&f->credentials, NULL), 0);
        assert_int_equal(unsetenv("AWS_CONTAINER_CREDENTIALS_FULL_URI"), 0);
        assert_int_equal(
                ssm_mds_new(f->http, f->credentials, &identity, &callbacks, f, &f->mds, NULL), 0);
        ssm_mds_set_limits(f->mds, &quick);
}

static void expired_token(void **state)
{
        Fixture *f = *state;
        char url[64];

        (void) snprintf(url, sizeof(url), "http://127.0.0.1:%u/", server.port);
        set_keys(f, url);
        POLLS(EXPIRED, EMPTY, HOLD);
        UNTIL(f, shared->n_polls == 3);
        assert_true(same_request(0, 1));
        assert_non_null(strstr(shared->poll_records[0].head, "Credential=AKID0/"));
        assert_non_null(strstr(shared->poll_records[1].head, "Credential=AKID1/"));
        assert_int_equal(f->n_states, 1);
        assert_int_equal(f->states[0].result, 0);
}

static void no_credentials(void **state)
{
        Fixture *f = *state;

        set_keys(f, "http://127.0.0.1:1/");
        reply(f, "one");
        UNTIL(f, f->n_states == 1 && f->n_replies == 1);
        assert_int_equal(f->states[0].result, -ENOKEY);
        assert_int_equal(f->replies[0].result, -ENOKEY);
        assert_int_equal(shared->n_polls, 0);
}

/* --- messages --- */

static void unfit_messages(void **state)
{
        Fixture *f = *state;

        POLLS(UNFIT, HOLD);
        UNTIL(f, shared->n_errands == 2 && shared->n_polls == 2);
        assert_int_equal(f->n_messages, 1);
        assert_string_equal(f->messages[0].text, ID(2));
        const bool first = streq(shared->errand_records[0].action, "FailMessage");
        const Record *r = &shared->errand_records[!first];
        assert_string_equal(r->action, "FailMessage");
        assert_non_null(strstr(r->body, ID(1)));
        assert_non_null(strstr(r->body, "\"InternalHandlerException\""));
        assert_string_equal(shared->errand_records[first].action, "AcknowledgeMessage");
}

static void large_message(void **state)
{
        Fixture *f = *state;

        POLLS(LARGE, HOLD);
        UNTIL(f, shared->n_errands == 1);
        assert_int_equal(f->n_messages, 1);
        assert_int_equal(f->payload_size, SSM_MESSAGE_SIZE_MAX);
}

static void receipts(void **state)
{
        static const struct {
                SsmReceipt receipt;
                const char *action, *body;
        } table[] = {
                {SSM_RECEIPT_TAKEN,       "AcknowledgeMessage", "\"MessageId\""             },
                { SSM_RECEIPT_DUPLICATE,  "AcknowledgeMessage", "\"MessageId\""             },
                { SSM_RECEIPT_MALFORMED,  "FailMessage",        "\"InternalHandlerException"},
                { SSM_RECEIPT_NO_HANDLER, "FailMessage",        "\"NoHandlerExists\""       },
        };
        Fixture *f = *state;

        for (size_t i = 0; i < ELEMENTSOF(table); i++) {
                ssm_mds_receipt(f->mds, &(SsmMessage){ .id = ID(1) }, table[i].receipt);
                UNTIL(f, shared->n_errands == (int) i + 1);
                const Record *r = &shared->errand_records[i];
                assert_string_equal(r->action, table[i].action);
                assert_non_null(strstr(r->body, table[i].body));
                assert_non_null(strstr(r->body, ID(1)));
        }
}

static void receipt_retried(void **state)
{
        Fixture *f = *state;

        POLLS(TWO, HOLD);
        ERRANDS(RESET, DOWN, RESET, THROTTLED, DOWN, DOWN);
        UNTIL(f, shared->n_errands == 8);
        assert_int_equal(f->n_messages, 2);
        assert_int_equal(f->n_states, 1);
        UNTIL(f, ssm_mds_due_in_usec(f->mds) == UINT64_MAX);
}

/* It is of no use after the message has become visible again. */
static void receipt_in_vain(void **state)
{
        Fixture *f = *state;
        SsmMdsLimits limits = quick;

        limits.visibility_msec = 200;
        ssm_mds_set_limits(f->mds, &limits);
        ERRANDS(HOLD);
        ssm_mds_receipt(f->mds, &(SsmMessage){ .id = ID(1) }, SSM_RECEIPT_TAKEN);
        UNTIL(f, shared->n_errands == 1 && shared->n_polls == 1);
        assert_true(ssm_mds_due_in_usec(f->mds) <= 200000);
        UNTIL(f, ssm_mds_due_in_usec(f->mds) == UINT64_MAX);
        assert_int_equal(shared->n_errands, 1);
        /* Those that are refused are not sent again. */
        shared->errands[1] = DENIED;
        ssm_mds_receipt(f->mds, &(SsmMessage){ .id = ID(2) }, SSM_RECEIPT_TAKEN);
        UNTIL(f, ssm_mds_due_in_usec(f->mds) == UINT64_MAX);
        assert_int_equal(shared->n_errands, 2);
}

static void too_many_receipts(void **state)
{
        Fixture *f = *state;

        for (int i = 0; i < 100; i++)
                ssm_mds_receipt(f->mds, &(SsmMessage){ .id = ID(1) }, SSM_RECEIPT_TAKEN);
        UNTIL(f, ssm_mds_due_in_usec(f->mds) == UINT64_MAX);
        assert_int_equal(shared->n_errands, 16);
}

/* --- replies --- */

static void replies(void **state)
{
        Fixture *f = *state;

        reply(f, "one");
        assert_int_equal(f->n_replies, 0);
        assert_int_equal(ssm_mds_due_in_usec(f->mds), 0);
        reply(f, "two");
        reply(f, "three");
        ERRANDS(OK, DOWN, EXPIRED, OK);
        UNTIL(f, f->n_replies == 3);
        for (int i = 0; i < 3; i++)
                assert_string_equal(shared->errand_records[i].action, "SendReply");
        assert_non_null(strstr(shared->errand_records[0].body,
                               "\"ReplyId\":\"one\",\"Payload\":\"{\\\"a\\\":\\\"b\\\"}\""));
        /* In their order, the second one twice. */
        assert_non_null(strstr(shared->errand_records[1].body, "\"two\""));
        assert_non_null(strstr(shared->errand_records[2].body, "\"two\""));
        assert_non_null(strstr(shared->errand_records[3].body, "\"three\""));
        assert_string_equal(f->replies[0].text, "one");
        assert_int_equal(f->replies[0].result, 0);
        assert_int_equal(f->replies[1].result, -EACCES);
        assert_int_equal(f->replies[2].result, 0);
}

static void replies_refused(void **state)
{
        static const struct {
                Act act;
                int result, n_tries;
        } table[] = {
                {UNKNOWN_ID, -EREMOTEIO, 1},
                { NOT_FOUND, -EPROTO,    1},
                { DENIED,    -EACCES,    1},
                { HTML,      -EBADMSG,   1},
                { DOWN,      -EBUSY,     3},
                { RESET,     -EHOSTDOWN, 3}, /* and what libcurl does by itself */
                { OK,        0,          1},
        };
        Fixture *f = *state;

        for (size_t i = 0; i < ELEMENTSOF(table); i++) {
                for (size_t k = 0; k < N_MAX; k++)
                        shared->errands[k] = table[i].act;
                f->n_replies = 0;
                const int before = shared->n_errands;
                reply(f, "id");
                UNTIL(f, f->n_replies == 1);
                const int n = shared->n_errands - before;
                if (f->replies[0].result != table[i].result || n < table[i].n_tries)
                        fail_msg("%zu: %d, %d tries", i, f->replies[0].result, n);
                if (table[i].act != RESET)
                        assert_int_equal(n, table[i].n_tries);
        }
}

/* --- --- */

static void forms(void **state)
{
        Fixture *f = *state;
        _cleanup_json_ cJSON *requests = ssm_requests_open();
        char target[128];

        if (!requests)
                skip();
        reply(f, "one");
        ssm_mds_receipt(f->mds, &(SsmMessage){ .id = ID(1) }, SSM_RECEIPT_TAKEN);
        ssm_mds_receipt(f->mds, &(SsmMessage){ .id = ID(1) }, SSM_RECEIPT_MALFORMED);
        UNTIL(f, shared->n_errands == 3 && shared->n_polls == 1);
        for (int i = -1; i < 3; i++) {
                const Record *r = i < 0 ? &shared->poll_records[0] : &shared->errand_records[i];
                (void) snprintf(target, sizeof(target), "EC2WindowsMessageDeliveryService.%s",
                                r->action);
                ssm_requests_check(requests, target, r->head, r->body, true);
        }
}

static void ends_under_way(void **state)
{
        Fixture *f = *state;

        ERRANDS(HOLD, HOLD);
        reply(f, "one");
        reply(f, "two");
        ssm_mds_receipt(f->mds, &(SsmMessage){ .id = ID(1) }, SSM_RECEIPT_TAKEN);
        UNTIL(f, shared->n_errands == 2 && shared->n_polls == 1);
        assert_int_equal(f->n_replies, 0);
}

static void bad_endpoint(void **state)
{
        Fixture *f = *state;
        _cleanup_free_ char *err = NULL;
        SsmMds *none = NULL;

        assert_int_equal(setenv("AWS_ENDPOINT_URL", "http://192.0.2.1", 1), 0);
        assert_int_equal(
                ssm_mds_new(f->http, f->credentials, &identity, &callbacks, f, &none, &err),
                -EINVAL);
        assert_non_null(strstr(err, "the endpoint of ec2messages"));
        assert_null(none);
        assert_null(ssm_mds_free(NULL));
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
        const struct CMUnitTest tests[] = {
                TEST(polls),           TEST(no_pause),
                TEST(two_messages),    TEST(repeats),
                TEST(slow_break),      TEST(backs_off),
                TEST(bad_answers),     TEST(region_without),
                TEST(expired_token),   TEST(no_credentials),
                TEST(unfit_messages),  TEST(large_message),
                TEST(receipts),        TEST(receipt_retried),
                TEST(receipt_in_vain), TEST(too_many_receipts),
                TEST(replies),         TEST(replies_refused),
                TEST(forms),           TEST(ends_under_way),
                TEST(bad_endpoint),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
