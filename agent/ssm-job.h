/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include <cJSON.h>

#include "macro.h"
#include "ssm-channel.h"
#include "uuid.h"

/*
 * The payloads by which the message gateway brings commands and takes what becomes of them (JSON,
 * in messages of ssm-frame.h): agent_job, agent_job_ack, agent_job_reply, agent_job_reply_ack.
 * Their names are compared without regard to case, which differs between what the service sends and
 * what amazon-ssm-agent writes; a name that comes twice is an error, unknown ones are passed over.
 * Source: aws/amazon-ssm-agent, agent/session/contracts and agent/messageservice; its issue 519.
 */

#define SSM_JOB_ID_SIZE_MAX 256

typedef struct SsmJob {
        cJSON *json;
        const char *id; /* "aws.ssm.<command>.<instance>" */
        const char *topic, *content;
        const char *destination; /* what stands behind the last dot of `id`, or all of it */
} SsmJob;

void ssm_job_done(SsmJob *j);

/* data[size] must be NUL. -EBADMSG: *ret has the id nevertheless, if that much is there. */
_must_check_ int ssm_job_parse(const char *data, size_t size, SsmJob *ret, char **reterr);

/* agent_job_ack. */
_must_check_ int ssm_job_format_ack(const SsmMessage *m, SsmReceipt receipt, char **ret);

/* agent_job_reply. */
_must_check_ int ssm_job_format_reply(const SsmReply *reply, char **ret);

/* agent_job_reply_ack; data[size] must be NUL. Gives the id of the reply, in lower case. */
_must_check_ int ssm_job_parse_reply_ack(const char *data, size_t size,
                                         char ret[static UUID_TEXT_SIZE], char **reterr);

/* "2026-11-22T14:05:49.509Z" */
#define SSM_TIME_SIZE 25
char *ssm_time_format(uint64_t msec, char buffer[static SSM_TIME_SIZE]);
