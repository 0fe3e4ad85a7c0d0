/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "digest.h"
#include "index.h"
#include "macro.h"
#include "state.h"

/*
 * The signed indexes of the releases on this host, as they were fetched: <app>.index/<release> in
 * the agent's state directory (/var/lib/slipway), root only. slipway-unpack can't write there, so
 * that an index tells what its release was, whatever became of the tree. An index is stored before
 * its release gets its name, and goes after the release has gone from the state.
 */

/* Copies `size` bytes of fd (hostile: checked on the way, what is kept are the bytes that were
 * checked) and syncs them. Replaces another index of that name. -EKEYREJECTED: they are not what
 * was signed. Blocks for as long as that takes: INDEX_SIZE_MAX at most. */
_must_check_ int index_store_take(int state_dir_fd, const char *app, const char *release, int fd,
                                  uint64_t size, const Sha256 *sha256, char **reterr);

/* Keeps the index of the release `from` for another one as well, if it has this digest: as the same
 * file, as none is ever written to. -ENOENT: there is none, or it is another one. */
_must_check_ int index_store_share(int state_dir_fd, const char *app, const char *from,
                                   const char *release, const Sha256 *sha256);

/* The index of a release, if it is the one with this digest. -ENOENT: there is none (the release
 * came before indexes were kept, or after the state was lost), or it is another one. */
_must_check_ int index_store_load(int state_dir_fd, const char *app, const char *release,
                                  const Sha256 *sha256, Index **ret, char **reterr);

/* A descriptor of it for reading, unchecked; or -ENOENT. */
int index_store_open(int state_dir_fd, const char *app, const char *release);

/* Removes those of releases that the state does not know. */
_must_check_ int index_store_prune(int state_dir_fd, const State *state);
