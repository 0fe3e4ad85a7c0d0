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
 * failures by one that doubles, with jitter, up to five minutes. A failed poll is repeated with the
 * same MessagesRequestId. Receipts are tried again until the message's visibility timeout has
 * passed: then it comes again anyway.
 */

typedef struct SsmMds SsmMds;

/* `http` and `credentials` must outlive it. It begins to poll with the first ssm_mds_start_due().
 */
_must_check_ int ssm_mds_new(Http *http, CredentialsSource *credentials,
                             const SsmIdentity *identity, const SsmChannelCallbacks *callbacks,
                             void *userdata, SsmMds **ret, char **reterr);
SsmMds *ssm_mds_free(SsmMds *m); /* without calling back */
DEFINE_CLEANUP_FUNC(SsmMds *, ssm_mds_free);

/* Not sent: it comes again, that is all. */
void ssm_mds_receipt(SsmMds *m, const SsmMessage *message, SsmReceipt receipt);

/* Copied. Ends with a call of replied(), never from within. */
_must_check_ int ssm_mds_reply(SsmMds *m, const SsmReply *reply);

/* For the loop that steps `http`: in how many microseconds start_due() has something to do
 * (UINT64_MAX: nothing waits), and doing it, which may call back. */
uint64_t ssm_mds_due_in_usec(const SsmMds *m);
void ssm_mds_start_due(SsmMds *m);
