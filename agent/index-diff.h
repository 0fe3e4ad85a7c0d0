/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "index.h"
#include "macro.h"

/* What tells two releases apart, by their indexes. Directories and times do not count. */

typedef enum FileChange {
        FILE_SAME,
        FILE_ADDED,
        FILE_CHANGED, /* content, mode, type or link target */
        FILE_REMOVED,
} FileChange;

/* `file` is of the new index, or with FILE_REMOVED of the old one. Negative: ends it. */
typedef int (*index_diff_each_t)(FileChange change, const IndexFile *file, void *userdata);

/* Calls back for each file and symlink of both, in the order of their paths. `old` may be NULL:
 * then all are added. Gives back what each() gave back. */
_must_check_ int index_diff(const Index *old, const Index *new, index_diff_each_t each,
                            void *userdata);
