/* SPDX-License-Identifier: Apache-2.0 */
#include "test.h"

#include <sys/stat.h>
#include <time.h>

#include "digest.h"
#include "http.h"
#include "ssm-link.h"
#include "ssm-order.h"
#include "ssm-outbox.h"
#include "ssm.h"

#define INSTANCE "i-0123456789abcdef0"
#define COMMAND  "d33816ed-cfc8-47f1-9f7f-153dcebcfd87"
#define OTHER    "39b53062-6bc4-4c07-9a57-b8f785fba28b"
#define N_MAX    256

/* The link is played here: it takes what it is given, and says what a test has it say. */

struct SsmLink {
        const SsmLinkCallbacks *callbacks;
        void *userdata;
};

static struct {
        SsmLink *link;
        bool down; /* replies can't be sent */
        int reply_result;
        time_t clock_offset;
        SsmReceipt receipts[N_MAX];
        size_t n_receipts;
        char *replies[N_MAX], *reply_ids[N_MAX];
        size_t n_replies, n_answered;
} world;

int ssm_link_new(Http *http, CredentialsSource *credentials, SsmChannel channel,
                 const SsmIdentity *identity, const SsmLinkCallbacks *callbacks, void *userdata,
                 SsmLink **ret, char **reterr)
{
        SsmLink *l = calloc(1, sizeof(SsmLink));

        (void) http, (void) credentials, (void) channel, (void) reterr;
        assert_string_equal(identity->instance, INSTANCE);
        if (!l)
                return -ENOMEM;
        *l = (SsmLink){ callbacks, userdata };
        *ret = world.link = l;
        return 0;
}

SsmLink *ssm_link_free(SsmLink *l)
{
        free(l);
        return NULL;
}

bool ssm_link_is_gateway(const SsmLink *l)
{
        (void) l;
        return false;
}

time_t ssm_link_clock_offset(const SsmLink *l)
{
        (void) l;
        return world.clock_offset;
}

void ssm_link_receipt(SsmLink *l, const SsmMessage *m, SsmReceipt receipt)
{
        (void) l, (void) m;
        assert_true(world.n_receipts < N_MAX);
        world.receipts[world.n_receipts++] = receipt;
}

int ssm_link_reply(SsmLink *l, const SsmReply *reply)
{
        (void) l;
        if (world.down)
                return -EHOSTDOWN;
        assert_true(world.n_replies < N_MAX);
        world.reply_ids[world.n_replies] = strdup(reply->id);
        world.replies[world.n_replies++] = strdup(reply->payload);
        return 0;
}

uint64_t ssm_link_due_in_usec(const SsmLink *l)
{
        (void) l;
        return world.n_answered < world.n_replies ? 0 : UINT64_MAX;
}

void ssm_link_start_due(SsmLink *l)
{
        while (world.n_answered < world.n_replies) {
                const char *id = world.reply_ids[world.n_answered++];
                l->callbacks->replied(id, world.reply_result, "so it is", l->userdata);
        }
}

/* Those who listen */

typedef struct Heard {
        unsigned n_orders, n_again, n_cancels;
        uint64_t number;
        OrderAction action;
        char app[64];
} Heard;

static void on_order(uint64_t number, const RemoteOrder *o, bool again, void *userdata)
{
        Heard *h = userdata;

        h->n_orders++;
        h->n_again += again;
        h->number = number;
        h->action = o->action;
        (void) snprintf(h->app, sizeof(h->app), "%s", strempty(o->app));
}

static void on_cancel(uint64_t number, void *userdata)
{
        Heard *h = userdata;

        h->n_cancels++;
        assert_int_equal(number, h->number);
}

static void on_state(int result, SsmChannel channel, const char *why, void *userdata)
{
        (void) result, (void) channel, (void) why, (void) userdata;
}

typedef struct Scene {
        Http *http;
        Ssm *ssm;
        Heard heard;
        char *directory;
} Scene;

