/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <cJSON.h>

#include "config.h"
#include "macro.h"
#include "state.h"
#include "trust.h"

/*
 * What one application says about itself: to this host (an element of "apps" in Describe(),
 * agent-bus.h) and, as the status object, to the store.
 */

/* A moment of an application; everything is borrowed. Times are seconds since the epoch, 0: none.
 */
typedef struct AppStatus {
        const AppConfig *config;
        const State *state;
        const Config *host;      /* who this host is */
        const char *credentials; /* a word for those that the store was asked with; NULL: none */
        const char *ssm;         /* orders_channel() */
        const char *error;       /* why the state on disk can't be read now; NULL: it can */
        bool poll_ok;
        const char *verdict;   /* verdict_to_string(); NULL: not asked yet */
        const char *poll_text; /* what the last poll came to */
        bool due;              /* a deployment is under way, staged, or to come */
        uint64_t polled_sec, next_poll_sec;
        uint64_t expires_sec;                     /* of the channel's manifest */
        bool expires_soon;                        /* manifest_expires_soon() */
        const Trust *trust;                       /* NULL: offline */
        const char *trust_trouble;                /* root_watch_trouble() */
        uint64_t available_bytes, artifact_bytes; /* of what is fetched; available 0: nothing is */
} AppStatus;

/* Adds "identity" to an object: who this host is, its tags, and where that is known from. */
_must_check_ int identity_describe(const Config *c, cJSON *object);

/* Adds "trust" to an object: the trust root that this host goes by. */
_must_check_ int trust_describe(const Trust *t, const char *trouble, cJSON *object);

/* Everything that this host may know. */
_must_check_ int app_status_describe(const AppStatus *s, cJSON **ret);

/* Without what only this host needs, and with the last few events only. */
_must_check_ int app_status_report(const AppStatus *s, cJSON **ret);
