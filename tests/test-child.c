/* SPDX-License-Identifier: Apache-2.0 */
#include "test.h"

#include <signal.h>
#include <sys/wait.h>

#include "child.h"
#include "clock.h"

/* What a child said and how it ended. */
typedef struct Bench {
        sd_event *event;
        Child *child;
        char *said; /* each text with a line break */
        size_t n_said;
        char *how;
        bool free_at_first; /* when it first says something */
} Bench;

static void on_message(Child *c, const Message *m, int *fd, void *userdata)
{
        Bench *b = userdata;
        char *longer;

        assert_int_equal(*fd, -EBADF);
        assert_true(asprintf(&longer, "%s%s\n", strempty(b->said), m->text) >= 0);
        free(b->said);
        b->said = longer;
        b->n_said++;
        if (b->free_at_first)
                b->child = child_free(c);
}

static void on_exited(Child *c, const char *how, void *userdata)
{
        Bench *b = userdata;

        b->how = strdup(how);
        assert_non_null(b->how);
        b->child = child_free(c);
}

static void bench_start(Bench *b, const char *part, const char *const *passed)
{
        static const ChildCallbacks callbacks = { on_message, on_exited };
        char *argv[] = { (char *) "child-actor", (char *) part, NULL };
        const Identity same = {};

        if (!b->event)
                assert_return_code(sd_event_new(&b->event), 0);
        assert_return_code(child_spawn(b->event, "child-actor", argv, passed, &same, &callbacks, b,
                                       &b->child, NULL),
                           0);
}

/* Until it has ended, or was freed. */
static void bench_run(Bench *b)
{
        while (b->child)
                assert_true(sd_event_run(b->event, 20 * 1000000) > 0);
}

static void bench_close(Bench *b)
{
        child_free(b->child);
        sd_event_unref(b->event);
        free(b->said);
        free(b->how);
}

/* The bad message is read after the end of its sender, when there is nobody left to kill. */
static void a_broken_protocol_is_the_end(void **state)
{
        Bench b = {};
        siginfo_t si;

        (void) state;
        bench_start(&b, "break", NULL);
        /* A zombie: both its messages and its end are there. */
        assert_return_code(waitid(P_ALL, 0, &si, WEXITED | WNOWAIT), 0);
        bench_run(&b);
        assert_string_equal(b.said, "good\n");
        assert_string_equal(b.how, "exit status 0");
        bench_close(&b);
}

static void a_broken_protocol_kills(void **state)
{
        Bench b = {};

        (void) state;
        bench_start(&b, "break-and-stay", NULL);
        bench_run(&b);
        assert_null(b.said);
        assert_string_equal(b.how, "signal 9");
        bench_close(&b);
}

/* It lives, and could do neither harm nor good any more. */
static void a_closed_half_is_the_end(void **state)
{
        const Message m = { .type = MESSAGE_POLL };
        Bench b = {};

        (void) state;
        bench_start(&b, "close-writing", NULL);
        bench_run(&b);
        assert_non_null(strstr(b.how, "signal 9"));
        bench_close(&b);
        b = (Bench){};
        bench_start(&b, "close-reading", NULL);
        while (b.n_said == 0)
                assert_true(sd_event_run(b.event, 20 * 1000000) > 0);
        assert_int_equal(child_send(b.child, &m, -EBADF), -EPIPE);
        bench_run(&b);
        assert_non_null(strstr(b.how, "signal 9"));
        bench_close(&b);
}

static void count(Child *c, const Message *m, int *fd, void *userdata)
{
        Bench *b = userdata;

        (void) c, (void) m, (void) fd;
        b->n_said++;
}

/* However fast it talks: 32 messages a turn, and 100 turns in 100 ms. */
static void who_talks_without_end_is_heard_slowly(void **state)
{
        static const ChildCallbacks callbacks = { count, on_exited };
        const uint64_t period_usec = 100 * 1000;
        char *argv[] = { (char *) "child-actor", (char *) "without-end", NULL };
        const Identity same = {};
        Bench b = {};
        uint64_t begun_usec, usec;
        siginfo_t si;

        (void) state;
        assert_return_code(sd_event_new(&b.event), 0);
        assert_return_code(child_spawn(b.event, "child-actor", argv, NULL, &same, &callbacks, &b,
                                       &b.child, NULL),
                           0);
        begun_usec = clock_usec(CLOCK_MONOTONIC);
        do {
                assert_true(sd_event_run(b.event, 20 * 1000000) > 0);
                usec = clock_usec(CLOCK_MONOTONIC) - begun_usec;
        } while (usec < 5 * period_usec);
        assert_in_range(b.n_said, 1, (usec / period_usec + 2) * 100 * 32);
        bench_close(&b);
        assert_return_code(waitid(P_ALL, 0, &si, WEXITED), errno);
}

/* As the kernel does when memory runs out. */
static void a_killed_one_is_told(void **state)
{
        Bench b = {};

        (void) state;
        bench_start(&b, "kill", NULL);
        bench_run(&b);
        assert_string_equal(b.how, "signal 9: killed by hand, or as memory ran out");
        bench_close(&b);
}

static void last_words_are_heard(void **state)
{
        Bench b = {};
        siginfo_t si;

        (void) state;
        bench_start(&b, "much", NULL);
        /* Ended, with a full socket: read at the same time, it could go on and on. */
        assert_return_code(waitid(P_ALL, 0, &si, WEXITED | WNOWAIT), 0);
        bench_run(&b);
        assert_in_range(b.n_said, 100, 1000);
        bench_close(&b);
}

