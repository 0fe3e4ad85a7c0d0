/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "index.h"
#include "macro.h"
#include "manifest.h"
#include "store.h"

/*
 * Checks a release in a store as an instance would, and further: every byte of the artifact is read
 * (in ranges, in memory of some 20 MiB whatever its size), every frame's two digests are compared,
 * its content decompressed, and the tar inside compared with the index, entry by entry: path, type,
 * mode, size, time, link and digest.
 */

/* The index is the one that the manifest names, checked. -EKEYREJECTED: *reterr says which frame or
 * file does not hold. -ENOENT: no artifact. progress may be NULL. */
_must_check_ int audit_artifact(Store *s, const Manifest *m, const Index *index,
                                store_progress_t progress, void *userdata, char **reterr);
