/* SPDX-License-Identifier: Apache-2.0 */
#include "test.h"

#include "ssm-channel.h"

static void names(void **state)
{
        (void) state;
        for (int i = 0; i < _SSM_CHANNEL_MAX; i++) {
                const char *name = ssm_channel_to_string((SsmChannel) i);
                assert_non_null(name);
                assert_int_equal(ssm_channel_from_string(name), i);
        }
        assert_string_equal(ssm_channel_to_string(SSM_CHANNEL_MDS), "ec2messages");
        assert_null(ssm_channel_to_string(_SSM_CHANNEL_INVALID));
        assert_null(ssm_channel_to_string(_SSM_CHANNEL_MAX));
        assert_int_equal(ssm_channel_from_string("mds"), _SSM_CHANNEL_INVALID);
        assert_int_equal(ssm_channel_from_string(""), _SSM_CHANNEL_INVALID);
}

int main(void)
{
        const struct CMUnitTest tests[] = { cmocka_unit_test(names) };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
