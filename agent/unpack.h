/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "macro.h"

/*
 * The work of slipway-unpack: one order from slipwayd, by the messages of message.h. Either
 *
 *   INDEX, maybe LINKS, SEED..., RELEASES -> NEEDS
 *   TAKE -> WANTED
 *   ARTIFACT, then AVAILABLE... -> BAD_FRAME and REPLACED as needed -> UNPACKED
 *
 * or LINKS, RELEASES -> LINKED; or REMOVE -> REMOVED, any number of times, until slipwayd closes
 * the socket.
 *
 * Unpacking makes the staging directory (which must not exist, or be empty), takes over what the
 * seeds have (take-over.h), writes the rest of the release into it, gives it mode 0755 and syncs
 * file system and releases directory before it answers 0. If anything fails, the staging directory
 * is removed before the answer. A process that died leaves it behind, for REMOVE. Links that the
 * release has no place for are refused before anything is written.
 *
 * LINKS without INDEX makes them in a release that is there already, and syncs.
 */

/* Called once, when everything was taken over and before a byte of the artifact is read: gives up
 * every right that is not needed for writing below staging_fd (and removing it from releases_fd).
 */
typedef int (*unpack_tighten_t)(int releases_fd, int staging_fd, char **reterr);

/* socket_fd: the child's end of message_pair(). tighten may be NULL (tests). Returns 0 when
 * slipwayd has got an answer, also to a failure; a negative errno when it can't be told. */
_must_check_ int unpack_run(int socket_fd, unpack_tighten_t tighten, char **reterr);
