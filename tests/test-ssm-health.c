/* SPDX-License-Identifier: Apache-2.0 */
#include "test.h"

#include <sys/mman.h>

#include "clock.h"
#include "fault-server.h"
#include "ssm-health.h"
#include "ssm-requests.h"

#define INSTANCE "i-0123456789abcdef0"
#define N_MAX    16

/* What the server does with a request. */
typedef enum Act {
        OK,
        HOLD,
        RESET,
        DOWN,
        DENIED,
        HTML,
} Act;

/* Between the test and the server's processes. */
static struct Shared {
        Act acts[N_MAX]; /* one after the other */
        atomic_int n;
        struct Record {
                uint64_t at_usec;
                char head[2048], body[2048];
        } records[N_MAX];
} * shared;

static FaultServer server;

static void text(const FaultRequest *q, int status, const char *body)
{
        fault_answer(q, status, "", body, strlen(body));
}

/* There is one at a time. */
static bool serve(const FaultRequest *q)
{
        const int i = shared->n;

        if (i >= N_MAX)
                return false;
        shared->records[i].at_usec = clock_usec(CLOCK_MONOTONIC);
        (void) snprintf(shared->records[i].head, sizeof(shared->records[i].head), "%s", q->head);
        (void) snprintf(shared->records[i].body, sizeof(shared->records[i].body), "%s", q->body);
        atomic_fetch_add(&shared->n, 1);
        switch (shared->acts[i]) {
        case OK:
                text(q, 200, "{}");
                return true;
        case HOLD:
                fault_stall(q);
                return false;
        case RESET:
                return false;
        case DOWN:
                text(q, 500, "{\"__type\":\"InternalServerError\"}");
                return true;
        case DENIED:
                text(q, 400, "{\"__type\":\"AccessDeniedException\",\"Message\":\"no\"}");
                return true;
        default:
                text(q, 200, "<html>");
                return true;
        }
}

typedef struct Fixture {
        Http *http;
        CredentialsSource *credentials;
        SsmHealth *health;
        int n_states, result;
        char why[512];
} Fixture;

static void on_state(int result, const char *why, void *userdata)
{
        Fixture *f = userdata;

        assert_int_equal(result == 0, !why);
        f->n_states++;
        f->result = result;
        (void) snprintf(f->why, sizeof(f->why), "%s", strempty(why));
}

static int setup(void **state)
{
        static const SsmIdentity identity = { .instance = INSTANCE,
                                              .region = "us-east-1",
                                              .zone = "us-east-1a" };
        Fixture *f = calloc(1, sizeof(Fixture));
        char endpoint[64];

        /* Each test has its own: what was sent to an earlier one's must not count. */
        shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1,
                      0);
        assert_true(shared != MAP_FAILED);
        fault_server_start(&server, serve);
        (void) snprintf(endpoint, sizeof(endpoint), "http://127.0.0.1:%u", server.port);
        assert_int_equal(setenv("AWS_ENDPOINT_URL_SSM", endpoint, 1), 0);
        assert_int_equal(setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE", 1), 0);
        assert_int_equal(setenv("AWS_SECRET_ACCESS_KEY", "secret", 1), 0);
        assert_int_equal(http_new(NULL, &f->http), 0);
        assert_int_equal(credentials_source_new(&f->credentials, NULL), 0);
        assert_int_equal(
                ssm_health_new(f->http, f->credentials, &identity, on_state, f, &f->health, NULL),
                0);
        *state = f;
        return 0;
}

static int teardown(void **state)
{
        Fixture *f = *state;

        (void) ssm_health_free(f->health);
        (void) credentials_source_free(f->credentials);
        (void) http_free(f->http);
        fault_server_stop(&server);
        (void) munmap(shared, sizeof(*shared));
        free(f);
        return 0;
}

