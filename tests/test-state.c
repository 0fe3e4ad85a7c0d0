/* SPDX-License-Identifier: Apache-2.0 */
#include "test.h"

#include "outcome.h"
#include "prune.h"
#include "state-file.h"

static const Sha256 digest = {
        .bytes = {1, 2, 3}
};

static Activate example_activate(void)
{
        static ActivateUnit units[] = {
                {(char *) "web.service", UNIT_RESTART}
        };

        return (Activate){
                .units = units, .n_units = 1, .bake_usec = 5000000, .deadline_usec = 60000000
        };
}

static State *example(void)
{
        Activate activate = example_activate();
        State *s;

        assert_return_code(state_new("web", "prod", &s), 0);
        assert_return_code(state_add_release(s, "r1", 1, 1, &digest, &activate), 0);
        assert_return_code(state_add_release(s, "r2", 2, 3, &digest, &activate), 0);
        assert_return_code(state_set_floor(s, 3, 2, &digest), 0);
        assert_return_code(state_set(&s->current, "r1"), 0);
        assert_return_code(state_set(&s->root, "/srv/web"), 0);
        return s;
}

static void survives_a_restart(void **dir)
{
        _cleanup_close_ int fd = dir_open_at(AT_FDCWD, *dir);
        _cleanup_(state_freep) State *s = example(), *again = NULL;
        _cleanup_free_ char *err = NULL;

        assert_return_code(state_begin(s, ACTION_DEPLOY, "r2", "r1", 2, 3, "agent"), 0);
        state_move(s, PHASE_FETCHING);
        state_move(s, PHASE_SWITCHING);
        s->failed_deployment = 9;
        assert_return_code(state_set(&s->failed, "r0"), 0);
        assert_return_code(state_set(&s->pinned, "r1"), 0);
        assert_return_code(state_set(&s->pinned_by, "root"), 0);
        assert_return_code(state_save(s, fd), 0);

        assert_return_code(state_load(fd, "web", &again, &err), 0);
        assert_int_equal(again->phase, PHASE_SWITCHING);
        assert_string_equal(again->current, "r1");
        assert_string_equal(again->pending.release, "r2");
        assert_string_equal(again->root, "/srv/web");
        assert_string_equal(again->pending.from, "r1");
        assert_int_equal(again->pending.serial, 3);
        assert_int_equal(again->pending.started_msec, s->pending.started_msec);
        assert_string_equal(again->failed, "r0");
        assert_int_equal(again->failed_deployment, 9);
        assert_string_equal(again->pinned_by, "root");
        assert_int_equal(again->n_releases, 2);
        assert_string_equal(again->releases[1].activate.units[0].name, "web.service");
        assert_int_equal(again->releases[1].activate.bake_usec, 5000000);
        assert_true(sha256_equal(&again->releases[1].index_sha256, &digest));
        assert_int_equal(state_floor(again)->serial, 3);
}

/* Who can sign can have the highest of all numbers: it must not cost what was seen. */
static void the_highest_numbers_survive(void **dir)
{
        _cleanup_close_ int fd = dir_open_at(AT_FDCWD, *dir);
        _cleanup_(state_freep) State *s = example(), *again = NULL;
        _cleanup_free_ char *err = NULL;

        assert_return_code(state_set_floor(s, SERIAL_MAX, SERIAL_MAX - 1, &digest), 0);
        s->deployment = SERIAL_MAX - 1;
        assert_return_code(
                state_begin(s, ACTION_DEPLOY, "r2", "r1", SERIAL_MAX - 1, SERIAL_MAX, "agent"), 0);
        assert_return_code(state_save(s, fd), 0);
        assert_return_code(state_load(fd, "web", &again, &err), 0);
        assert_true(state_floor(again)->serial == SERIAL_MAX);
        assert_true(state_floor(again)->deployment == SERIAL_MAX - 1);
        assert_true(again->deployment == SERIAL_MAX - 1);
        assert_true(again->pending.serial == SERIAL_MAX);
}

/* However many channels are followed, no floor is forgotten. */
/* Who asked is what a caller of D-Bus says. */
static void any_text_survives(void **dir)
{
        static const char by[] = "a\x01\n\x1f\x7f\"\\b";
        _cleanup_close_ int fd = dir_open_at(AT_FDCWD, *dir);
        _cleanup_(state_freep) State *s = example(), *again = NULL;
        _cleanup_free_ char *err = NULL;

        assert_return_code(state_set(&s->pinned, "r1"), 0);
        assert_return_code(state_set(&s->pinned_by, by), 0);
        assert_return_code(state_save(s, fd), 0);
        if (state_load(fd, "web", &again, &err) < 0)
                fail_msg("%s", err);
        assert_string_equal(again->pinned_by, by);
}

