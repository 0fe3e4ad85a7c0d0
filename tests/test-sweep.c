/* SPDX-License-Identifier: Apache-2.0 */
#include "test.h"

#include <signal.h>

#include "sweep.h"

/* The child is tests/child-actor.c, to which the names say what to do. */

typedef struct Outcome {
        unsigned n;
        int result;
        char reason[256];
} Outcome;

/* In place of libsystemd's: every limit is over at once in the test of the limit. */
static bool hurry = false;

int sd_event_add_time_relative(sd_event *event, sd_event_source **ret, clockid_t clock,
                               uint64_t usec, uint64_t accuracy, sd_event_time_handler_t callback,
                               void *userdata)
{
        uint64_t now;
        int r = sd_event_now(event, clock, &now);

        return r < 0 ? r
                     : sd_event_add_time(event, ret, clock, now + (hurry ? 0 : usec), accuracy,
                                         callback, userdata);
}

static void on_done(int result, const char *reason, void *userdata)
{
        Outcome *o = userdata;

        o->n++;
        o->result = result;
        (void) snprintf(o->reason, sizeof(o->reason), "%s", strempty(reason));
}

static Outcome sweep_all(const char *const *names, size_t n)
{
        _cleanup_(sd_event_unrefp) sd_event *event = NULL;
        _cleanup_close_ int dir_fd = dir_open_at(AT_FDCWD, "/");
        _cleanup_(sweep_freep) Sweep *s = NULL;
        char **copies = calloc(n, sizeof(char *));
        const Identity same = {};
        Outcome o = {};

        assert_non_null(copies);
        for (size_t i = 0; i < n; i++)
                assert_non_null(copies[i] = strdup(names[i]));
        assert_return_code(sd_event_new(&event), 0);
        assert_return_code(sweep_start(event, &same, dir_fd, copies, n, on_done, &o, &s), 0);
        while (o.n == 0)
                assert_true(sd_event_run(event, 20 * 1000000) > 0);
        assert_int_equal(o.n, 1);
        return o;
}

static void all_go(void **state)
{
        static const char *const names[] = { "a", "b", "c" };
        Outcome o = sweep_all(names, ELEMENTSOF(names));

        (void) state;
        assert_int_equal(o.result, 0);
}

static void the_first_failure_counts(void **state)
{
        static const char *const names[] = { "a", "fail", "fail" };
        Outcome o = sweep_all(names, ELEMENTSOF(names));

        (void) state;
        assert_int_equal(o.result, -EACCES);
        assert_string_equal(o.reason, "can't remove fail: no permission");
}

static void a_dead_child_is_a_failure(void **state)
{
        static const char *const names[] = { "a", "die", "c" };
        Outcome o = sweep_all(names, ELEMENTSOF(names));

        (void) state;
        assert_int_equal(o.result, -EIO);
        assert_string_equal(o.reason, "can't remove die: exit status 1");
}

static void a_hung_child_is_a_failure(void **state)
{
        static const char *const names[] = { "hang", "c" };

        (void) state;
        hurry = true;
        Outcome o = sweep_all(names, ELEMENTSOF(names));
        hurry = false;
        assert_int_equal(o.result, -ETIMEDOUT);
        assert_string_equal(o.reason, "can't remove hang: it took more than an hour");
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(all_go),
                cmocka_unit_test(the_first_failure_counts),
                cmocka_unit_test(a_dead_child_is_a_failure),
                cmocka_unit_test(a_hung_child_is_a_failure),
        };
        sigset_t child;

        if (sigemptyset(&child) < 0 || sigaddset(&child, SIGCHLD) < 0 ||
            sigprocmask(SIG_BLOCK, &child, NULL) < 0)
                return EXIT_FAILURE;
        return cmocka_run_group_tests(tests, NULL, NULL);
}
