/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <errno.h>
#include <stdint.h>

#include <cJSON.h>

#include "hold.h"
#include "hook-log.h"
#include "macro.h"
#include "manifest.h"

/*
 * What is remembered about one application on this host: /var/lib/slipway/<app>.json, root only,
 * replaced durably before each act that it announces. Lists are short and kept in full.
 *
 * The same JSON is what `slipway status` and the status object in the store show; slipway-state(5)
 * has every member:
 *
 *   { "schema": "slipway/state/1", "app": "web", "channel": "prod",
 *     "phase": "idle",
 *     "root": "/srv/web",                       where a signed order was last carried out
 *     "current": "2026.11.22-1f3a9c2",          release that is live; absent: none
 *     "pending": { "release": "...", "deployment": 43, "serial": 58, "from": "...",
 *                  "action": "deploy", "ran": [ "web.service" ] },
 *     "last_good": "2026.11.22-1f3a9c2",
 *     "deployment": 42,                    the last one that this host took up, good or bad
 *     "staged": { "release": "...", "deployment": 43, "serial": 58, "by": "root",
 *                 "since": "..." },
 *     "pinned": { "release": "...", "deployment": 42, "by": "root",
 *                 "since": "2026-11-22T15:00:00Z" },
 *     "failed": { "release": "...", "deployment": 43, "reason": "...", "at": "..." },
 *     "channels": [ { "channel": "prod", "serial": 58, "deployment": 43, "sha256": "..." } ],
 *     "releases": [ { "release": "...", "deployment": 42, "serial": 57, "installed": "...",
 *                     "index": "<sha256>", "size": 431120384, "own": 1880064,
 *                     "activate": { ... } } ],
 *     "history":  [ { "at": "...", "action": "deploy", "release": "...", "from": "...",
 *                     "deployment": 42, "result": "done", "reason": "...", "by": "agent",
 *                     "took_ms": 5312, "phases_ms": { "fetching": 1211, "switching": 9,
 *                                                     "restarting": 92, "baking": 4000 } } ] }
 *
 * "root": only there anything is removed: the configuration's root may come from the instance's
 * tags, and lead to where others are.
 * "held": as in hold.h; nothing is deployed while it is on.
 * "pinned": a local rollback; the channel's deployment of that number is not installed over it.
 * "failed": the last deployment that was given up here; it is not tried again.
 * "staged": the deployment that is on disk (and in "releases") and goes live when somebody says so.
 * actions: deploy, rollback, stage. results: done, reverted (went wrong, the old release is back),
 * failed (went wrong and could not be put back, or failed before the switch), deferred (put off
 * before the switch: it is tried again later). "hooks": hook-log.h.
 */

#define STATE_HISTORY_MAX  50
#define STATE_CHANNELS_MAX 256
#define STATE_RELEASES_MAX 128
#define PENDING_RAN_MAX    (2 * ACTIVATE_UNITS_MAX)

/* Where a transaction stands, in the order of the way forward; before SWITCHING nothing has
 * changed. The moves are listed in state.c; state_move() asserts them. After a crash in FETCHING
 * the channel is asked again; from PREPARING on the next start goes on from this phase (pre hooks
 * again, switch again, restart again, bake again, post hooks again), and from REVERTING on with
 * going back. A deployment that was begun ATTEMPTS_MAX times is undone instead: it may be what
 * brings the host down. */
#define ATTEMPTS_MAX 3

typedef enum Phase {
        PHASE_IDLE,
        PHASE_FETCHING,  /* fetch and unpack into staging */
        PHASE_WAITING,   /* the release is here, the application holds updates off */
        PHASE_PREPARING, /* what the release needs to be done before the switch */
        PHASE_SWITCHING, /* the symlink is about to change, or has */
        PHASE_RESTARTING,
        PHASE_BAKING,
        PHASE_CONFIRMING, /* somebody has to say that the release is good */
        PHASE_FINISHING,  /* what the release needs to be done once it runs */
        PHASE_REVERTING, /* the symlink is about to go back, or has; units are restarted and checked
                          */
        _PHASE_MAX,
        _PHASE_INVALID = -EINVAL,
} Phase;

const char *phase_to_string(Phase p);
Phase phase_from_string(const char *s);

typedef enum Action {
        ACTION_DEPLOY,
        ACTION_ROLLBACK,
        ACTION_STAGE, /* fetched and unpacked, not made live */
        _ACTION_MAX,
        _ACTION_INVALID = -EINVAL,
} Action;

const char *action_to_string(Action a);
Action action_from_string(const char *s);

typedef enum Result {
        RESULT_DONE,
        RESULT_REVERTED,
        RESULT_FAILED,
        RESULT_DEFERRED,
        _RESULT_MAX,
        _RESULT_INVALID = -EINVAL,
} Result;

const char *result_to_string(Result r);
Result result_from_string(const char *s);

/* How long a transaction was in each phase. The time between a crash and the next start counts to
 * the phase that it was in. */
typedef struct PhaseTimes {
        uint64_t msec[_PHASE_MAX]; /* of PHASE_IDLE always 0 */
} PhaseTimes;

