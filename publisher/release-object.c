/* SPDX-License-Identifier: Apache-2.0 */
#include "release-object.h"

#include <errno.h>
#include <stdio.h>

#include "err.h"
#include "interrupt.h"
#include "object.h"
#include "progress.h"

#define PATH_TEXT_SIZE 256 /* names are at most NAME_SIZE_MAX bytes */

static int describe(const char *app, const char *id, const char *name, uint64_t size,
                    const Sha256 *digest, StoredObject *ret)
{
        char *path = NULL;

        if (asprintf(&path, "%s/releases/%s/%s", app, id, name) < 0)
                return -ENOMEM;
        *ret = (StoredObject){ .path = path, .size_bytes = size, .sha256 = *digest };
        return 0;
}

static int fail_taken(char **reterr, const char *id, const char *path)
{
        return fail(reterr, -EEXIST,
                    "the release %s is in the store with other content (%s differs), and a release "
                    "never changes: choose another id with --id",
                    id, path);
}

/* STORE_ABSENT, 0 if the store has just these bytes, -EEXIST if others. */
static int compare_index(Store *s, const char *id, const StoredObject *index, const void *data,
                         char **reterr)
{
        _cleanup_free_ char *there = NULL;
        size_t size = 0;
        int r = object_read(s, index->path, INDEX_SIZE_MAX, &there, &size, NULL, reterr);

        if (r < 0 && r != -EFBIG)
                return r;
        if (r == STORE_ABSENT)
                return r;
        if (r == -EFBIG || size != index->size_bytes || memcmp(there, data, size) != 0)
                return fail_taken(reterr, id, index->path);
        return 0;
}

static int compare_artifact(Store *s, const char *id, const StoredObject *artifact, char **reterr)
{
        _cleanup_(progress_freep) Progress *progress = NULL;
        Sha256 there;
        int r = progress_new("comparing the artifact", &progress);

        if (r < 0)
                return r;
        r = object_digest(s, artifact->path, artifact->size_bytes, progress_update, progress,
                          &there, reterr);
        if (r == -EKEYREJECTED || (r >= 0 && !sha256_equal(&there, &artifact->sha256)))
                return fail_taken(reterr, id, artifact->path);
        return r;
}

static int upload_with_progress(Store *s, const StoredObject *artifact, int fd, char **reterr)
{
        /* Released last: a signal that came ends us here, after the upload was taken back. */
        _cleanup_(interrupt_release) Interrupt interrupt = { .fd = -EBADF };
        _cleanup_(progress_freep) Progress *progress = NULL;
        int r = progress_new("uploading the artifact", &progress);

        if (r >= 0)
                r = interrupt_hold(&interrupt);
        if (r < 0)
                return r;
        return store_upload(s, artifact->path, fd, artifact->size_bytes, &artifact->sha256,
                            progress_update, progress, interrupt.fd, reterr);
}

/* RELEASE_REUSED, 0 if it was uploaded. */
static int upload_artifact(Store *s, const char *id, const StoredObject *artifact, int fd,
                           char **reterr)
{
        int r = -ENOENT;

        /* A conflict with an object that is not there: see conflict_pause(). */
        for (unsigned i = 0; i < N_CONFLICT_TRIES && r == -ENOENT; i++) {
                if (i > 0)
                        conflict_pause(i);
                r = upload_with_progress(s, artifact, fd, reterr);
                if (r < 0 || r == 0)
                        return r;
                if (r != STORE_CONFLICT)
                        return fail(reterr, -EACCES, "the store refuses to write %s",
                                    artifact->path);
                r = compare_artifact(s, id, artifact, reterr);
        }
        return r < 0 ? r : RELEASE_REUSED;
}

