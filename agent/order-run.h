/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stdint.h>

#include "agent.h"
#include "macro.h"
#include "remote-order.h"

/*
 * One order from far away (orders.h) that is carried out: asked of its application as by an
 * administrator, followed to the end of what it begins, and put into words. Where something else
 * was under way and the channel has a newer deployment, it is asked once more after that. Its
 * application is found by name at every step: another configuration may replace it meanwhile.
 */

typedef struct OrderRun OrderRun;

/* Begins, or ends at once. `what` is taken over. With `again` slipwayd was started anew since it
 * was first told of the order: nothing is begun, but what state and history know of it is found
 * out, if need be when the application's first poll, which is then made at once, and what came of
 * it are over: it may have what was cut off begun again. wake() is called when
 * order_run_step() has something to do, never from in here. */
_must_check_ int order_run_new(Agent *agent, RemoteOrder *what, bool again,
                               void (*wake)(void *userdata), void *userdata, OrderRun **ret);

/* Only when it can be forgotten (order_run_is_busy()), or nothing calls back any more. */
OrderRun *order_run_free(OrderRun *r);
DEFINE_CLEANUP_FUNC(OrderRun *, order_run_free);

/* Looks how it goes; whenever something about an application changed, and now and then. True: there
 * is something new to tell. */
bool order_run_step(OrderRun *r);

/* Has what has not switched yet given up, or says why it goes on (ORDER_NOT_STOPPED). An order that
 * has ended stays as it is. */
void order_run_cancel(OrderRun *r);

/* As in remote-order.h. */
int order_run_result(const OrderRun *r);
const char *order_run_words(const OrderRun *r);

/* What result and words say has been told: that it is not stopped is said once. */
void order_run_told(OrderRun *r);

bool order_run_has_ended(const OrderRun *r);

/* It goes on, or an application will still call back. */
bool order_run_is_busy(const OrderRun *r);

const RemoteOrder *order_run_what(const OrderRun *r);

/* The application; NULL: it could not be told which one. */
const char *order_run_app(const OrderRun *r);
