/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "config.h"
#include "fetcher.h"
#include "macro.h"
#include "manifest.h"
#include "staging.h"
#include "trust.h"

/*
 * An order that did not come by way of the store: the signed manifest, the index, the artifact and,
 * if some are there, provenances are files that an administrator opened; of these the one that was
 * signed counts. slipway-fetch opens the
 * envelope, slipwayd verifies it, all as if it had been polled; what it does not say about
 * freshness is for judge_fresh().
 */

typedef struct FileOrder FileOrder;

#define ORDER_PROVENANCES_MAX 12 /* dbus-daemon passes on 16 descriptors at a time */

/* For reading, at their beginning. */
typedef struct OrderFiles {
        int manifest_fd, index_fd, artifact_fd;
        int provenance_fds[ORDER_PROVENANCES_MAX]; /* of which one may be the manifest's; where none
                                                    * is, and one is asked for, the store has it */
        size_t n_provenances;
} OrderFiles;

/* Told once. 0: the manifest can be trusted, is for this application, and index and artifact have
 * the sizes it says. Else a negative errno and why. The order may be freed here. */
typedef void (*file_order_done_t)(int result, const char *reason, void *userdata);

/* Begins to judge. The descriptors are duplicated. -EINVAL: one of them is no regular file. done()
 * is never called from in here. */
_must_check_ int file_order_new(Fetcher *fetcher, const Trust *trust, const AppConfig *app,
                                const OrderFiles *files, file_order_done_t done, void *userdata,
                                FileOrder **ret, char **reterr);
FileOrder *file_order_free(FileOrder *o);
DEFINE_CLEANUP_FUNC(FileOrder *, file_order_free);

/* After done() with 0; they are the order's. */
Manifest *file_order_manifest(const FileOrder *o);
const Sha256 *file_order_digest(const FileOrder *o);
StagingFiles file_order_files(const FileOrder *o);
