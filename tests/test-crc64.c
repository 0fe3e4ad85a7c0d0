/* SPDX-License-Identifier: Apache-2.0 */
#include "test.h"

#include "crc64.h"

static void known_values(void **state)
{
        static const uint8_t zeros[4096] = {};
        char text[CRC64_TEXT_SIZE];

        (void) state;
        /* The check value of the catalogue of CRCs (CRC-64/NVME), and the specification's own. */
        assert_true(crc64(0, "123456789", 9) == UINT64_C(0xae8b14860a799888));
        assert_true(crc64(0, zeros, sizeof(zeros)) == UINT64_C(0x6482d367eb22b64e));
        assert_true(crc64(0, "", 0) == 0);
        assert_int_equal(crc64_to_text(UINT64_C(0xae8b14860a799888), text), 0);
        assert_string_equal(text, "rosUhgp5mIg=");
}

static void pieces_make_the_same(void **state)
{
        uint8_t data[1000];
        uint64_t whole;

        (void) state;
        for (size_t i = 0; i < sizeof(data); i++)
                data[i] = (uint8_t) (i * 37 >> 2);
        whole = crc64(0, data, sizeof(data));
        for (size_t cut = 0; cut <= sizeof(data); cut++)
                assert_true(crc64(crc64(0, data, cut), data + cut, sizeof(data) - cut) == whole);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(known_values),
                cmocka_unit_test(pieces_make_the_same),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
