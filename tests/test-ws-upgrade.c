/* SPDX-License-Identifier: Apache-2.0 */
#include "test.h"

#include "ws-upgrade.h"

/* RFC 6455, 1.3 */
#define KEY    "dGhlIHNhbXBsZSBub25jZQ=="
#define ACCEPT "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"
#define OK     "HTTP/1.1 101 Switching Protocols\r\n"
#define WORDS  "Upgrade: websocket\r\nConnection: Upgrade\r\n"

static void request(void **state)
{
        static const NameValue headers[] = {
                {"Host",           "example.com"},
                { "Authorization", "x y"        }
        };
        char key[WS_KEY_SIZE], other[WS_KEY_SIZE];
        _cleanup_free_ char *text = NULL, *again = NULL;

        (void) state;
        assert_int_equal(ws_upgrade_write("/a?b=c", headers, 2, key, &text), 0);
        assert_ptr_equal(strstr(text, "GET /a?b=c HTTP/1.1\r\nHost: example.com\r\n"
                                      "Authorization: x y\r\nUser-Agent: slipway/"),
                         text);
        assert_non_null(strstr(text, "\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
                                     "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: "));
        assert_int_equal(strlen(key), 24);
        assert_string_equal(text + strlen(text) - 28,
                            strcat(strcpy((char[32]){}, key), "\r\n\r\n"));
        assert_int_equal(ws_upgrade_write("/", NULL, 0, other, &again), 0);
        assert_string_not_equal(key, other);
}

static const struct {
        const char *answer;
        int result;
        unsigned status;
        const char *what; /* what is left, the body, or in the error */
} table[] = {
        {OK WORDS ACCEPT "\r\nleft",                                                    1,       101, "left"          },
        { OK "upgrade:WebSocket\r\nCONNECTION:  keep-alive,upgrade \r\n" ACCEPT "\r\n", 1,       101,
         ""                                                                                                           },
        { OK WORDS "\r\n",                                                              -EPROTO, 0,   "another key"   },
        { OK WORDS "Sec-WebSocket-Accept: S3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n",        -EPROTO, 0,
         "another key"                                                                                                },
        { OK "Upgrade: websocket\r\n" ACCEPT "\r\n",                                    -EPROTO, 0,   "something else"},
        { OK "Connection: upgrade\r\nUpgrade: websockets\r\n" ACCEPT "\r\n",            -EPROTO, 0,
         "something else"                                                                                             },
        { OK WORDS ACCEPT "Sec-WebSocket-Extensions: permessage-deflate\r\n\r\n",       -EPROTO, 0,
         "not asked for"                                                                                              },
        { OK WORDS ACCEPT "Sec-WebSocket-Protocol: chat\r\n\r\n",                       -EPROTO, 0,   "not asked for" },
        { "HTTP/1.1 403 Forbidden\r\nContent-Length: 4\r\n\r\nno!\nmore",               1,       403, "no!\n"         },
        { "HTTP/1.1 404 x\r\nContent-Length: 0\r\n\r\n",                                1,       404, ""              },
        { "HTTP/1.1 200\r\n\r\nbody",                                                   0,       200, "body"          },
        { "HTTP/1.1 500 x\r\nContent-Length: 99999\r\n\r\nbody",                        0,       500, "body"          },
        { "HTTP/1.0 101 x\r\n" WORDS ACCEPT "\r\n",                                     -EPROTO, 0,   "not HTTP"      },
        { "HTTP/1.1 1011 x\r\n" WORDS ACCEPT "\r\n",                                    -EPROTO, 0,   "not HTTP"      },
        { "HTTP/1.1 10\r\n\r\n",                                                        -EPROTO, 0,   "not HTTP"      },
        { "HTTP/1.1 012 x\r\n\r\n",                                                     -EPROTO, 0,   "not HTTP"      },
        { "\r\n\r\n",                                                                   -EPROTO, 0,   "not HTTP"      },
        { "SSH-2.0-x\r\n\r\n",                                                          -EPROTO, 0,   "not HTTP"      },
        { "HTTP/1.1 101 half",                                                          0,       0,   ""              },
};

static void judge(size_t i, size_t piece_size)
{
        const size_t size = strlen(table[i].answer);
        _cleanup_(ws_answer_freep) WsAnswer *a = NULL;
        _cleanup_free_ char *err = NULL;
        size_t left = 0, body_size = 0;
        const uint8_t *p = NULL;
        int r = 0;

        assert_int_equal(ws_answer_new(KEY, &a), 0);
        for (size_t at = 0; r == 0 && at < size; at += piece_size) {
                p = (const uint8_t *) table[i].answer + at;
                left = MIN(piece_size, size - at);
                r = ws_answer_take(a, &p, &left, &err);
        }
        if (r != table[i].result)
                fail_msg("%zu: %d (%s)", i, r, strempty(err));
        if (r < 0) {
                if (!strstr(err, table[i].what))
                        fail_msg("%zu: %s", i, err);
                return;
        }
        assert_int_equal(ws_answer_status(a), table[i].status);
        if (table[i].status == 101) /* in pieces, what is left did not come yet */
                assert_memory_equal(p, table[i].what, left);
        else
                assert_string_equal(ws_answer_body(a, &body_size), table[i].what);
        assert_int_equal(body_size, table[i].status == 101 ? 0 : strlen(table[i].what));
}

static void in_any_pieces(void **state)
{
        (void) state;
        for (size_t i = 0; i < ELEMENTSOF(table); i++)
                for (size_t piece_size = 1; piece_size <= strlen(table[i].answer); piece_size++)
                        judge(i, piece_size);
}

static void caps(void **state)
{
        static uint8_t junk[20000];
        _cleanup_(ws_answer_freep) WsAnswer *a = NULL, *refused = NULL;
        _cleanup_free_ char *err = NULL;
        const char *head = "HTTP/1.1 503 x\r\nDate: Sun, 22 Nov 2026 14:08:29 GMT\r\n\r\n";
        const uint8_t *p = junk;
        size_t left = sizeof(junk);

        (void) state;
        memset(junk, 'x', sizeof(junk));
        assert_int_equal(ws_answer_new(KEY, &a), 0);
        assert_int_equal(ws_answer_take(a, &p, &left, &err), -EPROTO);
        assert_string_equal(err, "an answer of more than the limit of 16384 bytes");
        assert_int_equal(ws_answer_new(KEY, &refused), 0);
        p = (const uint8_t *) head;
        left = strlen(head);
        assert_int_equal(ws_answer_take(refused, &p, &left, NULL), 0);
        assert_int_equal(ws_answer_date(refused), 1795356509);
        p = junk;
        left = sizeof(junk);
        assert_int_equal(ws_answer_take(refused, &p, &left, NULL), 1);
        assert_int_equal(left, sizeof(junk) - WS_REFUSAL_SIZE_MAX);
}

static void nul_in_head(void **state)
{
        static const char answer[] = OK WORDS "X: \0\r\n" ACCEPT "\r\n";
        _cleanup_(ws_answer_freep) WsAnswer *a = NULL;
        const uint8_t *p = (const uint8_t *) answer;
        size_t left = sizeof(answer) - 1;

        (void) state;
        assert_int_equal(ws_answer_new(KEY, &a), 0);
        assert_int_equal(ws_answer_take(a, &p, &left, NULL), -EPROTO);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(request),
                cmocka_unit_test(in_any_pieces),
                cmocka_unit_test(caps),
                cmocka_unit_test(nul_in_head),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
