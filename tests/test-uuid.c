/* SPDX-License-Identifier: Apache-2.0 */
#include "test.h"

#include "uuid.h"

static void forms(void **state)
{
        static const char *const bad[] = {
                "",
                "0",
                "c1c49ef4-dbc5-404f-b0a5-9ee10033bc9",
                "c1c49ef4-dbc5-404f-b0a5-9ee10033bc977",
                "c1c49ef4-dbc5-404f-b0a5-9ee10033bc97 ",
                "c1c49ef4dbc5-404f-b0a5-9ee10033bc97-",
                "c1c49ef4-dbc5-404f-b0a5-9ee10033bc9g",
                "{1c49ef4-dbc5-404f-b0a5-9ee10033bc97",
                "c1c49ef4-dbc5-404f-b0a5-",
        };
        static const uint8_t bytes[UUID_SIZE] = { 0xc1, 0xc4, 0x9e, 0xf4, 0xdb, 0xc5, 0x40, 0x4f,
                                                  0xb0, 0xa5, 0x9e, 0xe1, 0x00, 0x33, 0xbc, 0x97 };
        uint8_t parsed[UUID_SIZE];
        char text[UUID_TEXT_SIZE];

        (void) state;
        assert_int_equal(uuid_parse("c1C49eF4-dbc5-404f-b0a5-9ee10033bc97", parsed), 0);
        assert_memory_equal(parsed, bytes, UUID_SIZE);
        assert_string_equal(uuid_format(bytes, text), "c1c49ef4-dbc5-404f-b0a5-9ee10033bc97");
        for (size_t i = 0; i < ELEMENTSOF(bad); i++)
                assert_int_equal(uuid_parse(bad[i], parsed), -EBADMSG);
}

static void random_ones(void **state)
{
        char one[UUID_TEXT_SIZE], other[UUID_TEXT_SIZE];
        uint8_t bytes[UUID_SIZE];

        (void) state;
        assert_int_equal(uuid_new(one), 0);
        assert_int_equal(uuid_new(other), 0);
        assert_string_not_equal(one, other);
        assert_int_equal(uuid_parse(one, bytes), 0);
        assert_int_equal(bytes[6] >> 4, 4);
        assert_int_equal(bytes[8] >> 6, 2);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(forms),
                cmocka_unit_test(random_ones),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
