/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stdarg.h>
#include <stdint.h>

#include "journal-id.h"
#include "macro.h"

/*
 * Structured journal entries: MESSAGE, PRIORITY and the fields below; plain lines by log.h when
 * stderr is not the journal (systemd.exec(5), $JOURNAL_STREAM).
 */

/* What is NULL or 0 is left out. */
typedef struct JournalFields {
        const char *id;      /* MESSAGE_ID: journal-id.h */
        const char *app;     /* SLIPWAY_APP */
        const char *channel; /* SLIPWAY_CHANNEL */
        const char *release; /* SLIPWAY_RELEASE: that is being changed to, or is live */
        const char *phase;   /* SLIPWAY_PHASE: as in state.h */
        uint64_t deployment; /* SLIPWAY_DEPLOYMENT, of the release */
        uint64_t serial;     /* SLIPWAY_SERIAL, of the release */
} JournalFields;

void journal_writev(int level, const JournalFields *fields, const char *format, va_list ap)
        __attribute__((format(printf, 3, 0)));

/* An entry about this host, not about an application. */
void journal_event(int level, const char *id, const char *format, ...) _printf_(3, 4);
