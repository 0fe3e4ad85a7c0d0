/* SPDX-License-Identifier: Apache-2.0 */
#include "test.h"

#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include <systemd/sd-bus.h>

#include "admin-bus.h"
#include "agent-bus.h"

/* A bus of our own, and on it a slipwayd that only plays: `web` does what it is told, everything
 * else is unknown. */

#define DOCUMENT "{\"version\":\"0\",\"apps\":[{\"state\":{\"app\":\"web\",\"history\":[]}}]}"

static const char bus_config[] =
        "<busconfig><type>session</type><listen>unix:path=%s/bus</listen><auth>EXTERNAL</auth>"
        "<policy context=\"default\"><allow send_destination=\"*\"/><allow own=\"*\"/>"
        "<allow receive_sender=\"*\"/></policy></busconfig>";

typedef struct Bench {
        char *dir;
        pid_t bus_pid, agent_pid;
} Bench;

static int reply_describe(sd_bus_message *m, void *userdata, sd_bus_error *e)
{
        (void) userdata;
        (void) e;
        return sd_bus_reply_method_return(m, "s", DOCUMENT);
}

static int reply_poll(sd_bus_message *m, void *userdata, sd_bus_error *e)
{
        (void) userdata;
        (void) e;
        return sd_bus_reply_method_return(m, "s", "deployment 7 is live (serial 9)");
}

static int reply_rollback(sd_bus_message *m, void *userdata, sd_bus_error *e)
{
        const char *release, *by;
        int r = sd_bus_message_read(m, "ss", &release, &by);

        (void) userdata;
        if (r < 0)
                return r;
        if (streq(release, "busy"))
                return sd_bus_error_set(e, BUS_ERROR_BUSY, "a deployment is under way");
        if (streq(release, "gone"))
                return sd_bus_error_set(e, BUS_ERROR_NO_SUCH_RELEASE, "it isn't installed");
        if (streq(release, "bad"))
                return sd_bus_error_set(e, BUS_ERROR_FAILED, "web.service\x1b[2J did not start");
        if (streq(release, "denied"))
                return sd_bus_error_set(e, SD_BUS_ERROR_ACCESS_DENIED, "no");
        if (streq(release, "never"))
                return 1; /* handled, and never answered */
        return sd_bus_reply_method_return(m, "s", streq(by, "ann") ? "r1" : "not by ann");
}

static int reply_resume(sd_bus_message *m, void *userdata, sd_bus_error *e)
{
        (void) userdata;
        (void) e;
        return sd_bus_reply_method_return(m, "");
}

