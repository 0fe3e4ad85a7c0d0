/* SPDX-License-Identifier: Apache-2.0 */
#include "fuzz-server.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "fd.h"
#include "fuzz.h"

#define N_MAX       16
#define REQUEST_MAX 16384
#define SEND_BUFFER (1024 * 1024)

typedef struct Connection {
        int fd;
        char request[REQUEST_MAX + 1];
        size_t size;
        bool answered;
} Connection;

struct FuzzServer {
        int listen_fd, epoll_fd;
        char url[64];
        Connection connections[N_MAX];
};

static void watch(const FuzzServer *s, int fd, unsigned n)
{
        struct epoll_event e = { .events = EPOLLIN, .data.u32 = n };

        assert(epoll_ctl(s->epoll_fd, EPOLL_CTL_ADD, fd, &e) == 0);
}

FuzzServer *fuzz_server(void)
{
        static FuzzServer *s = NULL;
        struct sockaddr_in address = { .sin_family = AF_INET,
                                       .sin_addr = { htonl(INADDR_LOOPBACK) } };
        socklen_t size = sizeof(address);

        if (s)
                return s;
        s = calloc(1, sizeof(FuzzServer));
        assert(s);
        for (unsigned n = 0; n < N_MAX; n++)
                s->connections[n].fd = -EBADF;
        s->listen_fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        s->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
        assert(s->listen_fd >= 0 && s->epoll_fd >= 0);
        assert(bind(s->listen_fd, (struct sockaddr *) &address, size) == 0);
        assert(listen(s->listen_fd, N_MAX) == 0);
        assert(getsockname(s->listen_fd, (struct sockaddr *) &address, &size) == 0);
        (void) snprintf(s->url, sizeof(s->url), "http://127.0.0.1:%u", ntohs(address.sin_port));
        watch(s, s->listen_fd, N_MAX);
        return s;
}

int fuzz_server_fd(const FuzzServer *s)
{
        return s->epoll_fd;
}

const char *fuzz_server_url(const FuzzServer *s)
{
        return s->url;
}

/* With a reset, where the other end has not closed it: no port is kept back. */
static void drop(Connection *c)
{
        const struct linger none = { .l_onoff = 1 };

        if (c->fd >= 0)
                (void) setsockopt(c->fd, SOL_SOCKET, SO_LINGER, &none, sizeof(none));
        c->fd = fd_close(c->fd);
}

static void take(FuzzServer *s)
{
        int fd = accept4(s->listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK),
            size = SEND_BUFFER;
        unsigned n = 0;

        while (n < N_MAX && s->connections[n].fd >= 0)
                n++;
        if (fd < 0)
                return;
        assert(n < N_MAX);
        (void) setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
        s->connections[n] = (Connection){ .fd = fd };
        watch(s, fd, n);
}

static void receive(Connection *c, fuzz_answer_t answer, void *userdata)
{
        ssize_t n = recv(c->fd, c->request + c->size, REQUEST_MAX - c->size, 0);
        const void *data;
        size_t size;

        if (n <= 0) {
                drop(c);
                return;
        }
        c->size += (size_t) n;
        c->request[c->size] = '\0';
        if (c->answered || !strstr(c->request, "\r\n\r\n")) {
                c->size = c->answered ? 0 : c->size;
                return;
        }
        c->answered = true;
        data = answer(c->request, &size, userdata);
        c->size = 0;
        (void) !send(c->fd, data, size, MSG_NOSIGNAL);
        (void) shutdown(c->fd, SHUT_WR);
}

void fuzz_server_serve(FuzzServer *s, fuzz_answer_t answer, void *userdata)
{
        struct epoll_event events[N_MAX];
        int n = epoll_wait(s->epoll_fd, events, N_MAX, 0);

        for (int i = 0; i < n; i++)
                if (events[i].data.u32 == N_MAX)
                        take(s);
                else
                        receive(&s->connections[events[i].data.u32], answer, userdata);
}

void fuzz_server_reset(FuzzServer *s)
{
        take(s);
        for (unsigned n = 0; n < N_MAX; n++)
                drop(&s->connections[n]);
}
