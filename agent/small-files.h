/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "index.h"
#include "macro.h"

/*
 * Has small files made by a thread of its own while the caller reads on: most of what a small file
 * takes is the file system's work of creating it. When the thread has enough to do, the caller
 * makes files as well, so that neither waits for the other. Memory: the content of
 * SMALL_FILES_AHEAD files, 2 MiB.
 */

#define SMALL_FILE_MAX    (UINT64_C(64) << 10)
#define SMALL_FILES_AHEAD 32

/* Makes f; called in the thread. content: of f->size_bytes. After its first error it is not called
 * again. */
typedef int (*small_file_make_t)(void *userdata, const IndexFile *f, const void *content,
                                 char **reterr);

typedef struct SmallFiles SmallFiles;

/* userdata is the thread's alone until small_files_free(). */
_must_check_ int small_files_new(small_file_make_t make, void *userdata, SmallFiles **ret);

/* Ends the thread when the file that it is at is made; what is waiting is dropped. */
SmallFiles *small_files_free(SmallFiles *s);
DEFINE_CLEANUP_FUNC(SmallFiles *, small_files_free);

/* 1, *ret_room: SMALL_FILE_MAX bytes for the content of the next file. 0: all are in use, the
 * caller had better make it. Errors: those of a file that was added before. */
_must_check_ int small_files_room(SmallFiles *s, void **ret_room, char **reterr);

/* Hands over f, of at most SMALL_FILE_MAX bytes, whose content is in the room. f must stay. */
void small_files_add(SmallFiles *s, const IndexFile *f);

/* Waits until all that were added are made. */
_must_check_ int small_files_finish(SmallFiles *s, char **reterr);
