/* SPDX-License-Identifier: Apache-2.0 */

/* Fetches one object as slipway-fetch does, once for each line on stdin, and prints how many
 * seconds it took: fetch-object STORE PATH SIZE SHA256 DIRECTORY. */

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#include "err.h"
#include "fd.h"
#include "fetch.h"
#include "log.h"
#include "message.h"

static double now_sec(void)
{
        struct timespec t;

        (void) clock_gettime(CLOCK_MONOTONIC, &t);
        return (double) t.tv_sec + (double) t.tv_nsec / 1e9;
}

/* In the child. */
static _Noreturn void fetch(const char *store, const char *directory, int socket_fd)
{
        _cleanup_free_ char *err = NULL;
        Fetch *f = NULL;
        int r = fetch_new(store, directory, NULL, socket_fd, &f, &err);

        while (r == 0)
                r = fetch_step(f);
        if (r < 0)
                log_error("%s", err_text(r, err));
        _exit(r < 0);
}

static int get_once(int socket_fd, Message *m)
{
        Message answer = {};
        int r = message_send(socket_fd, m, -1);

        while (r >= 0 && answer.type != MESSAGE_GOT) {
                _cleanup_close_ int fd = -EBADF;
                r = message_receive(socket_fd, &answer, &fd);
                if (r == 0)
                        return -EPIPE;
        }
        if (r >= 0 && answer.result < 0) {
                log_error("%s", answer.text);
                r = answer.result;
        }
        if (r < 0)
                return r;
        m->type = MESSAGE_DROP;
        r = message_send(socket_fd, m, -1);
        m->type = MESSAGE_CANCEL;
        r = r < 0 ? r : message_send(socket_fd, m, -1);
        m->type = MESSAGE_GET;
        m->id++;
        return r;
}

static int parse_arguments(int argc, char *argv[], Message *m)
{
        if (argc != 6)
                return -EINVAL;
        (void) stpncpy(m->text, argv[2], MESSAGE_TEXT_MAX);
        m->size = strtoull(argv[3], NULL, 10);
        return sha256_from_hex(argv[4], &m->sha256);
}

int main(int argc, char *argv[])
{
        Message m = { .type = MESSAGE_GET, .id = 1 };
        int sockets[2], r = parse_arguments(argc, argv, &m);

        log_open("fetch-object");
        if (r >= 0)
                r = message_pair(sockets);
        if (r >= 0 && fork() == 0) {
                fd_close(sockets[0]);
                fetch(argv[1], argv[5], sockets[1]);
        }
        if (r >= 0) {
                fd_close(sockets[1]);
                r = fcntl(sockets[0], F_SETFL, 0) < 0 ? -errno : 0;
        }
        while (r >= 0 && getchar() == '\n') {
                double began = now_sec();
                r = get_once(sockets[0], &m);
                if (r >= 0)
                        printf("%.6f\n", now_sec() - began);
                (void) fflush(stdout);
        }
        if (r < 0)
                log_error("can't fetch: %s", strerror(-r));
        return r < 0;
}
