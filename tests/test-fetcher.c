/* SPDX-License-Identifier: Apache-2.0 */
#include "test.h"

#include <signal.h>

#include "fetcher.h"

/* The child is tests/child-actor.c, which plays the part that the store names. */

typedef struct Heard {
        unsigned n;
        Message last;
        uint32_t types[4];
} Heard;

static void hear(const Message *m, int *fd, void *userdata)
{
        Heard *h = userdata;

        assert_int_equal(*fd, -EBADF);
        h->n++;
        h->last = *m;
}

static FetchRequest *request(Fetcher *f, MessageType type, Heard *h)
{
        Message m = { .type = type, .size = 10 };
        FetchRequest *r = NULL;

        assert_return_code(fetcher_request(f, &m, -EBADF, hear, h, &r), 0);
        return r;
}

static void await(sd_event *event, Heard *h)
{
        while (h->n == 0)
                assert_true(sd_event_run(event, 20 * 1000000) > 0);
}

static void only_its_answers_come(void **state)
{
        _cleanup_(sd_event_unrefp) sd_event *event = NULL;
        _cleanup_(fetcher_freep) Fetcher *f = NULL;
        const Identity same = {};
        Heard first = {}, second = {};

        assert_return_code(sd_event_new(&event), 0);
        assert_return_code(fetcher_new(event, "chatter", *state, NULL, &same, &f), 0);
        FetchRequest *a = request(f, MESSAGE_POLL, &first);
        await(event, &first);
        assert_int_equal(first.last.type, MESSAGE_POLLED);
        assert_string_equal(first.last.text, "polled");
        /* What was said of it before it began is not for it. */
        FetchRequest *b = request(f, MESSAGE_POLL, &second);
        await(event, &second);
        assert_string_equal(second.last.text, "polled");
        assert_int_equal(first.n, 1);
        fetch_request_free(a);
        fetch_request_free(b);
}

static void what_is_got_again_was_asked_for_again(void **state)
{
        _cleanup_(sd_event_unrefp) sd_event *event = NULL;
        _cleanup_(fetcher_freep) Fetcher *f = NULL;
        const Identity same = {};
        Message again = { .type = MESSAGE_GET_AGAIN, .size = 1 };
        Heard h = {};

        assert_return_code(sd_event_new(&event), 0);
        assert_return_code(fetcher_new(event, "trickle", *state, NULL, &same, &f), 0);
        FetchRequest *r = request(f, MESSAGE_GET, &h);
        await(event, &h);
        assert_int_equal(h.last.type, MESSAGE_AVAILABLE);
        h = (Heard){};
        assert_return_code(fetch_request_send(r, &again, -EBADF), 0);
        await(event, &h);
        assert_int_equal(h.last.type, MESSAGE_GOT_AGAIN);
        fetch_request_free(r);
}

static void a_watch_is_answered_like_a_poll(void **state)
{
        _cleanup_(sd_event_unrefp) sd_event *event = NULL;
        _cleanup_(fetcher_freep) Fetcher *f = NULL;
        const Identity same = {};
        Heard h = {}, poll = {};

        assert_return_code(sd_event_new(&event), 0);
        assert_return_code(fetcher_new(event, "chatter", *state, NULL, &same, &f), 0);
        FetchRequest *r = request(f, MESSAGE_WATCH, &h);
        await(event, &h);
        assert_string_equal(h.last.text, "polled");
        fetch_request_free(r);
        /* One that is over is not cancelled: that would be heard of here. */
        r = request(f, MESSAGE_POLL, &poll);
        await(event, &poll);
        assert_int_equal(h.n, 1);
        fetch_request_free(r);
}

static void a_bandwidth_is_passed_on(void **state)
{
        _cleanup_(sd_event_unrefp) sd_event *event = NULL;
        _cleanup_(fetcher_freep) Fetcher *f = NULL;
        const Identity same = {};
        Heard h = {};

        assert_return_code(sd_event_new(&event), 0);
        assert_return_code(fetcher_new(event, "arguments", *state, *state, &same, &f), 0);
        fetcher_set_bandwidth(f, UINT64_C(1) << 40);
        FetchRequest *r = request(f, MESSAGE_POLL, &h);
        await(event, &h);
        assert_string_equal(h.last.text, "1099511627776");
        fetch_request_free(r);
}

static void each_loss_has_its_reason(void **state)
{
        _cleanup_(sd_event_unrefp) sd_event *event = NULL;
        _cleanup_(fetcher_freep) Fetcher *f = NULL;
        const Identity same = {};
        Heard h = {};

        assert_return_code(sd_event_new(&event), 0);
        assert_return_code(fetcher_new(event, "fail-then-deaf", *state, NULL, &same, &f), 0);
        FetchRequest *r = request(f, MESSAGE_POLL, &h);
        await(event, &h);
        assert_int_equal(h.last.type, 0);
        assert_int_equal(h.last.result, -EHOSTDOWN);
        assert_string_equal(h.last.text, "slipway-fetch ended (exit status 1)");
        fetch_request_free(r);
        /* Until the back-off is over, there is the same reason. */
        for (;;) {
                h = (Heard){};
                r = request(f, MESSAGE_POLL, &h);
                if (fetcher_is_running(f))
                        break;
                await(event, &h);
                assert_string_equal(h.last.text, "slipway-fetch ended (exit status 1)");
                fetch_request_free(r);
                assert_true(sd_event_run(event, 10 * 1000) >= 0);
        }
        FetchRequest *many[4096];
        size_t n = 0;
        while (h.n == 0 && n < ELEMENTSOF(many)) {
                many[n++] = request(f, MESSAGE_POLL, &h);
                assert_true(sd_event_run(event, 0) >= 0);
        }
        assert_int_equal(h.n, 1);
        assert_int_equal(h.last.result, -EHOSTDOWN);
        assert_string_equal(h.last.text, "slipway-fetch does not read what it is asked");
        while (n > 0)
                fetch_request_free(many[--n]);
        fetch_request_free(r);
}

