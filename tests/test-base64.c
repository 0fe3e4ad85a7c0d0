/* SPDX-License-Identifier: Apache-2.0 */
#include "base64.h"

#include <errno.h>

#include "test.h"

/* RFC 4648, section 10, and bytes that need the last two characters of the alphabet. */
static const struct {
        const char *plain, *encoded;
} vectors[] = {
        {"",                  ""        },
        { "f",                "Zg=="    },
        { "fo",               "Zm8="    },
        { "foo",              "Zm9v"    },
        { "foob",             "Zm9vYg=="},
        { "fooba",            "Zm9vYmE="},
        { "foobar",           "Zm9vYmFy"},
        { "\xfb\xef\xbe\xff", "++++/w=="},
};

static void assert_decodes(const char *s, const char *plain)
{
        _cleanup_free_ uint8_t *data = NULL;
        size_t size;

        assert_int_equal(base64_decode(s, &data, &size), 0);
        assert_int_equal(size, strlen(plain));
        assert_string_equal((char *) data, plain);
}

static void vectors_hold(void **state)
{
        (void) state;
        for (size_t i = 0; i < ELEMENTSOF(vectors); i++) {
                _cleanup_free_ char *s = NULL, *bare = NULL;
                assert_int_equal(base64_encode(vectors[i].plain, strlen(vectors[i].plain), &s), 0);
                assert_string_equal(s, vectors[i].encoded);
                assert_decodes(s, vectors[i].plain);
                bare = strndup(s, strcspn(s, "="));
                assert_decodes(bare, vectors[i].plain);
        }
        assert_decodes("----_w==", "\xfb\xef\xbe\xff");
        assert_decodes("----_w", "\xfb\xef\xbe\xff");
}

static void every_byte(void **state)
{
        uint8_t bytes[256];

        (void) state;
        for (size_t i = 0; i < sizeof(bytes); i++)
                bytes[i] = (uint8_t) i;
        for (size_t size = 0; size <= sizeof(bytes); size++) {
                _cleanup_free_ char *s = NULL;
                _cleanup_free_ uint8_t *again = NULL;
                size_t again_size;
                assert_int_equal(base64_encode(bytes, size, &s), 0);
                assert_int_equal(base64_decode(s, &again, &again_size), 0);
                assert_int_equal(again_size, size);
                assert_memory_equal(again, bytes, size);
        }
}

static void refused(void **state)
{
        static const char *const bad[] = {
                "A",
                "AAAAA",
                "=",
                "==",
                "====",
                "A===",
                "AA=",
                "AA===",
                "AAA==",
                "AAAA=",
                "AAAA====",
                "AA=A",
                "AA==AAAA",
                "AA A",
                " AAAA",
                "AAAA\n",
                "AA\nAA",
                "AA*A",
                "AB==",
                "AAB=",
                "AB",
                "AAB",
                "\xc3\xa9"
                "AA",
        };

        (void) state;
        for (size_t i = 0; i < ELEMENTSOF(bad); i++) {
                uint8_t *data;
                size_t size;
                if (base64_decode(bad[i], &data, &size) != -EBADMSG)
                        fail_msg("\"%s\" was taken", bad[i]);
        }
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(vectors_hold),
                cmocka_unit_test(every_byte),
                cmocka_unit_test(refused),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
