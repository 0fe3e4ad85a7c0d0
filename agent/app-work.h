/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "app-internal.h"

/* What is under way for an application: its transaction, from the beginning to what its end means.
 */

/* For a->transaction, with the App as userdata. */
extern const TransactionCallbacks app_transaction_callbacks;

/* Begins the channel's deployment; a failure is the verdict then. */
void app_deploy(App *a, const char *by, bool stage);

/* Takes up what was left half-done. */
_must_check_ int app_take_up(App *a, char **reterr);

/* The same where there is something. What a crash or a failed beginning left half-done waits for
 * nothing but what it needs itself: neither for the store, nor for a manifest that is of use. */
void app_take_up_left(App *a);
void app_on_bus_changed(sd_bus *bus, void *userdata);

/* A transaction goes on; a newer order overtakes one that has not switched yet. True: it is still
 * there. */
bool app_is_under_way(App *a);

/* There is a transaction: what it does; allocated. */
char *app_under_way_text(const App *a);

/* There is a transaction: of a deployment that brings the channel here, also one that was taken up;
 * not of something that was here, and is made live by hand. */
bool app_works_for_channel(const App *a);

/* There is a transaction. False: it has switched, or runs its pre hooks. */
bool app_give_up_work(App *a, const char *why);
