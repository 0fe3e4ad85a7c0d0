/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "index.h"
#include "macro.h"
#include "range-set.h"

/*
 * What a release needs that older ones, the seeds, do not have, by their indexes alone. It says
 * where content should be; whoever takes it from there checks it, and tells when it was not
 * (delta_lose()).
 *
 * A regular file is reused when a seed has one of the same content, wherever that lies; directories
 * and symlinks need nothing. All frames of the others are needed, and with them those that an entry
 * ties to them by lying in both, so that the needed frames, one after the other, are a tar stream
 * of whole entries. Of these, a frame that is a piece of a large file (one with frames of its own
 * after the one that ends with its header) is taken from a seed's file that has the same piece; the
 * rest has to be fetched. The frame with the archive's end is never needed.
 */

typedef struct Delta Delta;

/* Content in a file of a seed. */
typedef struct DeltaSource {
        size_t seed;                 /* number of the seed */
        const IndexFile *file;       /* of its index */
        uint64_t offset, size_bytes; /* of the file; the content is these, then zeros */
} DeltaSource;

typedef enum DeltaFrame {
        DELTA_SKIP, /* not needed */
        DELTA_COPY, /* a seed has its content */
        DELTA_FETCH,
} DeltaFrame;

/* The indexes stay the caller's and must outlive it. Of several files with the content, the one at
 * the same path is preferred, then one of the same mode and time, then one of an earlier seed. */
_must_check_ int delta_new(const Index *index, const Index *const *seeds, size_t n_seeds,
                           Delta **ret);
Delta *delta_free(Delta *d);
DEFINE_CLEANUP_FUNC(Delta *, delta_free);

/* Whether file n (index_file()) is reused, and from where: the whole of a seed's file. */
bool delta_file(const Delta *d, size_t n, DeltaSource *ret);

/* File n is not to be had from a seed. Safe to be called from several threads, for different
 * files. */
void delta_lose(Delta *d, size_t n);

/* Decides about the frames, by what is reused now; to be called before what follows, and again
 * after delta_lose(). */
void delta_settle(Delta *d);

/* ret_source (may be NULL) is set with DELTA_COPY alone. */
DeltaFrame delta_frame(const Delta *d, size_t n, DeltaSource *ret_source);

/* A seed does not have frame n, which was to be copied, after all: it is to be fetched. */
void delta_lose_frame(Delta *d, size_t n);

/* Whether entry n lies in needed frames, so that the tar stream has it, also if it is reused. */
bool delta_in_stream(const Delta *d, size_t n);

/* What is to be fetched of the artifact: few ranges, the gaps between them closed where that adds
 * at most a sixteenth of what is needed. */
_must_check_ int delta_ranges(const Delta *d, RangeSet **ret);

/* Bytes of content that are reused: of whole files, and of pieces. */
uint64_t delta_reused_bytes(const Delta *d);
