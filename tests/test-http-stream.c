/* SPDX-License-Identifier: Apache-2.0 */
#include "test.h"

#include <poll.h>
#include <sys/socket.h>

#include "fault-server.h"
#include "http-stream.h"

#define LARGE_SIZE (3 * 1024 * 1024)

static FaultServer server;

/* Every byte comes back, while more are sent. */
static void echo(const FaultRequest *q)
{
        static char data[65536];
        ssize_t n;

        while ((n = read(q->fd, data, sizeof(data))) > 0)
                fault_write(q, data, (size_t) n);
}

static bool serve(const FaultRequest *q)
{
        fault_write(q, "hello", 5);
        if (strncmp(q->head, "ECHO", 4) == 0)
                echo(q);
        else if (strncmp(q->head, "DEAF", 4) == 0)
                fault_stall(q);
        else if (strncmp(q->head, "BREAK", 5) == 0) {
                struct linger none = { .l_onoff = 1 };
                (void) setsockopt(q->fd, SOL_SOCKET, SO_LINGER, &none, sizeof(none));
                /* With the answer read, only the reset is left. */
                char byte;
                (void) !read(q->fd, &byte, 1);
        } else if (strncmp(q->head, "COUNT", 5) == 0) {
                char data[1024];
                ssize_t n;
                while ((n = read(q->fd, data, sizeof(data))) > 0)
                        atomic_fetch_add(&fault_counts()->scratch[0], (int) n);
                atomic_fetch_add(&fault_counts()->scratch[1], 1);
        }
        return false;
}

typedef struct Peer {
        Http *http, *guest;
        HttpStream *stream;
        size_t n_received, close_at;
        char first[5];
        bool ended, in_order;
        int result;
        char *err;
} Peer;

static void on_received(const void *data, size_t size, void *userdata)
{
        Peer *p = userdata;

        for (size_t i = 0; i < size; i++, p->n_received++)
                if (p->n_received < sizeof(p->first))
                        p->first[p->n_received] = ((const char *) data)[i];
                else
                        p->in_order = p->in_order &&
                                      ((const uint8_t *) data)[i] == (p->n_received - 5) % 251;
        if (p->close_at > 0 && p->n_received >= p->close_at)
                p->stream = http_stream_close(p->stream);
}

static void on_ended(int result, const char *err, void *userdata)
{
        Peer *p = userdata;

        p->ended = true;
        p->result = result;
        p->err = err ? strdup(err) : NULL;
        p->stream = NULL;
}

static int open_url(Peer *p, const char *url, char **reterr)
{
        return http_stream_open(p->guest,
                                &(HttpStreamRequest){ .url = url,
                                                      .connect_sec = 5,
                                                      .received = on_received,
                                                      .ended = on_ended,
                                                      .userdata = p },
                                &p->stream, reterr);
}

static void open_it(Peer *p, const char *greeting)
{
        char url[64];

        p->in_order = true;
        (void) snprintf(url, sizeof(url), "http://127.0.0.1:%u/x", server.port);
        assert_int_equal(open_url(p, url, NULL), 0);
        assert_int_equal(http_stream_send(p->stream, greeting, strlen(greeting)), 0);
}

/* The stream is on a guest of the pool that is stepped. */
static int setup(void **state)
{
        Peer *p = calloc(1, sizeof(Peer));

        assert_int_equal(http_new(NULL, &p->http), 0);
        assert_int_equal(http_new(NULL, &p->guest), 0);
        http_attach(p->http, p->guest);
        *state = p;
        return 0;
}

static int teardown(void **state)
{
        Peer *p = *state;

        (void) http_free(p->guest);
        (void) http_free(p->http);
        free(p->err);
        free(p);
        return 0;
}

static void step(Peer *p)
{
        assert_int_equal(http_step(p->http, -1, UINT64_MAX), 0);
}

static void both_ways(void **state)
{
        _cleanup_free_ uint8_t *large = malloc(LARGE_SIZE);
        Peer *p = *state;

        for (size_t i = 0; i < LARGE_SIZE; i++)
                large[i] = (uint8_t) (i % 251);
        open_it(p, "ECHO\r\n\r\n");
        while (p->n_received < 5)
                step(p);
        assert_memory_equal(p->first, "hello", 5);
        assert_int_equal(http_stream_send(p->stream, large, LARGE_SIZE), 0);
        assert_int_equal(http_stream_send(p->stream, large, LARGE_SIZE), -ENOBUFS);
        while (p->n_received < 5 + LARGE_SIZE)
                step(p);
        assert_true(p->in_order && !p->ended);
        /* Nothing is left to do: a step waits. */
        assert_int_equal(http_step(p->http, -1, 1000), 0);
        p->stream = http_stream_close(p->stream);
}

