/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "fetcher.h"
#include "macro.h"

/*
 * Asks for one channel's manifest at intervals: each wait is drawn anew from interval +- jitter, so
 * that a fleet never polls in step; after failures it grows, doubling up to POLL_BACKOFF_MAX_USEC.
 * CLOCK_BOOTTIME, so that time spent suspended counts.
 */

#define POLL_BACKOFF_MAX_USEC (UINT64_C(300) * 1000000)

#define POLL_HURRY_MAX_USEC (UINT64_C(2) * 1000000)

/* Credentials that are not there yet (-ENOKEY) are looked for within this, whatever the interval.
 */
#define POLL_KEYLESS_MAX_USEC (UINT64_C(60) * 1000000)

typedef struct Poller Poller;

typedef struct PollerOptions {
        const char *path; /* of the manifest in the store */
        uint64_t interval_usec;
        unsigned jitter_percent;
} PollerOptions;

/* result: 0 (fd is the packed envelope, closed after the call), POLL_UNCHANGED, POLL_ABSENT,
 * POLL_UNKNOWN, or a negative errno; text: why. Gives back whether the poll went well, for the
 * back-off. */
typedef bool (*poller_answer_t)(int result, int fd, const char *text, void *userdata);

_must_check_ int poller_new(sd_event *event, Fetcher *fetcher, const PollerOptions *options,
                            poller_answer_t answer, void *userdata, Poller **ret);
Poller *poller_free(Poller *p);
DEFINE_CLEANUP_FUNC(Poller *, poller_free);

/* The first poll after a random part of the interval. */
_must_check_ int poller_start(Poller *p);

/* Polls now, unless a poll is under way. */
_must_check_ int poller_poll(Poller *p);

/* One is under way, and its answer may be older than what is asked for now. */
bool poller_is_polling(const Poller *p);

/* No more timer; poller_poll() still works. */
void poller_stop(Poller *p);

/* From now on no wait is longer than POLL_HURRY_MAX_USEC, or, with false, as planned again. */
void poller_hurry(Poller *p, bool hurry);

/* When the next poll is due: seconds from now, or 0 if one is under way or none is planned. */
uint64_t poller_next_sec(const Poller *p);

/* The wait before the next poll after n_failures in a row; `random` is any number. For tests, as is
 * what becomes of it without credentials. */
uint64_t poller_delay_usec(uint64_t interval_usec, unsigned jitter_percent, unsigned n_failures,
                           uint32_t random);
uint64_t poller_keyless_usec(uint64_t delay_usec, uint32_t random);