/* Its socket is always full: the end of another is seen in the next turn all the same. */
static void a_chatterer_hides_no_end(void **state)
{
        Bench chatterer = {}, other = {};
        siginfo_t si;

        (void) state;
        bench_start(&chatterer, "without-end", NULL);
        while (chatterer.n_said == 0)
                assert_true(sd_event_run(chatterer.event, 20 * 1000000) > 0);
        other.event = sd_event_ref(chatterer.event);
        bench_start(&other, "quiet", NULL);
        assert_return_code(waitid(P_ALL, 0, &si, WEXITED | WNOWAIT), 0);
        assert_true(sd_event_run(other.event, 20 * 1000000) > 0);
        assert_non_null(other.how);
        assert_string_equal(other.how, "exit status 0");
        bench_close(&other);
        bench_close(&chatterer);
        assert_return_code(waitid(P_ALL, 0, &si, WEXITED), 0);
}

/* Freeing it does not wait for its end; the loop reaps it. */
static void freed_children_are_reaped(void **state)
{
        Bench b = { .free_at_first = true };
        siginfo_t si = {};

        (void) state;
        bench_start(&b, "stay", NULL);
        bench_run(&b);
        assert_null(b.how);
        assert_return_code(waitid(P_ALL, 0, &si, WEXITED | WNOWAIT), 0);
        assert_int_equal(si.si_status, SIGKILL);
        while (waitid(P_ALL, 0, &si, WEXITED | WNOWAIT | WNOHANG) == 0)
                assert_true(sd_event_run(b.event, 20 * 1000000) > 0);
        assert_int_equal(errno, ECHILD);
        bench_close(&b);
}

static void finish(const char *part, uint64_t usec, int code)
{
        siginfo_t si = {};
        Bench b = {};

        bench_start(&b, part, NULL);
        b.child = child_finish(b.child, usec);
        bench_close(&b);
        assert_return_code(waitid(P_ALL, 0, &si, WEXITED), errno);
        assert_int_equal(si.si_code, code);
}

static void a_finished_child_ends_by_itself(void **state)
{
        (void) state;
        finish("chatter", UINT64_C(20) * 1000000, CLD_EXITED);
        finish("stay", 1000, CLD_KILLED);
}

/* The loop may end before the child: nothing waits, nothing leaks. */
static void a_loop_may_end_first(void **state)
{
        Bench b = { .free_at_first = true };
        siginfo_t si;

        (void) state;
        bench_start(&b, "stay", NULL);
        bench_run(&b);
        bench_close(&b);
        assert_return_code(waitid(P_ALL, 0, &si, WEXITED), 0);
        assert_int_equal(si.si_status, SIGKILL);
}

static void only_named_variables_go_along(void **state)
{
        static const char *const passed[] = { "TESTED_*", "tested_exactly", NULL };
        Bench b = {};

        (void) state;
        assert_return_code(clearenv(), 0);
        assert_return_code(setenv("NOTIFY_SOCKET", "/run/x", 1), 0);
        assert_return_code(setenv("TESTED_A", "a=b", 1), 0);
        assert_return_code(setenv("UNTESTED_A", "x", 1), 0);
        assert_return_code(setenv("tested_exactly", "c", 1), 0);
        assert_return_code(setenv("tested_exactly_not", "x", 1), 0);
        assert_return_code(setenv("SLIPWAY_LOG_LEVEL", "debug", 1), 0);
        bench_start(&b, "environment", passed);
        bench_run(&b);
        assert_string_equal(b.said, "TESTED_A=a=b\ntested_exactly=c\nSLIPWAY_LOG_LEVEL=debug\n");
        bench_close(&b);
        b = (Bench){};
        bench_start(&b, "environment", NULL);
        bench_run(&b);
        assert_string_equal(b.said, "SLIPWAY_LOG_LEVEL=debug\n");
        bench_close(&b);
}

/* A program that is not there is a child that fails. */
static void a_missing_program(void **state)
{
        static const ChildCallbacks callbacks = { on_message, on_exited };
        char *argv[] = { (char *) "no-such-program", NULL };
        const Identity same = {};
        Bench b = {};

        (void) state;
        assert_return_code(sd_event_new(&b.event), 0);
        assert_return_code(child_spawn(b.event, "no-such-program", argv, NULL, &same, &callbacks,
                                       &b, &b.child, NULL),
                           0);
        bench_run(&b);
        assert_string_equal(b.how, "exit status 1");
        bench_close(&b);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(a_broken_protocol_is_the_end),
                cmocka_unit_test(a_broken_protocol_kills),
                cmocka_unit_test(a_closed_half_is_the_end),
                cmocka_unit_test(who_talks_without_end_is_heard_slowly),
                cmocka_unit_test(a_killed_one_is_told),
                cmocka_unit_test(last_words_are_heard),
                cmocka_unit_test(a_chatterer_hides_no_end),
                cmocka_unit_test(freed_children_are_reaped),
                cmocka_unit_test(a_finished_child_ends_by_itself),
                cmocka_unit_test(a_loop_may_end_first),
                cmocka_unit_test(only_named_variables_go_along),
                cmocka_unit_test(a_missing_program),
        };
        sigset_t child;

        /* A kill() that goes astray must not reach whoever runs the tests. */
        (void) setpgid(0, 0);
        if (sigemptyset(&child) < 0 || sigaddset(&child, SIGCHLD) < 0 ||
            sigprocmask(SIG_BLOCK, &child, NULL) < 0)
                return EXIT_FAILURE;
        return cmocka_run_group_tests(tests, NULL, NULL);
}
