/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <cJSON.h>

#include "agent.h"
#include "macro.h"

/*
 * slipwayd's side of orders that come from far away: has slipway-fetch listen (MESSAGE_LISTEN)
 * where the configuration enables it and the instance is known, carries out what the configuration
 * allows, and says what became of it: once when it is under way, when a phase ends, at least every
 * 20 minutes, and at the end. An order is asked of the same functions as an administrator's, in the
 * name of "ssm:<command>"; whatever it asks for, only signed manifests say what is installed.
 *
 * The same command is carried out once: those of this life of slipwayd are known by their names;
 * one that slipway-fetch hands over again after slipwayd was started anew is answered by what the
 * state and the history say became of it, once the channel was asked, and begins nothing.
 *
 * slipway-fetch may have been taken over: at most ORDERS_KNOWN_MAX orders are known (the oldest
 * that has ended goes first), ORDERS_UNDER_WAY_MAX of them under way, and more than a burst of
 * ORDERS_BURST and one a second are refused.
 */

#define ORDERS_KNOWN_MAX     64
#define ORDERS_UNDER_WAY_MAX 16
#define ORDERS_BURST         32

/* Begins to listen when the event loop runs, and again whenever slipway-fetch was started anew.
 * The agent's fetcher must outlive it; its applications must not call back after it was freed. */
_must_check_ int orders_new(Agent *agent, Orders **ret);
Orders *orders_free(Orders *o);
DEFINE_CLEANUP_FUNC(Orders *, orders_free);

/* The configuration, or what is known of the instance, is another one now. NULL is fine here and
 * below. */
void orders_look_again(Orders *o);

/* Something about an application changed: its phase, its release, what is remembered. What that
 * means is looked at from the event loop. */
void orders_app_changed(Orders *o);

/* By which channel orders can come: "ec2messages", "ssmmessages"; "none": by none now. NULL: they
 * are not enabled. */
const char *orders_channel(const Orders *o);

/* Adds "ssm" to Describe() (agent-bus.h). */
_must_check_ int orders_describe(const Orders *o, cJSON *object);
