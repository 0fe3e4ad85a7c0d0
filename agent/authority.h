/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <systemd/sd-bus.h>

#include "macro.h"

/*
 * Who may call what of an application's object. A method that authority.c lists with an action of
 * polkit(8) is for uid 0, for the user that this program runs as, and for whom polkit allows the
 * action; where there is no polkit, for nobody else. One that it does not list is for the first two
 * alone. So all methods of org.slipway.App are marked SD_BUS_VTABLE_UNPRIVILEGED: sd-bus need not
 * judge them.
 *
 * Nothing waits: a call is held back while the bus is asked who sent it and polkit whether they
 * may, then handed on as if it had just come (sd_bus_enqueue_for_read(3)). A caller that allows it
 * (ALLOW_INTERACTIVE_AUTHORIZATION) may be asked for a password. Where more than
 * AUTHORITY_ASKED_UID_MAX calls of one user, or AUTHORITY_ASKED_MAX of all, wait for polkit,
 * further ones are refused; never those of who needs no polkit.
 */

#define AUTHORITY_ASKED_MAX     32
#define AUTHORITY_ASKED_UID_MAX 8

typedef struct Authority Authority;

/* Judges the calls that come in on this connection from now on. */
_must_check_ int authority_new(sd_bus *bus, Authority **ret);

/* Calls that are held back get no answer. */
Authority *authority_free(Authority *a);
DEFINE_CLEANUP_FUNC(Authority *, authority_free);
