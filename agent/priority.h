/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stdbool.h>

/*
 * How a child stands back for the services of its host. Among other units slipwayd.service has
 * little of what is scarce by CPUWeight= and IOWeight=; this is for slipwayd's own, and for hosts
 * whose kernel or disk knows no such weights: a busy CPU is a process' with nice 10 for a tenth of
 * the time that one with 0 has it (sched(7)), and a disk serves best-effort 7 last, but does serve
 * it (ioprio_set(2)): with "idle" a deployment would never end where the disk is always busy.
 */

#define PRIORITY_UNPACK_NICE 10
/* Mostly it waits, and an answer to a poll is read soon. */
#define PRIORITY_FETCH_NICE 5

/* For this process, and for threads that it starts later; before the system call filters of
 * sandbox.h, which forbid it. is_batch: it is busy for long, and takes no CPU from who wakes up.
 * Takes back nothing that the unit has already set lower; what is not allowed is passed over. */
void priority_lower(int nice_value, bool is_batch);
