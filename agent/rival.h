/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "bus.h"
#include "macro.h"

/*
 * Another agent on this host that asks Systems Manager for the same instance's orders: what it gets
 * does not come to us, and the other way round. Looked for at once and every five minutes, by the
 * units under which amazon-ssm-agent runs: its packages' own, and the snap's (AWS Systems Manager
 * User Guide, "Check SSM Agent status").
 */

#define RIVAL_UNITS                                                                                \
        {                                                                                          \
                "amazon-ssm-agent.service", "snap.amazon-ssm-agent.amazon-ssm-agent.service", NULL \
        }

typedef struct Rival Rival;

/* `bus` must outlive it. */
_must_check_ int rival_new(sd_event *event, Bus *bus, Rival **ret);
Rival *rival_free(Rival *r);
DEFINE_CLEANUP_FUNC(Rival *, rival_free);

/* The unit that runs; NULL: none does, as far as is known. */
const char *rival_unit(const Rival *r);
