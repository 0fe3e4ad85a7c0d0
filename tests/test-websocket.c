/* SPDX-License-Identifier: Apache-2.0 */
#include "test.h"

#include <poll.h>

#include "websocket.h"
#include "ws-frame.h"
#include "ws-server.h"

static FaultServer server;
static WsFrame frame; /* of the server's processes */

/* scratch[] of the server */
enum {
        CLOSE_STATUS, /* of the last close that a client sent; 1: one without */
        N_PINGS,
};

static void set(int what, int value)
{
        atomic_store(&fault_counts()->scratch[what], value);
}

static int get(int what)
{
        return atomic_load(&server.counts->scratch[what]);
}

/* Reads until the client goes, and notes what it says. */
static void listen_on(const FaultRequest *q)
{
        while (ws_read(q, &frame)) {
                if (frame.first == (WS_FIN | WS_CLOSE)) {
                        set(CLOSE_STATUS,
                            frame.size >= 2 ? (uint8_t) frame.data[0] << 8 | (uint8_t) frame.data[1]
                                            : 1);
                        return; /* and the connection is closed */
                }
                if (frame.first == (WS_FIN | WS_PING))
                        atomic_fetch_add(&fault_counts()->scratch[N_PINGS], 1);
        }
}

/* Sends back what comes, whole, until the client goes. */
static void echo(const FaultRequest *q)
{
        static char whole[1 << 20];
        size_t size = 0;
        unsigned opcode = 0;

        while (ws_read(q, &frame) && (frame.first & 0x0f) != WS_CLOSE) {
                opcode = frame.first & 0x0f ? frame.first & 0x0f : opcode;
                memcpy(whole + size, frame.data, frame.size);
                size += frame.size;
                if (frame.first & WS_FIN) {
                        ws_write(q, WS_FIN | opcode, whole, size);
                        size = 0;
                }
        }
}

static void serve_violation(const FaultRequest *q, const char *name)
{
        static char large[70000];

        if (streq(name, "masked"))
                fault_write(q, "\x81\x81xxxxy", 7);
        else if (streq(name, "reserved"))
                ws_write(q, 0xc1, "", 0);
        else if (streq(name, "large"))
                ws_write(q, WS_FIN | WS_BINARY, large, sizeof(large));
        else if (streq(name, "large-in-pieces"))
                for (int i = 0; i < 7; i++)
                        ws_write(q, i == 0 ? WS_BINARY : WS_CONTINUATION, large, 10000);
        else if (streq(name, "not-utf8"))
                ws_write(q, WS_FIN | WS_TEXT, "\xff", 1);
        else if (streq(name, "long-ping"))
                ws_write(q, WS_FIN | WS_PING, large, 126);
}

static bool serve_refusals(const FaultRequest *q, const char *name)
{
        static const char wrong_key[] =
                "HTTP/1.1 101 x\r\nUpgrade: websocket\r\nConnection: upgrade\r\n"
                "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

        if (streq(name, "wrong-key"))
                fault_write(q, wrong_key, sizeof(wrong_key) - 1);
        else if (streq(name, "forbidden"))
                fault_answer(q, 403, "", "<Error>\n\x01no</Error>", 19);
        else if (streq(name, "ok"))
                fault_answer(q, 200, "", "", 0);
        else if (streq(name, "endless-head"))
                for (;;)
                        fault_write(q, "X: y\r\n", 6);
        else if (streq(name, "refused-open"))
                fault_write(q, "HTTP/1.1 503 x\r\n\r\nlater", 23);
        else if (streq(name, "cut-head"))
                fault_write(q, "HTTP/1.1 101 x\r\n", 16);
        else
                return false;
        if (streq(name, "refused-open"))
                fault_stall(q);
        return true;
}