static void scene_start(Scene *s)
{
        static const SsmCallbacks callbacks = { on_order, on_cancel, on_state };
        SsmOptions options = {
                .channel = SSM_CHANNEL_MDS,
                .identity = {.instance = INSTANCE, .region = "eu-central-1"},
                .directory = s->directory
        };
        _cleanup_free_ char *err = NULL;

        assert_return_code(ssm_new(s->http, &options, &callbacks, &s->heard, &s->ssm, &err), 0);
}

static void settle(Scene *s)
{
        for (unsigned n = 0; ssm_due_in_usec(s->ssm) == 0; n++) {
                assert_true(n < 1000);
                ssm_start_due(s->ssm);
        }
}

static int scene_setup(void **state)
{
        Scene *s = calloc(1, sizeof(Scene));
        void *directory = NULL;

        if (!s || test_dir_setup(&directory) < 0 || setenv("AWS_ACCESS_KEY_ID", "A", 1) < 0 ||
            setenv("AWS_SECRET_ACCESS_KEY", "S", 1) < 0 || http_new(NULL, &s->http) < 0)
                return -1;
        memset(&world, 0, sizeof(world));
        s->directory = directory;
        scene_start(s);
        settle(s);
        *state = s;
        return 0;
}

static int scene_teardown(void **state)
{
        Scene *s = *state;
        void *directory = s->directory;

        ssm_free(s->ssm);
        http_free(s->http);
        for (size_t i = 0; i < world.n_replies; i++) {
                free(world.replies[i]);
                free(world.reply_ids[i]);
        }
        free(s);
        return test_dir_teardown(&directory);
}

static void start_anew(Scene *s)
{
        s->ssm = ssm_free(s->ssm);
        s->heard = (Heard){};
        scene_start(s);
        settle(s);
}

static void hand_message(const char *command, const char *topic, const char *payload)
{
        char id[128], created[64], digest[SHA256_HEX_SIZE];
        time_t now = time(NULL);
        struct tm tm;
        Sha256 d;

        (void) snprintf(id, sizeof(id), "aws.ssm.%s.%s", command, INSTANCE);
        assert_non_null(gmtime_r(&now, &tm));
        assert_true(strftime(created, sizeof(created), "%Y-%m-%dT%H:%M:%S.000Z", &tm) > 0);
        assert_return_code(sha256(payload, strlen(payload), &d), 0);
        SsmMessage m = { .id = id,
                         .topic = topic,
                         .destination = INSTANCE,
                         .created = created,
                         .digest = sha256_to_hex(&d, digest),
                         .payload = payload };
        world.link->callbacks->message(&m, world.link->userdata);
}

static void deliver_message(Scene *s, const char *command, const char *topic, const char *payload)
{
        hand_message(command, topic, payload);
        settle(s);
}

static void deliver_command(Scene *s, const char *command, const char *document,
                            const char *parameters)
{
        char payload[2048];

        (void) snprintf(payload, sizeof(payload),
                        "{\"CommandId\":\"%s\",\"DocumentName\":\"%s\",\"Parameters\":%s,"
                        "\"DocumentContent\":{\"schemaVersion\":\"2.2\",\"mainSteps\":[{"
                        "\"action\":\"aws:runShellScript\",\"name\":\"slipway\","
                        "\"inputs\":{}}]}}",
                        command, document, parameters);
        deliver_message(s, command, "aws.ssm.sendCommand.eu.central.1.1", payload);
}

static void deliver_poll(Scene *s)
{
        deliver_command(s, COMMAND, "Slipway-Deploy", "{\"action\":\"poll\",\"app\":\"web\"}");
}

static void deliver_cancel(Scene *s, const char *cancelled)
{
        char payload[256];

        (void) snprintf(payload, sizeof(payload), "{\"CancelMessageId\":\"aws.ssm.%s.%s\"}",
                        cancelled, INSTANCE);
        deliver_message(s, OTHER, "aws.ssm.cancelCommand.eu.central.1.1", payload);
}

