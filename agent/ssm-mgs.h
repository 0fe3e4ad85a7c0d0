/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stdint.h>

#include "credentials.h"
#include "http.h"
#include "macro.h"
#include "ssm-channel.h"
#include "websocket.h"

/*
 * The message gateway: a control channel, opened by POST /v1/control-channel/<instance> (201 and a
 * token in XML), then a websocket whose first frame hands the token over; from then on binary agent
 * messages (ssm-frame.h) both ways: agent_job, agent_job_ack, agent_job_reply, agent_job_reply_ack.
 * Signed for the service ssmmessages. Other types of message are not ours, and are passed over.
 *
 * It pings every 54 s and gives the connection up when nothing came for 60 s after that. It opens
 * again after 0 to 2.5 s, then 5 to 10 s, doubling with jitter up to 40 minutes, or one minute
 * where credentials lack. The end of a connection that worked is told by state() only when no other
 * one can be had: the service ends them now and then. One whose server broke the protocol did not
 * work. A reply without its acknowledgement within a second could not be sent, but one that comes
 * later is told as well.
 */

typedef struct SsmMgs SsmMgs;

/* `http` and `credentials` must outlive it; these are attached to `http`. It begins to open with
 * the first ssm_mgs_start_due(). It must not be freed in a callback. */
_must_check_ int ssm_mgs_new(Http *http, CredentialsSource *credentials,
                             const SsmIdentity *identity, const SsmChannelCallbacks *callbacks,
                             void *userdata, SsmMgs **ret, char **reterr);
SsmMgs *ssm_mgs_free(SsmMgs *m); /* without calling back */
DEFINE_CLEANUP_FUNC(SsmMgs *, ssm_mgs_free);

typedef struct SsmMgsLimits {
        WebSocketLimits socket;  /* 10 s, 15 s, 54 s, 60 s, 1 s */
        unsigned token_msec;     /* 15 s: until there is one */
        unsigned lost_msec;      /* 2.5 s: the longest wait after a connection that worked */
        unsigned retry_msec;     /* 5 s: the shortest wait after a first failure; doubles */
        unsigned retry_max_msec; /* 40 min */
        unsigned worked_msec;    /* 60 s: a connection that stood so long worked, even if it brought
                                  * no message */
        unsigned reply_msec;     /* 1 s: until a reply is acknowledged */
} SsmMgsLimits;

/* In place of those that are told above, which it has from the start. */
void ssm_mgs_set_limits(SsmMgs *m, const SsmMgsLimits *limits);

/* Not sent: it comes again, that is all. */
void ssm_mgs_receipt(SsmMgs *m, const SsmMessage *message, SsmReceipt receipt);

#define SSM_MGS_REPLY_SIZE_MAX 120000 /* what amazon-ssm-agent sends at most */

/* Copied. Ends with a call of replied(), never from within. A payload of more than
 * SSM_MGS_REPLY_SIZE_MAX is -EREMOTEIO there. -EINVAL: its id is no UUID. */
_must_check_ int ssm_mgs_reply(SsmMgs *m, const SsmReply *reply);

/* As in ssm-mds.h. */
uint64_t ssm_mgs_due_in_usec(const SsmMgs *m);
void ssm_mgs_start_due(SsmMgs *m);
