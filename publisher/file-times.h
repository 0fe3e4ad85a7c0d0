/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stdint.h>

#include "index.h"
#include "macro.h"

/*
 * Which time of last change an entry of a release gets. It says in which release the content came,
 * so that caches and ETags stay right, an instance may share the file with an older release (the
 * time belongs to the file, not to its name), and the same tree on the same predecessor gives the
 * same bytes:
 *
 * - what the predecessor has at the same path, with the same type, content and link target, keeps
 *   its time;
 * - so does a regular file whose content the predecessor has elsewhere with the same mode: moved,
 *   renamed or copied. Of several the latest counts. At a path that had other content this holds
 *   only if that time is later than what was there, for caches know a file by path, time and size;
 * - all else gets the time of the source, or the second after that of what was at its path, if that
 *   is later.
 */

typedef struct FileTimes FileTimes;

/* The predecessor (may be NULL) stays the caller's and must outlive it. */
_must_check_ int file_times_new(const Index *predecessor, uint64_t source_time_sec,
                                FileTimes **ret);
FileTimes *file_times_free(FileTimes *t);
DEFINE_CLEANUP_FUNC(FileTimes *, file_times_free);

/* By path, type, mode, size, content and link target of f. */
uint64_t file_times_decide(const FileTimes *t, const IndexFile *f);
