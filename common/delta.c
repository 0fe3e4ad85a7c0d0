/* SPDX-License-Identifier: Apache-2.0 */
#include "delta.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define TAR_BLOCK UINT64_C(512)

/* So many files of the same content are looked at for one of the same mode and time. */
#define N_TWINS_MAX 16

/* An entry of a seed. */
typedef struct Ref {
        const IndexFile *file; /* NULL: none */
        size_t seed;
} Ref;

/* A frame of a seed that holds nothing but a part of a large file. */
typedef struct Piece {
        const Frame *frame;
        Ref ref;
        uint64_t offset; /* in the file */
} Piece;

typedef struct FramePlan {
        DeltaFrame what;
        bool tied; /* an entry lies in this frame and in the one before */
        bool lost;
        const Piece *piece;
} FramePlan;

struct Delta {
        const Index *index;
        const Index **seeds;
        size_t n_seeds;
        Ref *files; /* what each file of `index` is taken from */
        FramePlan *frames;
        Ref *by_content; /* regular files of the seeds; sorted by digest when one is looked for */
        size_t n_by_content;
        Piece *pieces; /* by digest of the content */
        size_t n_pieces;
};

Delta *delta_free(Delta *d)
{
        if (!d)
                return NULL;
        free(d->seeds);
        free(d->files);
        free(d->frames);
        free(d->by_content);
        free(d->pieces);
        free(d);
        return NULL;
}

static bool same_content(const IndexFile *a, const IndexFile *b)
{
        return a->type == FILE_REGULAR && b->type == FILE_REGULAR &&
               a->size_bytes == b->size_bytes && sha256_equal(&a->sha256, &b->sha256);
}

/* Within a digest, as they were added: earlier seeds first. */
static int compare_refs(const void *a, const void *b)
{
        const Ref *x = a, *y = b;
        int r = memcmp(&x->file->sha256, &y->file->sha256, sizeof(Sha256));

        if (r != 0)
                return r;
        if (x->seed != y->seed)
                return x->seed < y->seed ? -1 : 1;
        return x->file < y->file ? -1 : x->file > y->file;
}

static int compare_pieces(const void *a, const void *b)
{
        const Piece *x = a, *y = b;
        int r = memcmp(&x->frame->content_sha256, &y->frame->content_sha256, sizeof(Sha256));

        if (r != 0)
                return r;
        if (x->ref.seed != y->ref.seed)
                return x->ref.seed < y->ref.seed ? -1 : 1;
        return x->offset < y->offset ? -1 : x->offset > y->offset;
}

/* Whether the frames after its first one hold this file's content and padding, and nothing else.
 * The sizes don't prove it: that a piece has the frame's digest does. */
static bool has_pieces(const Index *i, const IndexFile *f)
{
        uint64_t size_bytes = 0;

        if (f->type != FILE_REGULAR || f->n_frames < 2)
                return false;
        for (size_t n = f->first_frame + 1; n < f->first_frame + f->n_frames; n++)
                size_bytes += index_frame(i, n)->content_size_bytes;
        return size_bytes == (f->size_bytes + TAR_BLOCK - 1) / TAR_BLOCK * TAR_BLOCK;
}

static void add_pieces(Delta *d, Ref ref)
{
        const Index *i = d->seeds[ref.seed];
        uint64_t offset = 0;

        if (!has_pieces(i, ref.file))
                return;
        for (size_t n = 1; n < ref.file->n_frames; n++) {
                const Frame *frame = index_frame(i, ref.file->first_frame + n);

                d->pieces[d->n_pieces++] = (Piece){ frame, ref, offset };
                offset += frame->content_size_bytes;
        }
}

static void add_seed(Delta *d, size_t seed)
{
        const Index *i = d->seeds[seed];

        for (size_t n = 0; n < index_n_files(i); n++) {
                Ref ref = { index_file(i, n), seed };

                if (ref.file->type != FILE_REGULAR)
                        continue;
                d->by_content[d->n_by_content++] = ref;
                add_pieces(d, ref);
        }
}

