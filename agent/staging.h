/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "child.h"
#include "fetcher.h"
#include "macro.h"
#include "manifest.h"
#include "state.h"

/*
 * Brings the tree of a release onto the disk: the index comes through slipway-fetch into its
 * spool, or is that of a release on this host which has the very same; then, if there is room for
 * it (room.h), slipway-unpack takes over what releases on this host have of it, below
 * releases/.staging-<id>.<random>, and says which parts of the artifact it needs. These come
 * through slipway-fetch while it checks and writes. Once it said that it is done, and is gone, the
 * tree gets its final name, and its index is kept (index-store.h). What was begun and not finished
 * is for sweep.h to remove. Artifact and index that an administrator brought as files go straight
 * to slipway-unpack, which takes nothing on trust.
 */

#define STAGING_PREFIX ".staging-"

typedef struct StagingPlace {
        sd_event *event;
        Fetcher *fetcher;
        Identity identity; /* of slipway-unpack, which owns releases/ */
        int releases_fd;
        const char *root;       /* for messages */
        uint64_t reserve_bytes; /* what has to stay free, see room.h */
        const char *app;        /* whose index is kept, in the agent's state directory */
        const State *state;     /* whose releases may have something of the new one */
        int state_dir_fd;
} StagingPlace;

typedef struct Staging Staging;

/* 0: releases/<id> is there, whole and synced. -EBADMSG: the release itself, as it was signed,
 * breaks a rule: trying again is no use. Anything else (-EKEYREJECTED: the store's bytes are not
 * what was signed; store down, disk full): another try may go well. The staging may be freed here.
 */
typedef void (*staging_done_t)(int result, const char *reason, void *userdata);

/* What does not come through slipway-fetch: regular files, which others may change meanwhile. */
typedef struct StagingFiles {
        int index_fd, artifact_fd;
        int provenance_fd; /* or -EBADF; for vetting.h, nothing of it is staged */
} StagingFiles;

/* Starts; `files` (duplicated) may be NULL; `manifest` must outlive the staging. done() is never
 * called from in here. */
_must_check_ int staging_start(const StagingPlace *place, const Manifest *manifest,
                               const StagingFiles *files, staging_done_t done, void *userdata,
                               Staging **ret);

/* Ends it, without calling back: the children's work is dropped, the spool stays for the next try.
 */
Staging *staging_free(Staging *s);
DEFINE_CLEANUP_FUNC(Staging *, staging_free);

/* Calls back, with done()'s userdata, whenever more of the artifact is here. */
void staging_on_progress(Staging *s, void (*progress)(void *userdata));

/* Bytes of the artifact that are fetched, and of these the ones that are here. */
uint64_t staging_wanted(const Staging *s);
uint64_t staging_available(const Staging *s);

/* What came of it, once it is done. */
typedef struct StagingResult {
        uint64_t tree_bytes,
                own_bytes;     /* on the disk; what it does not share with other releases */
        unsigned n_taken_over; /* files that were here already */
} StagingResult;

StagingResult staging_result(const Staging *s);
