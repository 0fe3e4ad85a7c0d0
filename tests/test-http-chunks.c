/* SPDX-License-Identifier: Apache-2.0 */
#include "test.h"

#include "http-chunks.h"

/* In pieces of `piece` bytes; the content is put together in `out`. */
static int take(const char *body, size_t size, size_t piece, char out[static 256])
{
        HttpChunks c = {};
        size_t n_out = 0;
        int r = 0;

        for (size_t at = 0; at < size; at += piece) {
                const char *data = body + at, *content;
                size_t left = MIN(piece, size - at), content_size;

                while ((r = http_chunks_next(&c, &data, &left, &content, &content_size)) > 0) {
                        assert_true(content_size > 0 && n_out + content_size < 256);
                        memcpy(out + n_out, content, content_size);
                        n_out += content_size;
                }
                if (r < 0)
                        return r;
                assert_int_equal(left, 0);
        }
        out[n_out] = '\0';
        return c.state == HTTP_CHUNKS_END ? 1 : 0;
}

static void bodies(void **state)
{
        static const struct {
                const char *body, *content;
                int result; /* 1: it is whole */
        } table[] = {
                {"0\r\n\r\n",                                        "",           1       },
                { "5\r\nhello\r\n0\r\n\r\n",                         "hello",      1       },
                { "5\r\nhello\r\n2;a=b;c\r\n w\r\n0\r\n\r\n",        "hello w",    1       },
                { "0000a\r\n0123456789\r\n00\r\nX: trailer\r\n\r\n", "0123456789", 1       },
                { "A\n0123456789\n0\n\n",                            "0123456789", 1       },
                { "5\r\nhel",                                        "hel",        0       },
                { "",                                                "",           0       },
                { "5\r\nhello0\r\n\r\n",                             NULL,         -EBADMSG},
                { "\r\n",                                            NULL,         -EBADMSG},
                { "-1\r\n",                                          NULL,         -EBADMSG},
                { "zz\r\n",                                          NULL,         -EBADMSG},
                { "5\r\nhello\r\n\r\n",                              NULL,         -EBADMSG},
                { "1234567890abcdef\r\n",                            NULL,         -EBADMSG},
        };

        (void) state;
        for (size_t i = 0; i < ELEMENTSOF(table); i++)
                for (size_t piece = 1; piece < 40; piece++) {
                        char out[256];

                        assert_int_equal(take(table[i].body, strlen(table[i].body), piece, out),
                                         table[i].result);
                        if (table[i].content)
                                assert_string_equal(out, table[i].content);
                }
}

/* Chunks of one byte, so many of them. */
static void as_many_as_one_likes(void **state)
{
        static const char chunk[] = "1\r\nx\r\n";
        HttpChunks c = {};

        (void) state;
        for (size_t i = 0; i < 200000; i++) {
                const char *data = chunk, *content;
                size_t size = strlen(chunk), content_size;

                assert_int_equal(http_chunks_next(&c, &data, &size, &content, &content_size), 1);
                assert_int_equal(content_size, 1);
                assert_int_equal(http_chunks_next(&c, &data, &size, &content, &content_size), 0);
        }
        assert_int_equal(c.n_content, 200000);
}

static void what_is_around_them_has_an_end(void **state)
{
        static const char *const begin[] = { "5;", "0\r\n", "1\r\nx\r\n1 " };
        static const char more[] = "and more and more and more and more and more\n";

        (void) state;
        for (size_t i = 0; i < ELEMENTSOF(begin); i++) {
                HttpChunks c = {};
                const char *data = begin[i], *content;
                size_t size = strlen(data), content_size, n = 0;
                int r;

                while ((r = http_chunks_next(&c, &data, &size, &content, &content_size)) > 0)
                        ;
                for (; r == 0 && n < 2 * HTTP_CHUNKS_AROUND_MAX; n += sizeof(more)) {
                        data = more;
                        size = i == 1 ? sizeof(more) - 1 : sizeof(more) - 2; /* no line ends */
                        r = http_chunks_next(&c, &data, &size, &content, &content_size);
                }
                assert_int_equal(r, -EFBIG);
        }
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(bodies),
                cmocka_unit_test(as_many_as_one_likes),
                cmocka_unit_test(what_is_around_them_has_an_end),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
