/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "brake.h"
#include "config.h"
#include "dsse.h"
#include "live.h"
#include "macro.h"
#include "manifest.h"
#include "state.h"
#include "trust.h"

/*
 * Decides about a manifest that slipway-fetch brought, in the order that matters: copy, verify the
 * signatures over the raw bytes, only then parse; then app, channel, serial, expiry and what this
 * host allows.
 */

/* Copies the packed envelope in `fd`, which slipway-fetch gave. -EPROTO: no regular file; -EFBIG;
 * -EBADMSG. */
_must_check_ int judge_copy_envelope(int fd, Envelope **ret);

/* Takes the packed envelope in `fd` (hostile: copied before anything is looked at, so that nobody
 * can change it between check and use). On success *ret is the manifest and *ret_digest its
 * payload's SHA-256. Does not look at the freshness floor or the clock: judge_fresh() does. */
_must_check_ int judge_envelope(int fd, const Trust *trust, const AppConfig *app, Manifest **ret,
                                Sha256 *ret_digest, char **reterr);

/* What the channel's deployment means for this instance. */
typedef enum Verdict {
        VERDICT_DEPLOY,       /* bring it here and activate it */
        VERDICT_STAGE,        /* bring it here: it goes live by hand */
        VERDICT_ADOPT,        /* its release is live already: only its deployment number is new */
        VERDICT_NOTHING,      /* that deployment is done */
        VERDICT_NOT_TARGET,   /* not meant for this instance */
        VERDICT_PINNED,       /* an admin rolled back by hand */
        VERDICT_FAILED,       /* that deployment went wrong here before */
        VERDICT_STAGED,       /* it is here, and waits for an admin */
        VERDICT_HELD,         /* to be deployed, once an admin's hold has ended */
        VERDICT_HALTED,       /* to be deployed, once the channel is not halted any more */
        VERDICT_HALT_UNKNOWN, /* to be deployed, after a wait: the store does not say whether it is
                               */
        VERDICT_WINDOW,       /* to be deployed, once the manifest's window opens */
        VERDICT_RETRY,        /* to be deployed, after a wait: a try failed or was put off */
        /* Not by judge_wanted(): */
        VERDICT_UNDER_WAY, /* something is being changed */
        VERDICT_UNKNOWN,   /* there is no manifest that could be judged */
        _VERDICT_MAX,
} Verdict;

/* "deploy", "not-target", ...: for programs. */
const char *verdict_to_string(Verdict v);

/* How far the publisher's clock may be ahead of ours: what S3 allows, too. */
#define JUDGE_AHEAD_MAX_SEC (15 * 60)

/* 0 if the manifest may be accepted: -EKEYREJECTED for a serial below the floor, an equal one with
 * other bytes, an expired manifest or trust root, or a manifest from the future (now_sec: the
 * clock). Nothing is changed. */
_must_check_ int judge_fresh(const Manifest *m, const Sha256 *digest, const State *state,
                             const Trust *trust, uint64_t now_sec, char **reterr);

/* What else decides; borrowed. */
typedef struct JudgeContext {
        const State *state;
        const Tag *tags;
        size_t n_tags;
        uint64_t now_sec;      /* CLOCK_REALTIME */
        bool activate_by_hand; /* the configuration says so */
        bool by_hand;          /* an admin's own order: window and retry don't count */
        Live live;             /* what is found of the manifest's release, if it is live */
        const char *damage;    /* what is wrong with it, in words */
        BrakeState brake;
        const char *brake_text;
        uint64_t brake_wait_sec;   /* of an unknown one; 0: it was waited for long enough */
        uint64_t retry_deployment; /* failed for a passing reason, and waits; 0: none */
        uint64_t retry_at_sec;     /* by the clock: the same words at each poll are said once */
        const char *retry_reason;
        bool put_off; /* it did not fail: a pre hook wants it later */
} JudgeContext;

/* What an accepted manifest means for this instance now. A window keeps the channel from changing
 * by itself what is live here: where nothing is or works, or the same release is to be made whole,
 * it does not count, nor does it for what only gets staged. *ret_text says it in words (allocated).
 */
Verdict judge_wanted(const Manifest *m, const JudgeContext *c, char **ret_text);

/* Everything that keeps a deployment from being made now, in the order in which judge_wanted()
 * looks for it: the n-th obstacle's verdict and words, or VERDICT_DEPLOY when there are fewer. */
Verdict judge_obstacle(const Manifest *m, const JudgeContext *c, size_t n, char **ret_text);