#define UNTIL(f, condition)                                                             \
        ({                                                                              \
                const uint64_t _end = clock_usec(CLOCK_MONOTONIC) + UINT64_C(20000000); \
                while (!(condition)) {                                                  \
                        if (clock_usec(CLOCK_MONOTONIC) > _end)                         \
                                fail_msg("line %d: %s", __LINE__, #condition);          \
                        ssm_health_start_due((f)->health);                              \
                        assert_true(http_step((f)->http, -1,                            \
                                              MIN(ssm_health_due_in_usec((f)->health),  \
                                                  UINT64_C(10000))) >= 0);              \
                }                                                                       \
        })

static void acts(size_t n, const Act *given)
{
        memcpy(shared->acts, given, n * sizeof(Act));
}
#define ACTS(...) acts(sizeof((Act[]){ __VA_ARGS__ }) / sizeof(Act), (Act[]){ __VA_ARGS__ })

static uint64_t gap_usec(int i)
{
        return shared->records[i + 1].at_usec - shared->records[i].at_usec;
}

static void first_ping(void **state)
{
        Fixture *f = *state;

        assert_int_equal(ssm_health_due_in_usec(f->health), 0);
        UNTIL(f, f->n_states == 1);
        assert_int_equal(f->result, 0);
        assert_int_equal(shared->n, 1);
        assert_true(ssm_health_due_in_usec(f->health) <= 300000000);
        assert_non_null(strstr(shared->records[0].head,
                               "X-Amz-Target: AmazonSSM.UpdateInstanceInformation\r\n"));
        assert_non_null(strstr(shared->records[0].head, "/us-east-1/ssm/aws4_request, "));
}

static void members(void **state)
{
        static const NameValue expected[] = {
                {"InstanceId",            INSTANCE     },
                { "AgentName",            "slipway"    },
                { "AgentStatus",          "Active"     },
                { "PlatformType",         "Linux"      },
                { "AvailabilityZone",     "us-east-1a" },
                { "SSMConnectionChannel", "ec2messages"},
        };
        Fixture *f = *state;
        _cleanup_json_ cJSON *json = NULL;
        const cJSON *v;

        ssm_health_set_channel(f->health, "ec2messages");
        UNTIL(f, f->n_states == 1);
        json = cJSON_Parse(shared->records[0].body);
        for (size_t i = 0; i < ELEMENTSOF(expected); i++)
                assert_string_equal(ssm_requests_text(json, expected[i].name), expected[i].value);
        assert_true(*ssm_requests_text(json, "PlatformName"));
        /* The service wants 1.2.3 at least, and digits and dots are what is known to be taken. */
        const char *version = ssm_requests_text(json, "AgentVersion");
        unsigned a, b, c;
        assert_int_equal(sscanf(version, "%u.%u.%u", &a, &b, &c), 3);
        assert_int_equal(strspn(version, "0123456789."), strlen(version));
        /* None is empty that must not be. */
        cJSON_ArrayForEach(v, json)
        {
                if (!streq(v->string, "PlatformVersion"))
                        assert_true(*v->valuestring);
        }
}

static void form(void **state)
{
        Fixture *f = *state;
        _cleanup_json_ cJSON *requests = ssm_requests_open();

        if (!requests)
                skip();
        UNTIL(f, f->n_states == 1);
        ssm_requests_check(requests, "AmazonSSM.UpdateInstanceInformation", shared->records[0].head,
                           shared->records[0].body, false);
}

static void goes_on(void **state)
{
        Fixture *f = *state;

        ssm_health_set_limits(f->health,
                              &(SsmHealthLimits){ .interval_msec = 50, .retry_msec = 10 });
        UNTIL(f, shared->n == 4);
        assert_true(gap_usec(1) >= 50000);
        assert_true(gap_usec(2) >= 50000);
        assert_int_equal(f->n_states, 1);
}

/* Pauses of 20, 40, 80 and then at least 80 ms. */
static void failures(void **state)
{
        Fixture *f = *state;

        ssm_health_set_limits(f->health,
                              &(SsmHealthLimits){ .interval_msec = 100, .retry_msec = 20 });
        ACTS(DOWN, DOWN, DOWN, DOWN, DOWN, OK, OK, DENIED, HTML, OK);
        UNTIL(f, f->n_states == 1);
        assert_int_equal(f->result, -EBUSY);
        UNTIL(f, f->n_states == 2);
        assert_int_equal(f->result, 0);
        for (int i = 0; i < 3; i++)
                assert_true(gap_usec(i) >= UINT64_C(20000) << i);
        assert_true(gap_usec(4) >= 80000);
        UNTIL(f, f->n_states == 3);
        assert_int_equal(f->result, -EACCES);
        assert_non_null(strstr(f->why, "the permission ssm:UpdateInstanceInformation"));
        assert_true(ssm_health_due_in_usec(f->health) <= 25000);
        UNTIL(f, f->n_states == 4);
        assert_int_equal(f->result, -EBADMSG);
        assert_non_null(strstr(f->why, "makes no sense"));
        UNTIL(f, f->n_states == 5);
        assert_int_equal(f->result, 0);
}

static void no_answer(void **state)
{
        Fixture *f = *state;

        ACTS(RESET, DENIED, OK);
        UNTIL(f, f->n_states == 1);
        assert_int_equal(f->result, -EHOSTDOWN);
        assert_true(ssm_health_due_in_usec(f->health) > 50000000);
        assert_true(ssm_health_due_in_usec(f->health) <= 75000000);
        /* A channel that works says that this may work, too; one that does not, nothing. */
        ssm_health_set_channel(f->health, "ec2messages");
        assert_int_equal(ssm_health_due_in_usec(f->health), 0);
        UNTIL(f, f->n_states == 2);
        assert_int_equal(f->result, -EACCES);
        assert_true(ssm_health_due_in_usec(f->health) > 50000000);
        /* A refusal is one by whatever channel. */
        ssm_health_set_channel(f->health, "ssmmessages");
        assert_true(ssm_health_due_in_usec(f->health) > 50000000);
        assert_int_equal(shared->n, 2);
}

static void no_answer_while_no_channel_works(void **state)
{
        Fixture *f = *state;

        ACTS(RESET);
        ssm_health_set_channel(f->health, "ec2messages");
        UNTIL(f, f->n_states == 1);
        assert_int_equal(f->result, -EHOSTDOWN);
        ssm_health_set_channel(f->health, "");
        assert_true(ssm_health_due_in_usec(f->health) > 50000000);
}

static void channel_changes(void **state)
{
        Fixture *f = *state;

        UNTIL(f, f->n_states == 1);
        assert_non_null(strstr(shared->records[0].body, "\"SSMConnectionChannel\":\"\""));
        ssm_health_set_channel(f->health, "ec2messages");
        assert_int_equal(ssm_health_due_in_usec(f->health), 0);
        ssm_health_start_due(f->health);
        /* This time while one is under way. */
        ssm_health_set_channel(f->health, "ssmmessages");
        UNTIL(f, shared->n == 3 && ssm_health_due_in_usec(f->health) > 1000);
        assert_non_null(
                strstr(shared->records[1].body, "\"SSMConnectionChannel\":\"ec2messages\""));
        assert_non_null(
                strstr(shared->records[2].body, "\"SSMConnectionChannel\":\"ssmmessages\""));
        ssm_health_set_channel(f->health, "ssmmessages");
        assert_true(ssm_health_due_in_usec(f->health) > 0);
        assert_int_equal(f->n_states, 1);
}

static void ends_under_way(void **state)
{
        Fixture *f = *state;

        ACTS(HOLD);
        UNTIL(f, shared->n == 1);
        assert_int_equal(f->n_states, 0);
        assert_null(ssm_health_free(NULL));
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
        const struct CMUnitTest tests[] = {
                TEST(first_ping),
                TEST(members),
                TEST(form),
                TEST(goes_on),
                TEST(failures),
                TEST(no_answer),
                TEST(no_answer_while_no_channel_works),
                TEST(channel_changes),
                TEST(ends_under_way),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