/* A transaction that is under way. */
typedef struct Pending {
        char *release, *from; /* from: NULL when there was none */
        char *by;             /* "agent", "ssm:<command>", or who asked */
        char *reason;         /* why it is being taken back; NULL while it is not */
        uint64_t deployment, serial;
        /* When it has to be confirmed, once that is known (confirmation.h): within so long, until
         * then by the clock, and since boot; who has confirmed it. */
        uint64_t confirm_msec, confirm_until_msec, confirm_boot_msec;
        char *confirmed_by;
        /* Which of the units that either release names ran right before the switch, or waited to be
         * started; NULL at its end. NULL: systemd was not asked. */
        char **ran;
        Action action;
        uint64_t started_msec; /* since the epoch */
        uint64_t phase_msec;   /* when the present phase began */
        PhaseTimes took;       /* the phases before */
        uint64_t attempts;     /* starts of the agent that went on with it */
} Pending;

/* How the name begins of who asks from far away (orders.h). */
#define BY_FAR "ssm:"

/* It brings the channel's deployment here: by the agent itself, or because somebody far away had it
 * ask the channel. */
bool pending_is_by_channel(const Pending *p);

/* Copies the names into `ran`; at most twice ACTIVATE_UNITS_MAX. */
_must_check_ int pending_set_ran(Pending *p, char *const *names);

/* A deployment that was brought here to be made live later. */
typedef struct Staged {
        char *release; /* NULL: none; else it is in the state's list */
        char *by;
        uint64_t deployment, serial, since_sec;
} Staged;

/* A release on this host, with how it goes live. */
typedef struct Installed {
        char *release;
        uint64_t deployment, serial, installed_sec;
        uint64_t size_bytes; /* of its tree on the disk; 0: not known */
        uint64_t own_bytes;  /* of these, what it does not share with those before it in the list */
        Sha256 index_sha256; /* tells whether an id on disk is the release that a manifest names */
        Activate activate;
} Installed;

/* The freshness floor of a channel: the highest serial seen, its deployment, and the digest of that
 * manifest's payload. */
typedef struct Floor {
        char *channel;
        uint64_t serial, deployment;
        Sha256 sha256;
} Floor;

typedef struct Event {
        uint64_t at_sec, deployment, took_msec;
        char *release, *from, *reason, *by;
        Action action;
        Result result;
        PhaseTimes took;
} Event;

typedef struct State {
        char *app, *channel;
        char *root; /* NULL: none */
        Phase phase;
        char *current, *last_good;
        bool down;       /* the units of `current` did not come up when it was last activated */
        Pending pending; /* .release is NULL: none */
        Staged staged;
        uint64_t deployment;
        HookLog hooks;
        char *pinned, *pinned_by;
        uint64_t pinned_deployment, pinned_sec;
        char *failed, *failed_reason;
        uint64_t failed_deployment, failed_sec;
        Hold hold;
        Floor *floors;
        size_t n_floors;
        Installed *releases;
        size_t n_releases;
        Event *events; /* oldest first */
        size_t n_events;
} State;

_must_check_ int state_new(const char *app, const char *channel, State **ret);
State *state_free(State *s);
DEFINE_CLEANUP_FUNC(State *, state_free);

/* One more at the end of a list of these, zeroed; NULL: no memory. */
void *state_grow(void **array, size_t *n, size_t size);

/* Changes the phase by a listed move; anything else is a bug (assert). The caller saves. */
void state_move(State *s, Phase next);

/* Begins a transaction: fills `pending` (copies). `from` may be NULL. */
_must_check_ int state_begin(State *s, Action action, const char *release, const char *from,
                             uint64_t deployment, uint64_t serial, const char *by);

/* Ends it: adds the event (or renews the last one, if that is an earlier failed try of the same
 * deployment) and clears pending; the phase is idle then. What was staged is settled: a staging
 * that is done is remembered, one that went live, or that a later deployment overtook, is not any
 * more. The caller has set `current` and the rest, and saves. reason may be NULL. */
_must_check_ int state_end(State *s, Result result, const char *reason);

const Installed *state_find_release(const State *s, const char *release);

/* The releases that a new one may have something of, best first: the live one, then the newest.
 * NULL: there are not so many. */
const Installed *state_seed(const State *s, size_t n);

/* The release that was live before the present one, as far as it is still here: what a rollback
 * goes to. NULL: none. */
const char *state_release_before(const State *s);

/* Adds or replaces the entry of a release; the size of the same index stays. */
_must_check_ int state_add_release(State *s, const char *release, uint64_t deployment,
                                   uint64_t serial, const Sha256 *index_sha256,
                                   const Activate *activate);
/* What others shared with it, as far as is known, is the next one's own then. */
void state_remove_release(State *s, const char *release);

/* Notes what the tree of a release in the list takes on the disk, and what goes with it. */
void state_set_release_size(State *s, const char *release, uint64_t size_bytes, uint64_t own_bytes);

/* The floor of the state's channel; serial 0 when it has none yet. */
const Floor *state_floor(const State *s);
/* -E2BIG: for one more than STATE_CHANNELS_MAX channels. None is forgotten: who may choose the
 * channel, by the instance's tags, could have it forgotten what an old manifest is. */
_must_check_ int state_set_floor(State *s, uint64_t serial, uint64_t deployment,
                                 const Sha256 *sha256);

/* Forgets a local rollback; a failed deployment; what was staged. */
void state_unpin(State *s);
void state_forget_failure(State *s);
void state_unstage(State *s);

/* Replaces a string member by a copy of `value` (NULL clears it). */
_must_check_ int state_set(char **member, const char *value);
