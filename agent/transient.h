/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <systemd/sd-bus.h>

#include "command.h"
#include "macro.h"

/* The call that makes systemd start a command: StartTransientUnit, with everything that stands in
 * the unit (org.freedesktop.systemd1(5), systemd.service(5), systemd.exec(5)). */

/* How long a command has between SIGTERM and SIGKILL, and so have those it leaves behind. */
#define TRANSIENT_STOP_USEC (UINT64_C(5) * 1000000)

_must_check_ int transient_new_call(sd_bus *bus, const char *unit, const CommandPlace *place,
                                    CommandKind kind, const Command *command, sd_bus_message **ret);
