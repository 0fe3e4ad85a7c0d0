/* SPDX-License-Identifier: Apache-2.0 */
#include "test.h"

#include <unistd.h>

#include "clock.h"
#include "err.h"
#include "fd.h"
#include "ssm-relay.h"
#include "ssm.h"

/* Systems Manager and the clock are played here. */

struct Ssm {
        const SsmCallbacks *callbacks;
        void *userdata;
};

static struct {
        Ssm *ssm;
        int failure; /* of ssm_new() */
        uint64_t now_usec, news;
        int result;
        char words[64], identity[64];
} world;

uint64_t clock_usec(clockid_t clock)
{
        (void) clock;
        return world.now_usec;
}

int ssm_new(Http *http, const SsmOptions *options, const SsmCallbacks *callbacks, void *userdata,
            Ssm **ret, char **reterr)
{
        (void) http;
        if (world.failure < 0) {
                err_set(reterr, "no credentials");
                return world.failure;
        }
        (void) snprintf(world.identity, sizeof(world.identity), "%s %s %s %s", options->directory,
                        options->identity.instance, options->identity.region,
                        strempty(options->identity.zone));
        *ret = world.ssm = calloc(1, sizeof(Ssm));
        assert_non_null(world.ssm);
        *world.ssm = (Ssm){ callbacks, userdata };
        return 0;
}

Ssm *ssm_free(Ssm *s)
{
        free(s);
        return world.ssm = NULL;
}

void ssm_news(Ssm *s, uint64_t number, int result, const char *output)
{
        assert_ptr_equal(s, world.ssm);
        world.news = number;
        world.result = result;
        (void) snprintf(world.words, sizeof(world.words), "%s", output);
}

uint64_t ssm_due_in_usec(const Ssm *s)
{
        (void) s;
        return UINT64_MAX;
}

void ssm_start_due(Ssm *s)
{
        (void) s;
}

/* The relay's end of the socket and slipwayd's */

static int fds[2];

static int setup(void **state)
{
        (void) state;
        memset(&world, 0, sizeof(world));
        world.now_usec = 1000000;
        return message_pair(fds);
}

static int teardown(void **state)
{
        (void) state;
        return close(fds[0]) < 0 || close(fds[1]) < 0 ? -1 : 0;
}

static SsmRelay *listen_for(const char *text)
{
        Message m = { .type = MESSAGE_LISTEN, .id = 7 };
        SsmRelay *l = NULL;

        (void) stpncpy(m.text, text, MESSAGE_TEXT_MAX);
        assert_return_code(ssm_relay_new(fds[1], NULL, "/memory", &m, &l, NULL), 0);
        assert_int_equal(ssm_relay_id(l), 7);
        return l;
}

static void assert_heard(MessageType type, int result, const char *text)
{
        Message m;
        int fd;

        assert_int_equal(message_receive(fds[0], &m, &fd), 1);
        assert_int_equal(m.type, type);
        assert_int_equal(m.id, 7);
        assert_int_equal(m.result, result);
        assert_string_equal(m.text, text);
}

static void assert_silence(void)
{
        Message m;
        int fd;

        assert_int_equal(message_receive(fds[0], &m, &fd), -EAGAIN);
}

static int tell(SsmRelay *l, const char *words)
{
        Message m = { .type = MESSAGE_ORDER_NEWS, .id = 7, .offset = 1, .result = -EIO };
        _cleanup_close_ int fd = memfd_sealed("words", words, strlen(words));

        return ssm_relay_news(l, &m, fd);
}

static void passes_between_both(void **state)
{
        static const RemoteOrder order = { .command =
                                                   (char *) "d33816ed-cfc8-47f1-9f7f-153dcebcfd87",
                                           .action = ORDER_POLL };
        _cleanup_(ssm_relay_freep) SsmRelay *l = listen_for("auto i-1 eu-central-1 -");

        (void) state;
        assert_string_equal(world.identity, "/memory i-1 eu-central-1 ");
        assert_heard(MESSAGE_LISTENING, -EINPROGRESS, "not connected yet");
        world.ssm->callbacks->state(0, SSM_CHANNEL_MGS, NULL, world.ssm->userdata);
        assert_heard(MESSAGE_LISTENING, 0, "");
        world.ssm->callbacks->order(1, &order, false, world.ssm->userdata);
        assert_heard(MESSAGE_ORDER, 0, "d33816ed-cfc8-47f1-9f7f-153dcebcfd87 poll - - - -");
        world.ssm->callbacks->cancel(1, world.ssm->userdata);
        assert_heard(MESSAGE_ORDER_CANCEL, 0, "");
        assert_int_equal(tell(l, "it broke"), 0);
        assert_int_equal(world.news, 1);
        assert_int_equal(world.result, -EIO);
        assert_string_equal(world.words, "it broke");
}

static void what_can_not_begin_is_tried_again(void **state)
{
        _cleanup_(ssm_relay_freep) SsmRelay *l = NULL;

        (void) state;
        world.failure = -EINVAL;
        l = listen_for("ec2messages i-1 eu-central-1 eu-central-1a");
        assert_heard(MESSAGE_LISTENING, -EINVAL, "no credentials");
        assert_int_equal(tell(l, "of one before"), 0);
        assert_int_equal(ssm_relay_due_in_usec(l), 60 * 1000000);
        assert_int_equal(ssm_relay_start_due(l), 0);
        assert_silence();
        world.now_usec += 60 * 1000000;
        assert_int_equal(ssm_relay_due_in_usec(l), 0);
        assert_int_equal(ssm_relay_start_due(l), 0);
        assert_heard(MESSAGE_LISTENING, -EINVAL, "no credentials");
        assert_int_equal(ssm_relay_due_in_usec(l), 60 * 1000000);
        world.failure = 0;
        world.now_usec += 60 * 1000000;
        assert_int_equal(ssm_relay_start_due(l), 0);
        assert_heard(MESSAGE_LISTENING, -EINPROGRESS, "not connected yet");
        assert_string_equal(world.identity, "/memory i-1 eu-central-1 eu-central-1a");
        assert_int_equal(ssm_relay_due_in_usec(l), UINT64_MAX);
}

static void nonsense_is_refused(void **state)
{
        static const char *const texts[] = { "", "auto i-1 eu-central-1",
                                             "auto i-1  eu-central-1 -",
                                             "auto i-1 eu-central-1 - -",
                                             "smoke i-1 eu-central-1 -" };

        (void) state;
        for (size_t i = 0; i < ELEMENTSOF(texts); i++) {
                Message m = { .type = MESSAGE_LISTEN };
                SsmRelay *l;
                (void) stpncpy(m.text, texts[i], MESSAGE_TEXT_MAX);
                assert_int_equal(ssm_relay_new(fds[1], NULL, "/memory", &m, &l, NULL), -EPROTO);
        }
}

#define test_relay(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
        const struct CMUnitTest tests[] = {
                test_relay(passes_between_both),
                test_relay(what_can_not_begin_is_tried_again),
                test_relay(nonsense_is_refused),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
