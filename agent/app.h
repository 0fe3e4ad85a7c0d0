/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <errno.h>

#include <cJSON.h>

#include "agent.h"
#include "file-order.h"
#include "judge.h"
#include "macro.h"
#include "plan.h"
#include "state.h"

/*
 * One application on this host: polls its channel, judges what comes, has transactions made, prunes
 * and reports. Applications know nothing of each other; each has its own site (state, lock), timers
 * and children.
 */

/* Opens the site; a transaction that was cut off is not taken up yet. */
_must_check_ int app_new(Agent *agent, const AppConfig *config, App **ret, char **reterr);
App *app_free(App *a);
DEFINE_CLEANUP_FUNC(App *, app_free);

/* Takes up what a crash left, then begins to poll: after a random part of the first interval, or at
 * once for one round. Where the agent does not know yet who this host is, it begins to poll with
 * the second call, when it does. */
_must_check_ int app_start(App *a);

const AppConfig *app_config(const App *a);
const State *app_state(const App *a);

/* slipwayd ends on purpose, at a signal: what is under way is taken up at the next start. */
void app_leave(App *a);

/* Whether it can give way to another configuration: nothing of it is under way, or what has not
 * switched yet. When that changes it calls agent_app_settled(). */
bool app_can_retire(const App *a);

/* Gives up what is under way and tells whoever waits: app_free() comes next. The state, what is
 * live and its units stay as they are. */
void app_retire(App *a);

/* The tags are others now: the channel's manifest is judged anew, and the status is told. */
void app_look_again(App *a);

/* The chain of trust roots was walked (root-watch.h): judges what waited for that and, if another
 * one was learned, once more what was judged by the one before. */
void app_root_walked(App *a, bool learned);

/* The result of the round, or -EBUSY while it goes on. */
int app_round_result(const App *a);

/* Its part of the first round is over: deployed, staged, nothing to do, failed or refused. A store
 * that can't be reached counts only where something is live. */
bool app_is_settled(const App *a);

/* Whether it polls as often as it can: while something waits for app_is_settled(). */
void app_hurry(App *a, bool hurry);

/* Told once: result 0 or negative errno, and words. */
typedef void (*app_told_t)(int result, const char *text, void *userdata);

/* Polls now; told() gets the verdict on the manifest, before anything begins because of it. A
 * deployment that begins then is by `by` in the history (BY_FAR...; NULL: by the agent), and the
 * channel's all the same. -EBUSY: too many wait already; -EHOSTDOWN: who
 * this host is is not known yet. */
_must_check_ int app_poll_now(App *a, const char *by, app_told_t told, void *userdata);

/* The next verdict may be on what the channel said before now: a poll is under way, or its brake is
 * asked. */
bool app_is_polling(const App *a);

/* What the last poll came to; borrowed. */
typedef struct AppPoll {
        bool ok;
        Verdict verdict;
        const char *text;    /* NULL: there was none yet */
        const char *release; /* the channel's; NULL: it has none that is of use */
} AppPoll;

AppPoll app_last_poll(const App *a);

/* Gives up what `by` has begun, without a trace, as app_hold() does; the channel's deployment may
 * begin again with the next poll. -ENOENT: nothing by them is under way; -EBUSY: it has switched,
 * or its pre hooks run, and so goes on. */
_must_check_ int app_give_up(App *a, const char *by, char **reterr);

/* Rolls back to `release`, or with NULL to the one before the present one, and pins it: the
 * channel's present deployment is not installed over it. What is being fetched or watched for
 * health is given up. told() gets the release that is live, when its units are up; -EIO and why,
 * when they are not. Errors at once: -EBUSY (another rollback, a release on its way back, or
 * another program), -ENOENT (no such release here, or none before). `by`: who asked, for the
 * history. */
_must_check_ int app_rollback(App *a, const char *release, const char *by, app_told_t told,
                              void *userdata, char **reterr);

/* Whether it could, errors as above. */
_must_check_ int app_check_rollback(App *a, const char *release, char **reterr);

/* Polls now, and has the channel's deployment staged, also one that would go live by itself; it
 * waits for app_activate() or a newer deployment then. told() gets what is staged, or that there is
 * nothing to do; -EIO and why not. -EBUSY: the application is being changed. -EHOSTDOWN: who this
 * host is is not known yet. */
_must_check_ int app_stage(App *a, const char *by, app_told_t told, void *userdata, char **reterr);

/* Makes live what is staged. told() gets the release, when its units held over the bake time; -EIO
 * and why, when it was taken back. Errors at once: -EBUSY, -ENOENT (nothing is staged). */
_must_check_ int app_activate(App *a, const char *by, app_told_t told, void *userdata,
                              char **reterr);

/* Deploys a release from files (duplicated), judged as what the store says. told() gets, with
 * `wait`, the release that is live when it held; else what begins, or that there is nothing to do.
 * It gets -EKEYREJECTED and why when the files are refused or it failed before anything changed,
 * -EIO when it was taken back. Errors at once: -EBUSY, -EINVAL (no regular files). Not with
 * agent->trust NULL. */
_must_check_ int app_deploy_files(App *a, const OrderFiles *files, bool wait, const char *by,
                                  app_told_t told, void *userdata, char **reterr);

/* Deploys nothing until `until` (a time or a duration, as hold_parse_until() takes it; "": until
 * app_resume()), but goes on to poll and to judge; a rollback works. A deployment that has not
 * switched yet is given up, any other goes on: *ret (allocated) says so. -EINVAL: until is wrong.
 */
_must_check_ int app_hold(App *a, const char *until, const char *reason, const char *by, char **ret,
                          char **reterr);

/* Says what would happen now, see plan.h, by what the last poll brought. -EBUSY: somebody else has
 * asked, and waits. */
_must_check_ int app_plan(App *a, plan_done_t done, void *userdata, char **reterr);

/* Confirms the release that waits for it (confirmation.h), for `by`; *ret is its id, allocated.
 * -ENOENT: none does. -EBUSY: another program changes the app. */
_must_check_ int app_confirm(App *a, const char *by, char **ret, char **reterr);

/* Ends a hold. Forgets the pin, a failed deployment and what is staged: the channel decides again,
 * at once. */
_must_check_ int app_resume(App *a, char **reterr);

/* Of the artifact that is being fetched: what is here, of what is needed of it. 0 of 0: none is. */
void app_progress(const App *a, uint64_t *ret_available_bytes, uint64_t *ret_artifact_bytes);

/* One element of "apps" in Describe() (agent-bus.h). */
_must_check_ int app_describe(App *a, cJSON **ret);
