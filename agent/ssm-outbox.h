/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stdint.h>

#include "macro.h"
#include "ssm-link.h"

/*
 * Replies on their way: one at a time, in their order, so that a step's result never arrives after
 * the final one. Nothing is tried twice here; a final reply that did not get through is remembered
 * (ssm-memory.h) by whoever put it in.
 */

#define SSM_OUTBOX_MAX 64

typedef struct SsmOutbox SsmOutbox;

/* The reply is gone from the box: the service has it (0) or not, as in SsmChannelCallbacks. */
typedef void (*ssm_outbox_done_t)(const char *reply_id, int result, const char *why,
                                  void *userdata);

_must_check_ int ssm_outbox_new(SsmLink *link, ssm_outbox_done_t done, void *userdata,
                                SsmOutbox **ret);
SsmOutbox *ssm_outbox_free(SsmOutbox *o);
DEFINE_CLEANUP_FUNC(SsmOutbox *, ssm_outbox_free);

/* Copied. -EXFULL: too many wait. -EEXIST: it waits already. Never calls back from within. */
_must_check_ int ssm_outbox_put(SsmOutbox *o, const SsmReply *reply);

/* To be called with each SsmLinkCallbacks.replied. False: that reply is not on its way. */
bool ssm_outbox_replied(SsmOutbox *o, const char *reply_id, int result, const char *why);

/* As in ssm.h: sends the next, and gives up one that was never answered for. */
uint64_t ssm_outbox_due_in_usec(const SsmOutbox *o);
void ssm_outbox_start_due(SsmOutbox *o);
