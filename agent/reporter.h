/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <cJSON.h>

#include "fetcher.h"
#include "macro.h"

/*
 * Writes the status object of one application on this instance to the store,
 * <app>/channels/<channel>/instances/<instance>.json, whenever it says something new. What could
 * not be written is tried again with the next poll; a deployment never waits for it.
 */

typedef struct Reporter Reporter;

_must_check_ int reporter_new(Fetcher *fetcher, const char *path, Reporter **ret);
Reporter *reporter_free(Reporter *r);
DEFINE_CLEANUP_FUNC(Reporter *, reporter_free);

/* Sends `status` unless the store has it already or a write is under way (then the next call does).
 * One of more than 64 KiB is not sent; like a write that fails, that is logged when it begins. */
_must_check_ int reporter_send(Reporter *r, const cJSON *status);

/* A write is under way. */
bool reporter_is_busy(const Reporter *r);

/* Calls back when a write ended, and how. */
void reporter_on_idle(Reporter *r, void (*idle)(bool well, void *userdata), void *userdata);
