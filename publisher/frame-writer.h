/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "index.h"
#include "macro.h"

/*
 * Writes an artifact: content goes in as a stream with cuts, and out as zstd frames in order. A few
 * threads compress; which frame a byte goes to and what it becomes does not depend on them. All
 * calls from one thread.
 */

/* The most that may stand between two cuts. */
#define FRAME_WRITER_CONTENT_MAX ((size_t) 5 << 18)

typedef struct FrameWriter FrameWriter;

/* Writes to fd's present position, which stays the caller's; the frames are added to `index`, which
 * must live longer. n_threads: 1 or more. */
_must_check_ int frame_writer_new(int fd, int level, unsigned n_threads, IndexWriter *index,
                                  FrameWriter **ret);

/* Waits for its threads; what is not written is dropped. */
FrameWriter *frame_writer_free(FrameWriter *w);
DEFINE_CLEANUP_FUNC(FrameWriter *, frame_writer_free);

/* More content for the frame that is being filled; -EFBIG past FRAME_WRITER_CONTENT_MAX. */
_must_check_ int frame_writer_add(FrameWriter *w, const void *data, size_t size);

/* Ends the frame, if anything was added to it. May write frames, and fail by that. */
_must_check_ int frame_writer_cut(FrameWriter *w);

/* Ends the frame after its first `size` bytes, 1..frame_writer_pending(); the others begin the next
 * one. As frame_writer_cut(). */
_must_check_ int frame_writer_cut_at(FrameWriter *w, size_t size);

/* Bytes in the frame that is being filled. */
size_t frame_writer_pending(const FrameWriter *w);

/* Frames so far, with the one that is being filled unless it is empty. */
uint32_t frame_writer_n_frames(const FrameWriter *w);

/* Cuts, writes what is left and gives size and digest of the whole. */
_must_check_ int frame_writer_finish(FrameWriter *w, uint64_t *ret_size, Sha256 *ret_sha256);
