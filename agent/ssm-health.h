/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stdint.h>
#include <time.h>

#include "credentials.h"
#include "http.h"
#include "macro.h"
#include "ssm-channel.h"

/*
 * Tells Systems Manager every five minutes that this instance is there (UpdateInstanceInformation
 * of the service ssm): without it no command is sent here. The first time at once, the second after
 * a random part of five minutes. A failure is tried again after a minute, then with growing pauses
 * up to five. It says what this host is (os-release.h, host-address.h), and truly that its agent is
 * Slipway: what AWS does to its own agent, such as to update it, should not come here.
 * Source: amazon-ssm-agent's agent/health; AWS does not document this operation.
 */

typedef struct SsmHealth SsmHealth;

/* The ping went well (0) or did not, and why. Said when that changes, or the words do. */
typedef void (*ssm_health_state_t)(int result, const char *why, void *userdata);

/* `http` and `credentials` must outlive it; the identity is copied. */
_must_check_ int ssm_health_new(Http *http, CredentialsSource *credentials,
                                const SsmIdentity *identity, ssm_health_state_t state,
                                void *userdata, SsmHealth **ret, char **reterr);
SsmHealth *ssm_health_free(SsmHealth *h); /* without calling back; not from within state() */
DEFINE_CLEANUP_FUNC(SsmHealth *, ssm_health_free);

/* For tests: in place of the real ones, which it has from the start. */
typedef struct SsmHealthLimits {
        unsigned interval_msec; /* 300000 */
        unsigned retry_msec;    /* 60000: after the first failure, a quarter more at random */
} SsmHealthLimits;

void ssm_health_set_limits(SsmHealth *h, const SsmHealthLimits *limits);

/* The channel that commands come by: "ec2messages", "ssmmessages" (constants), or "" while that is
 * open. A change is told at once, but for pauses after a failure; that the service ssm could not be
 * reached does not count when a channel can be. */
void ssm_health_set_channel(SsmHealth *h, const char *channel);

/* What the service's clock is ahead of ours, in seconds, by the last pings. */
time_t ssm_health_clock_offset(const SsmHealth *h);

/* As in ssm-mds.h. */
uint64_t ssm_health_due_in_usec(const SsmHealth *h);
void ssm_health_start_due(SsmHealth *h);
