/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stdint.h>

#include <systemd/sd-bus.h>
#include <systemd/sd-event.h>

#include "macro.h"

/*
 * The connection to D-Bus, which may be missing, hang, or end and come back (dbus was restarted):
 * it is made again with back-off for as long as this object lives, and whoever depends on it
 * watches. Nothing here waits: a bus that hangs takes calls and does not answer them.
 *
 * Every call has a limit of time, BUS_CALL_TIMEOUT_USEC. When a connection ends, the handlers of
 * its calls get SD_BUS_ERROR_NO_REPLY first, then the watches are told.
 */

#define BUS_CALL_TIMEOUT_USEC (UINT64_C(10) * 1000000)

typedef struct Bus Bus;

/* Embedded in whatever watches. */
typedef struct BusWatch BusWatch;
struct BusWatch {
        /* `bus` is a new connection, or NULL: there is none any more. */
        void (*changed)(sd_bus *bus, void *userdata);
        void *userdata;
        BusWatch *next; /* of bus.c */
};

/* The system's bus, or the user's. Tries at once; that it fails is no error, it is tried again. */
_must_check_ int bus_new(sd_event *event, bool user, Bus **ret);

/* Does not wait for what was not sent yet. */
Bus *bus_free(Bus *b);
DEFINE_CLEANUP_FUNC(Bus *, bus_free);

/* The present connection, borrowed, or NULL. Calls made before it is set up are sent then. */
sd_bus *bus_get(const Bus *b);

/* Gives the present connection up, as if it had been lost: another one is tried later. */
void bus_drop(Bus *b);

/* For programs whose event loop does not run: waits until a connection is set up. 0, -ETIMEDOUT
 * (the bus hangs), or why it is not. */
_must_check_ int bus_wait_ready(sd_bus *bus, uint64_t timeout_usec);

/* `w` stays where it is until bus_unwatch(). It is not told of the connection that is there
 * already. changed() may end no other watch. */
void bus_watch(Bus *b, BusWatch *w);
void bus_unwatch(Bus *b, BusWatch *w);

/* Whether an error of a call says that it did not get through, or no answer came back: the other
 * side is away, or was restarted meanwhile, and may be asked again. */
bool bus_error_is_passing(const sd_bus_error *e);
