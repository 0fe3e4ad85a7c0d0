/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "macro.h"
#include "ssm-order.h"

/*
 * The payloads of replies, as the console shows them: a receipt, results of steps while the command
 * goes on, and the final one. Limits in bytes, as amazon-ssm-agent keeps them: standardOutput and
 * standardError 24,000, `output` (both in one) and the trace 2,500; what is longer is cut between
 * two characters, and says so. With several results their texts share the room that the gateway has
 * for a reply. Bytes that are no UTF-8, and control characters but line breaks and tabs, come as
 * U+FFFD.
 *
 * Source: aws/amazon-ssm-agent, agent/runcommand/contracts/model.go, agent/contracts/aggregator.go,
 * and what it sends.
 */

#define SSM_OUTPUT_MAX 24000
#define SSM_REPLY_MAX  119999 /* of a payload; the gateway takes none of more than 120,000 */

typedef enum SsmStatus {
        SSM_IN_PROGRESS,
        SSM_SUCCESS,
        SSM_FAILED,
        SSM_CANCELLED,
        _SSM_STATUS_MAX,
} SsmStatus;

/* What became of one step; the texts are the caller's. */
typedef struct SsmResult {
        const SsmStep *step;
        SsmStatus status;
        const char *output, *error;      /* NULL: nothing */
        uint64_t began_msec, ended_msec; /* since the epoch; ended 0: it goes on, told as now */
} SsmResult;

typedef struct SsmReplyInput {
        SsmStatus status;  /* of the document */
        const char *trace; /* why the document as a whole failed; NULL: nothing */
        const SsmResult *results;
        size_t n_results; /* 0 with SSM_IN_PROGRESS: the receipt */
        uint64_t now_msec;
        bool gateway; /* for ssmmessages, which leaves a member out */
} SsmReplyInput;

/* -E2BIG: more than SSM_STEPS_MAX results. -EMSGSIZE: more than SSM_REPLY_MAX, for names that are
 * longer than SSM_STEP_NAME_MAX. */
_must_check_ int ssm_reply_build(const SsmReplyInput *input, char **ret);
