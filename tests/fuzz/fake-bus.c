/* SPDX-License-Identifier: Apache-2.0 */
#include "fake-bus.h"

#include <stdio.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "fd.h"
#include "fuzz.h"

#define N_CALLS_MAX 32

struct FakeBus {
        sd_event *event;
        int listen_fd;
        sd_event_source *listen_source;
        sd_bus *bus;
        sd_bus_message *calls[N_CALLS_MAX];
        size_t n_calls;
        uint32_t uid;
};

static int answer_as_dbus(FakeBus *b, sd_bus_message *m)
{
        const char *member = sd_bus_message_get_member(m);

        if (streq(member, "Hello"))
                return sd_bus_reply_method_return(m, "s", ":1.1");
        if (streq(member, "RequestName"))
                return sd_bus_reply_method_return(m, "u", 1);
        if (streq(member, "GetConnectionUnixUser"))
                return sd_bus_reply_method_return(m, "u", b->uid);
        return sd_bus_reply_method_return(m, NULL);
}

static int on_message(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
        FakeBus *b = userdata;
        const char *to = sd_bus_message_get_destination(m);

        (void) error;
        if (!sd_bus_message_is_method_call(m, NULL, NULL))
                return 1;
        if (to && streq(to, "org.freedesktop.DBus"))
                (void) answer_as_dbus(b, m);
        else if (b->n_calls < N_CALLS_MAX)
                b->calls[b->n_calls++] = sd_bus_message_ref(m);
        return 1;
}

static int on_connection(sd_event_source *source, int fd, uint32_t revents, void *userdata)
{
        FakeBus *b = userdata;
        int connection = accept4(fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
        sd_id128_t id;

        (void) source, (void) revents;
        if (connection < 0)
                return 0;
        b->bus = sd_bus_close_unref(b->bus);
        assert(sd_id128_randomize(&id) >= 0 && sd_bus_new(&b->bus) >= 0);
        assert(sd_bus_set_fd(b->bus, connection, connection) >= 0);
        assert(sd_bus_set_server(b->bus, 1, id) >= 0);
        assert(sd_bus_negotiate_fds(b->bus, 1) >= 0);
        assert(sd_bus_add_filter(b->bus, NULL, on_message, b) >= 0);
        assert(sd_bus_start(b->bus) >= 0);
        assert(sd_bus_attach_event(b->bus, b->event, 0) >= 0);
        return 0;
}

FakeBus *fake_bus_new(sd_event *event, const char *dir)
{
        FakeBus *b = calloc(1, sizeof(FakeBus));
        struct sockaddr_un address = { .sun_family = AF_UNIX };
        char text[128];

        assert(b);
        b->event = sd_event_ref(event);
        b->uid = getuid();
        b->listen_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        snprintf(address.sun_path, sizeof(address.sun_path), "%s/bus", dir);
        assert(bind(b->listen_fd, (struct sockaddr *) &address, sizeof(address)) == 0);
        assert(listen(b->listen_fd, 4) == 0);
        snprintf(text, sizeof(text), "unix:path=%s", address.sun_path);
        assert(setenv("DBUS_SESSION_BUS_ADDRESS", text, 1) == 0);
        assert(sd_event_add_io(event, &b->listen_source, b->listen_fd, EPOLLIN, on_connection, b) >=
               0);
        return b;
}

FakeBus *fake_bus_free(FakeBus *b)
{
        for (size_t i = 0; i < b->n_calls; i++)
                sd_bus_message_unref(b->calls[i]);
        if (b->bus)
                (void) sd_bus_detach_event(b->bus);
        sd_bus_close_unref(b->bus);
        sd_event_source_disable_unref(b->listen_source);
        fd_close(b->listen_fd);
        sd_event_unref(b->event);
        free(b);
        return NULL;
}

sd_bus *fake_bus_get(const FakeBus *b)
{
        return b->bus;
}

sd_bus_message *fake_bus_take(FakeBus *b, size_t n)
{
        sd_bus_message *m;

        if (b->n_calls == 0)
                return NULL;
        n %= b->n_calls;
        m = b->calls[n];
        memmove(&b->calls[n], &b->calls[n + 1], (--b->n_calls - n) * sizeof(b->calls[0]));
        return m;
}

void fake_bus_set_uid(FakeBus *b, uint32_t uid)
{
        b->uid = uid;
}
