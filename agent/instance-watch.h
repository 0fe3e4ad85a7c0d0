/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "fetcher.h"
#include "instance.h"
#include "macro.h"

/*
 * Has slipway-fetch ask who this host is: at once, then at intervals that vary by a fifth at
 * random, to notice tags that change. After a failure it asks again sooner, with a random wait that
 * doubles up to WATCH_BACKOFF_MAX_USEC: a network that comes late is waited for.
 */

#define WATCH_BACKOFF_MIN_USEC (UINT64_C(1) * 1000000)
#define WATCH_BACKOFF_MAX_USEC (UINT64_C(60) * 1000000)

typedef struct InstanceWatch InstanceWatch;

/* result 0: `instance`, which is gone after the call; else a negative errno, and why. -EACCES:
 * metadata is switched off for this instance. */
typedef void (*instance_told_t)(int result, Instance *instance, const char *text, void *userdata);

/* Asks for the first time when the event loop runs. */
_must_check_ int instance_watch_new(sd_event *event, Fetcher *fetcher, uint64_t interval_usec,
                                    instance_told_t told, void *userdata, InstanceWatch **ret);
InstanceWatch *instance_watch_free(InstanceWatch *w);
DEFINE_CLEANUP_FUNC(InstanceWatch *, instance_watch_free);

/* Asks now, unless it is being asked. */
_must_check_ int instance_watch_ask(InstanceWatch *w);

/* The wait after so many failures in a row; `random` is any number. For tests. */
uint64_t instance_watch_delay_usec(uint64_t interval_usec, unsigned n_failures, uint32_t random);
