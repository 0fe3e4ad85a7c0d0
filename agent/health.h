/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "command.h"
#include "macro.h"
#include "units.h"

/*
 * Whether a release that was just activated is healthy: its units (units.h) and, from the time that
 * they are up, its probes (probe.h). It is when the bake time has passed with the units well, and
 * every probe is well. The units are watched for as long as that takes. It is not when a unit
 * fails, when a probe has failed after it was well, or when the deadline passes.
 *
 * HTTP probes are asked by a slipway-fetch of their own, which lives as long as this does.
 */

typedef struct Health Health;

typedef enum HealthMode {
        HEALTH_NEEDED,   /* the release has to be healthy */
        HEALTH_REPORTED, /* its units have to be; probes not well 2 s after the bake are told */
} HealthMode;

/* Runs the units as unit_run_start() does (which see for the plan), and asks the probes of the
 * activate part of `place` (copied; NULL: none). done() as with a unit run, and besides: -EIO (a
 * probe has failed), -ETIMEDOUT (not well by the deadline), with the probe's last answer in
 * `reason`; and with HEALTH_REPORTED also 0 and a `reason`: what a probe complains of. It is never
 * called from in here. What else `place` borrows from must outlive it. With neither units nor
 * probes there is no bake. */
_must_check_ int health_start(const CommandPlace *place, UnitPlan *plan, UnitRunMode units,
                              HealthMode mode, const UnitRunCallbacks *callbacks, void *userdata,
                              Health **ret);

/* Ends it; no callback after this. */
Health *health_free(Health *h);
DEFINE_CLEANUP_FUNC(Health *, health_free);

/* What is not well yet, or NULL. */
const char *health_complaint(const Health *h);
