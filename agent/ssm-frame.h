/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "macro.h"
#include "uuid.h"

/*
 * The binary message of Systems Manager's message gateway. Numbers are big-endian:
 *
 *   0    4   size of what comes before the payload's size: 116
 *   4   32   type, padded with blanks (or NULs)
 *   36   4   version of the schema: 1
 *   40   8   when it was made, milliseconds since the epoch
 *   48   8   sequence number: 0      56  8  flags: 0
 *   64  16   id: the two halves of an UUID, the last one first
 *   80  32   SHA-256 of the payload
 *   112  4   type of the payload: 0  116 4  its size
 *   120      payload
 *
 * Source: aws/amazon-ssm-agent, agent/session/contracts/agentmessage.go; what came from that agent.
 */

#define SSM_FRAME_TYPE_MAX 32

typedef struct SsmFrame {
        char type[SSM_FRAME_TYPE_MAX + 1]; /* printable ASCII without blanks */
        char id[UUID_TEXT_SIZE];
        uint64_t created_msec;
        const void *payload; /* the caller's, or in what was unpacked */
        size_t payload_size;
        bool digest_holds; /* of unpacking. The service's own are wrong at times: as the transport
                            * keeps the bytes together, that is to be said, no more */
} SsmFrame;

/* *ret is to be freed. -EINVAL: not such a type or id. */
_must_check_ int ssm_frame_pack(const SsmFrame *f, void **ret, size_t *ret_size);

/* -EBADMSG: not such a message; *reterr says why. A header may be longer than this one, and what
 * follows the payload's size is the payload, even beyond that size: amazon-ssm-agent takes both. */
_must_check_ int ssm_frame_unpack(const void *data, size_t size, SsmFrame *ret, char **reterr);