static bool serve(const FaultRequest *q)
{
        char name[64];

        if (sscanf(q->head, "GET /%63[^ ] HTTP/1.1\r\nHost: here\r\n", name) != 1)
                return false;
        if (streq(name, "mute"))
                fault_stall(q);
        if (streq(name, "nothing") || serve_refusals(q, name))
                return false;
        if (streq(name, "at-once")) { /* with the answer */
                ws_accept(q, "");
                ws_write(q, WS_TEXT, "first ", 6);
                ws_write(q, WS_FIN | WS_PING, "now", 3);
                ws_write(q, WS_FIN, "word", 4);
                if (!ws_read(q, &frame) || frame.first != (WS_FIN | WS_PONG) ||
                    !streq(frame.data, "now"))
                        return false;
                ws_write(q, WS_FIN | WS_TEXT, "ponged", 6);
                listen_on(q);
                return false;
        }
        ws_accept(q, "");
        if (streq(name, "echo"))
                echo(q);
        else if (streq(name, "bye"))
                ws_write(q, WS_FIN | WS_CLOSE, "\x03\xe9until\ttomorrow", 16);
        else if (streq(name, "bye-bare"))
                ws_write(q, WS_FIN | WS_CLOSE, "", 0);
        else if (streq(name, "half-open")) /* the client's pings get lost */
                fault_stall(q);
        else if (streq(name, "bye-deaf")) {
                ws_write(q, WS_FIN | WS_CLOSE, "\x03\xe8", 2);
                fault_stall(q);
        } else if (streq(name, "ponging"))
                while (ws_read(q, &frame)) {
                        atomic_fetch_add(&fault_counts()->scratch[N_PINGS], 1);
                        if (streq(frame.data, "keepalive"))
                                ws_write(q, WS_FIN | WS_PONG, frame.data, frame.size);
                }
        else if (streq(name, "drop"))
                return false;
        else if (streq(name, "cut-frame")) {
                fault_write(q,
                            "\x82\x05"
                            "ab",
                            4);
                return false;
        } else
                serve_violation(q, name);
        listen_on(q);
        return false;
}

typedef struct Peer {
        Http *http;
        WebSocket *socket;
        bool opened, ended, free_at_open, free_at_message, text;
        int n_messages;
        char first[16]; /* message */
        char *last;
        size_t last_size;
        int result;
        char *err, *body;
        unsigned status;
} Peer;

static void on_opened(void *userdata)
{
        Peer *p = userdata;

        p->opened = true;
        if (p->free_at_open)
                p->socket = websocket_free(p->socket);
}

static void on_message(bool text, const void *data, size_t size, void *userdata)
{
        Peer *p = userdata;

        p->n_messages++;
        p->text = text;
        free(p->last);
        p->last = malloc(size + 1);
        memcpy(p->last, data, size);
        p->last[size] = '\0';
        p->last_size = size;
        if (p->n_messages == 1)
                (void) snprintf(p->first, sizeof(p->first), "%s", p->last);
        if (p->free_at_message)
                p->socket = websocket_free(p->socket);
}

static void on_ended(const WebSocketEnd *end, void *userdata)
{
        Peer *p = userdata;

        assert_false(p->ended);
        p->ended = true;
        p->result = end->result;
        p->err = strdup(end->err);
        p->body = strdup(end->body);
        assert_int_equal(strlen(end->body), end->body_size);
        p->status = end->status;
        p->socket = NULL;
}

static const WebSocketLimits patient = {
        .connect_sec = 10,
        .open_msec = 10000,
        .ping_msec = 10000,
        .silence_msec = 10000,
        .close_msec = 10000,
        .message_size_max = 65536,
};

static void open_with(Peer *p, const char *target, const WebSocketLimits *limits)
{
        static const NameValue host = { "Host", "here" };
        char url[64];

        (void) snprintf(url, sizeof(url), "http://127.0.0.1:%u", server.port);
        assert_int_equal(websocket_open(p->http,
                                        &(WebSocketRequest){ .url = url,
                                                             .host = "here",
                                                             .target = target,
                                                             .headers = &host,
                                                             .n_headers = 1,
                                                             .limits = *limits,
                                                             .opened = on_opened,
                                                             .message = on_message,
                                                             .ended = on_ended,
                                                             .userdata = p },
                                        &p->socket, NULL),
                         0);
}

static int setup(void **state)
{
        Peer *p = calloc(1, sizeof(Peer));

        assert_int_equal(http_new(NULL, &p->http), 0);
        for (size_t i = 0; i < ELEMENTSOF(server.counts->scratch); i++)
                atomic_store(&server.counts->scratch[i], 0);
        *state = p;
        return 0;
}

static int teardown(void **state)
{
        Peer *p = *state;

        (void) websocket_free(p->socket);
        (void) http_free(p->http);
        free(p->last);
        free(p->err);
        free(p->body);
        free(p);
        return 0;
}

static void step(Peer *p)
{
        assert_int_equal(http_step(p->http, -1, p->socket ? websocket_due_in_usec(p->socket) : 0),
                         0);
        if (p->socket)
                websocket_start_due(p->socket);
}

static void step_to_end(Peer *p)
{
        while (!p->ended)
                step(p);
}

static void wait_for(int what, int value)
{
        while (get(what) != value)
                (void) poll(NULL, 0, 1);
}

