/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <sys/socket.h>

#include "fd.h"
#include "fuzz.h"
#include "message.h"
#include "utf8.h"

/* What a child that was taken over may send; the first byte says how many descriptors come along.
 */
static void send_packet(int socket_fd, const uint8_t *data, size_t size, size_t n_fds)
{
        union {
                struct cmsghdr header;
                uint8_t space[CMSG_SPACE(3 * sizeof(int))];
        } control = {};
        struct iovec iov = { .iov_base = (void *) data, .iov_len = size };
        struct msghdr packet = { .msg_iov = &iov, .msg_iovlen = 1 };

        if (n_fds > 0) {
                packet.msg_control = &control;
                packet.msg_controllen = CMSG_SPACE(n_fds * sizeof(int));
                control.header.cmsg_level = SOL_SOCKET;
                control.header.cmsg_type = SCM_RIGHTS;
                control.header.cmsg_len = CMSG_LEN(n_fds * sizeof(int));
                for (size_t i = 0; i < n_fds; i++)
                        memcpy((int *) CMSG_DATA(&control.header) + i, &socket_fd, sizeof(int));
        }
        assert(sendmsg(socket_fd, &packet, MSG_NOSIGNAL) == (ssize_t) size);
}

/* What is taken is a text that a terminal may get, and arrives the same when it is sent on. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        _cleanup_close_ int daemon_fd = -EBADF, child_fd = -EBADF, got_fd = -EBADF;
        Message m, again;
        int fds[2], r;

        if (size == 0 || size > sizeof(Message) + 16)
                return 0;
        assert(message_pair(fds) == 0);
        daemon_fd = fds[0];
        child_fd = fds[1];
        send_packet(child_fd, data + 1, size - 1, data[0] % 4);
        r = message_receive(daemon_fd, &m, &got_fd);
        if (r <= 0) {
                assert(r == -EPROTO && got_fd == -EBADF);
                return 0;
        }
        /* a socket is no file that may come along */
        assert(got_fd == -EBADF && data[0] % 4 == 0);
        assert(strlen(m.text) <= MESSAGE_TEXT_MAX);
        assert(message_send(child_fd, &m, -1) == 0);
        assert(message_receive(daemon_fd, &again, &got_fd) == 1);
        assert(again.type == m.type && again.id == m.id && again.result == m.result);
        assert(again.offset == m.offset && again.size == m.size);
        assert(memcmp(&again.sha256, &m.sha256, sizeof(m.sha256)) == 0);
        assert(streq(again.text, m.text));
        return 0;
}
