/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <time.h>

#include "macro.h"
#include "remote-order.h"
#include "ssm-channel.h"

/*
 * What a message of Run Command wants. The payload of aws.ssm.sendCommand:
 *
 *   { "CommandId": "<uuid>", "DocumentName": "Slipway-Deploy",
 *     "Parameters": { "action": "deploy", "app": "web", "release": "2026.11.22-1f3a9c2" },
 *     "DocumentContent": { "schemaVersion": "2.2", "mainSteps": [ { "action": "...",
 *                                                                   "name": "slipway" } ] } }
 *
 * and of aws.ssm.cancelCommand: { "CancelMessageId": "aws.ssm.<uuid>.<instance>" }. Members that
 * are not listed are passed over, for AWS adds some; two of a name that is listed are refused.
 * Parameters and what names the steps may be null, and a parameter that is an empty string is none.
 * A payload has to be JSON as json-read.h takes it: no fractions, no DEL. Only the document
 * Slipway-Deploy (packaging/aws/slipway-deploy.json) is carried out, by its name and parameters;
 * its content is read for its schema and the names of its steps, which answers are about.
 *
 * Source: aws/amazon-ssm-agent, agent/runcommand/contracts/model.go, agent/framework/docparser.
 */

#define SSM_DOCUMENT      "Slipway-Deploy"
#define SSM_AGE_MAX_SEC   (48 * 3600) /* as amazon-ssm-agent has it */
#define SSM_AHEAD_MAX_SEC (15 * 60)   /* that a message may come from the future */

/* A step of a document, as far as answers name it: text without control characters. */
typedef struct SsmStep {
        char *name;   /* the key in answers: a step's name, or with schema 1.x its plugin */
        char *plugin; /* "aws:runShellScript" */
} SsmStep;

#define SSM_STEPS_MAX     32  /* those behind are not listed */
#define SSM_STEP_NAME_MAX 128 /* bytes of a name and of a plugin */

/* Adds a step, by copies. -EEXIST: there is one of this name. -E2BIG: there are SSM_STEPS_MAX. */
_must_check_ int ssm_steps_add(SsmStep **steps, size_t *n_steps, const char *name,
                               const char *plugin);
void ssm_steps_free(SsmStep *steps, size_t n_steps);

typedef enum SsmKind {
        SSM_ORDER,
        SSM_CANCEL,
} SsmKind;

/* What can be told of a message. */
typedef struct SsmRequest {
        SsmKind kind;
        char *command;  /* order_command_is_valid(); of CANCEL: that is to be cancelled */
        char *document; /* ORDER alone, as what follows */
        SsmStep *steps;
        size_t n_steps;    /* may be 0 */
        RemoteOrder order; /* .command is NULL: refused */
} SsmRequest;

void ssm_request_done(SsmRequest *r);

/* `now_sec` by the service's clock as far as it is known.
 *
 *   0         *ret is set
 *   -EPERM    an order that is refused: *ret is set but for its order, *reterr says why and what to
 *             use instead: another document, a schema, action or parameter that is not known or
 *             breaks the rules of remote-order.h, a message that is too old or from the future
 *   -EBADMSG  malformed, not for `instance`, or of another digest than it says: *reterr says why
 *   -ENOTSUP  another topic
 *
 * The age of a cancellation does not matter: it says itself what it is about. */
_must_check_ int ssm_request_parse(const SsmMessage *m, const char *instance, time_t now_sec,
                                   SsmRequest *ret, char **reterr);
