/* SPDX-License-Identifier: Apache-2.0 */
#include "test.h"

#include <poll.h>

#include "clock.h"
#include "fault-server.h"
#include "http-recheck.h"

#define OK_304    "HTTP/1.1 304 Not Modified\r\n"
#define CLOSE_304 OK_304 "Connection: close\r\n\r\n"

/* What the server does, by the path that it is asked for. */
static bool serve(const FaultRequest *q)
{
        static const struct {
                const char *path, *answer;
        } table[] = {
                {"/unchanged",  OK_304 "ETag: \"a\"\r\nContent-Length: 7\r\n\r\n"},
                { "/close",     CLOSE_304                                        },
                { "/changed",   "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"   },
                { "/more",      OK_304 "\r\nHTTP/1.1 304 Not Modified\r\n\r\n"   },
                { "/malformed", OK_304 "no colon\r\n\r\n"                        },
                { "/half",      OK_304                                           },
        };

        for (size_t i = 0; i < ELEMENTSOF(table); i++)
                if (strncmp(q->head + STRLEN("GET "), table[i].path, strlen(table[i].path)) == 0)
                        fault_write(q, table[i].answer, strlen(table[i].answer));
        if (strncmp(q->head, "GET /pieces", 11) == 0)
                for (const char *s = OK_304 "\r\n"; *s; s++) {
                        fault_write(q, s, 1);
                        (void) poll(NULL, 0, 1);
                }
        if (strncmp(q->head, "GET /endless", 12) == 0) {
                fault_write(q, OK_304, STRLEN(OK_304));
                for (int i = 0; i < 4000; i++)
                        fault_write(q, "a: b\r\n", 6);
        }
        if (strncmp(q->head, "GET /unasked", 12) == 0) {
                fault_write(q, OK_304 "\r\n", STRLEN(OK_304) + 2);
                (void) poll(NULL, 0, 50);
                fault_write(q, OK_304 "\r\n", STRLEN(OK_304) + 2);
        }
        if (strncmp(q->head, "GET /stall", 10) == 0)
                fault_stall(q);
        return strncmp(q->head, "GET /half", 9) != 0 && strncmp(q->head, "GET /gone", 9) != 0;
}

typedef struct Ask {
        char text[128];
        int n_times; /* at most, while it is unchanged */
        uint64_t wait_usec;
        int n_unchanged, result;
} Ask;

typedef struct Bench {
        FaultServer server;
        Http *http;
        HttpRecheck *recheck;
        char url[64];
} Bench;

static int open_bench(void **state)
{
        static Bench b;

        b = (Bench){};
        fault_server_start(&b.server, serve);
        (void) snprintf(b.url, sizeof(b.url), "http://127.0.0.1:%u", b.server.port);
        assert_return_code(http_new(NULL, &b.http), 0);
        assert_return_code(http_recheck_new(b.http, &b.recheck), 0);
        *state = &b;
        return 0;
}

static int close_bench(void **state)
{
        Bench *b = *state;

        http_recheck_free(b->recheck);
        http_free(b->http);
        fault_server_stop(&b->server);
        return 0;
}

static void on_done(bool unchanged, void *userdata)
{
        Ask *a = userdata;

        assert_int_equal(a->result, -1);
        a->result = unchanged;
}

static uint64_t again(void *userdata)
{
        Ask *a = userdata;

        return ++a->n_unchanged < a->n_times ? a->wait_usec : 0;
}

static int start(Bench *b, const char *path, Ask *a)
{
        const HttpRecheckRequest request = {
                .url = b->url, .text = a->text, .again = again, .done = on_done, .userdata = a
        };

        (void) snprintf(a->text, sizeof(a->text), "GET %s HTTP/1.1\r\nHost: x\r\n\r\n", path);
        a->result = -1;
        a->n_unchanged = 0;
        return http_recheck_ask(b->recheck, &request);
}

static void step(Bench *b)
{
        assert_int_equal(http_step(b->http, -1, UINT64_MAX), 0);
}

static bool is_unchanged(Bench *b, const char *path)
{
        Ask a = {};

        assert_return_code(start(b, path, &a), 0);
        assert_int_equal(a.result, -1);
        while (a.result < 0)
                step(b);
        return a.result;
}

static int n_connections(const Bench *b)
{
        return atomic_load(&b->server.counts->n_connections);
}

static void one_connection_serves_all(void **state)
{
        Bench *b = *state;

        for (int i = 0; i < 5; i++)
                assert_true(is_unchanged(b, i % 2 ? "/pieces" : "/unchanged"));
        assert_int_equal(n_connections(b), 1);
        assert_int_equal(atomic_load(&b->server.counts->n_requests), 5);
        /* One that ends with its answer has answered. */
        assert_true(is_unchanged(b, "/close"));
        assert_true(is_unchanged(b, "/unchanged"));
        assert_int_equal(n_connections(b), 2);
}

