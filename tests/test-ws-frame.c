/* SPDX-License-Identifier: Apache-2.0 */
#include "test.h"

#include "sink.h"
#include "ws-frame.h"

#define LIMIT 70000

/* Writes down what a reader gives, in words. */
static void describe(Sink *s, const WsMessage *m)
{
        char text[64];

        (void) snprintf(text, sizeof(text), "%d:%u:%zu:%.8s;", m->opcode, m->status, m->size,
                        m->size < 20 ? (const char *) m->data : "");
        if (m->size < 20)
                (void) snprintf(text, sizeof(text), "%d:%u:%.*s;", m->opcode, m->status,
                                (int) m->size, (const char *) m->data);
        assert_int_equal(sink_write(s, text, strlen(text)), 0);
}

/* Feeds the bytes in pieces of this size, each a copy of its own. */
static char *read_all(const void *data, size_t size, size_t piece_size)
{
        _cleanup_(ws_reader_freep) WsReader *r = NULL;
        Sink transcript = {};
        int k = 0;

        assert_int_equal(ws_reader_new(LIMIT, &r), 0);
        assert_int_equal(sink_write(&transcript, "", 0), 0);
        for (size_t at = 0; k >= 0 && at < size; at += piece_size) {
                size_t left = MIN(piece_size, size - at);
                _cleanup_free_ uint8_t *piece = malloc(left);
                const uint8_t *p = piece;
                memcpy(piece, (const uint8_t *) data + at, left);
                do {
                        _cleanup_free_ char *err = NULL;
                        char text[128];
                        unsigned status = 0;
                        WsMessage m;
                        k = ws_reader_next(r, &p, &left, &m, &status, &err);
                        if (k > 0)
                                describe(&transcript, &m);
                        if (k < 0) {
                                assert_int_equal(k, -EPROTO);
                                (void) snprintf(text, sizeof(text), "!%u %s", status, err);
                                assert_int_equal(sink_write(&transcript, text, strlen(text)), 0);
                        }
                } while (k > 0);
                assert_true(k < 0 || left == 0);
        }
        return TAKE_PTR(transcript.data);
}

/* RFC 6455, 5.7 has the first ones. */
#define BYTES(s) s, sizeof(s) - 1

static const struct {
        const char *bytes;
        size_t size;
        const char *transcript;
} table[] = {
        {BYTES("\x81\x05"
                "Hello"),
         "1:0:Hello;"                                                                                                         },
        { BYTES("\x01\x03"
                "Hel\x80\x02"
                "lo"),
         "1:0:Hello;"                                                                                                         },
        { BYTES("\x89\x05"
                "Hello\x8a\x00"),
         "9:0:Hello;10:0:;"                                                                                                   },
        { BYTES("\x82\x00\x81\x00"),                                            "2:0:;1:0:;"                                  },
        { BYTES("\x02\x00\x00\x00\x80\x00"),                                    "2:0:;"                                       },
 /* control frames between fragments, and a character cut in two */
        { BYTES("\x01\x01\xc3\x89\x01p\x00\x00\x8a\x01q\x80\x01\xa4\x81\x01x"),
         "9:0:p;10:0:q;1:0:\xc3\xa4;1:0:x;"                                                                                   },
        { BYTES("\x01\x01"
                "a\x88\x00"),
         "8:1005:;"                                                                                                           },
        { BYTES("\x88\x02\x03\xe8"),                                            "8:1000:;"                                    },
        { BYTES("\x88\x05\x0f\xa0"
                "bye"),
         "8:4000:bye;"                                                                                                        },
 /* violations */
        { BYTES("\x81\x85"
                "1234xxxxx"),
         "!1002 a masked frame"                                                                                               },
        { BYTES("\xc1\x00"),                                                    "!1002 a frame with reserved bits"            },
        { BYTES("\x91\x00"),                                                    "!1002 a frame with reserved bits"            },
        { BYTES("\x83\x00"),                                                    "!1002 a frame with the unknown opcode 3"     },
        { BYTES("\x8b\x00"),                                                    "!1002 a frame with the unknown opcode 11"    },
        { BYTES("\x09\x00"),                                                    "!1002 a control frame that is a fragment"    },
        { BYTES("\x89\x7e\x00\x7e"),                                            "!1002 a control frame that is too long"      },
        { BYTES("\x88\x7f"),                                                    "!1002 a control frame that is too long"      },
        { BYTES("\x80\x00"),                                                    "!1002 a fragment of no message"              },
        { BYTES("\x82\x00\x80\x00"),                                            "2:0:;!1002 a fragment of no message"         },
        { BYTES("\x01\x00\x82\x00"),                                            "!1002 a message in the middle of another one"},
        { BYTES("\x82\x7e\x00\x7d"),
         "!1002 a frame whose size is not written in the shortest way"                                                        },
        { BYTES("\x82\x7f\x00\x00\x00\x00\x00\x00\xff\xff"),
         "!1002 a frame whose size is not written in the shortest way"                                                        },
        { BYTES("\x82\x7f\x80\x00\x00\x00\x00\x01\x00\x00"),
         "!1002 a frame whose size is not written in the shortest way"                                                        },
        { BYTES("\x82\x7f\x00\x00\x00\x00\x00\x01\x11\x71"),
         "!1009 a message of more than the limit of 70000 bytes"                                                              },
        { BYTES("\x82\x7f\x7f\xff\xff\xff\xff\xff\xff\xff"),
         "!1009 a message of more than the limit of 70000 bytes"                                                              },
        { BYTES("\x02\x01x\x80\x7f\x00\x00\x00\x00\x00\x01\x11\x70"),
         "!1009 a message of more than the limit of 70000 bytes"                                                              },
        { BYTES("\x81\x02\xc3("),                                               "!1007 a text that is not UTF-8"              },
        { BYTES("\x81\x01\xc3"),                                                "!1007 a text that is not UTF-8"              },
        { BYTES("\x81\x03\xed\xa0\x80"),                                        "!1007 a text that is not UTF-8"              },
        { BYTES("\x88\x03\x03\xe8\xff"),                                        "!1007 a close whose reason is not UTF-8"     },
        { BYTES("\x88\x01\x03"),                                                "!1002 a close without a valid status"        },
        { BYTES("\x88\x02\x03\xed"),                                            "!1002 a close without a valid status"        }, /* 1005 */
        { BYTES("\x88\x02\x03\xe7"),                                            "!1002 a close without a valid status"        }, /* 999 */
        { BYTES("\x88\x02\x13\x88"),                                            "!1002 a close without a valid status"        }, /* 5000 */
        { BYTES("\x88\x02\x0b\xb7"),                                            "!1002 a close without a valid status"        }, /* 2999 */
};

