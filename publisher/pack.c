/* SPDX-License-Identifier: Apache-2.0 */
#include "pack.h"

#include <assert.h>
#include <fcntl.h>
#include <unistd.h>

#include "beneath.h"
#include "chunk.h"
#include "err.h"
#include "fd.h"
#include "file-times.h"
#include "frame-writer.h"
#include "manifest.h"
#include "tar-header.h"
#include "tree.h"

#define THREADS_MAX 8

/* What one buffer and one frame have to hold. */
static_assert(CHUNK_ENTRY_SIZE_MAX <= CHUNK_SIZE_MAX, "an entry fits");
static_assert(CHUNK_SIZE_MAX + TAR_HEADER_SIZE_MAX + TAR_BLOCK_SIZE <= FRAME_WRITER_CONTENT_MAX,
              "headers and padding fit, too");

typedef struct Packer {
        const PackOptions *options;
        FileTimes *times;
        const Tree *tree;
        Tree *scanned; /* NULL: the tree is the caller's */
        Beneath *beneath;
        IndexWriter *index;
        FrameWriter *frames;
        uint8_t *buffer;  /* CHUNK_SIZE_MAX */
        IndexFile *files; /* of each entry; strings are the tree's */
        size_t n_files;
        ChunkTimes frame_times;
        uint64_t total_bytes, done_bytes;
} Packer;

static void packer_done(Packer *p)
{
        free(p->files);
        free(p->buffer);
        frame_writer_free(p->frames);
        index_writer_free(p->index);
        beneath_free(p->beneath);
        file_times_free(p->times);
        tree_free(p->scanned);
}

void pack_result_done(PackResult *r)
{
        free(r->index);
        *r = (PackResult){};
}

static void packer_progress(Packer *p, uint64_t bytes)
{
        p->done_bytes += bytes;
        if (p->options->progress)
                p->options->progress(p->done_bytes, p->total_bytes, p->options->userdata);
}

/* A failed write of the artifact, told apart from trouble with the tree. */
static int packer_add(Packer *p, const void *data, size_t size, char **reterr)
{
        int r = frame_writer_add(p->frames, data, size);

        return r < 0 ? fail_errno(reterr, r, "cannot add to the artifact") : 0;
}

static int packer_cut(Packer *p, char **reterr)
{
        int r = frame_writer_cut(p->frames);

        p->frame_times = (ChunkTimes){};
        return r < 0 ? fail_errno(reterr, r, "cannot write the artifact") : 0;
}

static int packer_add_padding(Packer *p, uint64_t content_size, char **reterr)
{
        static const uint8_t zero[TAR_BLOCK_SIZE] = {};

        return packer_add(p, zero, tar_padding(content_size), reterr);
}

static int changed_while_read(const char *path, char **reterr)
{
        return fail(reterr, -ESTALE,
                    "'%s' changed while it was packed; pack a tree that nothing writes to", path);
}

static int read_content(int fd, const char *path, void *data, size_t size, uint64_t offset,
                        char **reterr)
{
        int r = fd_pread_exactly(fd, data, size, offset);

        if (r == -ENODATA)
                return changed_while_read(path, reterr);
        return r < 0 ? fail_errno(reterr, r, "cannot read '%s'", path) : 0;
}

/* Before an entry of `size` bytes. */
static int cut_before_entry(Packer *p, const IndexFile *f, size_t size, char **reterr)
{
        ChunkPlace end;
        int r = chunk_cut_before_entry(f->path, size);

        if (r < 0)
                return r;
        if (r > 0 || frame_writer_pending(p->frames) + size > CHUNK_ENTRY_SIZE_MAX)
                r = packer_cut(p, reterr);
        const ChunkPlace place = { frame_writer_pending(p->frames), p->n_files };
        if (r < 0 || f->size_bytes == 0 ||
            !chunk_cut_by_time(&p->frame_times, place, size, f->mtime_sec, &end))
                return r;
        r = frame_writer_cut_at(p->frames, end.offset);
        for (size_t n = end.entry; n < p->n_files; n++)
                p->files[n].first_frame++;
        return r < 0 ? fail_errno(reterr, r, "cannot write the artifact") : 0;
}

