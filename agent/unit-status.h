/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stdint.h>

#include <systemd/sd-bus.h>
#include <systemd/sd-id128.h>

#include "macro.h"

/* What systemd says of a unit (org.freedesktop.systemd1(5)), read in one call. */

#define SD1_NAME    "org.freedesktop.systemd1"
#define SD1_PATH    "/org/freedesktop/systemd1"
#define SD1_MANAGER "org.freedesktop.systemd1.Manager"
#define SD1_UNIT    "org.freedesktop.systemd1.Unit"

/* Strings are borrowed from the message. What a kind of unit does not have is NULL or 0. */
typedef struct UnitStatus {
        const char *id; /* the canonical name, when the one asked for is an alias */
        const char *load_state, *active_state, *sub_state, *type, *result;
        const char *job_path;  /* "/": none */
        sd_id128_t invocation; /* of the run that is, or was last; another at each start */
        uint64_t begun_usec;   /* CLOCK_REALTIME: when its main process began */
        uint32_t n_restarts;
        int32_t exec_main_code, exec_main_status;
        int can_reload, condition_result;       /* booleans, as sd-bus has them */
        const char *condition, *condition_text; /* the one that failed: its name, what it asks */
        int condition_negated;
} UnitStatus;

/* The path of a unit's object, allocated. */
_must_check_ int unit_path(const char *name, char **ret);

/* Asks for all properties of the unit with this path; systemd loads it if need be. */
_must_check_ int unit_status_ask(sd_bus *bus, const char *path, sd_bus_message_handler_t handler,
                                 void *userdata, sd_bus_slot **ret);

/* Reads the answer; *ret is written also on failure. */
_must_check_ int unit_status_read(sd_bus_message *m, UnitStatus *ret);

/* Its processes are there, or coming back after a reload. */
bool unit_status_is_active(const UnitStatus *s);

/* It does what it is there for: it is active, or a oneshot service that is done, with success, and
 * was not left out because of a condition. */
bool unit_status_is_well(const UnitStatus *s);

/* State, result and exit status in words, allocated; NULL: no memory. */
char *unit_status_describe(const UnitStatus *s);

/* The result of a job, as JobRemoved has it, in words; NULL: "done". */
const char *job_result_describe(const char *job_result);
