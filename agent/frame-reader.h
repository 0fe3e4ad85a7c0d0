/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stddef.h>

#include "delta.h"
#include "index.h"
#include "macro.h"

/*
 * Reads the frames of an artifact that a release needs (delta.h), in order, while slipway-fetch is
 * still fetching them. A thread of its own waits until a frame is there (MESSAGE_AVAILABLE), reads
 * it into its own memory, checks its digest and decompresses it, a few frames ahead of the caller.
 * So content is the signed one before anybody looks at it, and zstd sees signed bytes only. Frames
 * that an installed release has the content of are read from its file, and checked again.
 *
 * A frame that is not what the index says is asked for again (MESSAGE_BAD_FRAME, REPLACED), up to
 * FRAME_TRIES in all. The thread alone uses the socket until frame_reader_free(). Memory: at most
 * FRAMES_AHEAD + 1 frames' content and one frame's compressed bytes, 25 MiB.
 */

#define FRAMES_AHEAD 4
#define FRAME_TRIES  3

typedef struct FrameReader FrameReader;

typedef struct FramePlan {
        const Index *index;
        const Delta *delta;
        const int *piece_fds; /* for each frame that is copied: the file that has it */
        int artifact_fd;      /* or -EBADF, when nothing is to be fetched */
} FramePlan;

/* socket_fd and all that the plan names stay the caller's and must live longer. */
_must_check_ int frame_reader_new(int socket_fd, const FramePlan *plan, FrameReader **ret);

/* Ends the thread, whatever it waits for. */
FrameReader *frame_reader_free(FrameReader *r);
DEFINE_CLEANUP_FUNC(FrameReader *, frame_reader_free);

/* 1: the content of the next frame, valid until the next call. 0: there are no more. Errors:
 * -EKEYREJECTED after the last try of a bad frame, -ESTALE when a file of an installed release has
 * changed since take_over_pieces(), -EBADMSG for one that is not a zstd frame of the
 * allowed form, -EPROTO, -ECONNRESET when slipwayd is gone, reading's own. */
_must_check_ int frame_reader_next(FrameReader *r, const void **ret_data, size_t *ret_size,
                                   char **reterr);
