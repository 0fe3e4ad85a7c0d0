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
 * state and the history say became of it, and begins nothing.
 */

typedef struct Orders Orders;

/* Begins to listen when the event loop runs, and again whenever slipway-fetch was started anew. */
_must_check_ int orders_new(Agent *agent, Orders **ret);
Orders *orders_free(Orders *o);
DEFINE_CLEANUP_FUNC(Orders *, orders_free);

/* The configuration, or what is known of the instance, is another one now. */
void orders_look_again(Orders *o);

/* Something about the app changed: its phase, its release, what is remembered. */
void orders_app_changed(Orders *o, const App *app);

/* Adds "ssm" to Describe() (agent-bus.h): { "channel": "ec2messages", "listening": true,
 * "trouble": "...", "orders": [ { "command": "...", "action": "deploy", "app": "web", "at": "...",
 * "result": "under way" | "done" | "failed" } ] }, the last ones first. Nothing when it is not
 * enabled. */
_must_check_ int orders_describe(const Orders *o, cJSON *object);
