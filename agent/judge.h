/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "config.h"
#include "macro.h"
#include "manifest.h"
#include "state.h"
#include "trust.h"

/*
 * Decides about a manifest that slipway-fetch brought, in the order that matters: copy, verify the
 * signatures over the raw bytes, only then parse; then app, channel, serial, expiry and what this
 * host allows.
 */

/* Takes the packed envelope in `fd` (hostile: copied before anything is looked at, so that nobody
 * can change it between check and use). On success *ret is the manifest and *ret_digest its
 * payload's SHA-256. Does not look at the freshness floor or the clock: judge_fresh() does. */
_must_check_ int judge_envelope(int fd, const Trust *trust, const AppConfig *app, Manifest **ret,
                                Sha256 *ret_digest, char **reterr);

/* Outcomes of judge_fresh() and judge_wanted(). */
typedef enum Verdict {
        VERDICT_DEPLOY,     /* bring it here and activate it */
        VERDICT_ADOPT,      /* its release is live already: only its deployment number is new */
        VERDICT_NOTHING,    /* that deployment is done */
        VERDICT_NOT_TARGET, /* not meant for this instance */
        VERDICT_PINNED,     /* an admin rolled back by hand */
        VERDICT_FAILED,     /* that deployment went wrong here before */
        VERDICT_STAGED,     /* it is on disk, and waits to be made live by hand */
} Verdict;

/* 0 if the manifest may be accepted: -EKEYREJECTED for a serial below the floor, an equal one with
 * other bytes, an expired manifest or an expired trust root (now_sec: the clock). Nothing is
 * changed. */
_must_check_ int judge_fresh(const Manifest *m, const Sha256 *digest, const State *state,
                             const Trust *trust, uint64_t now_sec, char **reterr);

/* What an accepted manifest means for this instance. *ret_text says it in words (allocated). */
Verdict judge_wanted(const Manifest *m, const State *state, const Tag *tags, size_t n_tags,
                     char **ret_text);
