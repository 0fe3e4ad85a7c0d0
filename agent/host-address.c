/* SPDX-License-Identifier: Apache-2.0 */
#include "host-address.h"

#include <arpa/inet.h>
#include <sys/socket.h>

#include "fd.h"

/* Addresses for documentation (RFC 5737, RFC 3849) that no host has: the way to them is that to
 * anywhere. */
#define ANYWHERE_4 "192.0.2.1"
#define ANYWHERE_6 "2001:db8::1"

/* Connecting a datagram socket sends nothing: it picks the route, and with it the source. */
static bool find_source(int family, struct sockaddr *address, socklen_t size)
{
        _cleanup_close_ int fd = socket(family, SOCK_DGRAM | SOCK_CLOEXEC, 0);

        return fd >= 0 && connect(fd, address, size) >= 0 && getsockname(fd, address, &size) >= 0;
}

static bool find_4(char ret[static INET6_ADDRSTRLEN])
{
        struct sockaddr_in a = { .sin_family = AF_INET, .sin_port = htons(9) };

        (void) inet_pton(AF_INET, ANYWHERE_4, &a.sin_addr);
        if (!find_source(AF_INET, (struct sockaddr *) &a, sizeof(a)))
                return false;
        const uint32_t ip = ntohl(a.sin_addr.s_addr);
        return ip >> 24 != 127 && ip >> 16 != 0xa9fe &&
               inet_ntop(AF_INET, &a.sin_addr, ret, INET6_ADDRSTRLEN);
}

static bool find_6(char ret[static INET6_ADDRSTRLEN])
{
        struct sockaddr_in6 a = { .sin6_family = AF_INET6, .sin6_port = htons(9) };

        (void) inet_pton(AF_INET6, ANYWHERE_6, &a.sin6_addr);
        return find_source(AF_INET6, (struct sockaddr *) &a, sizeof(a)) &&
               !IN6_IS_ADDR_LOOPBACK(&a.sin6_addr) && !IN6_IS_ADDR_LINKLOCAL(&a.sin6_addr) &&
               inet_ntop(AF_INET6, &a.sin6_addr, ret, INET6_ADDRSTRLEN);
}

bool host_address_find(char ret[static INET6_ADDRSTRLEN])
{
        if (find_4(ret) || find_6(ret))
                return true;
        *ret = '\0';
        return false;
}
