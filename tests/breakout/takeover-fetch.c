/* SPDX-License-Identifier: Apache-2.0 */
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "dsse.h"
#include "err.h"
#include "fd.h"
#include "macro.h"
#include "message.h"
#include "takeover.h"

/*
 * In the place of slipway-fetch. MANIFESTS/0, /1, ... are envelopes, as they lie in a store: "lie"
 * hands out one after the other, and the last one again and again. The file COUNT has a byte for
 * each time that "die" was started.
 */

#define MANIFESTS "/run/takeover.manifests"
#define COUNT     "/var/lib/slipway-fetch/takeover"

#define N_SEEN     64
#define LIES_BYTES (UINT64_C(1) << 20)

/* What slipwayd asked for lately. */
static Message seen[N_SEEN];
static unsigned n_seen;

/* A file whose content and size change all the time. */
static int restless_fd = -EBADF;

static void *change_without_end(void *userdata)
{
        Takeover t = *(Takeover *) userdata;

        for (;;) {
                uint32_t size = takeover_random(&t, 8192);
                if (pwrite(restless_fd, &size, sizeof(size), takeover_random(&t, 4096)) < 0 ||
                    ftruncate(restless_fd, size) < 0)
                        abort();
        }
        return NULL;
}

/* The n-th manifest as slipway-fetch hands it over; -ENOENT: there are fewer. */
static int open_manifest(unsigned n)
{
        _cleanup_(envelope_freep) Envelope *e = NULL;
        _cleanup_free_ uint8_t *packed = NULL;
        _cleanup_free_ char *data = NULL;
        char path[64];
        size_t size;
        int r;

        (void) snprintf(path, sizeof(path), MANIFESTS "/%u", n);
        r = file_read_at(AT_FDCWD, path, ENVELOPE_SIZE_MAX, &data, &size);
        if (r >= 0)
                r = envelope_parse(data, size, MANIFEST_PAYLOAD_TYPE, &e, NULL);
        if (r >= 0)
                r = envelope_pack(e, &packed, &size);
        return r < 0 ? r : memfd_sealed("manifest", packed, size);
}

/* What slipwayd says; false: nothing now, or it is gone. */
static bool hear(Message *ret)
{
        struct pollfd p = { .fd = MESSAGE_FD, .events = POLLIN };
        int fd = -EBADF;

        if (poll(&p, 1, 0) <= 0 || message_receive(MESSAGE_FD, ret, &fd) != 1)
                return false;
        fd_close(fd);
        seen[n_seen++ % N_SEEN] = *ret;
        return true;
}

static void await(Message *ret)
{
        int fd = -EBADF;

        if (message_receive(MESSAGE_FD, ret, &fd) != 1)
                exit(EXIT_SUCCESS);
        fd_close(fd);
}

/* At random */

static uint64_t any_number(Takeover *t)
{
        static const uint64_t numbers[] = { 0,
                                            1,
                                            2,
                                            255,
                                            4096,
                                            UINT32_MAX,
                                            UINT64_C(1) << 53,
                                            INT64_MAX,
                                            UINT64_C(1) << 63,
                                            UINT64_MAX - 1,
                                            UINT64_MAX };

        return numbers[takeover_random(t, ELEMENTSOF(numbers))];
}

static int32_t any_result(Takeover *t)
{
        /* Less than the last errno is the sender's end (message.c). */
        static const int32_t results[] = { 0,      0,       0,       1,        2,        3,
                                           4,      5,       -1,      -EBADMSG, -ENOKEY,  -EAGAIN,
                                           -EPIPE, -EACCES, -ENOENT, -4095,    INT32_MAX };

        return results[takeover_random(t, ELEMENTSOF(results))];
}

static void any_text(Takeover *t, char *ret)
{
        static const char *const texts[] = {
                "",
                "-",
                "%s%s%n%n",
                "\x01\xff\xfe\x1b[2J",
                "00000000-0000-4000-8000-0000000000%02u deploy web ../../evil - -",
                "00000000-0000-4000-8000-0000000000%02u deploy web r9 - -",
                "00000000-0000-4000-8000-0000000000%02u status web - - -",
                "00000000-0000-4000-8000-0000000000%02u explode web r9 - -",
                "00000000-0000-4000-8000-0000000000%02u poll web - - -",
                "$(reboot)",
        };
        uint32_t n = takeover_random(t, ELEMENTSOF(texts) + 1);

        if (n == ELEMENTSOF(texts))
                memset(ret, 'x', MESSAGE_TEXT_MAX);
        else if (strstr(texts[n], "%02u"))
                (void) snprintf(ret, MESSAGE_TEXT_MAX, "%.34s%02u%s", texts[n],
                                takeover_random(t, 100), strchr(texts[n], 'u') + 1);
        else
                (void) stpncpy(ret, texts[n], MESSAGE_TEXT_MAX);
}

