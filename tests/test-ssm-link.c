/* SPDX-License-Identifier: Apache-2.0 */
#include "test.h"

#include "clock.h"
#include "err.h"
#include "ssm-health.h"
#include "ssm-link.h"
#include "ssm-mds.h"
#include "ssm-mgs.h"

#define MINUTE_USEC (UINT64_C(60) * 1000000)

/* Both channels, the ping and the clock are played here. */

typedef struct Channel {
        const SsmChannelCallbacks *callbacks; /* NULL: not in use */
        void *userdata;
        unsigned n_started, n_replies, n_receipts;
} Channel;

struct SsmMds {
        char x;
};
struct SsmMgs {
        char x;
};
struct SsmHealth {
        char x;
};

static struct {
        uint64_t now_usec;
        Channel mds, mgs;
        SsmMds mds_object;
        SsmMgs mgs_object;
        SsmHealth health_object;
        int mds_failure; /* of ssm_mds_new() */
        ssm_health_state_t health;
        void *health_userdata;
        const char *channel; /* that the ping tells */
        int result;          /* of state(), as what follows */
        SsmChannel by;
        char why[256];
        unsigned n_told;
} world;

uint64_t clock_usec(clockid_t clock)
{
        (void) clock;
        return world.now_usec;
}

int ssm_mds_new(Http *http, CredentialsSource *credentials, const SsmIdentity *identity,
                const SsmChannelCallbacks *callbacks, void *userdata, SsmMds **ret, char **reterr)
{
        (void) http, (void) credentials, (void) identity;
        if (world.mds_failure < 0) {
                err_set(reterr, "no memory");
                return world.mds_failure;
        }
        world.mds.callbacks = callbacks;
        world.mds.userdata = userdata;
        world.mds.n_started++;
        *ret = &world.mds_object;
        return 0;
}

SsmMds *ssm_mds_free(SsmMds *m)
{
        if (m)
                world.mds.callbacks = NULL;
        return NULL;
}

void ssm_mds_receipt(SsmMds *m, const SsmMessage *message, SsmReceipt receipt)
{
        (void) message, (void) receipt;
        assert_non_null(m);
        world.mds.n_receipts++;
}

int ssm_mds_reply(SsmMds *m, const SsmReply *reply)
{
        (void) reply;
        assert_non_null(m);
        world.mds.n_replies++;
        return 0;
}

uint64_t ssm_mds_due_in_usec(const SsmMds *m)
{
        assert_non_null(m);
        return UINT64_MAX;
}

void ssm_mds_start_due(SsmMds *m)
{
        assert_non_null(m);
}

int ssm_mgs_new(Http *http, CredentialsSource *credentials, const SsmIdentity *identity,
                const SsmChannelCallbacks *callbacks, void *userdata, SsmMgs **ret, char **reterr)
{
        (void) http, (void) credentials, (void) identity, (void) reterr;
        world.mgs.callbacks = callbacks;
        world.mgs.userdata = userdata;
        world.mgs.n_started++;
        *ret = &world.mgs_object;
        return 0;
}

SsmMgs *ssm_mgs_free(SsmMgs *m)
{
        if (m)
                world.mgs.callbacks = NULL;
        return NULL;
}

void ssm_mgs_receipt(SsmMgs *m, const SsmMessage *message, SsmReceipt receipt)
{
        (void) message, (void) receipt;
        assert_non_null(m);
        world.mgs.n_receipts++;
}

int ssm_mgs_reply(SsmMgs *m, const SsmReply *reply)
{
        (void) reply;
        assert_non_null(m);
        world.mgs.n_replies++;
        return 0;
}

uint64_t ssm_mgs_due_in_usec(const SsmMgs *m)
{
        assert_non_null(m);
        return UINT64_MAX;
}

void ssm_mgs_start_due(SsmMgs *m)
{
        assert_non_null(m);
}

int ssm_health_new(Http *http, CredentialsSource *credentials, const SsmIdentity *identity,
                   ssm_health_state_t state, void *userdata, SsmHealth **ret, char **reterr)
{
        (void) http, (void) credentials, (void) identity, (void) reterr;
        world.health = state;
        world.health_userdata = userdata;
        *ret = &world.health_object;
        return 0;
}

