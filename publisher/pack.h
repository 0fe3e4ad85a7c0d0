/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "digest.h"
#include "index.h"
#include "macro.h"
#include "tree.h"

/*
 * Packs a directory tree into an artifact (a .tar.zst of independent zstd frames) and its index;
 * for the format of both see common/index.h. The same tree on the same predecessor gives the same
 * bytes, whatever the order, owners, umask and times in the file system, and however many threads
 * compress. (Another version of libzstd may compress differently.)
 */

/* zstd's level when PackOptions has 0: as fast as tar | zstd. */
#define PACK_LEVEL_DEFAULT 3
#define PACK_LEVEL_MAX     19

/* Bytes of the artifact's content that are done, of all. */
typedef void (*pack_progress_t)(uint64_t done_bytes, uint64_t total_bytes, void *userdata);

typedef struct PackOptions {
        const Tree *tree;         /* what tree_scan() found; NULL: it is scanned */
        uint64_t source_time_sec; /* the source commit's time or SOURCE_DATE_EPOCH: mtime of what is
                                     new or changed; below 2^33 */
        int level;                /* zstd's, 1..PACK_LEVEL_MAX; 0: PACK_LEVEL_DEFAULT */
        unsigned n_threads;       /* that compress; 0: one per CPU, at most 8 */
        pack_progress_t progress; /* may be NULL; called in the caller's thread */
        void *userdata;
} PackOptions;

typedef struct PackResult {
        uint64_t artifact_size_bytes;
        Sha256 artifact_sha256;
        void *index; /* the index file's bytes; freed by pack_result_done() */
        size_t index_size_bytes;
        Sha256 index_sha256;
        size_t n_files;         /* entries: files, directories and symlinks */
        uint64_t content_bytes; /* of the regular files together */
} PackResult;

void pack_result_done(PackResult *r);

/*
 * Packs what is in the directory tree_fd (which is not itself an entry) into artifact_fd, an empty
 * regular file open for writing. predecessor: the index of the release before this one, of which
 * times are kept (see file-times.h); may be NULL. *ret is written on success only.
 *
 * Modes become 0755 (directories, and files that their owner may execute) or 0644; owners are
 * dropped; hard links become separate files.
 *
 * Refused with -EBADMSG naming the path: devices, fifos and sockets; setuid, setgid and sticky
 * files (a directory's setgid and sticky bits are dropped); symlinks that are absolute or leave the
 * tree; names and depths that tree_path_is_valid() refuses; more than FILES_MAX entries. A file
 * that changes while it is read is -ESTALE. Other errors are the file system's.
 */
_must_check_ int pack_tree(int tree_fd, const PackOptions *o, const Index *predecessor,
                           int artifact_fd, PackResult *ret, char **reterr);