static void floors_stay(void **dir)
{
        _cleanup_(state_freep) State *s = example();
        char channel[16];

        (void) dir;
        for (int i = 1; i < STATE_CHANNELS_MAX; i++) {
                (void) snprintf(channel, sizeof(channel), "c%d", i);
                assert_return_code(state_set(&s->channel, channel), 0);
                assert_return_code(state_set_floor(s, 1, 1, &digest), 0);
        }
        assert_return_code(state_set(&s->channel, "one-too-many"), 0);
        assert_int_equal(state_set_floor(s, 1, 1, &digest), -E2BIG);
        assert_return_code(state_set(&s->channel, "prod"), 0);
        assert_int_equal(state_floor(s)->serial, 3);
        assert_return_code(state_set_floor(s, 4, 3, &digest), 0);
}

static void a_confirmation_survives_a_restart(void **dir)
{
        static const Phase way[] = { PHASE_FETCHING,  PHASE_WAITING,    PHASE_PREPARING,
                                     PHASE_SWITCHING, PHASE_RESTARTING, PHASE_BAKING,
                                     PHASE_CONFIRMING };
        _cleanup_close_ int fd = dir_open_at(AT_FDCWD, *dir);
        _cleanup_(state_freep) State *s = example(), *again = NULL;
        _cleanup_free_ char *err = NULL;

        assert_return_code(state_begin(s, ACTION_DEPLOY, "r2", "r1", 2, 3, "agent"), 0);
        for (size_t i = 0; i < ELEMENTSOF(way); i++)
                state_move(s, way[i]);
        s->pending.confirm_msec = 1000;
        s->pending.confirm_until_msec = 1795370700123;
        s->pending.confirm_boot_msec = 77123;
        assert_return_code(state_set(&s->pending.confirmed_by, "ann"), 0);
        assert_return_code(state_save(s, fd), 0);
        assert_return_code(state_load(fd, "web", &again, &err), 0);
        assert_int_equal(again->phase, PHASE_CONFIRMING);
        assert_int_equal(again->pending.confirm_msec, 1000);
        assert_int_equal(again->pending.confirm_until_msec, 1795370700123);
        assert_int_equal(again->pending.confirm_boot_msec, 77123);
        assert_string_equal(again->pending.confirmed_by, "ann");
        /* It is of this deployment alone. */
        state_move(again, PHASE_REVERTING);
        assert_return_code(state_end(again, RESULT_REVERTED, "nobody"), 0);
        assert_int_equal(again->pending.confirm_until_msec, 0);
        assert_null(again->pending.confirmed_by);
}

static void what_ran_survives_a_restart(void **dir)
{
        static char *const running[] = { (char *) "web.service", (char *) "web@1.service", NULL },
                           *const none[] = { NULL };
        _cleanup_close_ int fd = dir_open_at(AT_FDCWD, *dir);
        _cleanup_(state_freep) State *s = example(), *again = NULL, *last = NULL;

        assert_return_code(state_begin(s, ACTION_DEPLOY, "r2", "r1", 2, 3, "agent"), 0);
        assert_null(s->pending.ran);
        assert_return_code(pending_set_ran(&s->pending, none), 0);
        assert_return_code(pending_set_ran(&s->pending, running), 0);
        assert_return_code(state_save(s, fd), 0);
        assert_return_code(state_load(fd, "web", &again, NULL), 0);
        assert_string_equal(again->pending.ran[0], "web.service");
        assert_string_equal(again->pending.ran[1], "web@1.service");
        assert_null(again->pending.ran[2]);
        /* None is another answer than no answer. */
        assert_return_code(pending_set_ran(&again->pending, none), 0);
        assert_return_code(state_save(again, fd), 0);
        assert_return_code(state_load(fd, "web", &last, NULL), 0);
        assert_non_null(last->pending.ran);
        assert_null(last->pending.ran[0]);
}

static void begin(State *s, Action action, const char *release, uint64_t deployment)
{
        assert_return_code(state_begin(s, action, release, "r1", deployment, deployment, "root"),
                           0);
}

