/* SPDX-License-Identifier: Apache-2.0 */
#include "test.h"

#include <inttypes.h>
#include <poll.h>
#include <time.h>

#include "fault-server.h"
#include "message.h"
#include "prober.h"

/* A prober, slipwayd's end of its socket, and an application that does all that one can do. */
typedef struct Bench {
        int sockets[2];
        Prober *prober;
} Bench;

static FaultServer server;

static void serve_endless(const FaultRequest *q)
{
        static const char head[] = "HTTP/1.1 200 X\r\nTransfer-Encoding: chunked\r\n\r\n";
        static char chunk[6 + 4096 + 2] = "1000\r\n";

        memcpy(chunk + sizeof(chunk) - 2, "\r\n", 2);
        fault_write(q, head, sizeof(head) - 1);
        for (;;)
                fault_write(q, chunk, sizeof(chunk));
}

static void serve_slowly(const FaultRequest *q)
{
        static const struct timespec step = { .tv_nsec = 20 * 1000 * 1000 };
        static const char head[] = "HTTP/1.1 200 X\r\nContent-Length: 1000\r\n\r\n";

        for (const char *c = head;; c = *c ? c + 1 : head) {
                fault_write(q, c, 1);
                (void) nanosleep(&step, NULL);
        }
}

static bool serve(const FaultRequest *q)
{
        const char *path = strchr(q->head, ' ') + 1;
        static const char big[70000];

        if (strncmp(path, "/well ", 6) == 0)
                fault_answer(q, 200, "", "well", 4);
        else if (strncmp(path, "/ill ", 5) == 0)
                fault_answer(q, 503, "", big, sizeof(big));
        else if (strncmp(path, "/elsewhere ", 11) == 0)
                fault_answer(q, 302, "Location: /well\r\n", "", 0);
        else if (strncmp(path, "/head ", 6) == 0)
                fault_answer(q, fault_header(q, "Authorization") ? 500 : 200, "", "", 0);
        else if (strncmp(path, "/never ", 7) == 0)
                fault_stall(q);
        else if (strncmp(path, "/endless ", 9) == 0)
                serve_endless(q);
        else if (strncmp(path, "/slowly ", 8) == 0)
                serve_slowly(q);
        return false;
}

static int bench_setup(void **state)
{
        Bench *b = calloc(1, sizeof(Bench));

        *state = b;
        return b && message_pair(b->sockets) >= 0 && prober_new(b->sockets[1], &b->prober) >= 0
                       ? 0
                       : -1;
}

static int bench_teardown(void **state)
{
        Bench *b = *state;

        prober_free(b->prober);
        fd_close(b->sockets[0]);
        fd_close(b->sockets[1]);
        free(b);
        return 0;
}

static void ask(Bench *b, uint64_t id, const char *url, uint64_t limit_msec)
{
        Message m = { .type = MESSAGE_PROBE, .id = id, .size = limit_msec * 1000 };

        (void) stpncpy(m.text, url, MESSAGE_TEXT_MAX);
        assert_return_code(message_send(b->sockets[0], &m, -1), 0);
}

static void ask_path(Bench *b, uint64_t id, const char *path, uint64_t limit_msec)
{
        char url[128];

        (void) snprintf(url, sizeof(url), "http://127.0.0.1:%" PRIu16 "%s", server.port, path);
        ask(b, id, url, limit_msec);
}

static Message expect(Bench *b)
{
        struct pollfd p = { .fd = b->sockets[0], .events = POLLIN };
        Message m;
        int fd;

        while (poll(&p, 1, 0) == 0)
                assert_return_code(prober_step(b->prober), 0);
        assert_int_equal(message_receive(b->sockets[0], &m, &fd), 1);
        assert_int_equal(m.type, MESSAGE_PROBED);
        return m;
}

static void each_answer_has_its_result(void **state)
{
        static const struct {
                const char *path;
                uint64_t limit_msec;
                int result;
        } table[] = {
                {"/well",       20000, 200       },
                { "/ill",       20000, 503       },
                { "/elsewhere", 20000, 302       },
                { "/head",      20000, 200       },
                { "/closes",    20000, -EHOSTDOWN},
                { "/never",     200,   -ETIMEDOUT},
                { "/endless",   20000, -EFBIG    },
                { "/slowly",    300,   -ETIMEDOUT},
        };

        for (size_t i = 0; i < ELEMENTSOF(table); i++) {
                ask_path(*state, i, table[i].path, table[i].limit_msec);
                Message m = expect(*state);
                if (m.result != table[i].result)
                        fail_msg("%s: %d (%s)", table[i].path, m.result, m.text);
                assert_int_equal(m.id, i);
                assert_true((m.result < 0) == (m.text[0] != '\0'));
        }
        assert_int_equal(server.counts->n_requests, ELEMENTSOF(table));
        /* Never two on one connection. */
        assert_int_equal(server.counts->n_connections, ELEMENTSOF(table));
}

static void other_hosts_are_not_asked(void **state)
{
        static const char *const urls[] = { "http://127.0.0.2/",
                                            "http://192.0.2.1/",
                                            "https://example.com/",
                                            "http://x.localhost/",
                                            "http://127.0.0.1@[::2]/",
                                            "file:///etc/passwd",
                                            "localhost",
                                            "" };

        for (size_t i = 0; i < ELEMENTSOF(urls); i++) {
                ask(*state, i, urls[i], 1000);
                Message m = expect(*state);
                if (m.result != -EINVAL)
                        fail_msg("%s: %d (%s)", urls[i], m.result, m.text);
        }
        ask_path(*state, 1, "/well", 0);
        assert_int_equal(expect(*state).result, -EPROTO);
}

static void a_refused_connection_says_so(void **state)
{
        ask(*state, 1, "http://127.0.0.1:1/", 5000);
        Message m = expect(*state);
        assert_int_equal(m.result, -EHOSTDOWN);
        assert_non_null(strstr(m.text, "127.0.0.1"));
}

/* One that hangs holds nobody up, and a cancelled one is not heard of again. */
static void many_at_once(void **state)
{
        Bench *b = *state;
        Message m = { .type = MESSAGE_CANCEL, .id = 1 };

        ask_path(b, 1, "/never", 60000);
        ask_path(b, 2, "/never", 1000);
        ask_path(b, 3, "/well", 20000);
        assert_int_equal(expect(b).id, 3);
        assert_return_code(message_send(b->sockets[0], &m, -1), 0);
        assert_int_equal(expect(b).id, 2);
        m.type = MESSAGE_POLL;
        m.id = 4;
        assert_return_code(message_send(b->sockets[0], &m, -1), 0);
        assert_int_equal(expect(b).result, -EPROTO);
        b->sockets[0] = fd_close(b->sockets[0]);
        assert_int_equal(prober_step(b->prober), 1);
}

static int start_server(void **state)
{
        (void) state;
        fault_server_start(&server, serve);
        return 0;
}

static int stop_server(void **state)
{
        (void) state;
        fault_server_stop(&server);
        return 0;
}

#define test_bench(f) cmocka_unit_test_setup_teardown(f, bench_setup, bench_teardown)

int main(void)
{
        const struct CMUnitTest tests[] = {
                test_bench(each_answer_has_its_result),
                test_bench(other_hosts_are_not_asked),
                test_bench(a_refused_connection_says_so),
                test_bench(many_at_once),
        };

        return cmocka_run_group_tests(tests, start_server, stop_server);
}