static int upload_index(Store *s, const char *id, const StoredObject *index, const void *data,
                        char **reterr)
{
        const StoreRequest put = {
                .method = STORE_PUT,
                .path = index->path,
                .if_none_match = "*",
                .body = data,
                .body_size = index->size_bytes,
        };
        int r = STORE_ABSENT;

        for (unsigned i = 0; i < N_CONFLICT_TRIES && r == STORE_ABSENT; i++) {
                if (i > 0)
                        conflict_pause(i);
                r = store_call(s, &put, NULL, reterr);
                if (r == STORE_CONFLICT)
                        r = compare_index(s, id, index, data, reterr);
        }
        return r > 0 ? fail(reterr, -EACCES, "the store refuses to write %s", index->path) : r;
}

int release_object_describe(const PackResult *packed, Manifest *m)
{
        int r = describe(m->app, m->release, "artifact.tar.zst", packed->artifact_size_bytes,
                         &packed->artifact_sha256, &m->artifact);

        return r < 0 ? r
                     : describe(m->app, m->release, "index", packed->index_size_bytes,
                                &packed->index_sha256, &m->index);
}

int release_object_upload(Store *s, const Manifest *m, int artifact_fd, const PackResult *packed,
                          char **reterr)
{
        const char *id = m->release;
        int there = compare_index(s, id, &m->index, packed->index, reterr), r;

        if (there < 0)
                return there;
        if (there == 0) {
                r = compare_artifact(s, id, &m->artifact, reterr);
                if (r != -ENOENT)
                        return r < 0 ? r : RELEASE_REUSED;
        }
        r = upload_artifact(s, id, &m->artifact, artifact_fd, reterr);
        if (r < 0 || there == 0)
                return r;
        int k = upload_index(s, id, &m->index, packed->index, reterr);
        return k < 0 ? k : r;
}

int release_object_find_index(Store *s, const char *app, const char *id, Index **ret, char **reterr)
{
        _cleanup_free_ char *data = NULL;
        char path[PATH_TEXT_SIZE];
        size_t size = 0;

        (void) snprintf(path, sizeof(path), "%s/releases/%s/index", app, id);
        int r = object_read(s, path, INDEX_SIZE_MAX, &data, &size, NULL, reterr);
        if (r != 0)
                return r;
        r = index_parse(data, size, ret, reterr);
        return r < 0 ? fail_prefix(reterr, r, "%s", path) : 0;
}

int release_object_read_index(Store *s, const Manifest *m, Index **ret, char **reterr)
{
        _cleanup_free_ char *data = NULL;
        int r = object_read_exactly(s, m->index.path, m->index.size_bytes, &m->index.sha256, &data,
                                    reterr);

        if (r < 0)
                return r;
        r = index_parse(data, m->index.size_bytes, ret, reterr);
        return r < 0 ? fail_prefix(reterr, r, "%s", m->index.path) : 0;
}

static int check_frame(Store *s, const Manifest *m, const Frame *f, char **reterr)
{
        const StoreRequest get = {
                .method = STORE_GET,
                .path = m->artifact.path,
                .range_offset = f->offset,
                .range_size = f->size_bytes,
                .size_max = f->size_bytes,
        };
        _cleanup_(store_reply_done) StoreReply reply = {};
        Sha256 digest = {};
        int r = store_call(s, &get, &reply, reterr);

        if (r == STORE_ABSENT)
                return fail(reterr, -ENOENT, "%s is missing in the store", m->artifact.path);
        if (r > 0)
                return fail(reterr, -EACCES, "the store refuses to read %s", m->artifact.path);
        if (r >= 0)
                r = sha256(reply.data, reply.size, &digest);
        if (r == -EPROTO || (r >= 0 && !sha256_equal(&digest, &f->sha256)))
                return fail(reterr, -EKEYREJECTED, "%s is damaged: its frame at %llu does not hold",
                            m->artifact.path, (unsigned long long) f->offset);
        return r;
}

int release_object_check(Store *s, const Manifest *m, char **reterr)
{
        _cleanup_(index_freep) Index *index = NULL;
        int r = release_object_read_index(s, m, &index, reterr);

        if (r >= 0)
                r = check_frame(s, m, index_frame(index, 0), reterr);
        if (r >= 0)
                r = check_frame(s, m, index_frame(index, index_n_frames(index) - 1), reterr);
        return r;
}
