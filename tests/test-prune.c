/* SPDX-License-Identifier: Apache-2.0 */
#include "test.h"

#include <sys/stat.h>

#include "prune.h"

static const Activate nothing = { .bake_usec = BAKE_DEFAULT_USEC,
                                  .deadline_usec = DEADLINE_DEFAULT_USEC };

static int releases_fd;
static State *s;
static uint64_t budget_bytes;

/* A deployment of a release, as it stands in state and directory after it. */
static void tried(const char *release, uint64_t deployment, Result result)
{
        static const Sha256 index = {};

        assert_int_equal(mkdirat(releases_fd, release, 0755), 0);
        assert_int_equal(
                state_begin(s, ACTION_DEPLOY, release, s->current, deployment, deployment, "agent"),
                0);
        assert_int_equal(state_add_release(s, release, deployment, deployment, &index, &nothing),
                         0);
        state_set_release_size(s, release, 100, 100);
        assert_int_equal(state_end(s, result, result == RESULT_DONE ? NULL : "it crashed"), 0);
        assert_int_equal(state_set(&s->failed, result == RESULT_DONE ? NULL : release), 0);
        if (result != RESULT_DONE)
                return;
        assert_int_equal(state_set(&s->current, release), 0);
        assert_int_equal(state_set(&s->last_good, release), 0);
}

static void staged(const char *release, uint64_t deployment)
{
        static const Sha256 index = {};

        assert_int_equal(mkdirat(releases_fd, release, 0755), 0);
        assert_int_equal(
                state_begin(s, ACTION_STAGE, release, s->current, deployment, deployment, "agent"),
                0);
        assert_int_equal(state_add_release(s, release, deployment, deployment, &index, &nothing),
                         0);
        assert_int_equal(state_end(s, RESULT_DONE, NULL), 0);
}

/* Prunes, and checks that just these go, from the list and the directory. */
static void expect_pruned(size_t keep, const char *const *expected, size_t n_expected)
{
        char **names = NULL;
        size_t n = 0;

        assert_int_equal(prune_select(releases_fd, s, keep, budget_bytes, &names, &n), 0);
        assert_int_equal(n, n_expected);
        for (size_t i = 0; i < n_expected; i++) {
                bool found = false;

                for (size_t k = 0; k < n; k++)
                        found = found || streq(names[k], expected[i]);
                assert_true(found);
                assert_null(state_find_release(s, expected[i]));
        }
        for (size_t i = 0; i < n; i++) {
                assert_int_equal(unlinkat(releases_fd, names[i], AT_REMOVEDIR), 0);
                free(names[i]);
        }
        free(names);
}
#define PRUNED(keep, ...)                                         \
        expect_pruned(keep, (const char *const[]){ __VA_ARGS__ }, \
                      ELEMENTSOF(((const char *const[]){ __VA_ARGS__ })))

