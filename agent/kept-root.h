/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "macro.h"
#include "trust.h"

/*
 * The trust root that this host goes by. Its image brings one ("trust" in agent.json); what
 * slipwayd learned from the store since (root-watch.h) is kept in the state directory, in a file of
 * the same form, which an image may bring in its turn.
 *
 * The kept one is trusted because of where it lies, as the image's is: nobody but root can write
 * there, and who can could change the image's as well. So it is not verified along the chain once
 * more, for which every root in between would have to be kept. The higher version counts, so that
 * neither an older image nor an older store takes this host back; of two with the same version the
 * image's, which somebody has put there.
 */

#define KEPT_ROOT_NAME "trust-root"

/* `path`: the image's. *ret_new: its envelope, if it is to be kept, so that another image does not
 * take this host back; else NULL. A kept one that can't be read is passed over, and *ret_trouble
 * says so (allocated; else NULL): the chain is walked again. */
_must_check_ int kept_root_load(const char *path, const char *state_dir, Trust **ret,
                                Envelope **ret_new, char **ret_trouble, char **reterr);

/* Keeps the trust root in this envelope, durably: after a crash there is this one or the one
 * before. Nobody else may be at it. */
_must_check_ int kept_root_save(int state_dir_fd, const Envelope *e);
