/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "delta.h"
#include "index.h"
#include "macro.h"

/*
 * Takes over what installed releases, the seeds, have of the one that is being unpacked, by signed
 * data and the seeds' files alone: before anything that is not signed is looked at.
 *
 * Nothing of a seed is taken on trust: each file is opened below the seed's directory, never
 * through a symlink, and read once, and it is the signed content, or the file is not taken over.
 * Where nobody else can write to it, and it has the mode and time of the new one, it is linked:
 * both releases have the same inode then. Else its content is copied (shared, where the file system
 * can do that), and it is the copy that was checked.
 */

/* So many files of seeds stay open for the pieces that are still to be read from them. */
#define TAKE_OVER_PIECE_FDS_MAX 64

typedef struct Seed {
        char *name; /* of the release */
        Index *index;
        int dir_fd;
        bool may_link; /* nobody but who we are can write to its files */
} Seed;

void seed_done(Seed *s);

typedef struct TakenOver {
        size_t n_files;
        bool *linked;     /* for each file: it has the inode of a seed's */
        size_t n_lost;    /* files and pieces that were not what was signed, or not there */
        char *first_lost; /* one of them, in words; NULL: none */
        int *frame_fds;   /* for each frame: what a piece is read from, or -EBADF */
        int piece_fds[TAKE_OVER_PIECE_FDS_MAX];
        size_t n_piece_fds;
} TakenOver;

void taken_over_done(TakenOver *t);

/* Makes all files that `delta` finds in the seeds, in the directory tree_fd, which has all
 * directories of the index already; tells delta of those that can't be had (delta_lose()). Errors
 * are those of writing, with the path. */
_must_check_ int take_over_files(const Index *index, const Seed *seeds, int tree_fd, Delta *delta,
                                 TakenOver *t, char **reterr);

/* After delta_settle(): opens what the frames are in that are to be copied, and reads it once;
 * tells delta of those that can't be had (delta_lose_frame()). What is read from frame_fds later
 * has to be checked again. */
_must_check_ int take_over_pieces(const Index *index, const Seed *seeds, Delta *delta, TakenOver *t,
                                  char **reterr);

/* Reads the piece of frame f: from fd what `source` says, then zeros, into content (of the frame's
 * content size). 1: it is the signed content; 0: it is not. */
_must_check_ int take_over_read_piece(const Frame *f, const DeltaSource *source, int fd,
                                      uint8_t *content);