static void in_any_pieces(void **state)
{
        (void) state;
        for (size_t i = 0; i < ELEMENTSOF(table); i++)
                for (size_t piece_size = 1; piece_size <= table[i].size; piece_size++) {
                        _cleanup_free_ char *t =
                                read_all(table[i].bytes, table[i].size, piece_size);
                        if (!streq(t, table[i].transcript))
                                fail_msg("%zu in pieces of %zu: '%s' instead of '%s'", i,
                                         piece_size, t, table[i].transcript);
                }
}

/* What the server would have sent. */
static uint8_t *unmask(uint8_t *data, size_t *size)
{
        uint8_t *from = data, *end = data + *size, *to = data;

        while (from < end) {
                const unsigned size_field = from[1] & 0x7f;
                const size_t n_header = size_field == 127 ? 10 : size_field == 126 ? 4 : 2;
                size_t n = size_field < 126 ? size_field : 0;
                uint8_t mask[4];
                assert_int_equal(from[1] & 0x80, 0x80);
                for (size_t i = 2; i < n_header; i++)
                        n = n << 8 | from[i];
                memcpy(mask, from + n_header, 4);
                memmove(to, from, n_header);
                to[1] &= 0x7f;
                for (size_t i = 0; i < n; i++)
                        to[n_header + i] = from[n_header + 4 + i] ^ mask[i % 4];
                from += n_header + 4 + n;
                to += n_header + n;
        }
        *size = (size_t) (to - data);
        return data;
}

static void written_and_read(void **state)
{
        static const struct {
                size_t size, n_written;
        } sizes[] = {
                {0,       6     },
                { 125,    131   },
                { 126,    134   },
                { 65535,  65543 },
                { 65536,  65550 },
                { 131072, 131086},
                { 131073, 131093},
                { 300000, 300036},
        };
        static uint8_t data[300000];

        (void) state;
        for (size_t i = 0; i < sizeof(data); i++)
                data[i] = (uint8_t) (i * 7);
        for (size_t i = 0; i < ELEMENTSOF(sizes); i++) {
                _cleanup_(ws_reader_freep) WsReader *r = NULL;
                _cleanup_free_ void *written = NULL;
                const uint8_t *p;
                unsigned status;
                size_t size;
                WsMessage m;
                assert_int_equal(ws_message_write(WS_BINARY, data, sizes[i].size, &written, &size),
                                 0);
                assert_int_equal(size, sizes[i].n_written);
                p = unmask(written, &size);
                assert_int_equal(ws_reader_new(sizeof(data), &r), 0);
                assert_int_equal(ws_reader_next(r, &p, &size, &m, &status, NULL), 1);
                assert_int_equal(size, 0);
                assert_int_equal(m.opcode, WS_BINARY);
                assert_int_equal(m.size, sizes[i].size);
                assert_memory_equal(m.data, data, m.size);
        }
}

static void masks_differ(void **state)
{
        static const uint8_t zeros[8] = {};
        uint8_t seen[4] = {};
        bool differ = false;

        (void) state;
        for (int i = 0; i < 16; i++) {
                _cleanup_free_ void *data = NULL;
                size_t size;
                assert_int_equal(ws_message_write(WS_PING, zeros, sizeof(zeros), &data, &size), 0);
                assert_int_equal(size, 14);
                assert_memory_equal(data, "\x89\x88", 2);
                differ = differ || memcmp((uint8_t *) data + 2, seen, 4) != 0;
                memcpy(seen, (uint8_t *) data + 2, 4);
                assert_memory_equal((uint8_t *) data + 6, seen, 4);
        }
        assert_true(differ);
}

static void closes(void **state)
{
        _cleanup_free_ void *with = NULL, *without = NULL;
        size_t size;

        (void) state;
        assert_int_equal(ws_close_write(WS_TOO_BIG, &with, &size), 0);
        assert_int_equal(size, 8);
        assert_memory_equal(unmask(with, &size), "\x88\x02\x03\xf1", 4);
        assert_int_equal(ws_close_write(WS_NO_STATUS, &without, &size), 0);
        assert_int_equal(size, 6);
        assert_memory_equal(without, "\x88\x80", 2);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(in_any_pieces),
                cmocka_unit_test(written_and_read),
                cmocka_unit_test(masks_differ),
                cmocka_unit_test(closes),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
