/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "bus.h"
#include "macro.h"
#include "unit-plan.h"

/*
 * Carries out a plan for units over sd-bus (org.freedesktop.systemd1(5)): runs the jobs one after
 * the other, with the change of unit files at its place among them (links removed and made as
 * systemctl(1) disable and link do it, then daemon-reload), and then watches the units that have to
 * run for the bake time.
 *
 * The order that misses nothing: match JobRemoved, then ask for the job, on one connection; the
 * job's result is in JobRemoved. After that a unit is well as long as it is active (a oneshot
 * service: or done with success) and NRestarts does not grow. That a job is done does not mean that
 * the unit runs: where one of its conditions does not hold, systemd leaves it, with success.
 * Stopping what does not exist is done at once, and what try-restart found not running need not
 * run.
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
         * (deadline). `reason` names unit, result, exit status and the last lines that it wrote to
         * the journal; NULL on success. The run may be freed here. */
        void (*done)(int result, const char *reason, void *userdata);
} UnitRunCallbacks;

typedef enum UnitRunMode {
        UNIT_RUN_ALL,   /* the jobs, then the bake */
        UNIT_RUN_WATCH, /* the bake alone: the jobs were done before. What systemd restarted between
                           them and now does not count, if it is well now. */
} UnitRunMode;

/* Starts a run on the event loop that `bus` is on, which must outlive it; done() is never called
 * from in here. The plan is taken over, and *plan empty, also on failure. -EHOSTDOWN: there is
 * something to do, but no connection; units that are only watched are asked when there is one. */
_must_check_ int unit_run_start(Bus *bus, sd_event *event, UnitPlan *plan, UnitRunMode mode,
                                const UnitRunCallbacks *callbacks, void *userdata, UnitRun **ret);

/* Ends the run; no callback after this. Jobs that are queued go on. */
UnitRun *unit_run_free(UnitRun *r);
DEFINE_CLEANUP_FUNC(UnitRun *, unit_run_free);