SsmHealth *ssm_health_free(SsmHealth *h)
{
        (void) h;
        return NULL;
}

void ssm_health_set_channel(SsmHealth *h, const char *channel)
{
        assert_non_null(h);
        world.channel = channel;
}

uint64_t ssm_health_due_in_usec(const SsmHealth *h)
{
        assert_non_null(h);
        return UINT64_MAX;
}

time_t ssm_health_clock_offset(const SsmHealth *h)
{
        assert_non_null(h);
        return 0;
}

void ssm_health_start_due(SsmHealth *h)
{
        assert_non_null(h);
}

/* Who listens */

static SsmLink *link_of_test;

static void on_message(const SsmMessage *m, void *userdata)
{
        (void) userdata;
        ssm_link_receipt(link_of_test, m, SSM_RECEIPT_TAKEN);
}

static void on_replied(const char *reply_id, int result, const char *why, void *userdata)
{
        (void) reply_id, (void) result, (void) why, (void) userdata;
}

static void on_state(int result, SsmChannel channel, const char *why, void *userdata)
{
        (void) userdata;
        world.n_told++;
        world.result = result;
        world.by = channel;
        (void) snprintf(world.why, sizeof(world.why), "%s", why);
}

static void begin(SsmChannel channel)
{
        static const SsmLinkCallbacks callbacks = { on_message, on_replied, on_state };
        const SsmIdentity identity = { .instance = "i-1", .region = "eu-central-1" };

        memset(&world, 0, sizeof(world));
        world.now_usec = MINUTE_USEC;
        assert_return_code(
                ssm_link_new(NULL, NULL, channel, &identity, &callbacks, NULL, &link_of_test, NULL),
                0);
}

static void end(void)
{
        link_of_test = ssm_link_free(link_of_test);
        assert_null(world.mds.callbacks);
        assert_null(world.mgs.callbacks);
}

static void set_state(const Channel *c, int result, const char *why)
{
        c->callbacks->state(result, why, c->userdata);
}

static void assert_told(int result, SsmChannel by, const char *why)
{
        assert_int_equal(world.result, result);
        assert_int_equal(world.by, by);
        assert_string_equal(world.why, why);
}

static int reply(void)
{
        return ssm_link_reply(link_of_test, &(SsmReply){ "m", "id", "topic", "{}" });
}

static void pass(uint64_t usec)
{
        world.now_usec += usec;
        ssm_link_start_due(link_of_test);
}

static void message_delivery_ends_where_the_gateway_works(void **state)
{
        (void) state;
        begin(SSM_CHANNEL_AUTO);
        assert_int_equal(world.n_told, 0);
        set_state(&world.mds, 0, NULL);
        assert_told(0, SSM_CHANNEL_MDS, "");
        assert_string_equal(world.channel, "ec2messages");
        assert_int_equal(reply(), 0);
        assert_int_equal(world.mds.n_replies, 1);
        set_state(&world.mgs, 0, NULL);
        assert_told(0, SSM_CHANNEL_MGS, "");
        assert_string_equal(world.channel, "ssmmessages");
        assert_int_equal(reply(), 0);
        assert_int_equal(world.mgs.n_replies, 1);
        assert_int_equal(ssm_link_due_in_usec(link_of_test), MINUTE_USEC);
        pass(MINUTE_USEC - 1);
        assert_non_null(world.mds.callbacks);
        pass(1);
        assert_null(world.mds.callbacks);
        assert_int_equal(ssm_link_due_in_usec(link_of_test), UINT64_MAX);

        /* and is back when it does not work any more */
        set_state(&world.mgs, -EHOSTDOWN, "it broke");
        assert_told(-EHOSTDOWN, SSM_CHANNEL_AUTO, "it broke");
        assert_int_equal(reply(), -EHOSTDOWN);
        assert_int_equal(ssm_link_due_in_usec(link_of_test), 0);
        pass(0);
        assert_int_equal(world.mds.n_started, 2);
        assert_int_equal(reply(), 0);
        set_state(&world.mds, -EACCES, "denied");
        assert_told(-EHOSTDOWN, SSM_CHANNEL_AUTO, "ssmmessages: it broke; ec2messages: denied");
        assert_int_equal(reply(), -EHOSTDOWN);
        set_state(&world.mds, 0, NULL);
        assert_told(0, SSM_CHANNEL_MDS, "");
        end();
}

