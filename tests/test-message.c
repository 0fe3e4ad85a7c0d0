/* SPDX-License-Identifier: Apache-2.0 */
#include "test.h"

#include <netinet/in.h>
#include <sys/socket.h>
#include <time.h>

#include "message.h"

static void travels_with_descriptor(void **state)
{
        int pair[2], fd = -EBADF;
        Message m = { .type = MESSAGE_GET, .id = 7, .size = 1 << 20 }, got;
        char byte;

        (void) state;
        assert_return_code(message_pair(pair), 0);
        int memfd = memfd_sealed("t", "x", 1);
        strcpy(m.text, "web/x");
        assert_return_code(message_send(pair[0], &m, memfd), 0);
        assert_int_equal(message_receive(pair[1], &got, &fd), 1);
        assert_int_equal(got.type, MESSAGE_GET);
        assert_int_equal(got.id, 7);
        assert_int_equal(got.size, 1 << 20);
        assert_string_equal(got.text, "web/x");
        assert_int_equal(pread(fd, &byte, 1, 0), 1);
        assert_int_equal(fcntl(fd, F_GETFD), FD_CLOEXEC);
        fd_close(fd);
        assert_return_code(message_reply(pair[1], MESSAGE_GOT, 7, -ENOSPC, "a\nb\xff\xc3\xa9"), 0);
        assert_int_equal(message_receive(pair[0], &got, &fd), 1);
        assert_int_equal(fd, -EBADF);
        assert_int_equal(got.result, -ENOSPC);
        assert_string_equal(got.text, "a b?\xc3\xa9");
        assert_int_equal(message_receive(pair[0], &got, &fd), -EAGAIN);
        fd_close(pair[1]);
        assert_int_equal(message_receive(pair[0], &got, &fd), 0);
        fd_close(pair[0]);
        fd_close(memfd);
}

/* A child that failed early leaves orders unread, which the kernel reports as a reset. */
static void last_words_arrive(void **state)
{
        int pair[2], fd = -EBADF;
        Message got;

        (void) state;
        assert_return_code(message_pair(pair), 0);
        assert_return_code(message_reply(pair[0], MESSAGE_AVAILABLE, 0, 0, NULL), 0);
        assert_return_code(message_reply(pair[1], MESSAGE_UNPACKED, 7, -ENOSPC, "full"), 0);
        fd_close(pair[1]);
        assert_int_equal(message_receive(pair[0], &got, &fd), 1);
        assert_int_equal(got.result, -ENOSPC);
        assert_string_equal(got.text, "full");
        assert_int_equal(message_receive(pair[0], &got, &fd), 0);
        fd_close(pair[0]);
}

static void a_peer_that_read_nothing_is_gone(void **state)
{
        int pair[2];

        (void) state;
        assert_return_code(message_pair(pair), 0);
        assert_return_code(message_reply(pair[0], MESSAGE_AVAILABLE, 0, 0, NULL), 0);
        fd_close(pair[1]);
        assert_int_equal(message_reply(pair[0], MESSAGE_AVAILABLE, 0, 0, NULL), -EPIPE);
        fd_close(pair[0]);
}

