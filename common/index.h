/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "digest.h"
#include "macro.h"

/*
 * The index of an artifact: its frames and its files. Binary, little-endian, without padding
 * between the parts, nothing after the last:
 *
 *   header, 64 bytes
 *      0   8  "SLPYIDX1"
 *      8   4  number of frames (1..FRAMES_MAX)
 *     12   4  number of files (0..FILES_MAX)
 *     16   8  artifact size in bytes: sum of the frames' compressed sizes
 *     24   8  content size in bytes: sum of the frames' content sizes, a multiple of 512
 *     32   8  size of the string area in bytes
 *     40  24  zero
 *   frames, 80 bytes each, in the order of the artifact
 *      0   8  offset in the artifact: where the frame before ended
 *      8   4  compressed size, 1..FRAME_SIZE_MAX
 *     12   4  content size, 1..FRAME_CONTENT_MAX
 *     16  32  SHA-256 of the compressed bytes
 *     48  32  SHA-256 of the content
 *   files, 80 bytes each, in bytewise order of their paths; a directory stands before what is in it
 *      0   2  path size
 *      2   2  link target size (0 unless a symlink)
 *      4   2  mode: 0644 or 0755 (directories 0755, symlinks 0777)
 *      6   1  type: 'f' file, 'd' directory, 'l' symlink
 *      7   1  zero
 *      8   8  size in bytes (files only, else 0)
 *     16   8  mtime, seconds since the epoch, below 2^33 (pax headers are not needed for it)
 *     24   4  first frame that holds a part of the entry (headers, content or padding)
 *     28   4  number of such frames, at least 1
 *     32  32  SHA-256 of the content (zero unless a file)
 *     64  16  zero
 *   strings: for each file in order its path, then its link target; no terminators
 *
 * The artifact's last frame holds the end-of-archive blocks alone and belongs to no file. Frames
 * are independent zstd frames (RFC 8878) with their content size, window log at most
 * FRAME_WINDOW_LOG_MAX. Entry i+1 starts in the last frame of entry i or in the one after.
 */

#define FRAMES_MAX           (UINT32_C(1) << 22)
#define FILES_MAX            (UINT32_C(1) << 20)
#define FRAME_CONTENT_MAX    (UINT32_C(4) << 20)
#define FRAME_SIZE_MAX       (FRAME_CONTENT_MAX + (UINT32_C(64) << 10))
#define FRAME_WINDOW_LOG_MAX 20

typedef struct Frame {
        uint64_t offset;
        uint32_t size_bytes, content_size_bytes;
        Sha256 sha256, content_sha256;
} Frame;

typedef enum FileType {
        FILE_REGULAR = 'f',
        FILE_DIRECTORY = 'd',
        FILE_SYMLINK = 'l',
} FileType;

typedef struct IndexFile {
        const char *path; /* NUL-terminated, owned by the index; tree_path_is_valid() */
        const char *link; /* symlinks only, else NULL; tree_link_is_inside() */
        FileType type;
        unsigned mode;
        uint64_t size_bytes, mtime_sec;
        Sha256 sha256;
        uint32_t first_frame, n_frames;
} IndexFile;

/* A checked index; opaque. Looking things up allocates nothing. */
typedef struct Index Index;

/* Checks everything that the layout above says, and that every path's parent is a directory entry
 * before it (so no path leads through a symlink) and no path comes twice. Copies what it needs. */
_must_check_ int index_parse(const void *data, size_t size, Index **ret, char **reterr);

Index *index_free(Index *i);
DEFINE_CLEANUP_FUNC(Index *, index_free);

size_t index_n_frames(const Index *i);
const Frame *index_frame(const Index *i, size_t n);
size_t index_n_files(const Index *i);
const IndexFile *index_file(const Index *i, size_t n);
uint64_t index_artifact_size(const Index *i);
uint64_t index_content_size(const Index *i);

/* The file with this path, or NULL. */
const IndexFile *index_find(const Index *i, const char *path);

/* Writing: frames and files are added in order, then formatted and checked by index_parse().
 * Strings and structs are copied. */
typedef struct IndexWriter IndexWriter;

_must_check_ int index_writer_new(IndexWriter **ret);
IndexWriter *index_writer_free(IndexWriter *w);
DEFINE_CLEANUP_FUNC(IndexWriter *, index_writer_free);
_must_check_ int index_writer_add_frame(IndexWriter *w, const Frame *f);
_must_check_ int index_writer_add_file(IndexWriter *w, const IndexFile *f);
_must_check_ int index_writer_format(const IndexWriter *w, void **ret, size_t *ret_size,
                                     char **reterr);