/* Its pauses may be long by then. */
static void message_delivery_that_failed_is_asked_anew_when_the_gateway_ends(void **state)
{
        (void) state;
        begin(SSM_CHANNEL_AUTO);
        set_state(&world.mgs, 0, NULL);
        set_state(&world.mds, -EHOSTDOWN, "it was down");
        pass(0);
        assert_int_equal(world.mds.n_started, 1);
        set_state(&world.mgs, -EACCES, "denied");
        assert_int_equal(ssm_link_due_in_usec(link_of_test), 0);
        pass(0);
        assert_int_equal(world.mds.n_started, 2);
        assert_int_equal(ssm_link_due_in_usec(link_of_test), UINT64_MAX);
        /* one that works, or is being asked, goes on */
        set_state(&world.mgs, 0, NULL);
        set_state(&world.mgs, -EACCES, "denied");
        pass(0);
        set_state(&world.mds, 0, NULL);
        set_state(&world.mgs, 0, NULL);
        set_state(&world.mgs, -EACCES, "denied");
        pass(0);
        assert_int_equal(world.mds.n_started, 2);
        end();
}

static void message_delivery_that_can_not_begin_is_tried_again(void **state)
{
        (void) state;
        begin(SSM_CHANNEL_AUTO);
        set_state(&world.mgs, 0, NULL);
        pass(MINUTE_USEC);
        world.mds_failure = -ENOMEM;
        set_state(&world.mgs, -EHOSTDOWN, "it broke");
        pass(0);
        assert_told(-EHOSTDOWN, SSM_CHANNEL_AUTO, "it broke");
        assert_int_equal(ssm_link_due_in_usec(link_of_test), MINUTE_USEC);
        world.mds_failure = 0;
        pass(MINUTE_USEC);
        assert_int_equal(world.mds.n_started, 2);
        end();
}

static void a_channel_that_is_set_is_the_only_one(void **state)
{
        (void) state;
        begin(SSM_CHANNEL_MDS);
        assert_int_equal(world.mgs.n_started, 0);
        end();
        begin(SSM_CHANNEL_MGS);
        set_state(&world.mgs, -EHOSTDOWN, "it broke");
        pass(MINUTE_USEC);
        assert_int_equal(world.mds.n_started, 0);
        assert_int_equal(ssm_link_due_in_usec(link_of_test), UINT64_MAX);
        end();
}

static void receipts_go_where_the_message_came_from(void **state)
{
        static const SsmMessage m = { .id = "m" };

        (void) state;
        begin(SSM_CHANNEL_AUTO);
        set_state(&world.mgs, 0, NULL);
        world.mds.callbacks->message(&m, world.mds.userdata);
        assert_int_equal(world.mds.n_receipts, 1);
        world.mgs.callbacks->message(&m, world.mgs.userdata);
        assert_int_equal(world.mgs.n_receipts, 1);
        end();
}

static void a_missing_ping_is_trouble(void **state)
{
        unsigned n;

        (void) state;
        begin(SSM_CHANNEL_AUTO);
        set_state(&world.mgs, 0, NULL);
        assert_told(0, SSM_CHANNEL_MGS, "");
        n = world.n_told;
        world.health(0, NULL, world.health_userdata);
        assert_int_equal(world.n_told, n);
        world.health(-EACCES, "can't tell Systems Manager that this instance is there: denied",
                     world.health_userdata);
        assert_told(-EACCES, SSM_CHANNEL_MGS,
                    "can't tell Systems Manager that this instance is there: denied");
        world.health(0, NULL, world.health_userdata);
        assert_told(0, SSM_CHANNEL_MGS, "");
        end();
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(message_delivery_ends_where_the_gateway_works),
                cmocka_unit_test(message_delivery_that_failed_is_asked_anew_when_the_gateway_ends),
                cmocka_unit_test(message_delivery_that_can_not_begin_is_tried_again),
                cmocka_unit_test(a_channel_that_is_set_is_the_only_one),
                cmocka_unit_test(receipts_go_where_the_message_came_from),
                cmocka_unit_test(a_missing_ping_is_trouble),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
