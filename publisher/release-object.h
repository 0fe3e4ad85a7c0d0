/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "index.h"
#include "macro.h"
#include "manifest.h"
#include "pack.h"
#include "store.h"

/* The two objects of a release: APP/releases/ID/artifact.tar.zst and .../index. Both never change;
 * the index is written last, so that a release with an index is whole. */

enum {
        RELEASE_REUSED = 1, /* the store had the same release */
};

/* Sets the manifest's artifact and index, by its app and release, to what was packed. */
_must_check_ int release_object_describe(const PackResult *packed, Manifest *m);

/* Uploads what was packed and described in the manifest, or finds that the store has the same under
 * this id: every byte of it is compared, by digest. Other content under the id is -EEXIST. Shows
 * progress. */
_must_check_ int release_object_upload(Store *s, const Manifest *m, int artifact_fd,
                                       const PackResult *packed, char **reterr);

/* The index of the release `id`, by its place alone: 0, or STORE_ABSENT. Not verified: it may serve
 * as predecessor for a release of the same id, whose own index is compared with it anyway. */
_must_check_ int release_object_find_index(Store *s, const char *app, const char *id, Index **ret,
                                           char **reterr);

/* The index that a manifest names, checked by its digest (-EKEYREJECTED, -ENOENT). */
_must_check_ int release_object_read_index(Store *s, const Manifest *m, Index **ret, char **reterr);

/* Whether what a manifest names can still be deployed: its index holds, and the artifact's first
 * and last frame are there and hold. Errors as above. */
_must_check_ int release_object_check(Store *s, const Manifest *m, char **reterr);