/* A directory, a symlink or a small file: data is its whole content. */
static int pack_small(Packer *p, IndexFile *f, const uint8_t *data, char **reterr)
{
        uint8_t header[TAR_HEADER_SIZE_MAX];
        int r;

        if (f->type == FILE_REGULAR) {
                r = sha256(data, f->size_bytes, &f->sha256);
                if (r < 0)
                        return r;
        }
        f->mtime_sec = file_times_decide(p->times, f);
        size_t header_size = tar_header_format(f, header);
        size_t size = header_size + f->size_bytes + tar_padding(f->size_bytes);
        r = cut_before_entry(p, f, size, reterr);
        if (r >= 0)
                r = packer_add(p, header, header_size, reterr);
        f->first_frame = frame_writer_n_frames(p->frames) - 1;
        if (r >= 0)
                r = packer_add(p, data, f->size_bytes, reterr);
        if (r >= 0)
                r = packer_add_padding(p, f->size_bytes, reterr);
        packer_progress(p, f->size_bytes);
        return r;
}

/* The content of a large file, in frames of its own. */
static int pack_chunks(Packer *p, int fd, const IndexFile *f, char **reterr)
{
        size_t pending = 0;
        int r;

        for (uint64_t offset = 0; offset < f->size_bytes;) {
                size_t size = MIN(f->size_bytes - offset, (uint64_t) CHUNK_SIZE_MAX);
                r = read_content(fd, f->path, p->buffer + pending, size - pending, offset + pending,
                                 reterr);
                if (r < 0)
                        return r;
                size_t cut = chunk_cut_content(p->buffer, size);
                r = packer_add(p, p->buffer, cut, reterr);
                if (r < 0)
                        return r;
                offset += cut;
                pending = size - cut;
                memmove(p->buffer, p->buffer + cut, pending);
                r = offset == f->size_bytes ? packer_add_padding(p, f->size_bytes, reterr) : 0;
                if (r < 0)
                        return r;
                r = packer_cut(p, reterr);
                if (r < 0)
                        return r;
                packer_progress(p, cut);
        }
        return 0;
}

static int pack_large(Packer *p, int fd, IndexFile *f, char **reterr)
{
        uint8_t header[TAR_HEADER_SIZE_MAX];
        int r = sha256_fd(fd, 0, f->size_bytes, &f->sha256);

        if (r == -ENODATA)
                return changed_while_read(f->path, reterr);
        if (r < 0)
                return fail_errno(reterr, r, "cannot read '%s'", f->path);
        f->mtime_sec = file_times_decide(p->times, f);
        r = packer_cut(p, reterr);
        if (r < 0)
                return r;
        r = packer_add(p, header, tar_header_format(f, header), reterr);
        if (r < 0)
                return r;
        f->first_frame = frame_writer_n_frames(p->frames) - 1;
        r = packer_cut(p, reterr);
        return r < 0 ? r : pack_chunks(p, fd, f, reterr);
}

