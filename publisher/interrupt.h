/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <signal.h>

#include "macro.h"

/* SIGHUP, SIGINT and SIGTERM, held back while something must be ended in order: what came strikes
 * when they are let through again. Those that are ignored stay so. */

typedef struct Interrupt {
        sigset_t before;
        int fd; /* readable once one of them came; -EBADF: they are not held */
} Interrupt;

/* For the calling thread; there must be no other one then. */
_must_check_ int interrupt_hold(Interrupt *ret);
void interrupt_release(Interrupt *i);
