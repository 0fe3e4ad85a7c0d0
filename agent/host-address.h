/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <netinet/in.h>

#include "macro.h"

/* The address that this host has for the rest of the world, by its default route: IPv4 if it has
 * one, else IPv6. Neither loopback nor link-local (RFC 3927; RFC 4291, 2.5.6). Asks the kernel
 * alone, sends nothing, and needs no netlink socket, which the service's sandbox refuses. */

/* False: it has none; *ret is then empty. */
bool host_address_find(char ret[static INET6_ADDRSTRLEN]);
