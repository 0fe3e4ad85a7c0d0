/* SPDX-License-Identifier: Apache-2.0 */
#include "priority.h"

#include <errno.h>
#include <sched.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "log.h"

/* Of linux/ioprio.h, which older headers lack. */
#define IOPRIO_WHO_PROCESS       1
#define IOPRIO_CLASS_BEST_EFFORT 2
#define IOPRIO_CLASS_SHIFT       13
#define IOPRIO_LAST              ((IOPRIO_CLASS_BEST_EFFORT << IOPRIO_CLASS_SHIFT) | 7)

static void say(long r, const char *what)
{
        if (r < 0)
                log_debug("can't lower the priority (%s): %s", what, strerror(errno));
}

void priority_lower(int nice_value, bool is_batch)
{
        const struct sched_param none = {};

        if (getpriority(PRIO_PROCESS, 0) < nice_value)
                say(setpriority(PRIO_PROCESS, 0, nice_value), "setpriority");
        if (is_batch && sched_getscheduler(0) == SCHED_OTHER)
                say(sched_setscheduler(0, SCHED_BATCH, &none), "sched_setscheduler");
        if (syscall(SYS_ioprio_get, IOPRIO_WHO_PROCESS, 0) < IOPRIO_LAST)
                say(syscall(SYS_ioprio_set, IOPRIO_WHO_PROCESS, 0, IOPRIO_LAST), "ioprio_set");
}
