/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stdint.h>
#include <sys/types.h>

#include "activate.h"
#include "index.h"
#include "macro.h"

/*
 * Compares the tree of a release on the disk with its signed index. The tree is not trusted, and
 * this may be root: it is gone through by directory descriptors, no symlink is followed, nothing
 * but regular files is opened, and no more of them is read than the index says.
 */

typedef enum DriftKind {
        DRIFT_MISSING,
        DRIFT_EXTRA, /* not in the index; what is below it is not named */
        DRIFT_TYPE,  /* file, directory, link, ...; what is below it is not looked at */
        DRIFT_CONTENT,
        DRIFT_MODE,
        DRIFT_OWNER,
        DRIFT_LINK, /* a symlink with another target */
        _DRIFT_KIND_MAX,
} DriftKind;

const char *drift_kind_to_string(DriftKind k); /* "missing", ... */

/* One difference. A path may have several. All texts are valid during the call only. */
typedef struct Drift {
        DriftKind kind;
        const char *path;             /* "." is the top */
        const char *expected, *found; /* in words; NULL with MISSING and EXTRA */
} Drift;

typedef struct VerifyOptions {
        const Activate *activate; /* its shared links have to be there besides (shared-link.h) */
        uid_t uid;                /* whose all of it has to be */
        gid_t gid;
        void (*drift)(const Drift *d, void *userdata);
        void (*progress)(size_t n_files, uint64_t n_bytes, void *userdata); /* after each entry */
        void *userdata;
} VerifyOptions;

/* 0 also when there are differences. Errors are those of reading, with the path. Times are not
 * compared. */
_must_check_ int verify_tree(int tree_fd, const Index *index, const VerifyOptions *options,
                             char **reterr);