static void what_is_staged_survives_a_restart(void **dir)
{
        _cleanup_close_ int fd = dir_open_at(AT_FDCWD, *dir);
        _cleanup_(state_freep) State *s = example(), *again = NULL;

        begin(s, ACTION_STAGE, "r2", 2);
        state_move(s, PHASE_FETCHING);
        assert_return_code(state_end(s, RESULT_DONE, NULL), 0);
        assert_return_code(state_save(s, fd), 0);
        assert_return_code(state_load(fd, "web", &again, NULL), 0);
        assert_int_equal(again->phase, PHASE_IDLE);
        assert_string_equal(again->staged.release, "r2");
        assert_string_equal(again->staged.by, "root");
        assert_int_equal(again->staged.deployment, 2);
        assert_int_equal(again->staged.since_sec, s->staged.since_sec);
        assert_int_equal(again->events[0].action, ACTION_STAGE);
}

/* What becomes of r2, staged as deployment 2, by another transaction. */
static void what_is_staged_stays_until_it_is_settled(void **dir)
{
        static const struct {
                Action action;
                const char *release;
                uint64_t deployment;
                Result result;
                uint64_t failed; /* deployment that was given up */
                const char *staged;
        } cases[] = {
                {ACTION_DEPLOY,    "r2", 2, RESULT_DONE,     0, NULL},
                { ACTION_DEPLOY,   "r2", 2, RESULT_REVERTED, 2, NULL},
 /* it could not begin */
                { ACTION_DEPLOY,   "r2", 2, RESULT_FAILED,   0, "r2"},
                { ACTION_STAGE,    "r3", 3, RESULT_DONE,     0, "r3"},
                { ACTION_STAGE,    "r3", 3, RESULT_FAILED,   0, "r2"},
                { ACTION_DEPLOY,   "r3", 3, RESULT_DONE,     0, NULL},
                { ACTION_DEPLOY,   "r3", 3, RESULT_REVERTED, 3, "r2"},
                { ACTION_ROLLBACK, "r1", 2, RESULT_DONE,     0, "r2"},
                { ACTION_ROLLBACK, "r2", 2, RESULT_DONE,     0, NULL},
        };

        (void) dir;
        for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
                _cleanup_(state_freep) State *s = example();

                begin(s, ACTION_STAGE, "r2", 2);
                assert_return_code(state_end(s, RESULT_DONE, NULL), 0);
                begin(s, cases[i].action, cases[i].release, cases[i].deployment);
                if (cases[i].failed > 0)
                        assert_return_code(state_set(&s->failed, cases[i].release), 0);
                s->failed_deployment = cases[i].failed;
                assert_return_code(state_end(s, cases[i].result, NULL), 0);
                if (!streq_ptr(s->staged.release, cases[i].staged))
                        fail_msg("case %zu: %s", i, s->staged.release);
        }
}

static void each_phase_is_timed(void **dir)
{
        _cleanup_close_ int fd = dir_open_at(AT_FDCWD, *dir);
        _cleanup_(state_freep) State *s = example(), *cut = NULL, *again = NULL;

        assert_return_code(state_begin(s, ACTION_DEPLOY, "r2", "r1", 2, 3, "agent"), 0);
        state_move(s, PHASE_FETCHING);
        s->pending.phase_msec -= 2000;
        state_move(s, PHASE_SWITCHING);
        state_move(s, PHASE_RESTARTING);
        s->pending.phase_msec -= 1000;
        assert_return_code(state_save(s, fd), 0);

        /* A restart of the agent forgets none of it. */
        assert_return_code(state_load(fd, "web", &cut, NULL), 0);
        state_move(cut, PHASE_BAKING);
        state_move(cut, PHASE_RESTARTING);
        cut->pending.phase_msec -= 500;
        /* A clock that was set back takes nothing away. */
        state_move(cut, PHASE_BAKING);
        cut->pending.phase_msec += 3600 * 1000;
        assert_return_code(state_end(cut, RESULT_DONE, NULL), 0);
        assert_return_code(state_save(cut, fd), 0);
        assert_return_code(state_load(fd, "web", &again, NULL), 0);
        const PhaseTimes *took = &again->events[0].took;
        assert_in_range(took->msec[PHASE_FETCHING], 2000, 2900);
        assert_in_range(took->msec[PHASE_RESTARTING], 1500, 2400);
        assert_in_range(took->msec[PHASE_BAKING], 0, 900);
        assert_int_equal(took->msec[PHASE_REVERTING], 0);
        assert_int_equal(took->msec[PHASE_IDLE], 0);
}

