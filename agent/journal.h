/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stdarg.h>

#include "macro.h"

/*
 * Structured journal entries: MESSAGE, PRIORITY and the SLIPWAY_ fields below; plain lines by log.h
 * when stderr is not the journal (systemd.exec(5), $JOURNAL_STREAM).
 */

typedef struct JournalFields {
        const char *app;     /* SLIPWAY_APP */
        const char *release; /* SLIPWAY_RELEASE; may be NULL */
        const char *phase;   /* SLIPWAY_PHASE */
} JournalFields;

void journal_writev(int level, const JournalFields *fields, const char *format, va_list ap)
        __attribute__((format(printf, 3, 0)));