static void hostile_packets_are_refused(void **state)
{
        int pair[2], fd = -EBADF;
        Message m = { .type = MESSAGE_GOT }, got;
        const size_t head = offsetof(Message, text);

        (void) state;
        assert_return_code(message_pair(pair), 0);
        struct {
                uint32_t type, text_size;
                size_t size;
        } bad[] = {
                {0,                  0,                    head                       },
                { _MESSAGE_TYPE_MAX, 0,                    head                       },
                { UINT32_MAX,        0,                    head                       },
                { MESSAGE_GOT,       1,                    head                       },
                { MESSAGE_GOT,       0,                    head + 1                   },
                { MESSAGE_GOT,       UINT32_MAX,           head                       },
                { MESSAGE_GOT,       MESSAGE_TEXT_MAX + 1, head + MESSAGE_TEXT_MAX + 1},
                { MESSAGE_GOT,       3,                    head + 3                   }, /* NULs in the text */
                { MESSAGE_GOT,       0,                    4                          },
        };
        for (size_t i = 0; i < ELEMENTSOF(bad); i++) {
                m.type = bad[i].type;
                m.text_size = bad[i].text_size;
                assert_int_equal(send(pair[1], &m, bad[i].size, 0), bad[i].size);
                assert_int_equal(message_receive(pair[0], &got, &fd), -EPROTO);
                assert_int_equal(fd, -EBADF);
        }
        m = (Message){ .type = MESSAGE_GOT, .result = INT32_MIN };
        assert_int_equal(send(pair[1], &m, head, 0), head);
        assert_int_equal(message_receive(pair[0], &got, &fd), -EPROTO);
        m.result = -4095;
        assert_int_equal(send(pair[1], &m, head, 0), head);
        assert_int_equal(message_receive(pair[0], &got, &fd), 1);
        char big[sizeof(Message) + 100] = {};
        assert_int_equal(send(pair[1], big, sizeof(big), 0), sizeof(big));
        assert_int_equal(message_receive(pair[0], &got, &fd), -EPROTO);
        fd_close(pair[0]);
        fd_close(pair[1]);
}

static void many_descriptors_are_closed(void **state)
{
        int pair[2], fd = -EBADF, before = open("/dev/null", O_RDONLY | O_CLOEXEC);
        Message m = { .type = MESSAGE_POLLED }, got;
        union {
                struct cmsghdr header;
                uint8_t space[CMSG_SPACE(3 * sizeof(int))];
        } control = {};
        struct iovec iov = { .iov_base = &m, .iov_len = offsetof(Message, text) };
        struct msghdr packet = { .msg_iov = &iov,
                                 .msg_iovlen = 1,
                                 .msg_control = &control,
                                 .msg_controllen = sizeof(control) };

        (void) state;
        assert_return_code(message_pair(pair), 0);
        struct cmsghdr *c = CMSG_FIRSTHDR(&packet);
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN(3 * sizeof(int));
        memcpy(CMSG_DATA(c), (int[]){ before, before, before }, 3 * sizeof(int));
        assert_true(sendmsg(pair[1], &packet, 0) > 0);
        assert_int_equal(message_receive(pair[0], &got, &fd), -EPROTO);
        fd_close(pair[0]);
        fd_close(pair[1]);
        int after = open("/dev/null", O_RDONLY | O_CLOEXEC);
        assert_int_equal(after, before + 1);
        fd_close(before);
        fd_close(after);
}

static int empty_packet(int socket_fd, int fd)
{
        union {
                struct cmsghdr header;
                uint8_t space[CMSG_SPACE(sizeof(int))];
        } control = {};
        struct msghdr packet = { .msg_control = fd >= 0 ? &control : NULL,
                                 .msg_controllen = fd >= 0 ? sizeof(control) : 0 };

        if (fd >= 0) {
                struct cmsghdr *c = CMSG_FIRSTHDR(&packet);
                c->cmsg_level = SOL_SOCKET;
                c->cmsg_type = SCM_RIGHTS;
                c->cmsg_len = CMSG_LEN(sizeof(int));
                memcpy(CMSG_DATA(c), &fd, sizeof(int));
        }
        return sendmsg(socket_fd, &packet, 0);
}

static void an_empty_packet_is_not_the_end(void **state)
{
        _cleanup_close_ int file = memfd_sealed("t", "x", 1);
        int pair[2], fd = -EBADF;
        Message got;

        (void) state;
        assert_return_code(message_pair(pair), 0);
        assert_return_code(empty_packet(pair[1], -EBADF), 0);
        assert_int_equal(message_receive(pair[0], &got, &fd), -EPROTO);
        assert_return_code(empty_packet(pair[1], file), 0);
        assert_int_equal(message_receive(pair[0], &got, &fd), -EPROTO);
        assert_int_equal(fd, -EBADF);
        assert_int_equal(message_receive(pair[0], &got, &fd), -EAGAIN);
        fd_close(pair[1]);
        assert_int_equal(message_receive(pair[0], &got, &fd), 0);
        fd_close(pair[0]);
}

