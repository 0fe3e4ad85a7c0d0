/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "macro.h"

/*
 * When a deployment may begin: spans of the week, in UTC, which knows no summer time.
 *
 *   "Mon-Thu 09:00-16:00", "Sat,Sun 22:00-04:00", "Fri-Mon 00:00-24:00", "daily 02:30-04:00"
 *
 * Days are Mon to Sun, as a list of days and ranges of which none is named twice (a range may go
 * over Sunday), or "daily". A span belongs to the day on which it begins: one that ends at or
 * before the time of its beginning goes on to the next day. It is open from the first second of its
 * beginning to the last before its end; the end may be 24:00. Spans may overlap.
 */

#define WINDOW_SPANS_MAX      16
#define WINDOW_SPAN_TEXT_SIZE 64

typedef struct WindowSpan {
        uint8_t days; /* bit 0: Monday */
        uint16_t begin_min, end_min;
} WindowSpan;

typedef struct Window {
        WindowSpan spans[WINDOW_SPANS_MAX];
        size_t n_spans; /* 0: it is always open */
} Window;

/* Adds a span. -EBADMSG: it is not of the form above (shorter than WINDOW_SPAN_TEXT_SIZE), or one
 * too many. */
_must_check_ int window_add(Window *w, const char *text, char **reterr);

/* The span in the form above, equal ones in equal words: three days in a row are a range. */
char *window_span_format(const WindowSpan *s, char buffer[static WINDOW_SPAN_TEXT_SIZE]);

/* Seconds since the epoch, as all below. */
bool window_is_open(const Window *w, uint64_t now_sec);

/* When it opens next; while it is open: now. */
uint64_t window_opens_sec(const Window *w, uint64_t now_sec);

/* When it closes, spans that follow each other taken as one; while it is closed: now. UINT64_MAX:
 * never. */
uint64_t window_closes_sec(const Window *w, uint64_t now_sec);

/* Of one that has spans: "Mon-Thu 09:00-16:00 and Sat 22:00-04:00 (UTC), which opens at
 * 2026-11-30T09:00:00Z", or what else there is to say of it now. Allocated; NULL: no memory. */
char *window_to_text(const Window *w, uint64_t now_sec);
