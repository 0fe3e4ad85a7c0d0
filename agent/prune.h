/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "macro.h"
#include "state.h"

/*
 * Which directories below releases/ are not needed any more: leftovers of a staging that was cut
 * off, releases that the state does not know (cut off between the rename and the saving), and those
 * beyond `keep` or the disk budget: first what never went well, then the oldest. The running
 * release, the last good one, a pinned one, a staged one and those of a
 * transaction under way never go; the one that failed last stays besides, as evidence, and goes
 * last when it is for the budget. Names that are not ours (neither a valid release name nor a
 * staging name) are left alone.
 */

/* Takes the releases out of the state's list (the caller saves before deleting) and gives the names
 * to delete: an array to be freed with its strings; *ret_n may be 0. budget_bytes: what all trees
 * may take together, what they share once, as far as their sizes are known; 0: no limit. */
_must_check_ int prune_select(int releases_fd, State *state, size_t keep, uint64_t budget_bytes,
                              char ***ret, size_t *ret_n);

/* Gives those of the names that are releases the name of a leftover, so that one of them that is
 * deployed anew while the rest is being deleted is not met by that. After the state was saved. */
_must_check_ int prune_retire(int releases_fd, char **names, size_t n_names);
