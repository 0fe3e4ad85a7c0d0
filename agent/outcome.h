/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "macro.h"
#include "site.h"

/*
 * How a transaction ended, written into the state: the event, and what it means for later ones:
 * what was good, what is not to be tried again, what was chosen by hand. The state is idle after
 * that; the caller saves it.
 */

/* True if a failure with this errno is the release's own: it is not tried again. Anything else may
 * pass. */
bool outcome_is_final(int error);

/* The transaction failed before the switch: but for a release that is bad in itself it is as if it
 * had not been. -EAGAIN: it did not fail, but is put off. */
Result outcome_result_before_switch(int error);
_must_check_ int outcome_before_switch(State *s, int error, const char *reason);

/* It came to the switch. What is live, the link tells. reason may be NULL. */
_must_check_ int outcome_after_switch(Site *site, Result result, const char *reason);