static void echoed(void **state)
{
        static char large[60000];
        Peer *p = *state;

        open_with(p, "/echo", &patient);
        assert_int_equal(websocket_send(p->socket, true, "x", 1), -ENOTCONN);
        while (!p->opened)
                step(p);
        assert_int_equal(websocket_send(p->socket, true, "h\xc3\xa4", 3), 0);
        while (p->n_messages < 1)
                step(p);
        assert_true(p->text);
        assert_string_equal(p->last, "h\xc3\xa4");
        memset(large, 'l', sizeof(large));
        assert_int_equal(websocket_send(p->socket, false, large, sizeof(large)), 0);
        while (p->n_messages < 2)
                step(p);
        assert_false(p->text);
        assert_int_equal(p->last_size, sizeof(large));
        assert_memory_equal(p->last, large, sizeof(large));
        assert_int_equal(websocket_send(p->socket, false, "", 0), 0);
        while (p->n_messages < 3)
                step(p);
        assert_int_equal(p->last_size, 0);
}

static void fragments_sent(void **state)
{
        static char large[400000];
        WebSocketLimits limits = patient;
        Peer *p = *state;

        limits.message_size_max = sizeof(large);
        open_with(p, "/echo", &limits);
        while (!p->opened)
                step(p);
        for (size_t i = 0; i < sizeof(large); i++)
                large[i] = (char) (i / 100);
        assert_int_equal(websocket_send(p->socket, false, large, sizeof(large)), 0);
        while (p->n_messages < 1)
                step(p);
        assert_int_equal(p->last_size, sizeof(large));
        assert_memory_equal(p->last, large, sizeof(large));
}

/* Frames that come with the answer, a ping between fragments. */
static void at_once(void **state)
{
        Peer *p = *state;

        open_with(p, "/at-once", &patient);
        while (p->n_messages < 2)
                step(p);
        assert_true(p->opened);
        assert_string_equal(p->first, "first word");
        assert_string_equal(p->last, "ponged");
        p->socket = websocket_free(p->socket);
        wait_for(CLOSE_STATUS, WS_GOING_AWAY);
}

static void ends(void **state)
{
        static const struct {
                const char *target;
                int result;
                const char *err;
                int close_status; /* what the server is told; 0: nothing */
                unsigned status;
        } table[] = {
                {"/nothing",          -EHOSTDOWN, "here closed the connection without a word",                  0,    0  },
                { "/cut-head",        -EHOSTDOWN, "here closed the connection without a word",                  0,    0  },
                { "/cut-frame",       -EHOSTDOWN, "here closed the connection without a word",                  0,    0  },
                { "/drop",            -EHOSTDOWN, "here closed the connection without a word",                  0,    0  },
                { "/wrong-key",       -EPROTO,
                 "here sent what is no websocket's: an answer to another key",                                  0,    0  },
                { "/endless-head",    -EPROTO,
                 "here sent what is no websocket's: an answer of more than",                                    0,    0  },
                { "/forbidden",       -EREMOTEIO,
                 "here refuses a websocket with status 403: <Error>  no</Error>",                               0,    403},
                { "/ok",              -EREMOTEIO, "here refuses a websocket with status 200",                   0,    200},
                { "/bye",             -EHOSTDOWN, "here closed the websocket with status 1001: until tomorrow",
                 1001,                                                                                                0  },
                { "/bye-bare",        -EHOSTDOWN, "here closed the websocket",                                  1,    0  },
                { "/masked",          -EPROTO,    "here sent what is no websocket's: a masked frame",           1002, 0  },
                { "/reserved",        -EPROTO,
                 "here sent what is no websocket's: a frame with reserved bits",                                1002, 0  },
                { "/long-ping",       -EPROTO,
                 "here sent what is no websocket's: a control frame that is too long",                          1002, 0  },
                { "/not-utf8",        -EPROTO,
                 "here sent what is no websocket's: a text that is not UTF-8",                                  1007, 0  },
                { "/large",           -EPROTO,
                 "here sent what is no websocket's: a message of more than the limit of 65536 bytes",
                 1009,                                                                                                0  },
                { "/large-in-pieces", -EPROTO,
                 "here sent what is no websocket's: a message of more than the limit of 65536 bytes",
                 1009,                                                                                                0  },
        };

        for (size_t i = 0; i < ELEMENTSOF(table); i++) {
                Peer *p = *state;
                open_with(p, table[i].target, &patient);
                step_to_end(p);
                if (p->result != table[i].result ||
                    strncmp(p->err, table[i].err, strlen(table[i].err)) != 0 ||
                    p->status != table[i].status)
                        fail_msg("%s: %d, %u, %s", table[i].target, p->result, p->status, p->err);
                wait_for(CLOSE_STATUS, table[i].close_status);
                assert_int_equal(teardown(state), 0);
                assert_int_equal(setup(state), 0);
        }
}