static int add_seeds(Delta *d, const Index *const *seeds, size_t n_seeds)
{
        size_t n_files = 0, n_frames = 0;

        for (size_t n = 0; n < n_seeds; n++) {
                n_files += index_n_files(seeds[n]);
                /* Each frame is a later one of one file at most. */
                n_frames += index_n_frames(seeds[n]);
        }
        d->seeds = calloc(n_seeds + 1, sizeof(Index *));
        d->by_content = calloc(n_files + 1, sizeof(Ref));
        d->pieces = calloc(n_frames + 1, sizeof(Piece));
        if (!d->seeds || !d->by_content || !d->pieces)
                return -ENOMEM;
        d->n_seeds = n_seeds;
        for (size_t n = 0; n < n_seeds; n++) {
                d->seeds[n] = seeds[n];
                add_seed(d, n);
        }
        qsort(d->pieces, d->n_pieces, sizeof(Piece), compare_pieces);
        return 0;
}

static Ref find_at_path(const Delta *d, const IndexFile *f)
{
        for (size_t seed = 0; seed < d->n_seeds; seed++) {
                const IndexFile *old = index_find(d->seeds[seed], f->path);

                if (old && same_content(old, f))
                        return (Ref){ old, seed };
        }
        return (Ref){};
}

/* The first one of that digest. */
static size_t find_content(const Delta *d, const Sha256 *sha256)
{
        size_t low = 0, high = d->n_by_content;

        while (low < high) {
                size_t middle = low + (high - low) / 2;

                if (memcmp(&d->by_content[middle].file->sha256, sha256, sizeof(Sha256)) < 0)
                        low = middle + 1;
                else
                        high = middle;
        }
        return low;
}

static Ref find_elsewhere(const Delta *d, const IndexFile *f)
{
        size_t first = find_content(d, &f->sha256);
        Ref found = {};

        for (size_t n = first; n < d->n_by_content && n < first + N_TWINS_MAX; n++) {
                Ref ref = d->by_content[n];

                if (!same_content(ref.file, f))
                        break;
                if (ref.file->mode == f->mode && ref.file->mtime_sec == f->mtime_sec)
                        return ref;
                if (!found.file)
                        found = ref;
        }
        return found;
}

/* Returns how many are not at their path. */
static size_t find_files_at_paths(Delta *d)
{
        size_t n_missing = 0;

        for (size_t n = 0; n < index_n_files(d->index); n++) {
                const IndexFile *f = index_file(d->index, n);

                if (f->type != FILE_REGULAR)
                        continue;
                d->files[n] = find_at_path(d, f);
                n_missing += !d->files[n].file;
        }
        return n_missing;
}

/* Where only the id is new, to sort all would be most of the work. */
static void find_files(Delta *d)
{
        if (find_files_at_paths(d) == 0)
                return;
        qsort(d->by_content, d->n_by_content, sizeof(Ref), compare_refs);
        for (size_t n = 0; n < index_n_files(d->index); n++) {
                const IndexFile *f = index_file(d->index, n);

                if (f->type == FILE_REGULAR && !d->files[n].file)
                        d->files[n] = find_elsewhere(d, f);
        }
}

static const Piece *find_piece(const Delta *d, const Frame *frame)
{
        size_t low = 0, high = d->n_pieces;

        while (low < high) {
                size_t middle = low + (high - low) / 2;

                if (memcmp(&d->pieces[middle].frame->content_sha256, &frame->content_sha256,
                           sizeof(Sha256)) < 0)
                        low = middle + 1;
                else
                        high = middle;
        }
        if (low == d->n_pieces ||
            !sha256_equal(&d->pieces[low].frame->content_sha256, &frame->content_sha256) ||
            d->pieces[low].frame->content_size_bytes != frame->content_size_bytes)
                return NULL;
        return &d->pieces[low];
}

static void find_pieces(Delta *d, const IndexFile *f)
{
        if (!has_pieces(d->index, f))
                return;
        for (size_t n = f->first_frame + 1; n < f->first_frame + f->n_frames; n++)
                d->frames[n].piece = find_piece(d, index_frame(d->index, n));
}

static void find_frames(Delta *d)
{
        for (size_t n = 0; n < index_n_files(d->index); n++) {
                const IndexFile *f = index_file(d->index, n);

                for (size_t k = f->first_frame + 1; k < f->first_frame + f->n_frames; k++)
                        d->frames[k].tied = true;
                find_pieces(d, f);
        }
}

