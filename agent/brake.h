/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "fetcher.h"
#include "macro.h"

/*
 * The brake of a channel, <app>/channels/<channel>/halt.json in the store:
 *
 *   { "halted": true, "by": "ann", "since": "2026-11-22T15:00:00Z", "reason": "..." }
 *
 * of which only "halted" is needed. It is not signed: whoever can write to the store can hold
 * deployments up, which they could do by removing the manifest, and nothing else. A channel without
 * one is not halted; a store that does not say so (403, no answer, not JSON) leaves it unknown.
 */

#define BRAKE_SIZE_MAX 4096

typedef enum BrakeState {
        BRAKE_OFF,
        BRAKE_ON,
        BRAKE_UNKNOWN,
} BrakeState;

/* Reads halt.json; data[size] is NUL. Members that are not known are passed over. *ret_text: by
 * whom and why (allocated, cleaned). For slipway-fetch: slipwayd does not parse it. */
_must_check_ int brake_parse(const char *data, size_t size, bool *ret_halted, char **ret_text,
                             char **reterr);

typedef struct Brake Brake;

/* Never asked, it is off. */
_must_check_ int brake_new(Fetcher *fetcher, const char *app, const char *channel, Brake **ret);
Brake *brake_free(Brake *b);
DEFINE_CLEANUP_FUNC(Brake *, brake_free);

typedef void (*brake_done_t)(void *userdata);

/* Asks the store; done() is called once the state is renewed, never from in here. Asked while it
 * asks already: that answer is for both. */
_must_check_ int brake_ask(Brake *b, brake_done_t done, void *userdata);
bool brake_is_asking(const Brake *b);

BrakeState brake_state(const Brake *b);

/* By whom and why, or why it is not known; "" when there is nothing to say. */
const char *brake_text(const Brake *b);

/* How long it has been unknown, asked again and again; 0: it is known. By CLOCK_BOOTTIME. */
uint64_t brake_unknown_usec(const Brake *b);
