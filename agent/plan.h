/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "fetcher.h"
#include "judge.h"
#include "macro.h"
#include "manifest.h"
#include "site.h"

/*
 * What would happen to an application now, and what stands against it, for who asks. Changes
 * nothing but the spool. As JSON:
 *
 *   { "app": "web", "channel": "prod",
 *     "verdict": "held", "text": "...",              judge_wanted()'s, or what goes before it
 *     "obstacles": [ { "verdict": "held", "text": "..." } ],
 *     "live":   { "release": "r2", "deployment": 42, "index": 0 },
 *     "wanted": { "release": "r3", "deployment": 43, "index": 1, "artifact_bytes": 90729236,
 *                 "travels_bytes": 90729236 },
 *     "seeds":  [ { "release": "r2", "index": 0 } ] }
 *
 * "travels_bytes" is 0 for a release that is on this host, else the whole artifact: what the seeds
 * (state_seed()) have of it is for the reader to find, too. "live" and "wanted" are missing when
 * there is none; each "index" is a place in the list of files that goes with it, as large and with
 * the content that "index_bytes" and "index_sha256" say (who reads them checks that), and is
 * missing when it can't be had: "no_index" says why. Which files differ is for the reader to find:
 * indexes may be large, and slipwayd is to stay small.
 */

#define PLAN_FILES_MAX (1 + SEEDS_MAX) /* the wanted release, and seeds */

typedef struct Plan Plan;

/* The JSON (borrowed) and its files (stay the plan's). The plan may be freed here. */
typedef void (*plan_done_t)(const char *json, const int *fds, size_t n_fds, void *userdata);

typedef struct PlanInput {
        const Site *site;
        Fetcher *fetcher;
        Manifest *manifest; /* the channel's; NULL: there is none of use */
        const JudgeContext *context;
        Verdict verdict; /* instead of judge_wanted()'s, unless it is VERDICT_DEPLOY: */
        const char *text;
} PlanInput;

/* Begins; done() is never called from in here. It takes as long as slipway-fetch needs for an
 * index that is not here. */
_must_check_ int plan_new(const PlanInput *input, plan_done_t done, void *userdata, Plan **ret);
Plan *plan_free(Plan *p);
DEFINE_CLEANUP_FUNC(Plan *, plan_free);
