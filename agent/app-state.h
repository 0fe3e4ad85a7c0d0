/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "app-internal.h"

/* What an application remembers besides its transactions (state.h): changed here alone. */

/* Changes the state under the lock, which a transaction has already, by one of the functions below,
 * which save it. */
int app_change_state(App *a, int (*change)(App *a), char **reterr);

int app_record_adopted(App *a); /* `wanted` is what is live */
int app_record_ahead(App *a);   /* what was staged goes live by itself */
int app_record_again(App *a);   /* what could not be saved */
int app_record_hold(App *a);    /* new_hold, which is taken */
int app_record_hold_ended(App *a);
int app_record_resumed(App *a);

/* No manifest below this one is taken any more. */
_must_check_ int app_raise_floor(App *a, const Manifest *m, const Sha256 *digest, char **reterr);
