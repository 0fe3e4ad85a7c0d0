/* SPDX-License-Identifier: Apache-2.0 */
#include "test.h"

#include <sys/socket.h>
#include <sys/un.h>

#include "bus.h"

/* A connection that is refused or lost is tried again well within this. */
#define LIMIT_USEC (UINT64_C(20) * 1000000)
#define HUNG_USEC  (UINT64_C(50) * 1000)

/* What stands where the bus should: takes connections and closes them. */
typedef struct Bench {
        char *dir;
        sd_event *event;
        sd_event_source *source;
        int fd;
        Bus *bus;
        BusWatch watch;
        unsigned n_taken, n_back, n_lost;
} Bench;

static int on_connection(sd_event_source *source, int fd, uint32_t events, void *userdata)
{
        Bench *b = userdata;

        (void) source;
        (void) events;
        (void) fd_close(accept4(fd, NULL, NULL, SOCK_CLOEXEC));
        b->n_taken++;
        return 0;
}

static void on_changed(sd_bus *bus, void *userdata)
{
        Bench *b = userdata;

        assert_ptr_equal(bus, bus_get(b->bus));
        if (bus)
                b->n_back++;
        else
                b->n_lost++;
}

static void listen_here(Bench *b, bool take)
{
        struct sockaddr_un address = { .sun_family = AF_UNIX };

        (void) snprintf(address.sun_path, sizeof(address.sun_path), "%s/bus", b->dir);
        b->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        assert_true(b->fd >= 0);
        assert_int_equal(bind(b->fd, (struct sockaddr *) &address, sizeof(address)), 0);
        assert_int_equal(listen(b->fd, 8), 0);
        if (take)
                assert_true(sd_event_add_io(b->event, &b->source, b->fd, EPOLLIN, on_connection,
                                            b) >= 0);
}

static int setup(void **state)
{
        Bench *b = calloc(1, sizeof(*b));
        char address[128];

        assert_non_null(b);
        b->fd = -EBADF;
        assert_int_equal(test_dir_setup((void **) &b->dir), 0);
        (void) snprintf(address, sizeof(address), "unix:path=%s/bus", b->dir);
        assert_int_equal(setenv("DBUS_SESSION_BUS_ADDRESS", address, 1), 0);
        assert_true(sd_event_new(&b->event) >= 0);
        b->watch = (BusWatch){ .changed = on_changed, .userdata = b };
        *state = b;
        return 0;
}

static int teardown(void **state)
{
        Bench *b = *state;

        bus_free(b->bus);
        sd_event_source_disable_unref(b->source);
        sd_event_unref(b->event);
        fd_close(b->fd);
        assert_int_equal(test_dir_teardown((void **) &b->dir), 0);
        free(b);
        return 0;
}

static void start(Bench *b)
{
        assert_int_equal(bus_new(b->event, true, &b->bus), 0);
        bus_watch(b->bus, &b->watch);
}

static void run_until(Bench *b, const unsigned *counter, unsigned at_least)
{
        while (*counter < at_least)
                assert_true(sd_event_run(b->event, LIMIT_USEC) > 0);
}

static void a_bus_that_comes_later(void **state)
{
        Bench *b = *state;

        start(b);
        assert_null(bus_get(b->bus));
        listen_here(b, true);
        run_until(b, &b->n_back, 1);
        assert_non_null(bus_get(b->bus));
        assert_int_equal(b->n_lost, 0);
}

static void a_bus_that_goes_and_comes_back(void **state)
{
        Bench *b = *state;

        listen_here(b, true);
        start(b);
        assert_non_null(bus_get(b->bus));
        run_until(b, &b->n_lost, 3);
        assert_null(bus_get(b->bus));
        assert_in_range(b->n_back, 2, 3);
        run_until(b, &b->n_back, b->n_back + 1);
        assert_non_null(bus_get(b->bus));
}

static void one_that_watches_no_more_is_not_told(void **state)
{
        Bench *b = *state;
        BusWatch other = { .changed = on_changed, .userdata = b };

        listen_here(b, true);
        start(b);
        bus_watch(b->bus, &other);
        bus_unwatch(b->bus, &b->watch);
        run_until(b, &b->n_lost, 1);
        assert_int_equal(b->n_lost, 1);
        bus_unwatch(b->bus, &other);
        run_until(b, &b->n_taken, 3);
        assert_int_equal(b->n_lost, 1);
        assert_int_equal(b->n_back, 0);
}

static void a_bus_that_hangs(void **state)
{
        Bench *b = *state;

        listen_here(b, false);
        start(b);
        assert_int_equal(bus_wait_ready(bus_get(b->bus), HUNG_USEC), -ETIMEDOUT);
        bus_drop(b->bus);
        assert_null(bus_get(b->bus));
        assert_int_equal(b->n_lost, 1);
        bus_drop(b->bus);
        assert_int_equal(b->n_lost, 1);
}

static void errors_that_pass(void **state)
{
        static const struct {
                const char *name;
                bool passing;
        } cases[] = {
                {SD_BUS_ERROR_NO_REPLY,                  true },
                { SD_BUS_ERROR_NAME_HAS_NO_OWNER,        true },
                { SD_BUS_ERROR_ACCESS_DENIED,            false},
                { "org.freedesktop.systemd1.UnitMasked", false},
        };

        (void) state;
        for (size_t i = 0; i < ELEMENTSOF(cases); i++)
                assert_int_equal(
                        bus_error_is_passing(&SD_BUS_ERROR_MAKE_CONST(cases[i].name, "why")),
                        cases[i].passing);
        assert_false(bus_error_is_passing(NULL));
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(a_bus_that_comes_later, setup, teardown),
                cmocka_unit_test_setup_teardown(a_bus_that_goes_and_comes_back, setup, teardown),
                cmocka_unit_test_setup_teardown(one_that_watches_no_more_is_not_told, setup,
                                                teardown),
                cmocka_unit_test_setup_teardown(a_bus_that_hangs, setup, teardown),
                cmocka_unit_test(errors_that_pass),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