/* What arrives when `type` is sent with a copy of fd. */
static int receive_kind(MessageType type, int fd)
{
        Message m = { .type = type }, got;
        int pair[2], got_fd = -EBADF, r;

        assert_return_code(message_pair(pair), 0);
        assert_return_code(message_send(pair[1], &m, fd), 0);
        r = message_receive(pair[0], &got, &got_fd);
        assert_true((r == 1) == (got_fd >= 0));
        fd_close(got_fd);
        fd_close(pair[0]);
        fd_close(pair[1]);
        return r;
}

static void only_files_and_directories_travel(void **state)
{
        _cleanup_close_ int file = memfd_sealed("t", "x", 1), dir = dir_open_at(AT_FDCWD, "/");
        _cleanup_close_ int device = open("/dev/null", O_RDONLY | O_CLOEXEC);
        int fifo[2];

        (void) state;
        assert_return_code(pipe2(fifo, O_CLOEXEC), 0);
        assert_int_equal(receive_kind(MESSAGE_SPOOLED, file), 1);
        assert_int_equal(receive_kind(MESSAGE_RELEASES, dir), 1);
        assert_int_equal(receive_kind(MESSAGE_SPOOLED, dir), -EPROTO);
        assert_int_equal(receive_kind(MESSAGE_REMOVE, file), -EPROTO);
        assert_int_equal(receive_kind(MESSAGE_ORDER_NEWS, file), 1);
        assert_int_equal(receive_kind(MESSAGE_ORDER_NEWS, dir), -EPROTO);
        assert_int_equal(receive_kind(MESSAGE_SPOOLED, device), -EPROTO);
        assert_int_equal(receive_kind(MESSAGE_POLLED, fifo[0]), -EPROTO);
        fd_close(fifo[0]);
        fd_close(fifo[1]);
}

/* Two ends of a TCP connection on loopback. */
static void tcp_pair(int ret[static 2])
{
        struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
        _cleanup_close_ int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        socklen_t size = sizeof(a);

        assert_return_code(bind(listener, (struct sockaddr *) &a, sizeof(a)), 0);
        assert_return_code(listen(listener, 1), 0);
        assert_return_code(getsockname(listener, (struct sockaddr *) &a, &size), 0);
        ret[0] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        assert_return_code(connect(ret[0], (struct sockaddr *) &a, sizeof(a)), 0);
        ret[1] = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
        assert_true(ret[1] >= 0);
}

/* A socket with unsent bytes that is to linger for a minute after its last close. */
static void closing_what_came_does_not_wait(void **state)
{
        static const char block[65536];
        const struct linger minute = { .l_onoff = 1, .l_linger = 60 };
        Message m = { .type = MESSAGE_SPOOLED }, got;
        int pair[2], tcp[2], fd = -EBADF;
        struct timespec before, after;

        (void) state;
        assert_return_code(message_pair(pair), 0);
        tcp_pair(tcp);
        while (send(tcp[0], block, sizeof(block), MSG_DONTWAIT) > 0)
                ;
        assert_return_code(setsockopt(tcp[0], SOL_SOCKET, SO_LINGER, &minute, sizeof(minute)), 0);
        assert_return_code(message_send(pair[1], &m, tcp[0]), 0);
        fd_close(tcp[0]);
        assert_return_code(clock_gettime(CLOCK_MONOTONIC, &before), 0);
        assert_int_equal(message_receive(pair[0], &got, &fd), -EPROTO);
        assert_return_code(clock_gettime(CLOCK_MONOTONIC, &after), 0);
        assert_true(after.tv_sec - before.tv_sec < 30);
        fd_close(tcp[1]);
        fd_close(pair[0]);
        fd_close(pair[1]);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(travels_with_descriptor),
                cmocka_unit_test(last_words_arrive),
                cmocka_unit_test(a_peer_that_read_nothing_is_gone),
                cmocka_unit_test(hostile_packets_are_refused),
                cmocka_unit_test(many_descriptors_are_closed),
                cmocka_unit_test(an_empty_packet_is_not_the_end),
                cmocka_unit_test(only_files_and_directories_travel),
                cmocka_unit_test(closing_what_came_does_not_wait),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
