/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "child.h"
#include "macro.h"
#include "state.h"

/*
 * Puts the shared links into the tree of a release that is on the disk already, by a slipway-unpack
 * of its own: for a deployment of the same release with other links. (A release that is unpacked
 * has them before it gets its name, see staging.h.) After five minutes it is killed.
 */

typedef struct Linking Linking;

/* 0: the links are there, synced. -EBADMSG: something of the release is in the way. The linking may
 * be freed here. */
typedef void (*linking_done_t)(int result, const char *reason, void *userdata);

/* 1: the release has all these links; 0: not all. */
_must_check_ int linking_is_done(int releases_fd, const char *release, const Activate *a);

/* Starts; done() is never called from in here. */
_must_check_ int linking_start(sd_event *event, const Identity *identity, int releases_fd,
                               const Installed *i, linking_done_t done, void *userdata,
                               Linking **ret, char **reterr);

/* Ends it where it stands, without calling back. */
Linking *linking_free(Linking *l);
DEFINE_CLEANUP_FUNC(Linking *, linking_free);