static void ends_are_remembered_once(void **dir)
{
        _cleanup_close_ int fd = dir_open_at(AT_FDCWD, *dir);
        _cleanup_(state_freep) State *s = example(), *again = NULL;

        for (int i = 0; i < STATE_HISTORY_MAX + 10; i++) {
                assert_return_code(state_begin(s, ACTION_DEPLOY, "r2", "r1", i, 3, "agent"), 0);
                assert_return_code(state_end(s, RESULT_DONE, NULL), 0);
        }
        assert_null(s->pending.release);
        assert_int_equal(s->n_events, STATE_HISTORY_MAX);
        assert_int_equal(s->events[0].deployment, 10);
        /* A deployment that fails again and again is one entry, with the last reason. */
        for (int i = 0; i < 3; i++) {
                assert_return_code(state_begin(s, ACTION_DEPLOY, "r3", "r2", 99, 100, "agent"), 0);
                assert_return_code(state_end(s, RESULT_FAILED, i < 2 ? "no space" : "no network"),
                                   0);
        }
        assert_string_equal(s->events[STATE_HISTORY_MAX - 1].reason, "no network");
        assert_int_equal(s->events[STATE_HISTORY_MAX - 1].deployment, 99);
        assert_int_equal(s->events[STATE_HISTORY_MAX - 2].deployment, STATE_HISTORY_MAX + 9);
        assert_return_code(state_save(s, fd), 0);
        assert_return_code(state_load(fd, "web", &again, NULL), 0);
        assert_int_equal(again->n_events, STATE_HISTORY_MAX);
}

/* How hooks went survives a restart, and a rollback; the next deployment begins anew. */
static void hooks_are_remembered(void **dir)
{
        _cleanup_close_ int fd = dir_open_at(AT_FDCWD, *dir);
        _cleanup_(state_freep) State *s = example(), *again = NULL;

        assert_return_code(state_begin(s, ACTION_DEPLOY, "r2", "r1", 2, 3, "agent"), 0);
        state_move(s, PHASE_PREPARING);
        assert_return_code(hook_entry_set(&s->hooks.pre, "r2", "bin/a", NULL, NULL), 0);
        assert_return_code(hook_entry_set(&s->hooks.pre, "r2", "bin/b", "failed", "one\ntwo"), 0);
        assert_return_code(hook_entry_set(&s->hooks.revert, "r2", "/bin/c", NULL, "out"), 0);
        assert_return_code(state_save(s, fd), 0);
        assert_return_code(state_load(fd, "web", &again, NULL), 0);
        assert_int_equal(again->phase, PHASE_PREPARING);
        assert_string_equal(again->hooks.pre.command, "bin/b");
        assert_string_equal(again->hooks.pre.text, "failed");
        assert_string_equal(again->hooks.pre.output, "one\ntwo");
        assert_false(again->hooks.pre.ok);
        assert_null(again->hooks.post.release);
        assert_true(again->hooks.revert.ok);
        assert_null(again->hooks.revert.text);
        assert_return_code(state_end(again, RESULT_FAILED, "no"), 0);
        assert_return_code(state_begin(again, ACTION_ROLLBACK, "r1", "r2", 2, 3, "root"), 0);
        assert_non_null(again->hooks.pre.release);
        assert_return_code(state_begin(again, ACTION_DEPLOY, "r2", "r1", 3, 4, "agent"), 0);
        assert_null(again->hooks.pre.release);
        assert_null(again->hooks.revert.output);
}

/* A deployment that is put off again and again is one entry, and no failure. */
static void deferrals_are_remembered_once(void **dir)
{
        _cleanup_(state_freep) State *s = example();

        (void) dir;
        for (int i = 0; i < 3; i++) {
                assert_return_code(state_begin(s, ACTION_DEPLOY, "r2", "r1", 2, 3, "agent"), 0);
                state_move(s, PHASE_PREPARING);
                assert_return_code(outcome_before_switch(s, -EAGAIN, "not now"), 0);
        }
        assert_int_equal(s->phase, PHASE_IDLE);
        assert_int_equal(s->n_events, 1);
        assert_int_equal(s->events[0].result, RESULT_DEFERRED);
        assert_null(s->failed);
        assert_return_code(state_begin(s, ACTION_DEPLOY, "r2", "r1", 2, 3, "agent"), 0);
        assert_return_code(outcome_before_switch(s, -EBADMSG, "bad"), 0);
        assert_string_equal(s->failed, "r2");
        assert_int_equal(s->events[1].result, RESULT_FAILED);
        assert_false(s->down);
}

