/* SPDX-License-Identifier: Apache-2.0 */
#include "test.h"

#include <signal.h>
#include <sys/stat.h>

#include "pruner.h"

/* Trees are removed by tests/child-actor.c: it removes nothing, but answers. */

static sd_event *event;
static int state_dir_fd, releases_fd;
static AppConfig config = { .app = (char *) "web", .channel = (char *) "prod", .keep = 1 };
static Site *site;
static Pruner *pruner;
static unsigned n_idle;

static void on_idle(void *userdata)
{
        (void) userdata;
        n_idle++;
}

static Site *new_site(void)
{
        const Identity same = {};
        Site *s = NULL;

        assert_return_code(
                site_new(&config, event, NULL, &same, state_dir_fd, state_dir_fd, &s, NULL), 0);
        return s;
}

static int setup(void **state)
{
        if (test_dir_setup(state) < 0)
                return -1;
        state_dir_fd = dir_open_at(AT_FDCWD, *state);
        n_idle = 0;
        if (asprintf(&config.root, "%s/web", (char *) *state) < 0 || sd_event_new(&event) < 0)
                return -1;
        site = new_site();
        assert_return_code(site_make_root(site, NULL), 0);
        assert_return_code(state_set(&site->state->root, config.root), 0);
        assert_return_code(site_lock(site, NULL, NULL), 0);
        assert_return_code(site_save(site), 0);
        site_unlock(site);
        releases_fd = dir_open_at(site->root_fd, "releases");
        return pruner_new(site, on_idle, NULL, &pruner);
}

static int teardown(void **state)
{
        pruner = pruner_free(pruner);
        site = site_free(site);
        event = sd_event_unref(event);
        free(config.root);
        fd_close(releases_fd);
        fd_close(state_dir_fd);
        return test_dir_teardown(state);
}

static void run_until_idle(void)
{
        while (pruner_is_busy(pruner))
                assert_true(sd_event_run(event, 20 * 1000000) > 0);
}

static bool is_there(const char *name)
{
        return faccessat(releases_fd, name, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

static void nothing_to_remove(void **state)
{
        (void) state;
        pruner_run(pruner);
        assert_false(pruner_is_busy(pruner));
        assert_false(pruner_is_due(pruner));
        assert_false(site_is_locked(site));
        assert_int_equal(n_idle, 0);
}

static void what_the_state_does_not_know_goes(void **state)
{
        (void) state;
        assert_int_equal(mkdirat(releases_fd, "r1", 0755), 0);
        pruner_run(pruner);
        assert_true(pruner_is_busy(pruner));
        assert_false(site_is_locked(site));
        /* Its name is free at once. */
        assert_false(is_there("r1"));
        run_until_idle();
        assert_int_equal(n_idle, 1);
        assert_false(pruner_is_due(pruner));
}

static void what_is_in_another_root_stays(void **state)
{
        (void) state;
        assert_return_code(state_set(&site->state->root, "/srv/other"), 0);
        assert_int_equal(mkdirat(releases_fd, "r1", 0755), 0);
        pruner_run(pruner);
        assert_false(pruner_is_busy(pruner));
        assert_true(is_there("r1"));
}

static void what_is_under_way_stays(void **state)
{
        (void) state;
        assert_int_equal(mkdirat(releases_fd, "r1", 0755), 0);
        site->state->phase = PHASE_FETCHING;
        pruner_run(pruner);
        assert_false(pruner_is_busy(pruner));
        assert_true(is_there("r1"));
}

static void another_program_is_at_work(void **state)
{
        _cleanup_(site_freep) Site *other = new_site();

        (void) state;
        assert_int_equal(mkdirat(releases_fd, "r1", 0755), 0);
        assert_return_code(site_lock(other, NULL, NULL), 0);
        pruner_run(pruner);
        assert_true(pruner_is_due(pruner));
        assert_true(is_there("r1"));
        site_unlock(other);
        pruner_run(pruner);
        assert_false(pruner_is_due(pruner));
        assert_false(is_there("r1"));
}

static void stopped_it_calls_nobody(void **state)
{
        (void) state;
        assert_int_equal(mkdirat(releases_fd, "r1", 0755), 0);
        pruner_run(pruner);
        pruner_stop(pruner);
        assert_false(pruner_is_busy(pruner));
        run_until_idle();
        assert_int_equal(n_idle, 0);
        /* The rest is found again. */
        pruner_run(pruner);
        assert_true(pruner_is_busy(pruner));
}

#define test_pruner(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
        const struct CMUnitTest tests[] = {
                test_pruner(nothing_to_remove),
                test_pruner(what_the_state_does_not_know_goes),
                test_pruner(what_is_in_another_root_stays),
                test_pruner(what_is_under_way_stays),
                test_pruner(another_program_is_at_work),
                test_pruner(stopped_it_calls_nobody),
        };
        sigset_t child;

        if (sigemptyset(&child) < 0 || sigaddset(&child, SIGCHLD) < 0 ||
            sigprocmask(SIG_BLOCK, &child, NULL) < 0)
                return EXIT_FAILURE;
        return cmocka_run_group_tests(tests, NULL, NULL);
}
