/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stdio.h>

#include <cJSON.h>

#include "macro.h"

/*
 * What an examination found, in the order it was found: each with its weight, where it belongs,
 * what is so, and what to do about it.
 */

typedef enum FindingLevel {
        FINDING_OK,
        FINDING_NOTE, /* worth knowing, nothing to do */
        FINDING_WARN, /* works, but will not always */
        FINDING_FAIL, /* does not work */
        _FINDING_LEVEL_MAX,
} FindingLevel;

const char *finding_level_to_string(FindingLevel l);

typedef struct Finding {
        FindingLevel level;
        const char *area;  /* a constant: "disk" */
        char *text, *mend; /* mend: NULL when there is nothing to do */
} Finding;

typedef struct Findings {
        Finding *items;
        size_t n;
        int error; /* -ENOMEM: something is missing in the list */
} Findings;

void findings_done(Findings *f);

void findings_add(Findings *f, FindingLevel level, const char *area, const char *format, ...)
        _printf_(4, 5);

/* What to do about the one that was added last. */
void findings_mend(Findings *f, const char *format, ...) _printf_(2, 3);

FindingLevel findings_worst(const Findings *f);

/* One line each, cleaned for a terminal. */
void findings_print(const Findings *f, FILE *file);

/* { "worst": "warn", "findings": [ { "level": "warn", "area": "disk", "text": "...", "mend": "..."
 * } ] } */
_must_check_ int findings_format(const Findings *f, cJSON **ret);
