/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "bus.h"
#include "macro.h"
#include "manifest.h"

/*
 * Runs the actions of an `activate` part on its units over sd-bus (org.freedesktop.systemd1(5)),
 * waits for the jobs, then watches the units for the bake time.
 *
 * The order that misses nothing: match JobRemoved, then ask for the job, on one connection; the
 * job's result is in JobRemoved. After that a unit is well as long as it is active (a oneshot
 * service: or done with success) and NRestarts does not grow.
 *
 * A bus or a systemd that does not answer (hung, restarted, executed anew) is no verdict on a unit:
 * it is asked again until it answers, and what became of the job is read from the unit: its job, or
 * its InvocationID, which is another one after a start. The time in between does not count to the
 * deadline.
 */

typedef struct UnitRun UnitRun;

typedef struct UnitRunCallbacks {
        /* All jobs ended well, the bake begins. May be NULL. Negative: ends the run with this
         * error. */
        int (*started)(void *userdata);
        /* The run ended: 0, or -EHOSTDOWN (no bus), -EIO (a job or a unit failed), -ETIMEDOUT
         * (deadline). `reason` names unit, result and exit status; NULL on success. The run may be
         * freed here. */
        void (*done)(int result, const char *reason, void *userdata);
} UnitRunCallbacks;

typedef enum UnitRunMode {
        UNIT_RUN_ALL,   /* the jobs, then the bake */
        UNIT_RUN_WATCH, /* the bake alone: the jobs were done before */
        UNIT_RUN_STOP, /* stop those units that were to be restarted, no bake: what they ran is gone
                        */
} UnitRunMode;

/* Starts a run on the event loop that `bus` is on, which must outlive it; done() is never called
 * from in here. `activate` is copied. With no units the run succeeds after the bake time at once.
 * -EHOSTDOWN: units, but no connection. */
_must_check_ int unit_run_start(Bus *bus, sd_event *event, const Activate *activate,
                                UnitRunMode mode, const UnitRunCallbacks *callbacks, void *userdata,
                                UnitRun **ret);

/* Ends the run; no callback after this. Jobs that are queued go on. */
UnitRun *unit_run_free(UnitRun *r);
DEFINE_CLEANUP_FUNC(UnitRun *, unit_run_free);
