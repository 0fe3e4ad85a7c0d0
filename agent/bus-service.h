/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "agent.h"
#include "macro.h"

/*
 * slipwayd's side of agent-bus.h: offers all of it on each connection that there is, the present
 * one and those after it.
 */

typedef struct BusService BusService;

/* Told once: 0, the name is ours, or the bus does not say so in time, or there is none; or why we
 * can't be asked: -EEXIST, another slipwayd is running, ... (logged). */
typedef void (*bus_service_settled_t)(int result, void *userdata);

/* `a` must outlive it; its bus must be there. */
_must_check_ int bus_service_new(Agent *a, bus_service_settled_t settled, void *userdata,
                                 BusService **ret, char **reterr);
BusService *bus_service_free(BusService *s);
DEFINE_CLEANUP_FUNC(BusService *, bus_service_free);

/* The agent's applications are others now: what was offered for those before is gone. */
_must_check_ int bus_service_apps_changed(BusService *s);

/* Tells who listens, on the bus and far away (orders.h), that properties of this application may
 * have changed. */
void bus_service_app_changed(Agent *a, App *app);