static void damaged_files_are_told_apart(void **dir)
{
        _cleanup_close_ int fd = dir_open_at(AT_FDCWD, *dir);
        _cleanup_(state_freep) State *s = example();
        static const char *const bad[] = {
                "",
                "{",
                "[]",
                "{}",
                "{\"schema\":\"slipway/state/0\"}",
                "{\"schema\":\"slipway/states/2\"}",
                "{\"schema\":2}",
        };
        _cleanup_free_ char *err = NULL, *data = NULL;
        State *got = NULL;
        size_t size;

        assert_int_equal(state_load(fd, "web", &got, &err), -ENOENT);
        for (size_t i = 0; i < ELEMENTSOF(bad); i++) {
                assert_return_code(
                        file_write_atomic_at(fd, "web.json", bad[i], strlen(bad[i]), 0600), 0);
                assert_int_equal(state_load(fd, "web", &got, &err), -EBADMSG);
                assert_non_null(strstr(err, "web.json"));
        }
        /* Cut off anywhere, it is damaged, and never half believed. */
        assert_return_code(state_save(s, fd), 0);
        assert_return_code(file_read_at(fd, "web.json", STATE_SIZE_MAX, &data, &size), 0);
        for (size_t n = 0; n < size - 1; n += 7) {
                assert_return_code(file_write_atomic_at(fd, "web.json", data, n, 0600), 0);
                assert_int_equal(state_load(fd, "web", &got, NULL), -EBADMSG);
        }
        assert_return_code(state_set_aside(fd, "web"), 0);
        assert_int_equal(state_load(fd, "web", &got, NULL), -ENOENT);
}

/* Whatever else is in it. */
static void newer_files_are_no_damage(void **dir)
{
        static const char newer[] = "{\"later\":{},\"schema\":\"slipway/state/10\",\"app\":7}";
        _cleanup_close_ int fd = dir_open_at(AT_FDCWD, *dir);
        _cleanup_free_ char *err = NULL;
        State *got = NULL;

        assert_return_code(file_write_atomic_at(fd, "web.json", newer, strlen(newer), 0600), 0);
        assert_int_equal(state_load(fd, "web", &got, &err), -EPROTONOSUPPORT);
        assert_non_null(strstr(err, "slipway/state/10"));
        assert_non_null(strstr(err, "install that version"));
        assert_null(got);
}

static void make_dirs(int fd, const char *const *names, size_t n)
{
        for (size_t i = 0; i < n; i++)
                assert_return_code(mkdirat(fd, names[i], 0700), 0);
}

static void prune_keeps_what_is_needed(void **dir)
{
        static const char *const names[] = {
                "r1", "r2", "r3", "r4", "r5", "unknown", ".staging-r9.00", "lost+found~", ".hidden"
        };
        _cleanup_close_ int fd = dir_open_at(AT_FDCWD, *dir);
        _cleanup_(state_freep) State *s = example();
        Activate activate = example_activate();
        char **gone = NULL;
        size_t n = 0;
        unsigned seen = 0;

        make_dirs(fd, names, ELEMENTSOF(names));
        assert_return_code(state_add_release(s, "r3", 3, 4, &digest, &activate), 0);
        assert_return_code(state_add_release(s, "r4", 4, 5, &digest, &activate), 0);
        assert_return_code(state_add_release(s, "r5", 5, 6, &digest, &activate), 0);
        for (size_t i = 0; i < s->n_releases; i++)
                s->releases[i].installed_sec = 1000 + i;
        /* r1 runs, r2 was good: the oldest that nothing holds are r3 and r4. */
        assert_return_code(state_set(&s->last_good, "r2"), 0);
        assert_return_code(prune_select(fd, s, 3, 0, &gone, &n), 0);
        for (size_t i = 0; i < n; i++) {
                static const char *const wanted[] = { "r3", "r4", "unknown", ".staging-r9.00" };
                for (size_t k = 0; k < ELEMENTSOF(wanted); k++)
                        if (streq(gone[i], wanted[k]))
                                seen |= 1U << k;
                free(gone[i]);
        }
        free(gone);
        assert_int_equal(n, 4);
        assert_int_equal(seen, 15);
        assert_int_equal(s->n_releases, 3);
        assert_null(state_find_release(s, "r3"));
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                test_in_dir(survives_a_restart),
                test_in_dir(the_highest_numbers_survive),
                test_in_dir(any_text_survives),
                test_in_dir(floors_stay),
                test_in_dir(a_confirmation_survives_a_restart),
                test_in_dir(what_ran_survives_a_restart),
                test_in_dir(what_is_staged_survives_a_restart),
                test_in_dir(what_is_staged_stays_until_it_is_settled),
                test_in_dir(each_phase_is_timed),
                test_in_dir(ends_are_remembered_once),
                test_in_dir(hooks_are_remembered),
                test_in_dir(deferrals_are_remembered_once),
                test_in_dir(damaged_files_are_told_apart),
                test_in_dir(newer_files_are_no_damage),
                test_in_dir(prune_keeps_what_is_needed),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
