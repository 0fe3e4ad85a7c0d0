/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stdint.h>

#include "credentials.h"
#include "http.h"
#include "macro.h"
#include "ssm-channel.h"

/*
 * The message gateway: a control channel, opened by POST /v1/control-channel/<instance> (201 and a
 * token in XML), then a websocket whose first frame hands the token over; from then on binary agent
 * messages (ssm-frame.h) both ways: agent_job, agent_job_ack, agent_job_reply, agent_job_reply_ack.
 * Signed for the service ssmmessages. Other types of message are not ours, and are passed over.
 *
 * It pings every 54 s and gives the connection up when nothing came for 60 s after that. It opens
 * again after 0 to 2.5 s, then 5 to 10 s, doubling with jitter up to 40 minutes. A reply without
 * its acknowledgement within a second could not be sent.
 */

typedef struct SsmMgs SsmMgs;

/* `http` and `credentials` must outlive it. It begins to open with the first ssm_mgs_start_due().
 */
_must_check_ int ssm_mgs_new(Http *http, CredentialsSource *credentials,
                             const SsmIdentity *identity, const SsmChannelCallbacks *callbacks,
                             void *userdata, SsmMgs **ret, char **reterr);
SsmMgs *ssm_mgs_free(SsmMgs *m); /* without calling back */
DEFINE_CLEANUP_FUNC(SsmMgs *, ssm_mgs_free);

/* Not sent: it comes again, that is all. */
void ssm_mgs_receipt(SsmMgs *m, const SsmMessage *message, SsmReceipt receipt);

/* Copied. Ends with a call of replied(), never from within. */
_must_check_ int ssm_mgs_reply(SsmMgs *m, const SsmReply *reply);

/* As in ssm-mds.h. */
uint64_t ssm_mgs_due_in_usec(const SsmMgs *m);
void ssm_mgs_start_due(SsmMgs *m);