static void refused_body(void **state)
{
        WebSocketLimits hasty = patient;
        Peer *p = *state;

        /* The body has no end: what came of it counts. */
        hasty.open_msec = 300;
        open_with(p, "/refused-open", &hasty);
        step_to_end(p);
        assert_int_equal(p->result, -EREMOTEIO);
        assert_int_equal(p->status, 503);
        assert_string_equal(p->body, "later");
}

static void too_slow(void **state)
{
        WebSocketLimits hasty = patient;
        Peer *p = *state;

        hasty.open_msec = 50;
        open_with(p, "/mute", &hasty);
        step_to_end(p);
        assert_int_equal(p->result, -ETIMEDOUT);
        assert_string_equal(p->err, "here does not open a websocket in time");
}

static void half_open(void **state)
{
        WebSocketLimits hasty = patient;
        Peer *p = *state;

        hasty.ping_msec = 20;
        hasty.silence_msec = 70;
        open_with(p, "/half-open", &hasty);
        step_to_end(p);
        assert_int_equal(p->result, -ETIMEDOUT);
        assert_string_equal(p->err, "nothing comes from here any more");
}

static void kept_alive(void **state)
{
        WebSocketLimits hasty = patient;
        Peer *p = *state;

        hasty.ping_msec = 5;
        hasty.silence_msec = 5000;
        open_with(p, "/ponging", &hasty);
        while (get(N_PINGS) < 5)
                step(p);
        assert_false(p->ended);
}

/* A server that says goodbye and does not close the connection. */
static void closes_never(void **state)
{
        WebSocketLimits hasty = patient;
        Peer *p = *state;

        hasty.close_msec = 20;
        open_with(p, "/bye-deaf", &hasty);
        step_to_end(p);
        assert_int_equal(p->result, -EHOSTDOWN);
        assert_string_equal(p->err, "here closed the websocket with status 1000");
}

static void freed_anytime(void **state)
{
        Peer *p = *state;

        open_with(p, "/echo", &patient); /* before it connects */
        p->socket = websocket_free(p->socket);
        open_with(p, "/mute", &patient); /* while it opens */
        while (atomic_load(&server.counts->n_connections) == 0)
                step(p);
        p->socket = websocket_free(p->socket);
        p->free_at_open = true; /* in callbacks */
        open_with(p, "/at-once", &patient);
        while (p->socket)
                step(p);
        assert_int_equal(p->n_messages, 0);
        p->free_at_open = false;
        p->free_at_message = true;
        open_with(p, "/at-once", &patient);
        while (p->socket)
                step(p);
        assert_int_equal(p->n_messages, 1);
        assert_false(p->ended);
        p->free_at_message = false;
        open_with(p, "/bye-deaf", &patient); /* while it ends */
        while (!p->opened || websocket_send(p->socket, true, "", 0) != -ENOTCONN)
                step(p);
        p->socket = websocket_free(p->socket);
}

static void not_allowed(void **state)
{
        _cleanup_free_ char *err = NULL;
        WebSocket *w;
        Peer *p = *state;

        assert_int_equal(websocket_open(p->http,
                                        &(WebSocketRequest){ .url = "http://192.0.2.1",
                                                             .host = "x",
                                                             .target = "/",
                                                             .limits = patient },
                                        &w, &err),
                         -EINVAL);
        assert_non_null(strstr(err, "use https"));
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(echoed, setup, teardown),
                cmocka_unit_test_setup_teardown(fragments_sent, setup, teardown),
                cmocka_unit_test_setup_teardown(at_once, setup, teardown),
                cmocka_unit_test_setup_teardown(ends, setup, teardown),
                cmocka_unit_test_setup_teardown(refused_body, setup, teardown),
                cmocka_unit_test_setup_teardown(too_slow, setup, teardown),
                cmocka_unit_test_setup_teardown(half_open, setup, teardown),
                cmocka_unit_test_setup_teardown(kept_alive, setup, teardown),
                cmocka_unit_test_setup_teardown(closes_never, setup, teardown),
                cmocka_unit_test_setup_teardown(freed_anytime, setup, teardown),
                cmocka_unit_test_setup_teardown(not_allowed, setup, teardown),
        };

        fault_server_start(&server, serve);
        int r = cmocka_run_group_tests(tests, NULL, NULL);
        fault_server_stop(&server);
        return r;
}
