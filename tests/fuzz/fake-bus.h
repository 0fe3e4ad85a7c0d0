/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <systemd/sd-bus.h>
#include <systemd/sd-event.h>

#include "macro.h"

/*
 * The other end of slipwayd's bus, in the same event loop: dbus, systemd, polkit and whoever calls.
 * What dbus answers itself is answered here; all other calls wait for an answer.
 */

typedef struct FakeBus FakeBus;

/* Listens below `dir`, and says in the environment that the user's bus is there. */
FakeBus *fake_bus_new(sd_event *event, const char *dir);
FakeBus *fake_bus_free(FakeBus *b);

/* The connection, or NULL. */
sd_bus *fake_bus_get(const FakeBus *b);

/* The n-th call that waits, the oldest first, or NULL; the caller's. */
sd_bus_message *fake_bus_take(FakeBus *b, size_t n);

/* The user that callers are said to have. */
void fake_bus_set_uid(FakeBus *b, uint32_t uid);
