/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stdint.h>

#include <systemd/sd-bus.h>

#include "file-order.h"
#include "macro.h"
#include "plan.h"

/*
 * The administrator's side of agent-bus.h. Every call has a limit of time. Errors, all with
 * *reterr set, beside those of err.h:
 *   -ESRCH         slipwayd does not run (its name has no owner, or there is no bus)
 *   -ENODEV        slipwayd knows no such application
 *   -ENOENT        no such release on this host
 *   -EBUSY         something else is under way for this application
 *   -EKEYREJECTED  refused, nothing was changed (BUS_ERROR_REFUSED)
 *   -ECANCELED     it was tried, and did not succeed (BUS_ERROR_FAILED)
 *   -ETIMEDOUT     no answer in time
 *   -EACCES        only root may do this
 */

/* How long slipwayd may take to say what it knows: it does not block, so longer means hung. */
#define ADMIN_DESCRIBE_TIMEOUT_USEC (UINT64_C(2) * 1000000)

/* The system bus, or the user's; waits until it answers. */
_must_check_ int admin_bus_open(bool user, sd_bus **ret, char **reterr);

/* Has admin_bus_pause() return when an application changes. */
_must_check_ int admin_bus_subscribe(sd_bus *bus);

/* Waits until something comes over the bus, a second at most, and deals with it. */
_must_check_ int admin_bus_pause(sd_bus *bus);

/* The document that Describe() gives, as it was sent; to be freed. */
_must_check_ int admin_bus_describe(sd_bus *bus, char **ret, char **reterr);

/* Asks the store now. *ret, to be freed: what comes of it. */
_must_check_ int admin_bus_poll(sd_bus *bus, const char *app, char **ret, char **reterr);

/* Rolls back to `release` ("": the one before), for `by`. *ret, to be freed: what is live now. */
_must_check_ int admin_bus_rollback(sd_bus *bus, const char *app, const char *release,
                                    const char *by, uint64_t timeout_usec, char **ret,
                                    char **reterr);

/* Has the channel's deployment staged, for `by`; *ret, to be freed: what came of it. Waits as long
 * as slipwayd may take to fetch and unpack. */
_must_check_ int admin_bus_stage(sd_bus *bus, const char *app, const char *by, char **ret,
                                 char **reterr);

/* Makes live what is staged, for `by`. *ret, to be freed: the release. */
_must_check_ int admin_bus_activate(sd_bus *bus, const char *app, const char *by,
                                    uint64_t timeout_usec, char **ret, char **reterr);

/* Deploys from files, for `by`. *ret, to be freed: with `wait` the release that is live, else what
 * begins. timeout_usec: for making it live; fetching and unpacking have theirs. */
_must_check_ int admin_bus_deploy_files(sd_bus *bus, const char *app, const OrderFiles *files,
                                        const char *by, bool wait, uint64_t timeout_usec,
                                        char **ret, char **reterr);

/* Nothing is deployed until then ("": until it is resumed), for `by`; reason may be "". *ret, to be
 * freed: what became of what was under way. */
_must_check_ int admin_bus_hold(sd_bus *bus, const char *app, const char *until, const char *reason,
                                const char *by, char **ret, char **reterr);

/* The answer of Plan(), see plan.h. */
typedef struct PlanAnswer {
        char *json;
        int fds[PLAN_FILES_MAX];
        size_t n_fds;
} PlanAnswer;

_must_check_ int admin_bus_plan(sd_bus *bus, const char *app, PlanAnswer *ret, char **reterr);
void plan_answer_done(PlanAnswer *a);

/* Confirms the release that waits for it, for `by`. *ret, to be freed: its id. */
_must_check_ int admin_bus_confirm(sd_bus *bus, const char *app, const char *by, char **ret,
                                   char **reterr);

/* The channel decides again. */
_must_check_ int admin_bus_resume(sd_bus *bus, const char *app, char **reterr);
