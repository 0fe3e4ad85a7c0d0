/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stddef.h>

#include "macro.h"

/*
 * What the two ways to Systems Manager's Run Command have in common: ssm-mds.h (the message
 * delivery service, ec2messages) and ssm-mgs.h (the message gateway, ssmmessages). A channel brings
 * messages and takes answers; what they mean is none of its business. Source: what amazon-ssm-agent
 * sends and takes (aws/amazon-ssm-agent, agent/messageservice, agent/session).
 */

typedef enum SsmChannel {
        SSM_CHANNEL_AUTO, /* ssmmessages, and ec2messages while that is refused or does not work */
        SSM_CHANNEL_MDS,  /* ec2messages */
        SSM_CHANNEL_MGS,  /* ssmmessages */
        _SSM_CHANNEL_MAX,
        _SSM_CHANNEL_INVALID = -1,
} SsmChannel;

const char *ssm_channel_to_string(SsmChannel c); /* "auto", "ec2messages", "ssmmessages" */
SsmChannel ssm_channel_from_string(const char *s);

#define SSM_MESSAGE_SIZE_MAX (1024 * 1024) /* of a payload */

/* All of it belongs to the channel, and is there during the callback. Nothing in it was checked but
 * that it is UTF-8 text, and that id, topic, destination, created and payload are there. */
typedef struct SsmMessage {
        const char *id;          /* "aws.ssm.<command>.<instance>" */
        const char *topic;       /* "aws.ssm.sendCommand..." */
        const char *destination; /* instance id */
        const char *created;     /* "2026-11-22T14:05:49.509Z" */
        const char *digest;      /* hexadecimal SHA-256 of payload; NULL: the channel has none */
        const char *payload;     /* JSON */
        const char *frame_id;    /* ssmmessages: UUID of the frame that brought it; else NULL */
} SsmMessage;

/* What becomes of a message. */
typedef enum SsmReceipt {
        SSM_RECEIPT_TAKEN,      /* it need not come again */
        SSM_RECEIPT_DUPLICATE,  /* the same, and it was here before */
        SSM_RECEIPT_MALFORMED,  /* nobody can tell what it wants */
        SSM_RECEIPT_NO_HANDLER, /* a topic that is not ours */
} SsmReceipt;

typedef struct SsmReply {
        const char *message_id; /* of the message that is answered */
        const char *id;         /* UUID of its own; the same when it is sent again */
        const char *topic;      /* "aws.ssm.sendCommand" or "aws.ssm.cancelCommand" */
        const char *payload;    /* JSON */
} SsmReply;

typedef struct SsmChannelCallbacks {
        /* A message came. Receipts and replies may be given in here. */
        void (*message)(const SsmMessage *m, void *userdata);

        /* It works (result 0), or it does not, and why; said when that changes, or the words do.
         * -EACCES: refused for good: permissions, or another instance's credentials. -ENOENT: the
         * region has no such endpoint. Whatever it is, the channel goes on trying, with back-off.
         */
        void (*state)(int result, const char *why, void *userdata);

        /* The service has the reply (0); or it will not take it, however often it is sent
         * (-EREMOTEIO); or it could not be sent now (any other). After that the service may still
         * say that it has it: then with 0, also for replies of earlier lives. */
        void (*replied)(const char *reply_id, int result, const char *why, void *userdata);
} SsmChannelCallbacks;

/* Whom a channel works for; all of it is copied. */
typedef struct SsmIdentity {
        const char *instance;      /* "i-..." or "mi-..." */
        const char *region, *zone; /* zone may be NULL */
} SsmIdentity;
