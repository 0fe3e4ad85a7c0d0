/* SPDX-License-Identifier: Apache-2.0 */
#include "audit.h"

#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <zstd.h>

#include "err.h"
#include "object.h"

/* The artifact on its way through the checks into libarchive. */
typedef struct Audit {
        const Manifest *manifest;
        const Index *index;
        ObjectReader *reader;
        ZSTD_DCtx *zstd;
        Hasher *artifact; /* over all compressed bytes */
        uint8_t *content; /* of one frame */
        size_t n_frames;  /* that passed */
        store_progress_t progress;
        void *userdata;
        int result; /* of the read callback, which has no other way to tell */
        char *err;
} Audit;

static void audit_done(Audit *a)
{
        object_reader_free(a->reader);
        (void) ZSTD_freeDCtx(a->zstd);
        hasher_free(a->artifact);
        free(a->content);
        free(a->err);
}

static inline void archive_donep(struct archive **a)
{
        if (*a)
                (void) archive_read_free(*a);
}

static int fail_frame(char **reterr, const Audit *a, const char *what)
{
        return fail(reterr, -EKEYREJECTED, "%s: frame %zu (at byte %llu): %s",
                    a->manifest->artifact.path, a->n_frames,
                    (unsigned long long) index_frame(a->index, a->n_frames)->offset, what);
}

/* RFC 8878, 3.1.1.1: a frame that is not a single segment has a window descriptor, whose upper five
 * bits are the exponent above 10, after magic number and frame header descriptor. */
static bool window_is_allowed(const uint8_t *data, size_t size)
{
        if (size < 6)
                return false;
        if (data[4] & 0x20)
                return true; /* the window is the content, whose size is checked */
        return 10 + (data[5] >> 3) < FRAME_WINDOW_LOG_MAX ||
               (10 + (data[5] >> 3) == FRAME_WINDOW_LOG_MAX && (data[5] & 7) == 0);
}

static int check_digest(const void *data, size_t size, const Sha256 *expected)
{
        Sha256 actual;
        int r = sha256(data, size, &actual);

        if (r < 0)
                return r;
        return sha256_equal(&actual, expected) ? 0 : -EKEYREJECTED;
}

static int open_frame(Audit *a, const Frame *f, const uint8_t *data, char **reterr)
{
        int r = check_digest(data, f->size_bytes, &f->sha256);

        if (r == -EKEYREJECTED)
                return fail_frame(reterr, a, "its bytes differ from the index");
        if (r < 0)
                return r;
        if (!window_is_allowed(data, f->size_bytes) ||
            ZSTD_findFrameCompressedSize(data, f->size_bytes) != f->size_bytes ||
            ZSTD_getFrameContentSize(data, f->size_bytes) != f->content_size_bytes)
                return fail_frame(reterr, a, "it is not one zstd frame of the promised size");
        size_t n = ZSTD_decompressDCtx(a->zstd, a->content, f->content_size_bytes, data,
                                       f->size_bytes);
        if (ZSTD_isError(n) || n != f->content_size_bytes)
                return fail_frame(reterr, a, "it can't be decompressed");
        r = check_digest(a->content, n, &f->content_sha256);
        return r == -EKEYREJECTED ? fail_frame(reterr, a, "its content differs from the index") : r;
}

/* The content of the next frame. */
static int next_frame(Audit *a, char **reterr)
{
        const Frame *f = index_frame(a->index, a->n_frames);
        const uint8_t *data;
        int r = object_reader_take(a->reader, f->size_bytes, &data, reterr);

        if (r >= 0)
                r = hasher_add(a->artifact, data, f->size_bytes);
        if (r >= 0)
                r = open_frame(a, f, data, reterr);
        if (r < 0)
                return r;
        a->n_frames++;
        if (a->progress)
                a->progress(f->offset + f->size_bytes, a->manifest->artifact.size_bytes,
                            a->userdata);
        return 0;
}

static la_ssize_t read_frame(struct archive *archive, void *userdata, const void **ret)
{
        Audit *a = userdata;

        if (a->n_frames == index_n_frames(a->index))
                return 0;
        size_t n = index_frame(a->index, a->n_frames)->content_size_bytes;
        a->result = next_frame(a, &a->err);
        if (a->result < 0) {
                archive_set_error(archive, EIO, "see Audit");
                return ARCHIVE_FATAL;
        }
        *ret = a->content;
        return (la_ssize_t) n;
}

/* What libarchive could not do, or what stopped our callback. */
static int fail_archive(Audit *a, struct archive *archive, char **reterr)
{
        const char *why = archive_error_string(archive);

        if (a->result < 0)
                return fail(reterr, a->result, "%s", err_text(a->result, a->err));
        return fail(reterr, -EKEYREJECTED, "%s: the tar inside is damaged: %s",
                    a->manifest->artifact.path, why ? why : "no reason given");
}

static bool path_is_same(const char *in_tar, const IndexFile *f)
{
        size_t size = in_tar ? strlen(in_tar) : 0;

        if (size > 0 && f->type == FILE_DIRECTORY && in_tar[size - 1] == '/')
                size--;
        return size == strlen(f->path) && memcmp(in_tar, f->path, size) == 0;
}

