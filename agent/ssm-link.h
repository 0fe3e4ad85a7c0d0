/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stdint.h>
#include <time.h>

#include "credentials.h"
#include "http.h"
#include "macro.h"
#include "ssm-channel.h"

/*
 * The way to Systems Manager that is in use: one of the two channels, or with SSM_CHANNEL_AUTO the
 * gateway, and message delivery from the start and whenever the gateway does not work. Where the
 * gateway works, message delivery is left after a minute, as amazon-ssm-agent does it: commands
 * that were on their way there come by it still. Where the gateway ends, message delivery that
 * failed is asked at once, whatever its pauses were. Tells the service that the instance is there,
 * and by which channel.
 */

typedef struct SsmLink SsmLink;

typedef struct SsmLinkCallbacks {
        void (*message)(const SsmMessage *m, void *userdata); /* as in ssm-channel.h */
        void (*replied)(const char *reply_id, int result, const char *why, void *userdata);

        /* Messages can come by `channel` (result 0), or why none can; when that changes. */
        void (*state)(int result, SsmChannel channel, const char *why, void *userdata);
} SsmLinkCallbacks;

/* `http` and `credentials` must outlive it. */
_must_check_ int ssm_link_new(Http *http, CredentialsSource *credentials, SsmChannel channel,
                              const SsmIdentity *identity, const SsmLinkCallbacks *callbacks,
                              void *userdata, SsmLink **ret, char **reterr);
SsmLink *ssm_link_free(SsmLink *l); /* without calling back */
DEFINE_CLEANUP_FUNC(SsmLink *, ssm_link_free);

bool ssm_link_is_gateway(const SsmLink *l); /* replies go by it */

/* What the service's clock is ahead of ours, in seconds, as far as that is known. */
time_t ssm_link_clock_offset(const SsmLink *l);

/* For a message in its callback. */
void ssm_link_receipt(SsmLink *l, const SsmMessage *m, SsmReceipt receipt);

/* Copied; ends with a call of replied(). -EHOSTDOWN: no channel works now. */
_must_check_ int ssm_link_reply(SsmLink *l, const SsmReply *reply);

uint64_t ssm_link_due_in_usec(const SsmLink *l);
void ssm_link_start_due(SsmLink *l);