/* What it knows and has under way outlives a change that is none. */
static void ends_for_another_store(void **state)
{
        _cleanup_(sd_event_unrefp) sd_event *event = NULL;
        _cleanup_(fetcher_freep) Fetcher *f = NULL;
        const Identity same = {};
        Heard first = {}, second = {};

        assert_return_code(sd_event_new(&event), 0);
        assert_return_code(fetcher_new(event, "chatter", *state, NULL, &same, &f), 0);
        FetchRequest *r = request(f, MESSAGE_POLL, &first);
        assert_return_code(fetcher_set_store(f, "chatter"), 0);
        assert_true(fetcher_is_running(f));
        await(event, &first);
        assert_string_equal(first.last.text, "polled");
        fetch_request_free(r);
        r = request(f, MESSAGE_POLL, &second);
        assert_return_code(fetcher_set_store(f, "silent"), 0);
        assert_false(fetcher_is_running(f));
        await(event, &second);
        assert_non_null(strstr(second.last.text, "it starts again, as another instance"));
        fetch_request_free(r);
}

static void hear_types(const Message *m, int *fd, void *userdata)
{
        Heard *h = userdata;

        hear(m, fd, userdata);
        assert_in_range(h->n, 1, ELEMENTSOF(h->types));
        h->types[h->n - 1] = m->type;
}

static void await_n(sd_event *event, Heard *h, unsigned n)
{
        while (h->n < n)
                assert_true(sd_event_run(event, 20 * 1000000) > 0);
}

static void orders_come_to_who_listens(void **state)
{
        _cleanup_(sd_event_unrefp) sd_event *event = NULL;
        _cleanup_(fetcher_freep) Fetcher *f = NULL;
        _cleanup_close_ int words = memfd_sealed("t", "it is done", 10);
        const Identity same = {};
        Heard listens = {}, polls = {};
        Message m = { .type = MESSAGE_LISTEN }, news = { .type = MESSAGE_ORDER_NEWS, .offset = 1 };
        FetchRequest *r = NULL;

        assert_return_code(sd_event_new(&event), 0);
        assert_return_code(fetcher_new(event, "orders", *state, *state, &same, &f), 0);
        assert_return_code(fetcher_request(f, &m, -EBADF, hear_types, &listens, &r), 0);
        await_n(event, &listens, 3);
        assert_int_equal(listens.types[0], MESSAGE_LISTENING);
        assert_int_equal(listens.types[1], MESSAGE_ORDER);
        assert_int_equal(listens.types[2], MESSAGE_ORDER_CANCEL);
        news.result = -ECANCELED;
        assert_return_code(fetch_request_send(r, &news, words), 0);
        await_n(event, &listens, 4);
        assert_int_equal(listens.last.result, -ECANCELED);
        assert_string_equal(listens.last.text, "it is done");
        FetchRequest *poll = request(f, MESSAGE_POLL, &polls);
        await(event, &polls);
        assert_int_equal(polls.last.type, MESSAGE_POLLED);
        /* Nobody listens any more. */
        assert_int_equal(listens.n, 4);
        fetch_request_free(r);
        while (fetcher_is_running(f))
                assert_true(sd_event_run(event, 20 * 1000000) > 0);
        fetch_request_free(poll);
}

/* Who wants to give news of an order hears at once that nobody takes them. */
static void news_for_nobody(void **state)
{
        _cleanup_(sd_event_unrefp) sd_event *event = NULL;
        _cleanup_(fetcher_freep) Fetcher *f = NULL;
        const Identity same = {};
        Heard h = {};
        Message m = { .type = MESSAGE_LISTEN }, news = { .type = MESSAGE_ORDER_NEWS };
        FetchRequest *r = NULL;
        int k;

        assert_return_code(sd_event_new(&event), 0);
        assert_return_code(fetcher_new(event, "fail-then-deaf", *state, NULL, &same, &f), 0);
        assert_return_code(fetcher_request(f, &m, -EBADF, hear, &h, &r), 0);
        await(event, &h);
        assert_int_equal(fetch_request_send(r, &news, -1), -EHOSTDOWN);
        fetch_request_free(r);
        for (;;) {
                h = (Heard){};
                r = request(f, MESSAGE_LISTEN, &h);
                if (fetcher_is_running(f))
                        break;
                await(event, &h);
                fetch_request_free(r);
                assert_true(sd_event_run(event, 10 * 1000) >= 0);
        }
        do
                k = fetch_request_send(r, &news, -1);
        while (k == 0);
        assert_int_equal(k, -EAGAIN);
        assert_int_equal(h.n, 0);
        fetch_request_free(r);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                test_in_dir(only_its_answers_come),
                test_in_dir(a_bandwidth_is_passed_on),
                test_in_dir(each_loss_has_its_reason),
                test_in_dir(ends_for_another_store),
                test_in_dir(orders_come_to_who_listens),
                test_in_dir(news_for_nobody),
                test_in_dir(a_watch_is_answered_like_a_poll),
                test_in_dir(what_is_got_again_was_asked_for_again),
        };
        sigset_t child;

        if (sigemptyset(&child) < 0 || sigaddset(&child, SIGCHLD) < 0 ||
            sigprocmask(SIG_BLOCK, &child, NULL) < 0)
                return EXIT_FAILURE;
        return cmocka_run_group_tests(tests, NULL, NULL);
}