static void anything_else_is_no_answer(void **state)
{
        static const char *const paths[] = { "/changed", "/more", "/malformed",
                                             "/half",    "/gone", "/endless" };
        Bench *b = *state;

        for (size_t i = 0; i < ELEMENTSOF(paths); i++) {
                assert_false(is_unchanged(b, paths[i]));
                /* And nothing more is taken from there. */
                assert_int_equal(n_connections(b), (int) i + 1);
        }
        assert_true(is_unchanged(b, "/unchanged"));
}

static void nobody_listening_is_no_answer(void **state)
{
        Bench *b = *state;

        (void) snprintf(b->url, sizeof(b->url), "http://127.0.0.1:1");
        assert_false(is_unchanged(b, "/unchanged"));
        (void) snprintf(b->url, sizeof(b->url), "http://192.0.2.1");
        Ask a = {};
        assert_int_equal(start(b, "/unchanged", &a), -EINVAL);
        assert_int_equal(a.result, -1);
        assert_false(http_recheck_is_busy(b->recheck));
}

static void one_at_a_time_within_a_limit(void **state)
{
        uint64_t began_usec = clock_usec(CLOCK_MONOTONIC);
        Bench *b = *state;
        Ask first = {}, second = {};

        assert_return_code(start(b, "/stall", &first), 0);
        assert_int_equal(start(b, "/unchanged", &second), -EBUSY);
        while (first.result < 0)
                step(b);
        assert_int_equal(first.result, false);
        assert_true(clock_usec(CLOCK_MONOTONIC) - began_usec >= HTTP_RECHECK_MAX_USEC);
        /* One that was cancelled is not heard of. */
        assert_return_code(start(b, "/unchanged", &first), 0);
        http_recheck_cancel(b->recheck);
        assert_true(is_unchanged(b, "/unchanged"));
        assert_int_equal(first.result, -1);
}

static void asks_again_by_itself(void **state)
{
        Ask a = { .n_times = 4, .wait_usec = 20000 };
        uint64_t began_usec = clock_usec(CLOCK_MONOTONIC);
        Bench *b = *state;

        assert_return_code(start(b, "/unchanged", &a), 0);
        while (a.result < 0)
                step(b);
        assert_int_equal(a.result, true);
        assert_int_equal(a.n_unchanged, 4);
        assert_int_equal(atomic_load(&b->server.counts->n_requests), 4);
        assert_int_equal(n_connections(b), 1);
        assert_true(clock_usec(CLOCK_MONOTONIC) - began_usec >= 3 * a.wait_usec);
        assert_false(http_recheck_is_busy(b->recheck));
}

static void asks_again_on_another_connection(void **state)
{
        Ask a = { .n_times = 3, .wait_usec = 1000 },
            unasked = { .n_times = 2, .wait_usec = 200000 };
        Bench *b = *state;

        /* each answer is the last on its connection */
        assert_return_code(start(b, "/close", &a), 0);
        while (a.result < 0)
                step(b);
        assert_int_equal(a.result, true);
        assert_int_equal(n_connections(b), 3);
        /* what comes while it waits is no answer to what it asks then */
        assert_return_code(start(b, "/unasked", &unasked), 0);
        while (unasked.result < 0)
                step(b);
        assert_int_equal(unasked.result, true);
        assert_int_equal(n_connections(b), 5);
}

static void a_server_that_goes_meanwhile_is_no_answer(void **state)
{
        Ask a = { .n_times = 2, .wait_usec = 1000 };
        Bench *b = *state;

        assert_return_code(start(b, "/unchanged", &a), 0);
        while (a.n_unchanged == 0)
                step(b);
        assert_true(http_recheck_is_busy(b->recheck));
        fault_server_stop(&b->server);
        while (a.result < 0)
                step(b);
        assert_int_equal(a.result, false);
        fault_server_start(&b->server, serve);
}

/* Between two answers there is none that could still come. */
static void cancelling_a_wait_keeps_the_connection(void **state)
{
        Ask a = { .n_times = 2, .wait_usec = UINT64_C(3600) * 1000000 };
        Bench *b = *state;

        assert_return_code(start(b, "/unchanged", &a), 0);
        while (a.n_unchanged == 0)
                step(b);
        http_recheck_cancel(b->recheck);
        assert_true(is_unchanged(b, "/unchanged"));
        assert_int_equal(n_connections(b), 1);
        assert_int_equal(a.result, -1);
}