int delta_new(const Index *index, const Index *const *seeds, size_t n_seeds, Delta **ret)
{
        _cleanup_(delta_freep) Delta *d = calloc(1, sizeof(Delta));
        int r;

        if (!d)
                return -ENOMEM;
        d->index = index;
        d->files = calloc(index_n_files(index) + 1, sizeof(Ref));
        d->frames = calloc(index_n_frames(index), sizeof(FramePlan));
        if (!d->files || !d->frames)
                return -ENOMEM;
        r = add_seeds(d, seeds, n_seeds);
        if (r < 0)
                return r;
        find_files(d);
        find_frames(d);
        *ret = TAKE_PTR(d);
        return 0;
}

bool delta_file(const Delta *d, size_t n, DeltaSource *ret)
{
        const Ref *ref = &d->files[n];

        if (!ref->file)
                return false;
        *ret = (DeltaSource){ .seed = ref->seed,
                              .file = ref->file,
                              .size_bytes = ref->file->size_bytes };
        return true;
}

void delta_lose(Delta *d, size_t n)
{
        d->files[n].file = NULL;
}

static void need_files(Delta *d)
{
        for (size_t n = 0; n < index_n_files(d->index); n++) {
                const IndexFile *f = index_file(d->index, n);

                if (f->type != FILE_REGULAR || d->files[n].file)
                        continue;
                for (size_t k = f->first_frame; k < f->first_frame + f->n_frames; k++)
                        d->frames[k].what = DELTA_FETCH;
        }
}

/* What entries tie together is needed as a whole, or not at all. */
static void need_tied(Delta *d)
{
        size_t n_frames = index_n_frames(d->index);

        for (size_t first = 0, end; first < n_frames; first = end) {
                bool needed = d->frames[first].what == DELTA_FETCH;

                for (end = first + 1; end < n_frames && d->frames[end].tied; end++)
                        needed |= d->frames[end].what == DELTA_FETCH;
                for (size_t n = first; needed && n < end; n++)
                        d->frames[n].what = DELTA_FETCH;
        }
}

void delta_settle(Delta *d)
{
        size_t n_frames = index_n_frames(d->index);

        for (size_t n = 0; n < n_frames; n++)
                d->frames[n].what = DELTA_SKIP;
        need_files(d);
        need_tied(d);
        for (size_t n = 0; n < n_frames; n++) {
                FramePlan *p = &d->frames[n];

                if (p->what == DELTA_FETCH && p->piece && !p->lost)
                        p->what = DELTA_COPY;
        }
}

/* The last frame may be padding alone. */
static DeltaSource piece_source(const Piece *p)
{
        uint64_t end_bytes = p->offset + p->frame->content_size_bytes;

        end_bytes = MIN(end_bytes, p->ref.file->size_bytes);
        return (DeltaSource){ .seed = p->ref.seed,
                              .file = p->ref.file,
                              .offset = p->offset,
                              .size_bytes = end_bytes > p->offset ? end_bytes - p->offset : 0 };
}

DeltaFrame delta_frame(const Delta *d, size_t n, DeltaSource *ret_source)
{
        const FramePlan *p = &d->frames[n];

        if (p->what == DELTA_COPY && ret_source)
                *ret_source = piece_source(p->piece);
        return p->what;
}

void delta_lose_frame(Delta *d, size_t n)
{
        d->frames[n].lost = true;
        if (d->frames[n].what == DELTA_COPY)
                d->frames[n].what = DELTA_FETCH;
}

bool delta_in_stream(const Delta *d, size_t n)
{
        return d->frames[index_file(d->index, n)->first_frame].what != DELTA_SKIP;
}

int delta_ranges(const Delta *d, RangeSet **ret)
{
        _cleanup_(range_set_freep) RangeSet *s = NULL;
        int r = range_set_new(&s);

        for (size_t n = 0; r >= 0 && n < index_n_frames(d->index); n++) {
                const Frame *f = index_frame(d->index, n);

                if (d->frames[n].what == DELTA_FETCH)
                        r = range_set_add(s, f->offset, f->size_bytes);
        }
        if (r >= 0)
                r = range_set_close_gaps(s, range_set_bytes(s) / 16, RANGES_MAX);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(s);
        return 0;
}

uint64_t delta_reused_bytes(const Delta *d)
{
        uint64_t bytes = 0;

        for (size_t n = 0; n < index_n_files(d->index); n++)
                if (d->files[n].file)
                        bytes += d->files[n].file->size_bytes;
        for (size_t n = 0; n < index_n_frames(d->index); n++)
                if (d->frames[n].what == DELTA_COPY)
                        bytes += piece_source(d->frames[n].piece).size_bytes;
        return bytes;
}