/* Regular files alone: with others the first message would be the last. */
static int any_file(Takeover *t)
{
        int fd;

        switch (takeover_random(t, 8)) {
        case 0:
                return takeover_memfd(t, takeover_random(t, 4096));
        case 1:
                fd = takeover_memfd(t, 0);
                return ftruncate(fd, INT64_MAX) < 0 ? abort(), -1 : fd;
        case 2:
                return fcntl(restless_fd, F_DUPFD_CLOEXEC, 0);
        case 3:
                return open("/etc/passwd", O_PATH | O_CLOEXEC);
        case 4:
                return open(COUNT, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
        case 5:
                return open_manifest(takeover_random(t, 5));
        default:
                return -EBADF;
        }
}

/* What would answer it. */
static uint32_t answer_type(uint32_t asked, Takeover *t)
{
        static const uint32_t object[] = { MESSAGE_SPOOLED, MESSAGE_AVAILABLE, MESSAGE_GOT,
                                           MESSAGE_GOT_AGAIN };
        static const uint32_t listening[] = { MESSAGE_LISTENING, MESSAGE_ORDER,
                                              MESSAGE_ORDER_CANCEL };

        switch (asked) {
        case MESSAGE_POLL:
        case MESSAGE_WATCH:
                return MESSAGE_POLLED;
        case MESSAGE_BRAKE:
                return MESSAGE_BRAKED;
        case MESSAGE_GET:
        case MESSAGE_GET_AGAIN:
                return object[takeover_random(t, ELEMENTSOF(object))];
        case MESSAGE_PUT:
                return MESSAGE_PUT_DONE;
        case MESSAGE_LISTEN:
                return listening[takeover_random(t, ELEMENTSOF(listening))];
        case MESSAGE_IDENTIFY:
                return MESSAGE_IDENTIFIED;
        default:
                return 1 + takeover_random(t, _MESSAGE_TYPE_MAX - 1);
        }
}

/* The good manifest, so that its objects are asked for. */
static void offer(const Message *asked)
{
        _cleanup_close_ int fd = open_manifest(4);
        const Message answer = { .type = MESSAGE_POLLED, .id = asked->id };

        if (message_send(MESSAGE_FD, &answer, fd) < 0)
                exit(EXIT_FAILURE);
}

static void say_anything(Takeover *t)
{
        _cleanup_close_ int fd = any_file(t);
        const Message *asked = &seen[takeover_random(t, n_seen < N_SEEN ? n_seen + 1 : N_SEEN)];
        Message m = { .id = asked->id, .offset = any_number(t), .size = any_number(t) };

        m.type = takeover_random(t, 4) > 0 ? answer_type(asked->type, t)
                                           : 1 + takeover_random(t, _MESSAGE_TYPE_MAX - 1);
        if (takeover_random(t, 8) == 0)
                m.id = takeover_random(t, 2) ? any_number(t) : asked->id + takeover_random(t, 5);
        m.result = any_result(t);
        any_text(t, m.text);
        if (m.type == MESSAGE_RELEASES || m.type == MESSAGE_REMOVE)
                fd = fd_close(fd);
        if (message_send(MESSAGE_FD, &m, fd) < 0)
                exit(EXIT_FAILURE);
}

static void play_havoc(Takeover *t)
{
        static Takeover other;
        pthread_t thread;
        Message m;

        other = *t;
        restless_fd = takeover_memfd(t, 4096);
        if (pthread_create(&thread, NULL, change_without_end, &other) != 0)
                abort();
        await(&seen[0]);
        n_seen = 1;
        for (unsigned n = 0; n < t->n_rounds; n++) {
                if (hear(&m) && m.type == MESSAGE_POLL && m.offset != POLL_ROOT &&
                    takeover_random(t, 2))
                        offer(&m);
                say_anything(t);
        }
}

/* One after the other */

static void flood(const Takeover *t)
{
        const Message m = { .type = MESSAGE_POLLED };

        for (unsigned n = 0; n < t->n_rounds; n++)
                if (message_send(MESSAGE_FD, &m, -1) < 0)
                        exit(EXIT_FAILURE);
}

/* Descriptors that are no files: each is the end of who sends it. */
static int open_bad(unsigned n)
{
        int fds[2];

        switch (n % 5) {
        case 0:
                return pipe2(fds, O_CLOEXEC) < 0 ? -errno : fds[0];
        case 1:
                return open("/dev/zero", O_RDONLY | O_CLOEXEC);
        case 2:
                return socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        case 3:
                return open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        default:
                return posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
        }
}

static void die(Takeover *t)
{
        _cleanup_close_ int count_fd = open(COUNT, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
        Message m;
        struct stat st;

        await(&m);
        if (count_fd < 0 || write(count_fd, ".", 1) != 1 || fstat(count_fd, &st) < 0)
                abort();
        _cleanup_close_ int fd = open_bad(st.st_size - 1);
        m = (Message){ .type = MESSAGE_POLLED, .id = m.id };
        takeover_say(t, "sends %d", (int) st.st_size);
        if (fd < 0)
                abort();
        if (message_send(MESSAGE_FD, &m, fd) < 0)
                exit(EXIT_FAILURE);
        for (;;)
                (void) pause();
}

/* Bytes that were never published, in the place of the object; the second half goes while it is
 * read. */
static void lie_about_object(Takeover *t, const Message *asked)
{
        Message m = { .type = MESSAGE_SPOOLED, .id = asked->id };
        _cleanup_close_ int fd = takeover_memfd(t, MIN(asked->size, LIES_BYTES));

        if (message_send(MESSAGE_FD, &m, fd) < 0 ||
            message_reply(MESSAGE_FD, MESSAGE_GOT, asked->id, 0, NULL) < 0 ||
            message_reply(MESSAGE_FD, MESSAGE_GOT, asked->id, 0, NULL) < 0 ||
            ftruncate(fd, takeover_random(t, 2) ? (off_t) MIN(asked->size, LIES_BYTES) : 0) < 0)
                exit(EXIT_FAILURE);
        takeover_say(t, "gave %s", strrchr(asked->text, '/') + 1);
}

static void lie(Takeover *t)
{
        unsigned n = 0;
        Message m;

        for (;;) {
                await(&m);
                if (m.type == MESSAGE_BRAKE &&
                    message_reply(MESSAGE_FD, MESSAGE_BRAKED, m.id, 0, NULL) < 0)
                        exit(EXIT_FAILURE);
                if (m.type == MESSAGE_GET)
                        lie_about_object(t, &m);
                if (m.type != MESSAGE_POLL && m.type != MESSAGE_WATCH)
                        continue;
                if (m.offset == POLL_ROOT) {
                        if (message_reply(MESSAGE_FD, MESSAGE_POLLED, m.id, POLL_ABSENT, NULL) < 0)
                                exit(EXIT_FAILURE);
                        continue;
                }
                _cleanup_close_ int next = open_manifest(n + 1);
                _cleanup_close_ int fd = open_manifest(n);
                m = (Message){ .type = MESSAGE_POLLED, .id = m.id };
                if (message_send(MESSAGE_FD, &m, fd) < 0)
                        exit(EXIT_FAILURE);
                takeover_say(t, "gave manifest %u", n);
                n += next >= 0;
        }
}

static void close_half(Takeover *t, int how)
{
        Message m;

        await(&m);
        if (shutdown(MESSAGE_FD, how) < 0)
                abort();
        takeover_say(t, "closed");
        for (;;)
                (void) pause();
}

int main(void)
{
        Takeover t;

        takeover_open(&t);
        if (strcmp(t.what, "havoc") == 0)
                play_havoc(&t);
        else if (strcmp(t.what, "flood") == 0)
                flood(&t);
        else if (strcmp(t.what, "die") == 0)
                die(&t);
        else if (strcmp(t.what, "lie") == 0)
                lie(&t);
        else if (strcmp(t.what, "close-writing") == 0)
                close_half(&t, SHUT_WR);
        else if (strcmp(t.what, "close-reading") == 0)
                close_half(&t, SHUT_RD);
        else if (strcmp(t.what, "stop") == 0)
                (void) raise(SIGSTOP);
        takeover_say(&t, "is done");
        /* Deaf from now on. */
        for (;;)
                (void) pause();
}