/* Opens the file that was scanned, no other. */
static int open_entry(Packer *p, const TreeEntry *e, char **reterr)
{
        const char *name;
        struct stat st;
        int dir_fd = beneath_parent(p->beneath, e->path, &name);

        if (dir_fd < 0)
                return fail_errno(reterr, dir_fd, "cannot open the directory of '%s'", e->path);
        _cleanup_close_ int fd =
                openat(dir_fd, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
        if (fd < 0 || fstat(fd, &st) < 0)
                return fail_errno(reterr, -errno, "cannot open '%s'", e->path);
        if (tree_entry_changed(e, &st))
                return changed_while_read(e->path, reterr);
        return TAKE_FD(fd);
}

static int pack_file(Packer *p, const TreeEntry *e, IndexFile *f, char **reterr)
{
        _cleanup_close_ int fd = open_entry(p, e, reterr);
        struct stat st;
        int r;

        if (fd < 0)
                return fd;
        f->size_bytes = e->st.st_size;
        if (f->size_bytes > CHUNK_ENTRY_SIZE_MAX)
                r = pack_large(p, fd, f, reterr);
        else {
                r = read_content(fd, f->path, p->buffer, f->size_bytes, 0, reterr);
                if (r >= 0)
                        r = pack_small(p, f, p->buffer, reterr);
        }
        if (r < 0)
                return r;
        if (fstat(fd, &st) < 0)
                return fail_errno(reterr, -errno, "cannot look at '%s'", e->path);
        return tree_entry_changed(e, &st) ? changed_while_read(e->path, reterr) : 0;
}

static int pack_entry(Packer *p, const TreeEntry *e, char **reterr)
{
        IndexFile f = { .path = e->path, .link = e->link, .type = e->type, .mode = e->mode };
        int r = f.type == FILE_REGULAR ? pack_file(p, e, &f, reterr)
                                       : pack_small(p, &f, (const uint8_t *) "", reterr);

        if (r < 0)
                return r;
        f.n_frames = frame_writer_n_frames(p->frames) - f.first_frame;
        p->files[p->n_files++] = f;
        return 0;
}

static int pack_end(Packer *p, char **reterr)
{
        static const uint8_t zero[TAR_END_SIZE] = {};
        int r = packer_cut(p, reterr);

        return r < 0 ? r : packer_add(p, zero, sizeof(zero), reterr);
}

static unsigned decide_threads(unsigned wanted)
{
        long n = wanted > 0 ? (long) wanted : sysconf(_SC_NPROCESSORS_ONLN);

        return n < 1 ? 1 : MIN(n, (long) THREADS_MAX);
}

static int packer_init(Packer *p, int tree_fd, const Index *predecessor, int artifact_fd,
                       char **reterr)
{
        int level = p->options->level > 0 ? p->options->level : PACK_LEVEL_DEFAULT;
        int r = p->options->tree ? 0 : tree_scan(tree_fd, &p->scanned, reterr);

        if (r < 0)
                return r;
        p->tree = p->options->tree ? p->options->tree : p->scanned;
        for (size_t n = 0; n < tree_n_entries(p->tree); n++)
                if (tree_entry(p->tree, n)->type == FILE_REGULAR)
                        p->total_bytes += tree_entry(p->tree, n)->st.st_size;
        p->buffer = malloc(CHUNK_SIZE_MAX);
        p->files = calloc(MAX(tree_n_entries(p->tree), (size_t) 1), sizeof(IndexFile));
        if (!p->buffer || !p->files)
                return -ENOMEM;
        r = beneath_new(tree_fd, &p->beneath);
        if (r < 0)
                return r;
        r = file_times_new(predecessor, p->options->source_time_sec, &p->times);
        if (r < 0)
                return r;
        r = index_writer_new(&p->index);
        if (r < 0)
                return r;
        return frame_writer_new(artifact_fd, level, decide_threads(p->options->n_threads), p->index,
                                &p->frames);
}

static int packer_finish(Packer *p, PackResult *ret, char **reterr)
{
        PackResult result = { .n_files = tree_n_entries(p->tree), .content_bytes = p->total_bytes };
        _cleanup_free_ void *index = NULL;
        int r = frame_writer_finish(p->frames, &result.artifact_size_bytes,
                                    &result.artifact_sha256);

        if (r < 0)
                return fail_errno(reterr, r, "cannot write the artifact");
        for (size_t n = 0; n < p->n_files && r >= 0; n++)
                r = index_writer_add_file(p->index, &p->files[n]);
        if (r >= 0)
                r = index_writer_format(p->index, &index, &result.index_size_bytes, reterr);
        if (r < 0)
                return r;
        if (result.artifact_size_bytes > ARTIFACT_SIZE_MAX ||
            result.index_size_bytes > INDEX_SIZE_MAX)
                return fail(reterr, -EFBIG, "the tree is too large for one release");
        r = sha256(index, result.index_size_bytes, &result.index_sha256);
        if (r < 0)
                return r;
        result.index = TAKE_PTR(index);
        *ret = result;
        return 0;
}

int pack_tree(int tree_fd, const PackOptions *o, const Index *predecessor, int artifact_fd,
              PackResult *ret, char **reterr)
{
        _cleanup_(packer_done) Packer p = { .options = o };
        int r;

        if (o->source_time_sec >> 33 != 0)
                return fail(reterr, -EINVAL, "the source's time is out of range");
        r = packer_init(&p, tree_fd, predecessor, artifact_fd, reterr);
        if (r < 0)
                return r;
        for (size_t n = 0; n < tree_n_entries(p.tree); n++) {
                r = pack_entry(&p, tree_entry(p.tree, n), reterr);
                if (r < 0)
                        return r;
        }
        r = pack_end(&p, reterr);
        return r < 0 ? r : packer_finish(&p, ret, reterr);
}
