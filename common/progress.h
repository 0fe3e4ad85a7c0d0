/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stdint.h>

#include "macro.h"

/*
 * Tells how far something long is, on stderr: a bar that is redrawn on a terminal (at most ten
 * times a second), and elsewhere a plain line every ten seconds, so that short work says nothing
 * and a CI log stays readable.
 */

typedef struct Progress Progress;

/* `what` ("uploading artifact") is copied. The bar is drawn only if stderr is a terminal. */
_must_check_ int progress_new(const char *what, Progress **ret);

/* Ends the bar's line, if there is one. */
Progress *progress_free(Progress *p);
DEFINE_CLEANUP_FUNC(Progress *, progress_free);

/* How far it is now; userdata is a Progress, or NULL to do nothing. Fits pack_progress_t and
 * store_progress_t. */
void progress_update(uint64_t done_bytes, uint64_t total_bytes, void *userdata);

/* "90.7 MB": powers of 1000, three or four digits. */
#define BYTES_TEXT_SIZE 16
char *bytes_format(uint64_t bytes, char buffer[static BYTES_TEXT_SIZE]);

/* One bar of `columns` columns (at least 40 are used), to be freed:
 * "uploading artifact  45% [#####      ] 40.1/90.7 MB, 11 s left". The time left is told once two
 * seconds have passed. */
_must_check_ int progress_format_bar(const char *what, uint64_t done_bytes, uint64_t total_bytes,
                                     uint64_t elapsed_usec, unsigned columns, char **ret);
