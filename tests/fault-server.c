/* SPDX-License-Identifier: Apache-2.0 */
#include "fault-server.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#define HEAD_MAX 65536

static struct FaultCounts *counts;

struct FaultCounts *fault_counts(void)
{
        return counts;
}

static void die(const char *what)
{
        perror(what);
        _exit(99);
}

void fault_write(const FaultRequest *q, const void *data, size_t size)
{
        while (size > 0) {
                ssize_t n = send(q->fd, data, size, MSG_NOSIGNAL);
                if (n <= 0)
                        _exit(0); /* the client went */
                data = (const char *) data + n;
                size -= n;
        }
}

void fault_answer(const FaultRequest *q, int status, const char *headers, const void *body,
                  size_t size)
{
        char head[4096];
        int n = snprintf(head, sizeof(head), "HTTP/1.1 %d X\r\nContent-Length: %zu\r\n%s\r\n",
                         status, size, headers);

        fault_write(q, head, n);
        fault_write(q, body, size);
}

void fault_stall(const FaultRequest *q)
{
        struct pollfd p = { .fd = q->fd, .events = POLLRDHUP };

        (void) poll(&p, 1, 60000);
}

char *fault_header(const FaultRequest *q, const char *name)
{
        size_t n = strlen(name);

        for (const char *line = strstr(q->head, "\r\n"); line; line = strstr(line, "\r\n")) {
                line += 2;
                if (strncasecmp(line, name, n) == 0 && line[n] == ':') {
                        line += n + 1;
                        while (*line == ' ')
                                line++;
                        return strndup(line, strcspn(line, "\r"));
                }
        }
        return NULL;
}

static bool read_more(int fd, char *data, size_t *size, size_t max)
{
        ssize_t n = read(fd, data + *size, max - *size);

        if (n > 0)
                *size += n;
        return n > 0;
}

static bool read_body(FaultRequest *q, char *rest, size_t rest_size)
{
        char *length = fault_header(q, "Content-Length"), *expect = fault_header(q, "Expect");
        bool refused = expect && strstr(q->head, FAULT_NO_EXPECT);
        size_t size = length && !refused ? strtoul(length, NULL, 10) : 0;

        free(length);
        if (expect && !refused)
                fault_write(q, "HTTP/1.1 100 Continue\r\n\r\n", 25);
        free(expect);
        q->body = malloc(size + 1);
        if (!q->body || rest_size > size)
                die("request body");
        memcpy(q->body, rest, rest_size);
        for (q->body_size = rest_size; q->body_size < size;)
                if (!read_more(q->fd, q->body, &q->body_size, size))
                        return false;
        q->body[size] = '\0';
        return true;
}

static bool read_request(FaultRequest *q, char head[static HEAD_MAX])
{
        size_t size = 0;
        char *end;

        do {
                if (size == HEAD_MAX - 1 || !read_more(q->fd, head, &size, HEAD_MAX - 1))
                        return false;
                head[size] = '\0';
                end = strstr(head, "\r\n\r\n");
        } while (!end);
        end[2] = '\0';
        q->head = head;
        return read_body(q, end + 4, size - (end + 4 - head));
}

static void serve_connection(int fd, fault_serve_t serve)
{
        static char head[HEAD_MAX];
        bool more = true;

        for (int n = 0; more; n++) {
                FaultRequest q = { .fd = fd, .n_connection = n };
                more = read_request(&q, head);
                if (more) {
                        q.n = atomic_fetch_add(&counts->n_requests, 1);
                        more = serve(&q);
                }
                free(q.body);
        }
}

static void serve_all(int listen_fd, fault_serve_t serve)
{
        (void) prctl(PR_SET_PDEATHSIG, SIGKILL);
        (void) signal(SIGCHLD, SIG_IGN);
        for (;;) {
                int fd = accept(listen_fd, NULL, NULL);
                if (fd < 0)
                        die("accept");
                atomic_fetch_add(&counts->n_connections, 1);
                pid_t pid = fork();
                if (pid < 0)
                        die("fork");
                if (pid == 0) {
                        (void) prctl(PR_SET_PDEATHSIG, SIGKILL);
                        serve_connection(fd, serve);
                        _exit(0);
                }
                (void) close(fd);
        }
}

void fault_server_start(FaultServer *s, fault_serve_t serve)
{
        struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
        socklen_t size = sizeof(a);
        int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

        if (fd < 0 || bind(fd, (struct sockaddr *) &a, sizeof(a)) < 0 || listen(fd, 64) < 0 ||
            getsockname(fd, (struct sockaddr *) &a, &size) < 0)
                die("listen");
        s->port = ntohs(a.sin_port);
        s->counts = mmap(NULL, sizeof(*s->counts), PROT_READ | PROT_WRITE,
                         MAP_SHARED | MAP_ANONYMOUS, -1, 0);
        if (s->counts == MAP_FAILED)
                die("mmap");
        counts = s->counts;
        s->pid = fork();
        if (s->pid < 0)
                die("fork");
        if (s->pid == 0)
                serve_all(fd, serve);
        (void) close(fd);
}

void fault_server_stop(FaultServer *s)
{
        (void) kill(s->pid, SIGKILL);
        (void) waitpid(s->pid, NULL, 0);
        (void) munmap(s->counts, sizeof(*s->counts));
}
