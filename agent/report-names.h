/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stddef.h>

#include "macro.h"

/*
 * What lies in a directory that may be another user's, who can fill it and choose the names: only
 * the first so many are read, and names are for calls; text_clean() is for those who read them.
 */

#define REPORT_NAMES_MAX 500

typedef struct ReportNames {
        char *names[REPORT_NAMES_MAX]; /* in their order, without "." and ".." */
        size_t n;
        bool more; /* than these */
} ReportNames;

void report_names_done(ReportNames *n);

/* `n` is empty at first. What was read before an error is there. */
_must_check_ int report_names_read(int dir_fd, ReportNames *n);
