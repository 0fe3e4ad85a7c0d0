/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "macro.h"
#include "site.h"

/*
 * Removes what one application does not need any more (prune.h says what): first from the state,
 * under the lock, then, without it, from the disk (sweep.h). Failures are logged; what could not
 * be removed is found again by the next run.
 */

typedef struct Pruner Pruner;

/* `idle` is called when trees have been removed, or could not be. */
_must_check_ int pruner_new(Site *site, void (*idle)(void *userdata), void *userdata, Pruner **ret);
Pruner *pruner_free(Pruner *p);
DEFINE_CLEANUP_FUNC(Pruner *, pruner_free);

/* Begins, unless trees are being removed already. Not while something is staged, which would look
 * like a leftover. */
void pruner_run(Pruner *p);

/* The last run could not do its part: another program was at work, or the disk was not. */
bool pruner_is_due(const Pruner *p);

/* Trees are being removed. */
bool pruner_is_busy(const Pruner *p);

/* Ends the removing where it stands: what is left may be what is needed now. The next run finds it.
 */
void pruner_stop(Pruner *p);
