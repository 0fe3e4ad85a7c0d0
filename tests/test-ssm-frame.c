/* SPDX-License-Identifier: Apache-2.0 */
#include "test.h"

#include "ssm-frame.h"

#define ID "01234567-89ab-4cde-8f01-23456789abcd"

static const SsmFrame ack = {
        .type = "agent_job_ack",
        .id = ID,
        .created_msec = UINT64_C(0x0102030405060708),
        .payload = "abc",
        .payload_size = 3,
};

/* FIPS 180-4's own example */
static const uint8_t digest_of_abc[] = {
        0xba, 0x78, 0x16, 0xbf, 0x8f, 0x01, 0xcf, 0xea, 0x41, 0x41, 0x40,
        0xde, 0x5d, 0xae, 0x22, 0x23, 0xb0, 0x03, 0x61, 0xa3, 0x96, 0x17,
        0x7a, 0x9c, 0xb4, 0x10, 0xff, 0x61, 0xf2, 0x00, 0x15, 0xad,
};

static uint8_t *pack(size_t *ret_size)
{
        void *data;

        assert_int_equal(ssm_frame_pack(&ack, &data, ret_size), 0);
        return data;
}

static void layout(void **state)
{
        static const uint8_t id[] = { 0x8f, 0x01, 0x23, 0x45, 0x67, 0x89, 0xab, 0xcd,
                                      0x01, 0x23, 0x45, 0x67, 0x89, 0xab, 0x4c, 0xde };
        static const uint8_t zeros[16] = {};
        size_t size;
        _cleanup_free_ uint8_t *p = pack(&size);

        (void) state;
        assert_int_equal(size, 123);
        assert_memory_equal(p, "\0\0\0\164agent_job_ack                   \0\0\0\1", 40);
        assert_memory_equal(p + 40, "\1\2\3\4\5\6\7\10", 8);
        assert_memory_equal(p + 48, zeros, 16);
        assert_memory_equal(p + 64, id, sizeof(id));
        assert_memory_equal(p + 80, digest_of_abc, sizeof(digest_of_abc));
        assert_memory_equal(p + 112, "\0\0\0\0\0\0\0\3abc", 11);
}

static void there_and_back(void **state)
{
        size_t size;
        _cleanup_free_ uint8_t *p = pack(&size);
        SsmFrame f;

        (void) state;
        assert_int_equal(ssm_frame_unpack(p, size, &f, NULL), 0);
        assert_string_equal(f.type, ack.type);
        assert_string_equal(f.id, ID);
        assert_int_equal(f.created_msec, ack.created_msec);
        assert_int_equal(f.payload_size, 3);
        assert_ptr_equal(f.payload, p + 120);
        assert_true(f.digest_holds);
}

/* What the service may do, and amazon-ssm-agent takes. */
static void lenient(void **state)
{
        static uint8_t longer[127];
        size_t size;
        _cleanup_free_ uint8_t *p = pack(&size);
        SsmFrame f;

        (void) state;
        memset(p + 17, 0, 19); /* padded with NULs */
        p[120] = 'x';
        assert_int_equal(ssm_frame_unpack(p, size, &f, NULL), 0);
        assert_string_equal(f.type, "agent_job_ack");
        assert_false(f.digest_holds);
        p[119] = 1; /* the size of the payload */
        assert_int_equal(ssm_frame_unpack(p, size, &f, NULL), 0);
        assert_int_equal(f.payload_size, 3);
        memcpy(longer, p, 116);
        longer[3] = 120;
        memcpy(longer + 120, "\0\0\0\3abc", 7);
        assert_int_equal(ssm_frame_unpack(longer, sizeof(longer), &f, NULL), 0);
        assert_memory_equal(f.payload, "abc", 3);
        assert_int_equal(f.payload_size, 3);
        assert_true(f.digest_holds);
        /* No payload is one of no bytes. */
        p[119] = 0;
        assert_int_equal(ssm_frame_unpack(p, 120, &f, NULL), 0);
        assert_int_equal(f.payload_size, 0);
}

static void malformed(void **state)
{
        static const struct {
                size_t at;
                uint8_t value;
                const char *err;
        } table[] = {
                {3,    115, "a message of 123 bytes with a header of 115"     },
                { 3,   120, "a message of 123 bytes with a header of 120"     },
                { 0,   255, "with a header of 4278190196 instead of 116"      },
                { 4,   ' ', "without a valid type"                            },
                { 5,   7,   "without a valid type"                            },
                { 6,   200, "without a valid type"                            },
                { 119, 4,   "ends before its payload"                         },
                { 116, 128, "ends before its payload"                         },
                { 40,  0,   "a message of type agent_job_ack without its time"},
        };

        (void) state;
        for (size_t i = 0; i < ELEMENTSOF(table); i++) {
                size_t size;
                _cleanup_free_ uint8_t *p = pack(&size);
                _cleanup_free_ char *err = NULL;
                SsmFrame f;
                p[table[i].at] = table[i].value;
                if (table[i].at == 40)
                        memset(p + 40, 0, 8);
                assert_int_equal(ssm_frame_unpack(p, size, &f, &err), -EBADMSG);
                if (!strstr(err, table[i].err))
                        fail_msg("'%s' instead of '%s'", err, table[i].err);
        }
}

static void too_short(void **state)
{
        size_t size;
        _cleanup_free_ uint8_t *p = pack(&size);
        SsmFrame f;

        (void) state;
        for (size_t n = 0; n < size; n++) {
                _cleanup_free_ uint8_t *exact = malloc(n + 1);
                memcpy(exact, p, n);
                assert_int_equal(ssm_frame_unpack(exact, n, &f, NULL), -EBADMSG);
        }
}

static void not_packed(void **state)
{
        static const SsmFrame bad[] = {
                {.type = "",           .id = ID           },
                { .type = "two words", .id = ID           },
                { .type = "x",         .id = "not an UUID"},
        };
        void *data;
        size_t size;

        (void) state;
        for (size_t i = 0; i < ELEMENTSOF(bad); i++)
                assert_int_equal(ssm_frame_pack(&bad[i], &data, &size), -EINVAL);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(layout),    cmocka_unit_test(there_and_back),
                cmocka_unit_test(lenient),   cmocka_unit_test(malformed),
                cmocka_unit_test(too_short), cmocka_unit_test(not_packed),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
