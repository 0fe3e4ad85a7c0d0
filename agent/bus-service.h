/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "agent.h"
#include "macro.h"

/* slipwayd's side of agent-bus.h. */

/* Offers all of it on a->bus and asks for the name. A name that somebody else has is -EEXIST:
 * another slipwayd is running. The objects live as long as the bus connection. */
_must_check_ int bus_service_offer(Agent *a, char **reterr);

/* Tells who listens that properties of this application may have changed. */
void bus_service_app_changed(Agent *a, App *app);