static int setup(void **state)
{
        if (test_dir_setup(state) < 0)
                return -1;
        releases_fd = open(*state, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        return releases_fd < 0 ? -1 : state_new("web", "prod", &s);
}

static int teardown(void **state)
{
        s = state_free(s);
        budget_bytes = 0;
        fd_close(releases_fd);
        return test_dir_teardown(state);
}

static void the_oldest_go(void **state)
{
        (void) state;
        tried("r1", 1, RESULT_DONE);
        tried("r2", 2, RESULT_DONE);
        expect_pruned(2, NULL, 0);
        tried("r3", 3, RESULT_DONE);
        tried("r4", 4, RESULT_DONE);
        PRUNED(2, "r1", "r2");
        expect_pruned(2, NULL, 0);
}

static void a_bad_one_takes_no_good_ones_place(void **state)
{
        (void) state;
        tried("r1", 1, RESULT_DONE);
        tried("r2", 2, RESULT_DONE);
        tried("r3", 3, RESULT_REVERTED);
        /* It is evidence, besides. */
        expect_pruned(2, NULL, 0);
        tried("r4", 4, RESULT_REVERTED);
        PRUNED(2, "r3");
        tried("r5", 5, RESULT_DONE);
        PRUNED(2, "r4", "r1");
        assert_non_null(state_find_release(s, "r2"));
}

static void what_is_held_stays(void **state)
{
        (void) state;
        for (uint64_t n = 1; n <= 4; n++)
                tried((const char *[]){ "r1", "r2", "r3", "r4" }[n - 1], n, RESULT_DONE);
        assert_int_equal(state_set(&s->pinned, "r1"), 0);
        PRUNED(2, "r2", "r3");
        assert_int_equal(state_set(&s->current, "r1"), 0);
        assert_int_equal(state_set(&s->pinned, NULL), 0);
        expect_pruned(2, NULL, 0);
}

static void the_budget_counts_bytes(void **state)
{
        (void) state;
        for (uint64_t n = 1; n <= 4; n++)
                tried((const char *[]){ "r1", "r2", "r3", "r4" }[n - 1], n, RESULT_DONE);
        budget_bytes = 400;
        expect_pruned(5, NULL, 0);
        budget_bytes = 399;
        PRUNED(5, "r1");
        /* Live and last good, and what a rollback goes to, are never for it. */
        budget_bytes = 1;
        PRUNED(5, "r2");
        assert_string_equal(state_release_before(s), "r3");
        expect_pruned(5, NULL, 0);
}

static void shared(const char *release, uint64_t deployment, uint64_t own_bytes)
{
        tried(release, deployment, RESULT_DONE);
        state_set_release_size(s, release, 100, own_bytes);
}

static void what_releases_share_counts_once(void **state)
{
        (void) state;
        shared("r1", 1, 100);
        shared("r2", 2, 10);
        shared("r3", 3, 20);
        shared("r4", 4, 5);
        budget_bytes = 135;
        expect_pruned(9, NULL, 0);
        /* What r1 and r2 had in common stays, now for r2 alone. */
        budget_bytes = 134;
        PRUNED(9, "r1");
        assert_int_equal(state_find_release(s, "r2")->own_bytes, 100);
        assert_int_equal(state_find_release(s, "r3")->own_bytes, 20);
        expect_pruned(9, NULL, 0);
        /* Each that goes frees what was its own alone. */
        budget_bytes = 124;
        PRUNED(9, "r2");
        assert_int_equal(state_find_release(s, "r3")->own_bytes, 100);
        assert_int_equal(state_find_release(s, "r4")->own_bytes, 5);
}

/* One that shares nothing stands between two that do. */
static void who_shares_is_found(void **state)
{
        (void) state;
        shared("r1", 1, 100);
        shared("r2", 2, 100);
        shared("r3", 3, 10);
        state_remove_release(s, "r1");
        assert_int_equal(state_find_release(s, "r2")->own_bytes, 100);
        assert_int_equal(state_find_release(s, "r3")->own_bytes, 100);
}

static void evidence_goes_last_for_the_budget(void **state)
{
        (void) state;
        tried("r1", 1, RESULT_DONE);
        tried("r2", 2, RESULT_DONE);
        tried("r3", 3, RESULT_DONE);
        tried("r4", 4, RESULT_REVERTED);
        budget_bytes = 300;
        PRUNED(5, "r1");
        budget_bytes = 299;
        PRUNED(5, "r4");
        budget_bytes = 1;
        expect_pruned(5, NULL, 0);
}

/* Held, for the budget as for the number. */
static void pinned_and_staged_are_not_for_the_budget(void **state)
{
        (void) state;
        tried("r1", 1, RESULT_DONE);
        tried("r2", 2, RESULT_DONE);
        tried("r3", 3, RESULT_DONE);
        tried("r4", 4, RESULT_DONE);
        staged("r5", 5);
        assert_int_equal(state_set(&s->pinned, "r1"), 0);
        budget_bytes = 1;
        PRUNED(5, "r2");
}

static void what_is_staged_stays_and_takes_no_place(void **state)
{
        (void) state;
        tried("r1", 1, RESULT_DONE);
        tried("r2", 2, RESULT_DONE);
        staged("r3", 3);
        expect_pruned(2, NULL, 0);
        staged("r4", 4);
        PRUNED(2, "r3");
        assert_non_null(state_find_release(s, "r1"));
        tried("r5", 5, RESULT_DONE);
        PRUNED(2, "r4", "r1");
}

static void leftovers_go_and_strange_names_stay(void **state)
{
        (void) state;
        tried("r1", 1, RESULT_DONE);
        assert_int_equal(mkdirat(releases_fd, ".staging-r2.0123", 0755), 0);
        assert_int_equal(mkdirat(releases_fd, "unknown", 0755), 0);
        assert_int_equal(mkdirat(releases_fd, "not ours", 0755), 0);
        assert_int_equal(mkdirat(releases_fd, ".hidden", 0755), 0);
        PRUNED(2, ".staging-r2.0123", "unknown");
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(the_oldest_go, setup, teardown),
                cmocka_unit_test_setup_teardown(a_bad_one_takes_no_good_ones_place, setup,
                                                teardown),
                cmocka_unit_test_setup_teardown(what_is_held_stays, setup, teardown),
                cmocka_unit_test_setup_teardown(the_budget_counts_bytes, setup, teardown),
                cmocka_unit_test_setup_teardown(what_releases_share_counts_once, setup, teardown),
                cmocka_unit_test_setup_teardown(who_shares_is_found, setup, teardown),
                cmocka_unit_test_setup_teardown(evidence_goes_last_for_the_budget, setup, teardown),
                cmocka_unit_test_setup_teardown(pinned_and_staged_are_not_for_the_budget, setup,
                                                teardown),
                cmocka_unit_test_setup_teardown(what_is_staged_stays_and_takes_no_place, setup,
                                                teardown),
                cmocka_unit_test_setup_teardown(leftovers_go_and_strange_names_stay, setup,
                                                teardown),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
