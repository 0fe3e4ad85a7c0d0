/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stdbool.h>

#include <systemd/sd-bus.h>

#include "macro.h"

/*
 * Looks on while slipwayd changes an application, by the change signals of agent-bus.h, and tells
 * it on stderr: a bar while something is fetched (progress.h), and on a terminal each phase.
 */

typedef struct Watch Watch;

/* Subscribes; `bus` must be processed (sd_bus_process(3)) for it to be told. A bus that does not
 * let us subscribe is no error: then nothing is told. */
_must_check_ int watch_new(sd_bus *bus, const char *app, Watch **ret);
Watch *watch_free(Watch *w);
DEFINE_CLEANUP_FUNC(Watch *, watch_free);
