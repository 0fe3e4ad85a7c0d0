/* SPDX-License-Identifier: Apache-2.0 */
#include <fcntl.h>
#include <poll.h>
#include <stddef.h>
#include <sys/socket.h>

#include "err.h"
#include "fd.h"
#include "message.h"
#include "utf8.h"

#define MESSAGE_HEAD_SIZE offsetof(Message, text)

/* Of the kernel's, and so of ours. */
#define ERRNO_MAX 4095

int message_pair(int ret_fds[static 2])
{
        _cleanup_close_ int child = -EBADF;
        int fds[2];

        if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds) < 0)
                return -errno;
        child = fds[1];
        _cleanup_close_ int parent = fds[0];
        if (fcntl(parent, F_SETFL, O_NONBLOCK) < 0)
                return -errno;
        ret_fds[0] = TAKE_FD(parent);
        ret_fds[1] = TAKE_FD(child);
        return 0;
}

int message_send(int socket_fd, const Message *m, int fd)
{
        Message head = *m;
        struct iovec iov[2] = {
                {.iov_base = &head,           .iov_len = MESSAGE_HEAD_SIZE},
                { .iov_base = (char *) m->text, .iov_len = strnlen(m->text,            MESSAGE_TEXT_MAX) },
        };
        union {
                struct cmsghdr header;
                uint8_t space[CMSG_SPACE(sizeof(int))];
        } control = {};
        struct msghdr packet = { .msg_iov = iov, .msg_iovlen = ELEMENTSOF(iov) };

        head.text_size = iov[1].iov_len;
        if (fd >= 0) {
                packet.msg_control = &control;
                packet.msg_controllen = sizeof(control);
                struct cmsghdr *c = CMSG_FIRSTHDR(&packet);
                c->cmsg_level = SOL_SOCKET;
                c->cmsg_type = SCM_RIGHTS;
                c->cmsg_len = CMSG_LEN(sizeof(int));
                memcpy(CMSG_DATA(c), &fd, sizeof(int));
        }
        /* ECONNRESET comes once, when the peer left messages of ours unread; then it is EPIPE. */
        for (;;) {
                if (sendmsg(socket_fd, &packet, MSG_NOSIGNAL) >= 0)
                        return 0;
                if (errno != EINTR && errno != ECONNRESET)
                        return -errno;
        }
}

int message_reply(int socket_fd, MessageType type, uint64_t id, int result, const char *text)
{
        Message m = { .type = type, .id = id, .result = result };

        if (text)
                (void) stpncpy(m.text, text, MESSAGE_TEXT_MAX);
        return message_send(socket_fd, &m, -1);
}

/* Closing a TCP socket may wait as long as its sender has asked for, unless it is told not to. */
static int close_received(int fd)
{
        const struct linger none = {};

        if (fd >= 0)
                (void) setsockopt(fd, SOL_SOCKET, SO_LINGER, &none, sizeof(none));
        return fd_close(fd);
}

/* Takes the one descriptor that may travel; more than one are all closed. */
static int take_descriptor(struct msghdr *packet, int *ret_fd)
{
        int fd = -EBADF;
        size_t n_fds = 0;

        for (struct cmsghdr *c = CMSG_FIRSTHDR(packet); c; c = CMSG_NXTHDR(packet, c)) {
                if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
                        continue;
                for (size_t at = CMSG_LEN(0); at + sizeof(int) <= c->cmsg_len; at += sizeof(int)) {
                        close_received(fd);
                        memcpy(&fd, (uint8_t *) c + at, sizeof(int));
                        n_fds++;
                }
        }
        if (n_fds > 1 || packet->msg_flags & (MSG_TRUNC | MSG_CTRUNC)) {
                close_received(fd);
                return -EPROTO;
        }
        *ret_fd = fd;
        return 0;
}

/* Reading, and closing, files and directories does not wait for whoever sent them. */
static int descriptor_check(int fd, uint32_t type)
{
        struct stat st;

        if (fd < 0)
                return 0;
        if (fstat(fd, &st) < 0)
                return -errno;
        if (type == MESSAGE_RELEASES || type == MESSAGE_REMOVE)
                return S_ISDIR(st.st_mode) ? 0 : -EPROTO;
        return S_ISREG(st.st_mode) ? 0 : -EPROTO;
}

/* An empty packet is received like the end of all packets. */
static bool peer_is_gone(int socket_fd)
{
        struct pollfd p = { .fd = socket_fd, .events = POLLRDHUP };

        return poll(&p, 1, 0) > 0 && p.revents & (POLLRDHUP | POLLHUP);
}

static int message_check(Message *m, size_t size, int fd)
{
        if (size < MESSAGE_HEAD_SIZE || m->type == 0 || m->type >= _MESSAGE_TYPE_MAX)
                return -EPROTO;
        if (m->result < -ERRNO_MAX)
                return -EPROTO;
        if (m->text_size > MESSAGE_TEXT_MAX || size != MESSAGE_HEAD_SIZE + m->text_size)
                return -EPROTO;
        m->text[m->text_size] = '\0';
        if (strlen(m->text) != m->text_size)
                return -EPROTO;
        utf8_clean(m->text);
        return descriptor_check(fd, m->type);
}

int message_receive(int socket_fd, Message *ret, int *ret_fd)
{
        /* Room for several descriptors: the kernel then tells how many came, and all can be closed.
         */
        union {
                struct cmsghdr header;
                uint8_t space[CMSG_SPACE(8 * sizeof(int))];
        } control;
        struct iovec iov = { .iov_base = ret, .iov_len = sizeof(Message) };
        struct msghdr packet = { .msg_iov = &iov,
                                 .msg_iovlen = 1,
                                 .msg_control = &control,
                                 .msg_controllen = sizeof(control) };
        int fd = -EBADF, r;
        ssize_t n;

        /* ECONNRESET comes once, when the peer left messages of ours unread, and before what the
         * peer had sent itself: its last words are still there. */
        do
                n = recvmsg(socket_fd, &packet, MSG_CMSG_CLOEXEC);
        while (n < 0 && (errno == EINTR || errno == ECONNRESET));
        if (n < 0)
                return -errno;
        r = take_descriptor(&packet, &fd);
        if (r < 0)
                return r;
        if (n == 0 && fd < 0 && peer_is_gone(socket_fd))
                return 0;
        r = message_check(ret, n, fd);
        if (r < 0) {
                close_received(fd);
                return r;
        }
        *ret_fd = fd;
        return 1;
}