static void assert_last_reply(const char *document_status, const char *word)
{
        char status[64];
        const char *last;

        assert_true(world.n_replies > 0);
        last = world.replies[world.n_replies - 1];
        (void) snprintf(status, sizeof(status), "\"documentStatus\":\"%s\"", document_status);
        assert_non_null(strstr(last, status));
        assert_non_null(strstr(last, word));
}

static void an_order_goes_all_the_way(void **state)
{
        Scene *s = *state;

        deliver_poll(s);
        assert_int_equal(s->heard.n_orders, 1);
        assert_int_equal(s->heard.n_again, 0);
        assert_int_equal(s->heard.action, ORDER_POLL);
        assert_string_equal(s->heard.app, "web");
        assert_int_equal(world.n_receipts, 1);
        assert_int_equal(world.receipts[0], SSM_RECEIPT_TAKEN);
        assert_int_equal(world.n_replies, 1);
        assert_last_reply("InProgress", "\"runtimeStatus\":null");

        ssm_news(s->ssm, s->heard.number, ORDER_GOES_ON, "fetching");
        settle(s);
        assert_int_equal(world.n_replies, 2);
        assert_last_reply("InProgress", "fetching");

        ssm_news(s->ssm, s->heard.number, 0, "release 2 is live");
        settle(s);
        /* the step's result, then the document's */
        assert_int_equal(world.n_replies, 4);
        assert_non_null(strstr(world.replies[2], "\"documentStatus\":\"InProgress\""));
        assert_non_null(strstr(world.replies[2], "\"status\":\"Success\""));
        assert_last_reply("Success", "release 2 is live");

        /* It has ended: more news are nothing. */
        ssm_news(s->ssm, s->heard.number, -EIO, "late");
        settle(s);
        assert_int_equal(world.n_replies, 4);
}

static void failures_and_cancellations_say_so(void **state)
{
        Scene *s = *state;

        deliver_poll(s);
        deliver_cancel(s, COMMAND);
        assert_int_equal(s->heard.n_cancels, 1);
        ssm_news(s->ssm, s->heard.number, ORDER_NOT_STOPPED, "it has switched");
        settle(s);
        assert_last_reply("InProgress", "it has switched");
        ssm_news(s->ssm, s->heard.number, -ECANCELED, "given up");
        settle(s);
        assert_last_reply("Cancelled", "given up");
        deliver_cancel(s, COMMAND);
        assert_int_equal(s->heard.n_cancels, 1);

        deliver_command(s, OTHER, "Slipway-Deploy", "{\"action\":\"poll\"}");
        ssm_news(s->ssm, s->heard.number, -EIO, "it was taken back");
        settle(s);
        assert_last_reply("Failed", "it was taken back");
}

static void a_duplicate_is_answered_and_begins_nothing(void **state)
{
        Scene *s = *state;
        size_t n;

        deliver_poll(s);
        deliver_poll(s);
        assert_int_equal(s->heard.n_orders, 1);
        assert_int_equal(world.receipts[1], SSM_RECEIPT_DUPLICATE);
        assert_last_reply("InProgress", "null");
        ssm_news(s->ssm, s->heard.number, 0, "done");
        settle(s);
        n = world.n_replies;
        deliver_poll(s);
        assert_int_equal(s->heard.n_orders, 1);
        assert_int_equal(world.n_replies, n + 1);
        assert_last_reply("Success", "done");
        assert_string_equal(world.reply_ids[n], world.reply_ids[n - 1]);

        /* also after a restart */
        start_anew(s);
        deliver_poll(s);
        assert_int_equal(s->heard.n_orders, 0);
        assert_last_reply("Success", "done");
}

