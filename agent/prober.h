/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "macro.h"

/*
 * The engine of slipway-fetch --probe: asks services of this host by HTTP how they are, all at once
 * on one thread, as slipwayd's messages (message.h) want it. It is a process of its own while a
 * release is watched, so that what an application answers is read where no credentials of the store
 * and none of its connections are.
 *
 * A probe is a plain GET on a new connection to this host alone, by no proxy. An answer counts when
 * it is whole: a body is read and thrown away, up to 1 MiB. Redirects are answers. Certificates are
 * not verified: applications have self-signed ones on loopback, and nothing is told them.
 */

typedef struct Prober Prober;

/* `socket_fd` must outlive it. */
_must_check_ int prober_new(int socket_fd, Prober **ret);
Prober *prober_free(Prober *p);
DEFINE_CLEANUP_FUNC(Prober *, prober_free);

/* Waits for something to do, and does it. 0: go on; 1: slipwayd has closed the socket. */
_must_check_ int prober_step(Prober *p);
