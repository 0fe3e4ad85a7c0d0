/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stddef.h>

#include "macro.h"
#include "ssm-channel.h"

/*
 * The answer of GetMessages:
 *
 *   { "Messages": [ { "MessageId", "Topic", "Destination", "CreatedDate", "Payload",
 *                     "PayloadDigest" } ], ... }
 *
 * All of them but PayloadDigest are texts that are not empty, of at most JSON_STRING_SIZE_MAX
 * bytes, without control characters; Payload has at most SSM_MESSAGE_SIZE_MAX. Members that are not
 * known are passed over. Source: API of 2015-06-19 (aws-sdk-go, service/ssmmds, in
 * aws/amazon-ssm-agent).
 */

typedef struct SsmMdsAnswerCallbacks {
        void (*message)(const SsmMessage *m, void *userdata);

        /* One that is nothing of the above; its id, or NULL. */
        void (*unfit)(const char *id, const char *why, void *userdata);
} SsmMdsAnswerCallbacks;

/* Calls back for each message, in their order. data[size] must be NUL. -EBADMSG: no such answer;
 * nothing was called. */
_must_check_ int ssm_mds_answer_read(const char *data, size_t size,
                                     const SsmMdsAnswerCallbacks *callbacks, void *userdata,
                                     char **reterr);
