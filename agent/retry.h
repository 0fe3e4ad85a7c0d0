/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stdint.h>

#include "macro.h"

/*
 * The wait before a deployment that failed for a passing reason, or was put off, is tried again: it
 * doubles with each try of the same deployment, from RETRY_MIN_SEC to RETRY_MAX_SEC. Kept in memory
 * only: after a start nothing is waited for. Times are CLOCK_BOOTTIME, so that time spent suspended
 * counts.
 */

#define RETRY_MIN_SEC 5
#define RETRY_MAX_SEC 600

typedef struct Retry Retry;

_must_check_ int retry_new(Retry **ret);
Retry *retry_free(Retry *r);
DEFINE_CLEANUP_FUNC(Retry *, retry_free);

/* A try has ended at `now_usec`, without success; error -EAGAIN: it did not fail, but was put off.
 * Without memory for `reason` (may be NULL) nothing is waited for. */
void retry_plan(Retry *r, uint64_t deployment, int error, const char *reason, uint64_t now_usec);

/* The next try may come at once. */
void retry_forget(Retry *r);

/* What waits at `now_usec`; the rest is that of the last one also when it does not wait any more.
 */
typedef struct RetryWait {
        uint64_t deployment; /* 0: nothing does */
        uint64_t at_sec;     /* until then, by the clock: for people */
        bool put_off;
        const char *reason; /* borrowed */
} RetryWait;

RetryWait retry_wait(const Retry *r, uint64_t now_usec);