static void other_documents_end_at_once(void **state)
{
        Scene *s = *state;

        deliver_command(s, COMMAND, "AWS-RunShellScript", "{\"commands\":[\"reboot\"]}");
        assert_int_equal(s->heard.n_orders, 0);
        assert_int_equal(world.n_receipts, 1);
        assert_int_equal(world.receipts[0], SSM_RECEIPT_TAKEN);
        /* the step's result, then the document's */
        assert_int_equal(world.n_replies, 2);
        assert_non_null(strstr(world.replies[0], "\"status\":\"Failed\""));
        assert_last_reply("Failed", "Slipway-Deploy");
        start_anew(s);
        assert_int_equal(s->heard.n_orders, 0);
        assert_int_equal(world.n_replies, 2);
}

/* A message has the service's time, whatever the host's clock says. */
static void age_goes_by_the_service(void **state)
{
        Scene *s = *state;

        world.clock_offset = SSM_AGE_MAX_SEC + 60;
        deliver_poll(s);
        assert_int_equal(s->heard.n_orders, 0);
        assert_last_reply("Failed", "older than 48 hours");
        start_anew(s);
        world.clock_offset = SSM_AGE_MAX_SEC - 60;
        deliver_command(s, OTHER, "Slipway-Deploy", "{\"action\":\"poll\",\"app\":\"web\"}");
        assert_int_equal(s->heard.n_orders, 1);
}

static void what_can_not_be_told_is_refused(void **state)
{
        Scene *s = *state;

        deliver_message(s, COMMAND, "aws.ssm.sendCommand.eu.central.1.1", "{");
        deliver_message(s, COMMAND, "aws.ssm.other", "{}");
        assert_int_equal(world.n_receipts, 2);
        assert_int_equal(world.receipts[0], SSM_RECEIPT_MALFORMED);
        assert_int_equal(world.receipts[1], SSM_RECEIPT_NO_HANDLER);
        assert_int_equal(world.n_replies, 0);
}

static void a_crash_loses_no_order_and_no_answer(void **state)
{
        Scene *s = *state;

        deliver_poll(s);
        start_anew(s);
        assert_int_equal(s->heard.n_orders, 1);
        assert_int_equal(s->heard.n_again, 1);
        world.down = true;
        ssm_news(s->ssm, s->heard.number, 0, "release 3 is live");
        settle(s);
        assert_int_equal(world.n_replies, 1); /* the receipt */
        world.down = false;
        start_anew(s);
        assert_int_equal(s->heard.n_orders, 0);
        assert_int_equal(world.n_replies, 2);
        assert_last_reply("Success", "release 3 is live");
        start_anew(s);
        assert_int_equal(world.n_replies, 2);
}

static void an_answer_that_is_not_taken_is_not_sent_for_ever(void **state)
{
        Scene *s = *state;
        size_t n;

        world.reply_result = -EREMOTEIO;
        deliver_poll(s);
        ssm_news(s->ssm, s->heard.number, 0, "done");
        settle(s);
        n = world.n_replies;
        start_anew(s);
        assert_int_equal(world.n_replies, n);
}

static void an_answer_that_arrived_late_is_not_sent_again(void **state)
{
        Scene *s = *state;
        size_t n;

        deliver_poll(s);
        world.reply_result = -ETIMEDOUT;
        ssm_news(s->ssm, s->heard.number, 0, "done");
        settle(s);
        n = world.n_replies;
        world.link->callbacks->replied(world.reply_ids[n - 1], 0, NULL, world.link->userdata);
        start_anew(s);
        assert_int_equal(world.n_replies, n);
}

static void answers_wait_until_the_way_is_open(void **state)
{
        Scene *s = *state;

        deliver_poll(s);
        world.down = true;
        ssm_news(s->ssm, s->heard.number, 0, "done");
        settle(s);
        assert_true(ssm_due_in_usec(s->ssm) <= UINT64_C(15) * 1000000);
        world.down = false;
        world.link->callbacks->state(0, SSM_CHANNEL_MDS, NULL, world.link->userdata);
        settle(s);
        assert_last_reply("Success", "done");
}

