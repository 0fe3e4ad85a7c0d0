/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stdbool.h>

#include <systemd/sd-bus.h>

#include "macro.h"
#include "offline.h"

/*
 * Looks on while an application is changed, by slipwayd (the change signals of agent-bus.h) or by
 * this process itself (offline.h), and tells it on stderr: a bar while something is fetched
 * (progress.h), and on a terminal each phase.
 */

typedef struct Watch Watch;

/* Subscribes; `bus` must be processed (sd_bus_process(3)) for it to be told. A bus that does not
 * let us subscribe is no error: then nothing is told. */
_must_check_ int watch_new(sd_bus *bus, const char *app, Watch **ret);

/* The same without slipwayd; the watch is for as long as the work that it looks on at. */
_must_check_ int watch_new_offline(const char *app, Watch **ret, Onlooker *ret_onlooker);

Watch *watch_free(Watch *w);
DEFINE_CLEANUP_FUNC(Watch *, watch_free);
