/* SPDX-License-Identifier: Apache-2.0 */

/* Sends the same request once a second on one connection and reads the answer's head, with nothing
 * but OpenSSL: what a machine takes to wake a process, to encrypt and to send. The floor of what a
 * poll can cost: tls-exchange ADDRESS PORT FILE-WITH-THE-REQUEST. It ends only when that fails. */

#include <fcntl.h>
#include <netdb.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include <openssl/err.h>
#include <openssl/ssl.h>

#define REQUEST_SIZE_MAX 8192
#define HEAD_SIZE_MAX    8192

typedef struct Text {
        char bytes[REQUEST_SIZE_MAX];
        int size;
} Text;

static int read_request(const char *path, Text *ret)
{
        int fd = open(path, O_RDONLY | O_CLOEXEC);
        ssize_t n = fd < 0 ? -1 : read(fd, ret->bytes, sizeof(ret->bytes));

        if (fd >= 0)
                (void) close(fd);
        ret->size = (int) n;
        return n > 0 ? 0 : -1;
}

static int connect_to(const char *address, const char *port)
{
        const struct addrinfo hints = { .ai_socktype = SOCK_STREAM };
        struct addrinfo *found;
        int fd = -1;

        if (getaddrinfo(address, port, &hints, &found) != 0)
                return -1;
        fd = socket(found->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (fd >= 0 && connect(fd, found->ai_addr, found->ai_addrlen) < 0) {
                (void) close(fd);
                fd = -1;
        }
        freeaddrinfo(found);
        return fd;
}

/* Whose certificate it is does not matter: nobody is told anything that is secret. */
static SSL *begin_tls(int fd)
{
        SSL_CTX *context = SSL_CTX_new(TLS_client_method());
        SSL *ssl = context ? SSL_new(context) : NULL;

        SSL_CTX_free(context);
        if (ssl && SSL_set_fd(ssl, fd) == 1 && SSL_connect(ssl) == 1)
                return ssl;
        SSL_free(ssl);
        return NULL;
}

static int start_timer(void)
{
        const struct itimerspec second = { .it_interval.tv_sec = 1, .it_value.tv_sec = 1 };
        int fd = timerfd_create(CLOCK_BOOTTIME, TFD_CLOEXEC);

        return fd >= 0 && timerfd_settime(fd, 0, &second, NULL) == 0 ? fd : -1;
}

/* The answer has no body, as a 304 has none. */
static int exchange(SSL *ssl, const Text *request)
{
        char head[HEAD_SIZE_MAX + 1];
        int size = 0;

        if (SSL_write(ssl, request->bytes, request->size) != request->size)
                return -1;
        do {
                int n = SSL_read(ssl, head + size, HEAD_SIZE_MAX - size);
                if (n <= 0)
                        return -1;
                size += n;
                head[size] = '\0';
        } while (!strstr(head, "\r\n\r\n"));
        return 0;
}

int main(int argc, char *argv[])
{
        Text request = {};
        uint64_t n_expired;
        int timer_fd, fd;
        SSL *ssl;

        if (argc != 4 || read_request(argv[3], &request) < 0)
                return 2;
        fd = connect_to(argv[1], argv[2]);
        ssl = fd < 0 ? NULL : begin_tls(fd);
        timer_fd = start_timer();
        while (ssl && read(timer_fd, &n_expired, sizeof(n_expired)) == sizeof(n_expired))
                if (exchange(ssl, &request) < 0)
                        break;
        perror("tls-exchange");
        ERR_print_errors_fp(stderr);
        return 1;
}