static bool type_is_same(struct archive_entry *e, const IndexFile *f)
{
        if (archive_entry_hardlink(e))
                return false;
        switch (f->type) {
        case FILE_REGULAR:
                return archive_entry_filetype(e) == AE_IFREG &&
                       archive_entry_size(e) == (la_int64_t) f->size_bytes;
        case FILE_DIRECTORY:
                return archive_entry_filetype(e) == AE_IFDIR;
        case FILE_SYMLINK:
                return archive_entry_filetype(e) == AE_IFLNK &&
                       streq_ptr(archive_entry_symlink(e), f->link);
        }
        return false;
}

static int check_content(Audit *a, struct archive *archive, const IndexFile *f, char **reterr)
{
        _cleanup_(hasher_freep) Hasher *h = NULL;
        Sha256 actual;
        int r = hasher_new(&h);

        while (r >= 0) {
                const void *block;
                size_t size;
                la_int64_t offset;
                int k = archive_read_data_block(archive, &block, &size, &offset);
                if (k == ARCHIVE_EOF)
                        break;
                if (k != ARCHIVE_OK)
                        return fail_archive(a, archive, reterr);
                r = hasher_add(h, block, size);
        }
        if (r >= 0)
                r = hasher_finish(h, &actual);
        if (r < 0)
                return r;
        if (!sha256_equal(&actual, &f->sha256))
                return fail(reterr, -EKEYREJECTED, "%s: the content of %s differs from the index",
                            a->manifest->artifact.path, f->path);
        return 0;
}

static int check_entry(Audit *a, struct archive *archive, struct archive_entry *e,
                       const IndexFile *f, char **reterr)
{
        if (!path_is_same(archive_entry_pathname(e), f))
                return fail(reterr, -EKEYREJECTED, "%s: where the index has %s the tar has %s",
                            a->manifest->artifact.path, f->path,
                            strempty(archive_entry_pathname(e)));
        if (!type_is_same(e, f) || archive_entry_perm(e) != f->mode ||
            archive_entry_mtime(e) != (time_t) f->mtime_sec)
                return fail(reterr, -EKEYREJECTED,
                            "%s: type, size, mode, time or link of %s differ from the index",
                            a->manifest->artifact.path, f->path);
        return f->type == FILE_REGULAR ? check_content(a, archive, f, reterr) : 0;
}

static int check_entries(Audit *a, struct archive *archive, char **reterr)
{
        for (size_t i = 0;; i++) {
                struct archive_entry *e;
                int r = archive_read_next_header(archive, &e);
                if (r == ARCHIVE_EOF && i == index_n_files(a->index))
                        return 0;
                if (r == ARCHIVE_EOF)
                        return fail(reterr, -EKEYREJECTED, "%s: the tar ends before %s",
                                    a->manifest->artifact.path, index_file(a->index, i)->path);
                if (r != ARCHIVE_OK)
                        return fail_archive(a, archive, reterr);
                if (i == index_n_files(a->index))
                        return fail(reterr, -EKEYREJECTED, "%s: the tar has more than the index",
                                    a->manifest->artifact.path);
                r = check_entry(a, archive, e, index_file(a->index, i), reterr);
                if (r < 0)
                        return r;
        }
}

/* libarchive stops at the end-of-archive blocks; what follows must hold as well. */
static int check_rest(Audit *a, char **reterr)
{
        Sha256 actual;
        int r = 0;

        while (r >= 0 && a->n_frames < index_n_frames(a->index))
                r = next_frame(a, reterr);
        if (r >= 0)
                r = hasher_finish(a->artifact, &actual);
        if (r < 0)
                return r;
        if (!sha256_equal(&actual, &a->manifest->artifact.sha256))
                return fail(reterr, -EKEYREJECTED, "%s: its digest differs from the manifest",
                            a->manifest->artifact.path);
        return 0;
}

static int audit_open(Audit *a, Store *s)
{
        int r = object_reader_new(s, a->manifest->artifact.path, a->manifest->artifact.size_bytes,
                                  &a->reader);

        if (r >= 0)
                r = hasher_new(&a->artifact);
        if (r < 0)
                return r;
        a->zstd = ZSTD_createDCtx();
        a->content = malloc(FRAME_CONTENT_MAX);
        return a->zstd && a->content ? 0 : -ENOMEM;
}

int audit_artifact(Store *s, const Manifest *m, const Index *index, store_progress_t progress,
                   void *userdata, char **reterr)
{
        _cleanup_(audit_done) Audit a = {
                .manifest = m,
                .index = index,
                .progress = progress,
                .userdata = userdata,
        };
        _cleanup_(archive_donep) struct archive *archive = archive_read_new();
        int r;

        if (index_artifact_size(index) != m->artifact.size_bytes)
                return fail(reterr, -EKEYREJECTED,
                            "the manifest says that %s has %llu bytes, the index %llu",
                            m->artifact.path, (unsigned long long) m->artifact.size_bytes,
                            (unsigned long long) index_artifact_size(index));
        r = audit_open(&a, s);
        if (r < 0)
                return r;
        if (!archive || archive_read_support_format_tar(archive) != ARCHIVE_OK)
                return -ENOMEM;
        if (archive_read_open(archive, &a, NULL, read_frame, NULL) != ARCHIVE_OK)
                return fail_archive(&a, archive, reterr);
        r = check_entries(&a, archive, reterr);
        return r < 0 ? r : check_rest(&a, reterr);
}
