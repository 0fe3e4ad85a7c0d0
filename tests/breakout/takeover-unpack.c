/* SPDX-License-Identifier: Apache-2.0 */
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fd.h"
#include "macro.h"
#include "message.h"
#include "range-set.h"
#include "takeover.h"

/* In the place of slipway-unpack. */

static Message releases = { 0 };
static int releases_fd = -EBADF;

static void await_releases(void)
{
        Message m;

        while (releases_fd < 0) {
                int fd = -EBADF;
                if (message_receive(MESSAGE_FD, &m, &fd) != 1)
                        exit(EXIT_FAILURE);
                if (m.type == MESSAGE_RELEASES) {
                        releases = m;
                        releases_fd = TAKE_FD(fd);
                }
                fd_close(fd);
        }
}

static void answer(MessageType type, int result, uint64_t offset, uint64_t size)
{
        const Message m = { .type = type, .result = result, .offset = offset, .size = size };

        if (message_send(MESSAGE_FD, &m, -1) < 0)
                exit(EXIT_FAILURE);
}

/* Parts of the artifact, or what is none of it, or nothing at all. */
static void want(const void *ranges, size_t size)
{
        const Message m = { .type = MESSAGE_WANTED };
        _cleanup_close_ int fd = ranges ? memfd_sealed("wanted", ranges, size) : -EBADF;

        answer(MESSAGE_NEEDS, 0, 1, 4096);
        if (message_send(MESSAGE_FD, &m, fd) < 0)
                exit(EXIT_FAILURE);
}

static int make_staging(void)
{
        int fd;

        if (mkdirat(releases_fd, releases.text, 0755) < 0 ||
            (fd = dir_open_at(releases_fd, releases.text)) < 0)
                abort();
        return fd;
}

static void *write_on(void *userdata)
{
        int fd = *(int *) userdata;

        for (;;)
                if (pwrite(fd, "x", 1, 0) != 1)
                        abort();
        return NULL;
}

static void put(int dir_fd, const char *name, const char *content, mode_t mode)
{
        _cleanup_close_ int fd = openat(dir_fd, name, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);

        if (fd < 0 || fd_write_all(fd, content, strlen(content)) < 0 || fchmod(fd, mode) < 0)
                abort();
}

/* A tree that nobody signed, which is written to while it is said to be whole. */
static void plant(Takeover *t)
{
        _cleanup_close_ int dir_fd = make_staging();
        static int fd;
        pthread_t thread;

        put(dir_fd, "name", "r?\n", 0644);
        put(dir_fd, "run", "#!/bin/sh\nsystemd-notify --ready\nexec sleep infinity\n", 0755);
        fd = openat(dir_fd, "beat", O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
        takeover_say(t, "setuid %d", fchmod(fd, 04755) < 0 ? errno : 0);
        takeover_say(t, "device %d",
                     mknodat(dir_fd, "null", S_IFCHR | 0666, 0x103) < 0 ? errno : 0);
        if (fd < 0 || symlinkat("/etc/shadow", dir_fd, "link") < 0 ||
            linkat(dir_fd, "name", dir_fd, "hard", 0) < 0 ||
            pthread_create(&thread, NULL, write_on, &fd) != 0)
                abort();
        answer(MESSAGE_NEEDS, 0, 1, 4096);
        answer(MESSAGE_UNPACKED, 0, 0, 0);
}

int main(void)
{
        Takeover t;

        takeover_open(&t);
        await_releases();
        if (strcmp(t.what, "early") == 0)
                answer(MESSAGE_UNPACKED, 0, 0, 0);
        else if (strcmp(t.what, "needs") == 0) {
                answer(MESSAGE_NEEDS, 0, 1, UINT64_MAX - 64);
        } else if (strcmp(t.what, "want-more") == 0) {
                static const ByteRange more = { .offset = UINT64_C(1) << 40, .size = 1 };
                want(&more, sizeof(more));
        } else if (strcmp(t.what, "want-odd") == 0) {
                want("odd", 3);
        } else if (strcmp(t.what, "want-nothing") == 0) {
                want(NULL, 0);
        } else if (strcmp(t.what, "link") == 0) {
                if (symlinkat("r1", releases_fd, releases.text) < 0)
                        abort();
                answer(MESSAGE_UNPACKED, 0, 0, 0);
        } else if (strcmp(t.what, "twice") == 0) {
                fd_close(make_staging());
                answer(MESSAGE_UNPACKED, -EIO, 0, 0);
                answer(MESSAGE_UNPACKED, 0, 0, 0);
        } else if (strcmp(t.what, "plant") == 0)
                plant(&t);
        takeover_say(&t, "is done");
        for (;;)
                (void) pause();
}