static void closed_by_host(void **state)
{
        Peer *p = *state;

        open_it(p, "BYE\r\n\r\n");
        while (!p->ended)
                step(p);
        assert_int_equal(p->result, 0);
        assert_null(p->err);
        assert_int_equal(p->n_received, 5);
}

static void reset_by_host(void **state)
{
        Peer *p = *state;

        open_it(p, "BREAK\r\n\r\n");
        while (p->n_received < 5)
                step(p);
        assert_int_equal(http_stream_send(p->stream, "x", 1), 0);
        while (!p->ended)
                step(p);
        assert_int_equal(p->result, -EHOSTDOWN);
        assert_non_null(strstr(p->err, "the connection to 127.0.0.1 broke: "));
}

static void closed_in_callback(void **state)
{
        Peer *p = *state;

        p->close_at = 5;
        open_it(p, "DEAF\r\n\r\n");
        while (p->stream)
                step(p);
        assert_false(p->ended);
        assert_int_equal(http_step(p->http, -1, 0), 0);
}

/* What was given to be sent is not lost by closing, if the connection takes it. */
static void sent_by_close(void **state)
{
        Peer *p = *state;

        open_it(p, "COUNT\r\n\r\n");
        while (p->n_received < 5)
                step(p);
        assert_int_equal(http_stream_send(p->stream, "last words", 10), 0);
        p->stream = http_stream_close(p->stream);
        while (atomic_load(&server.counts->scratch[1]) == 0)
                (void) poll(NULL, 0, 1);
        assert_int_equal(atomic_load(&server.counts->scratch[0]), 10);
}

/* Whoever is served by the same pool does not end it: libcurl drops idle connections of a pool when
 * it makes another. */
static void on_answer(int result, const HttpResponse *response, const char *err, void *userdata)
{
        (void) response;
        (void) err;
        *(int *) userdata = result;
}

static void beside_transfers(void **state)
{
        Peer *p = *state;
        char url[64];

        open_it(p, "ECHO\r\n\r\n");
        while (p->n_received < 5)
                step(p);
        (void) snprintf(url, sizeof(url), "http://127.0.0.1:%u/x", server.port);
        /* An unread answer makes an idle connection look dead, and libcurl looks once a second. */
        assert_int_equal(http_stream_send(p->stream, "\0\1\2", 3), 0);
        assert_int_equal(http_step(p->http, -1, 0), 0);
        (void) poll(NULL, 0, 1100);
        for (int i = 0; i < 3; i++) {
                int result = 1;
                assert_int_equal(http_start(p->guest,
                                            &(HttpRequest){ .method = "GET",
                                                            .url = url,
                                                            .size_max = 100,
                                                            .done = on_answer,
                                                            .userdata = &result },
                                            NULL, NULL),
                                 0);
                while (result > 0)
                        step(p);
                assert_true(result < 0); /* no HTTP comes from there */
        }
        while (p->n_received < 8)
                step(p);
        assert_int_equal(http_stream_send(p->stream, "\3", 1), 0);
        while (p->n_received < 9)
                step(p);
        assert_true(p->in_order && !p->ended);
        /* Left open for http_free(). */
}

static void refused(void **state)
{
        Peer *p = *state;
        _cleanup_free_ char *err = NULL;

        assert_int_equal(open_url(p, "http://192.0.2.1/", &err), -EINVAL);
        assert_non_null(strstr(err, "is not allowed: use https"));
        assert_int_equal(open_url(p, "wss://127.0.0.1/", NULL), -EINVAL);
        assert_int_equal(open_url(p, "http://127.0.0.1:1/", NULL), 0);
        while (!p->ended)
                step(p);
        assert_int_equal(p->result, -EHOSTDOWN);
        assert_non_null(strstr(p->err, "no answer from 127.0.0.1"));
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(both_ways, setup, teardown),
                cmocka_unit_test_setup_teardown(closed_by_host, setup, teardown),
                cmocka_unit_test_setup_teardown(reset_by_host, setup, teardown),
                cmocka_unit_test_setup_teardown(closed_in_callback, setup, teardown),
                cmocka_unit_test_setup_teardown(sent_by_close, setup, teardown),
                cmocka_unit_test_setup_teardown(beside_transfers, setup, teardown),
                cmocka_unit_test_setup_teardown(refused, setup, teardown),
        };

        fault_server_start(&server, serve);
        int r = cmocka_run_group_tests(tests, NULL, NULL);
        fault_server_stop(&server);
        return r;
}
