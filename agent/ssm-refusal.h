/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stddef.h>

#include "aws-error.h"
#include "macro.h"

/*
 * An error answer of the message gateway. Its XML is another one than that of other services: the
 * root is the code, as in <AccessDeniedException>, or says nothing, as in <BadRequest>, where
 * throttling is seen by the words alone. Other forms are taken as aws-error.h does.
 * Source: aws/amazon-ssm-agent, agent/session/service; its issue 120.
 */

typedef struct SsmRefusal {
        AwsVerdict verdict;
        int result; /* -EACCES: denied, or the credentials are not taken; -EBUSY: later may help;
                     * -EREMOTEIO: another reason */
        AwsError error;
} SsmRefusal;

void ssm_refusal_done(SsmRefusal *r);

/* body[size] must be NUL. */
_must_check_ int ssm_refusal_parse(unsigned status, const char *body, size_t size, SsmRefusal *ret);
