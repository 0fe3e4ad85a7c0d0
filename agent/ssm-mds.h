/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stdint.h>

#include "credentials.h"
#include "http.h"
#include "macro.h"
#include "ssm-channel.h"

/*
 * The message delivery service: one long poll (GetMessages) at a time, receipts
 * (AcknowledgeMessage, FailMessage) and replies (SendReply) beside it. JSON 1.1, X-Amz-Target
 * EC2WindowsMessageDeliveryService.*, on every platform; signed for the service ec2messages.
 *
 * An answer that comes in less than a second, good or bad, is followed by a pause of 2 to 2.5 s;
 * failures by one that doubles, with jitter, up to five minutes, or one minute where credentials
 * lack. A poll without an answer, or with one that asks for patience, is repeated with the same
 * MessagesRequestId; if it broke after ten seconds or more, the first time at once and without a
 * word: that may be a limit of whatever is on the way. Receipts are tried again until the message's
 * visibility timeout has passed: then it comes again anyway. Replies go one by one, in their order,
 * so that a final one is the last.
 *
 * A message that lacks what SsmMessage promises is logged, and FailMessage says so.
 */

typedef struct SsmMds SsmMds;

/* `http` and `credentials` must outlive it. It begins to poll with the first ssm_mds_start_due().
 * It must not be freed in one of its callbacks. */
_must_check_ int ssm_mds_new(Http *http, CredentialsSource *credentials,
                             const SsmIdentity *identity, const SsmChannelCallbacks *callbacks,
                             void *userdata, SsmMds **ret, char **reterr);
SsmMds *ssm_mds_free(SsmMds *m); /* without calling back */
DEFINE_CLEANUP_FUNC(SsmMds *, ssm_mds_free);

/* For tests: in place of the real ones, which it has from the start. */
typedef struct SsmMdsLimits {
        unsigned deadline_sec;    /* 35: of a poll; the service holds it for 20 */
        unsigned fast_msec;       /* 1000: an answer is fast below that */
        unsigned slow_msec;       /* 10000: a poll that breaks after that may be a limit's doing */
        unsigned pause_msec;      /* 2000: after a fast answer or the first failure, a quarter more
                                     at random */
        unsigned pause_max_msec;  /* 300000: after many failures */
        unsigned visibility_msec; /* 10000: a receipt is tried for so long */
        unsigned retry_msec;      /* 500: the longest wait before the second try of a receipt or a
                                     reply; doubles */
} SsmMdsLimits;

void ssm_mds_set_limits(SsmMds *m, const SsmMdsLimits *limits);

/* Not sent: it comes again, that is all. */
void ssm_mds_receipt(SsmMds *m, const SsmMessage *message, SsmReceipt receipt);

/* Copied. Ends with a call of replied(), never from within. */
_must_check_ int ssm_mds_reply(SsmMds *m, const SsmReply *reply);

/* For the loop that steps `http`: in how many microseconds start_due() has something to do
 * (UINT64_MAX: nothing waits), and doing it, which may call back. */
uint64_t ssm_mds_due_in_usec(const SsmMds *m);
void ssm_mds_start_due(SsmMds *m);