/* A document of as many steps as are listed, whose results come before the final reply. */
static void hand_steps(const char *command)
{
        char payload[8192], *p = payload, *end = payload + sizeof(payload);

        p += snprintf(p, end - p,
                      "{\"CommandId\":\"%s\",\"DocumentName\":\"Other\",\"DocumentContent\":{"
                      "\"schemaVersion\":\"2.2\",\"mainSteps\":[",
                      command);
        for (unsigned i = 0; i < SSM_STEPS_MAX; i++)
                p += snprintf(p, end - p, "%s{\"action\":\"aws:x\",\"name\":\"s%u\"}",
                              i > 0 ? "," : "", i);
        (void) snprintf(p, end - p, "]}}");
        hand_message(command, "aws.ssm.sendCommand.eu.central.1.1", payload);
}

static void answers_that_find_no_room_are_sent_later(void **state)
{
        Scene *s = *state;

        hand_steps(COMMAND);
        hand_steps(OTHER);
        settle(s);
        assert_int_equal(world.n_replies, SSM_OUTBOX_MAX);
        assert_true(ssm_due_in_usec(s->ssm) <= UINT64_C(15) * 1000000);
        world.link->callbacks->state(0, SSM_CHANNEL_MDS, NULL, world.link->userdata);
        settle(s);
        assert_int_equal(world.n_replies, SSM_OUTBOX_MAX + 1);
        assert_last_reply("Failed", "Slipway-Deploy");
        start_anew(s);
        assert_int_equal(world.n_replies, SSM_OUTBOX_MAX + 1);
}

static void what_can_not_be_remembered_is_not_done(void **state)
{
        Scene *s = *state;

        /* Not even root can write where there is nothing. */
        assert_return_code(remove_tree_at(AT_FDCWD, s->directory), errno);
        deliver_poll(s);
        assert_int_equal(s->heard.n_orders, 0);
        assert_int_equal(world.n_receipts, 0);
        assert_int_equal(world.n_replies, 0);
        assert_return_code(mkdir(s->directory, 0700), errno);
        start_anew(s);
        deliver_poll(s);
        assert_int_equal(s->heard.n_orders, 1);
}

static void the_box_keeps_the_order_and_a_limit(void **state)
{
        _cleanup_(ssm_outbox_freep) SsmOutbox *box = NULL;
        Scene *s = *state;
        unsigned n = 0;
        int r = 0;

        assert_return_code(ssm_outbox_new(world.link, NULL, s, &box), 0);
        for (; r == 0; n++) {
                char id[16];
                (void) snprintf(id, sizeof(id), "%u", n);
                SsmReply reply = { .message_id = "m", .id = id, .topic = "t", .payload = "{}" };
                r = ssm_outbox_put(box, &reply);
                if (r == 0)
                        assert_int_equal(ssm_outbox_put(box, &reply), -EEXIST);
        }
        assert_int_equal(r, -EXFULL);
        assert_int_equal(n, SSM_OUTBOX_MAX + 1);
        ssm_outbox_start_due(box);
        assert_int_equal(world.n_replies, 1); /* one at a time */
        assert_string_equal(world.reply_ids[0], "0");
        world.n_answered = world.n_replies;
}

#define test_scene(f) cmocka_unit_test_setup_teardown(f, scene_setup, scene_teardown)

int main(void)
{
        const struct CMUnitTest tests[] = {
                test_scene(an_order_goes_all_the_way),
                test_scene(failures_and_cancellations_say_so),
                test_scene(a_duplicate_is_answered_and_begins_nothing),
                test_scene(other_documents_end_at_once),
                test_scene(age_goes_by_the_service),
                test_scene(what_can_not_be_told_is_refused),
                test_scene(a_crash_loses_no_order_and_no_answer),
                test_scene(an_answer_that_is_not_taken_is_not_sent_for_ever),
                test_scene(an_answer_that_arrived_late_is_not_sent_again),
                test_scene(answers_wait_until_the_way_is_open),
                test_scene(answers_that_find_no_room_are_sent_later),
                test_scene(what_can_not_be_remembered_is_not_done),
                test_scene(the_box_keeps_the_order_and_a_limit),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
