/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stddef.h>

#include <cJSON.h>

#include "macro.h"

/* What an audit of a store finds: printed one a line as it comes, and collected as JSON. */

typedef enum FindingWeight {
        FINDING_FAILED, /* a signature, a digest or a rule does not hold */
        FINDING_LOOK,   /* it may be as it should, which somebody has to know */
        FINDING_NOTE,
        _FINDING_WEIGHT_MAX,
} FindingWeight;

/* More of them are counted, and left out of the JSON. */
#define FINDINGS_JSON_MAX 10000

typedef struct AuditFindings {
        bool print;
        cJSON *array; /* borrowed */
        size_t n[_FINDING_WEIGHT_MAX];
} AuditFindings;

/* A finding about an object of the store, or what begins its name. `kind`, for programs: a word of
 * slipway-publish(1). 0 or -ENOMEM. */
_must_check_ int audit_finding(AuditFindings *f, FindingWeight weight, const char *kind,
                               const char *object, const char *format, ...) _printf_(5, 6);
