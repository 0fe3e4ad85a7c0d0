/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "fetcher.h"
#include "macro.h"

/*
 * Asks for one channel's manifest at intervals (poll-wait.h). CLOCK_BOOTTIME, so that time spent
 * suspended counts.
 *
 * An interval shorter than WATCH_QUIET_USEC (message.h) is left to slipway-fetch (MESSAGE_WATCH)
 * while an answer says that all is calm: then we hear what is new at once, and that nothing is only
 * every now and then. Failures, their back-off and all else are as without it. What a fetch that
 * was taken over makes of it is no more than late, early or wrong answers, which each poll can get:
 * early ones are answered by a wait of our own, and late ones end as fetcher.h says.
 */

#define POLL_HURRY_MAX_USEC (UINT64_C(2) * 1000000)

typedef struct Poller Poller;

typedef struct PollerOptions {
        const char *path; /* of the manifest in the store */
        uint64_t interval_usec;
        unsigned jitter_percent;
} PollerOptions;

/* What an answer means for the next poll. */
typedef enum PollOutcome {
        POLL_BAD,  /* to back off */
        POLL_GOOD, /* to go on */
        POLL_CALM, /* to go on, and as long as it is unchanged nobody needs to hear so each time */
} PollOutcome;

/* result: 0 (fd is the packed envelope, closed after the call), POLL_UNCHANGED, POLL_ABSENT,
 * POLL_UNKNOWN, or a negative errno; text: why. */
typedef PollOutcome (*poller_answer_t)(int result, int fd, const char *text, void *userdata);

_must_check_ int poller_new(sd_event *event, Fetcher *fetcher, const PollerOptions *options,
                            poller_answer_t answer, void *userdata, Poller **ret);
Poller *poller_free(Poller *p);
DEFINE_CLEANUP_FUNC(Poller *, poller_free);

/* The first poll after a random part of the interval. */
_must_check_ int poller_start(Poller *p);

/* Polls now, unless a poll is under way that we have asked for. */
_must_check_ int poller_poll(Poller *p);

/* One is under way, and its answer may be older than what is asked for now. */
bool poller_is_polling(const Poller *p);

/* No more timer; poller_poll() still works. */
void poller_stop(Poller *p);

/* From now on no wait is longer than POLL_HURRY_MAX_USEC, or, with false, as planned again. */
void poller_hurry(Poller *p, bool hurry);

/* When the next poll is due, or, while slipway-fetch polls by itself, will be at the latest:
 * seconds from now, or 0 if one is under way or none is planned. */
uint64_t poller_next_sec(const Poller *p);