/* An answer to nothing is none to what is asked next. */
static void what_was_not_asked_for_ends_it(void **state)
{
        Bench *b = *state;

        assert_true(is_unchanged(b, "/unasked"));
        (void) poll(NULL, 0, 200);
        assert_int_equal(http_step(b->http, -1, 0), 0);
        assert_true(is_unchanged(b, "/unchanged"));
        assert_int_equal(n_connections(b), 2);
}

static void heads_are_parsed_strictly(void **state)
{
        static const struct {
                const char *text;
                int result;
                bool close;
        } table[] = {
                {"",                                              0,        false},
                { "HTTP/1.1 304",                                 0,        false},
                { OK_304,                                         0,        false},
                { OK_304 "a: b\r\n",                              0,        false},
                { OK_304 "\r\n",                                  1,        false},
                { "HTTP/1.1 304\r\n\r\n",                         1,        false},
                { OK_304 "A:\r\nb-c:d: e\r\n\r\n",                1,        false},
                { OK_304 "connection: Keep-Alive, CLOSE\r\n\r\n", 1,        true },
                { OK_304 "Connection: keep-alive\r\n\r\n",        1,        false},
                { OK_304 "x-connection: close\r\n\r\n",           1,        false},
                { OK_304 "Transfer-Encoding: chunked\r\n\r\n",    1,        false},
                { OK_304 "\r\n0\r\n\r\n",                         -EBADMSG, false},
                { "HTTP/1.0 304 Not Modified\r\n\r\n",            -EBADMSG, false},
                { "HTTP/1.1 3040 Not Modified\r\n\r\n",           -EBADMSG, false},
                { "HTTP/1.1 200 OK\r\n\r\n",                      -EBADMSG, false},
                { "HTTP/1.1 100 Continue\r\n\r\n" OK_304 "\r\n",  -EBADMSG, false},
                { "http/1.1 304 Not Modified\r\n\r\n",            -EBADMSG, false},
                { "\r\n" OK_304 "\r\n",                           -EBADMSG, false},
                { "HTTP/1.1 304 Not Modified\n\r\n",              -EBADMSG, false},
                { OK_304 "a: b\n\r\n",                            -EBADMSG, false},
                { OK_304 "a: b\r\r\n\r\n",                        -EBADMSG, false},
                { OK_304 "a: b\rc\r\n\r\n",                       -EBADMSG, false},
                { OK_304 "a : b\r\n\r\n",                         -EBADMSG, false},
                { OK_304 ": b\r\n\r\n",                           -EBADMSG, false},
                { OK_304 "a: b\r\n c\r\n\r\n",                    -EBADMSG, false},
                { OK_304 "no colon\r\n\r\n",                      -EBADMSG, false},
        };
        char zero[] = OK_304 "a: b?c\r\n\r\n";
        char *long_head = malloc(HTTP_RECHECK_HEAD_MAX);
        bool closes;

        (void) state;
        for (size_t i = 0; i < ELEMENTSOF(table); i++) {
                closes = !table[i].close;
                assert_int_equal(http_recheck_parse(table[i].text, strlen(table[i].text), &closes),
                                 table[i].result);
                if (table[i].result == 1)
                        assert_int_equal(closes, table[i].close);
        }
        *strchr(zero, '?') = '\0';
        assert_int_equal(http_recheck_parse(zero, sizeof(zero) - 1, &closes), -EBADMSG);
        assert_non_null(long_head);
        memset(long_head, 'x', HTTP_RECHECK_HEAD_MAX);
        memcpy(long_head, OK_304, STRLEN(OK_304));
        assert_int_equal(http_recheck_parse(long_head, HTTP_RECHECK_HEAD_MAX - 1, &closes), 0);
        assert_int_equal(http_recheck_parse(long_head, HTTP_RECHECK_HEAD_MAX, &closes), -EBADMSG);
        free(long_head);
}

int main(void)
{
#define WITH_SERVER(f) cmocka_unit_test_setup_teardown(f, open_bench, close_bench)
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(heads_are_parsed_strictly),
                WITH_SERVER(one_connection_serves_all),
                WITH_SERVER(anything_else_is_no_answer),
                WITH_SERVER(nobody_listening_is_no_answer),
                WITH_SERVER(one_at_a_time_within_a_limit),
                WITH_SERVER(what_was_not_asked_for_ends_it),
                WITH_SERVER(asks_again_by_itself),
                WITH_SERVER(asks_again_on_another_connection),
                WITH_SERVER(a_server_that_goes_meanwhile_is_no_answer),
                WITH_SERVER(cancelling_a_wait_keeps_the_connection),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