static const sd_bus_vtable agent_vtable[] = {
        SD_BUS_VTABLE_START(0),
        SD_BUS_METHOD("Describe", "", "s", reply_describe, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_VTABLE_END,
};

static const sd_bus_vtable app_vtable[] = {
        SD_BUS_VTABLE_START(0),
        SD_BUS_METHOD("Poll", "", "s", reply_poll, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD("Rollback", "ss", "s", reply_rollback, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD("Resume", "", "", reply_resume, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_VTABLE_END,
};

/* Runs in a child: tells `ready_fd` when the name is owned, then serves until it is killed. */
static void serve(int ready_fd)
{
        sd_bus *bus = NULL;
        int r = sd_bus_open_user(&bus);

        if (r >= 0)
                r = sd_bus_add_object_vtable(bus, NULL, AGENT_BUS_PATH, AGENT_BUS_INTERFACE,
                                             agent_vtable, NULL);
        if (r >= 0)
                r = sd_bus_add_object_vtable(bus, NULL, AGENT_BUS_PATH "/app/web",
                                             APP_BUS_INTERFACE, app_vtable, NULL);
        if (r >= 0)
                r = sd_bus_request_name(bus, AGENT_BUS_NAME, 0);
        if (r < 0 || write(ready_fd, "\n", 1) != 1)
                _exit(1);
        for (;;) {
                r = sd_bus_process(bus, NULL);
                if (r == 0)
                        r = sd_bus_wait(bus, UINT64_MAX);
                if (r < 0)
                        _exit(1);
        }
}

/* Waits until the child has written a line; it is gone when that fails. */
static void wait_ready(int fd)
{
        char line[256];

        assert_true(read(fd, line, sizeof(line)) > 0);
}

static pid_t start(const Bench *b, bool bus)
{
        int fds[2];
        pid_t pid;

        assert_int_equal(pipe2(fds, bus ? 0 : O_CLOEXEC), 0);
        pid = fork();
        assert_true(pid >= 0);
        if (pid == 0) {
                char config[256], print[32];

                (void) prctl(PR_SET_PDEATHSIG, SIGKILL);
                if (!bus)
                        serve(fds[1]);
                (void) snprintf(config, sizeof(config), "--config-file=%s/bus.conf", b->dir);
                (void) snprintf(print, sizeof(print), "--print-address=%d", fds[1]);
                (void) execlp("dbus-daemon", "dbus-daemon", "--nofork", config, print, NULL);
                _exit(127);
        }
        close(fds[1]);
        wait_ready(fds[0]);
        close(fds[0]);
        return pid;
}

static void stop(pid_t *pid)
{
        if (*pid > 0) {
                assert_int_equal(kill(*pid, SIGKILL), 0);
                assert_int_equal(waitpid(*pid, NULL, 0), *pid);
        }
        *pid = 0;
}

static int setup(void **state)
{
        Bench *b = calloc(1, sizeof(*b));
        _cleanup_close_ int dir_fd = -EBADF;
        char text[1024];

        assert_non_null(b);
        assert_int_equal(test_dir_setup((void **) &b->dir), 0);
        (void) snprintf(text, sizeof(text), bus_config, b->dir);
        dir_fd = dir_open_at(AT_FDCWD, b->dir);
        assert_int_equal(file_write_atomic_at(dir_fd, "bus.conf", text, strlen(text), 0600), 0);
        b->bus_pid = start(b, true);
        (void) snprintf(text, sizeof(text), "unix:path=%s/bus", b->dir);
        assert_int_equal(setenv("DBUS_SESSION_BUS_ADDRESS", text, 1), 0);
        b->agent_pid = start(b, false);
        *state = b;
        return 0;
}

static int teardown(void **state)
{
        Bench *b = *state;

        stop(&b->agent_pid);
        stop(&b->bus_pid);
        assert_int_equal(test_dir_teardown((void **) &b->dir), 0);
        free(b);
        return 0;
}

static void bus_unrefp(sd_bus **bus)
{
        sd_bus_flush_close_unref(*bus);
}

static sd_bus *open_bus(void)
{
        sd_bus *bus = NULL;

        assert_int_equal(admin_bus_open(true, &bus, NULL), 0);
        return bus;
}

static void test_calls(void **state)
{
        _cleanup_(bus_unrefp) sd_bus *bus = open_bus();
        _cleanup_free_ char *document = NULL, *polled = NULL, *live = NULL, *err = NULL;

        (void) state;
        assert_int_equal(admin_bus_describe(bus, &document, &err), 0);
        assert_string_equal(document, DOCUMENT);
        assert_int_equal(admin_bus_poll(bus, "web", &polled, &err), 0);
        assert_string_equal(polled, "deployment 7 is live (serial 9)");
        assert_int_equal(admin_bus_rollback(bus, "web", "", "ann", 10000000, &live, &err), 0);
        assert_string_equal(live, "r1");
        assert_int_equal(admin_bus_resume(bus, "web", &err), 0);
        assert_null(err);
}

static void test_errors(void **state)
{
        static const struct {
                const char *app, *release;
                int error;
                const char *text;
        } cases[] = {
                {"web",    "busy",   -EBUSY,     "a deployment is under way"               },
                { "web",   "gone",   -ENOENT,    "it isn't installed"                      },
                { "web",   "bad",    -ECANCELED, "web.service?[2J did not start"           },
                { "web",   "denied", -EACCES,
                 "only root may do this, and whom polkit allows it (try: sudo slipway ...)"},
                { "api.x", "r1",     -ENODEV,    "slipwayd knows no application 'api.x'"   },
                { "web",   "never",  -ETIMEDOUT, "slipwayd did not answer in time"         },
        };
        _cleanup_(bus_unrefp) sd_bus *bus = open_bus();

        (void) state;
        for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
                _cleanup_free_ char *live = NULL, *err = NULL;
                int r = admin_bus_rollback(bus, cases[i].app, cases[i].release, "ann", 500000,
                                           &live, &err);

                assert_int_equal(r, cases[i].error);
                assert_string_equal(err, cases[i].text);
                assert_null(live);
        }
}

/* slipwayd hangs, then dies, then the bus is gone as well. */
static void test_not_running(void **state)
{
        Bench *b = *state;
        _cleanup_free_ char *document = NULL, *err = NULL;
        _cleanup_(bus_unrefp) sd_bus *bus = open_bus();
        sd_bus *none = NULL;

        assert_int_equal(kill(b->agent_pid, SIGSTOP), 0);
        assert_int_equal(admin_bus_describe(bus, &document, &err), -ETIMEDOUT);
        stop(&b->agent_pid);
        assert_int_equal(admin_bus_describe(bus, &document, &err), -ESRCH);
        assert_string_equal(err, "slipwayd is not running");
        stop(&b->bus_pid);
        assert_int_equal(admin_bus_open(true, &none, &err), -ESRCH);
        assert_string_equal(err, "slipwayd can't be asked: there is no user bus");
}

/* The program itself: its exit codes, as slipway(1) has them, and that results go to stdout. */
static void test_program(void **state)
{
        static const struct {
                const char *words;
                int code;
                const char *out;
        } cases[] = {
                {"--version",            0, NULL                                    },
                { "poll",                0, "web: deployment 7 is live (serial 9)\n"},
                { "poll web",            0, "web: deployment 7 is live (serial 9)\n"},
                { "resume web",          0, "web: the channel decides again\n"      },
                { "history web",         0, ""                                      },
                { "--json history web",  0, "[]\n"                                  },
                { "status api",          3, ""                                      },
                { "rollback api",        3, ""                                      },
                { "rollback web gone",   3, ""                                      },
                { "rollback web bad",    4, ""                                      },
                { "rollback web busy",   5, ""                                      },
                { "rollback web denied", 1, ""                                      },
                { "rollback",            2, ""                                      },
                { "rollback web ../r1",  2, ""                                      },
                { "frob",                2, ""                                      },
                { "--frob",              2, ""                                      },
        };
        Bench *b = *state;
        const char *build_root = getenv("SLIPWAY_BUILD_ROOT");

        if (!build_root)
                skip(); /* meson sets it */
        for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
                _cleanup_free_ char *command = NULL, *out = NULL;
                _cleanup_close_ int dir_fd = dir_open_at(AT_FDCWD, b->dir);
                int status;

                assert_true(asprintf(&command, "%s/agent/slipway --user %s >%s/out 2>%s/err",
                                     build_root, cases[i].words, b->dir, b->dir) > 0);
                status = system(command);
                assert_true(WIFEXITED(status));
                assert_int_equal(WEXITSTATUS(status), cases[i].code);
                assert_int_equal(file_read_at(dir_fd, "out", 4096, &out, NULL), 0);
                if (cases[i].out)
                        assert_string_equal(out, cases[i].out);
        }
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(test_calls, setup, teardown),
                cmocka_unit_test_setup_teardown(test_errors, setup, teardown),
                cmocka_unit_test_setup_teardown(test_program, setup, teardown),
                cmocka_unit_test_setup_teardown(test_not_running, setup, teardown),
        };

        if (access("/usr/bin/dbus-daemon", X_OK) < 0) {
                puts("skipped: dbus-daemon is not installed");
                return 77; /* meson: skipped */
        }
        return cmocka_run_group_tests(tests, NULL, NULL);
}
