/* SPDX-License-Identifier: Apache-2.0 */
#include "test.h"

#include "unit-status.h"

static void active_states(void **state)
{
        static const struct {
                const char *state;
                bool active;
        } table[] = {
                {"active",        true },
                { "reloading",    true },
                { "refreshing",   true },
                { "activating",   false},
                { "inactive",     false},
                { "failed",       false},
                { "deactivating", false},
                { NULL,           false},
        };

        (void) state;
        for (size_t i = 0; i < ELEMENTSOF(table); i++) {
                UnitStatus s = { .active_state = table[i].state };

                assert_int_equal(unit_status_is_active(&s), table[i].active);
                assert_int_equal(unit_status_is_well(&s), table[i].active);
        }
}

static void oneshot_is_well_when_done(void **state)
{
        UnitStatus s = { .active_state = "inactive",
                         .type = "oneshot",
                         .result = "success",
                         .condition_result = 1 };

        (void) state;
        assert_true(unit_status_is_well(&s));
        s.condition_result = 0;
        assert_false(unit_status_is_well(&s));
        s.condition_result = 1;
        s.result = "exit-code";
        assert_false(unit_status_is_well(&s));
        s.result = "success";
        s.type = "simple";
        assert_false(unit_status_is_well(&s));
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(active_states),
                cmocka_unit_test(oneshot_is_well_when_done),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
