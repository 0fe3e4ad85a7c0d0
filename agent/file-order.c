/* SPDX-License-Identifier: Apache-2.0 */
#include <fcntl.h>
#include <sys/stat.h>

#include "err.h"
#include "fd.h"
#include "file-order.h"
#include "judge.h"
#include "vetting.h"

struct FileOrder {
        const Trust *trust;
        const AppConfig *app;
        int index_fd, artifact_fd;
        int provenance_fds[ORDER_PROVENANCES_MAX];
        size_t n_provenances;
        FetchRequest *request;
        Manifest *manifest;
        Sha256 digest;
        file_order_done_t done;
        void *userdata;
};

FileOrder *file_order_free(FileOrder *o)
{
        if (!o)
                return NULL;
        fetch_request_free(o->request);
        manifest_free(o->manifest);
        fd_close(o->index_fd);
        fd_close(o->artifact_fd);
        for (size_t i = 0; i < o->n_provenances; i++)
                fd_close(o->provenance_fds[i]);
        free(o);
        return NULL;
}

Manifest *file_order_manifest(const FileOrder *o)
{
        return o->manifest;
}

const Sha256 *file_order_digest(const FileOrder *o)
{
        return &o->digest;
}

StagingFiles file_order_files(const FileOrder *o)
{
        StagingFiles f = { o->index_fd, o->artifact_fd, -EBADF };

        for (size_t i = 0; i < o->n_provenances && f.provenance_fd < 0; i++)
                if (vetting_file_fits(o->manifest, o->provenance_fds[i]))
                        f.provenance_fd = o->provenance_fds[i];
        return f;
}

static int check_size(int fd, const StoredObject *object, const char *what, const char *release,
                      char **reterr)
{
        struct stat st;

        if (fstat(fd, &st) < 0)
                return fail_errno(reterr, -errno, "can't look at the %s", what);
        if ((uint64_t) st.st_size == object->size_bytes)
                return 0;
        return fail(reterr, -EKEYREJECTED,
                    "the %s has %llu bytes, but that of release %s has %llu: it is another one",
                    what, (unsigned long long) st.st_size, release,
                    (unsigned long long) object->size_bytes);
}

static int judge(FileOrder *o, const Message *m, int fd, char **reterr)
{
        const Manifest *manifest;
        int r;

        if (m->result < 0)
                return fail(reterr, m->result, "%s", m->text[0] ? m->text : strerror(-m->result));
        if (m->type != MESSAGE_POLLED || m->result > 0 || fd < 0)
                return fail(reterr, -EPROTO, "slipway-fetch gave no envelope");
        r = judge_envelope(fd, o->trust, o->app, &o->manifest, &o->digest, reterr);
        if (r < 0)
                return r;
        manifest = o->manifest;
        r = check_size(o->index_fd, &manifest->index, "index", manifest->release, reterr);
        if (r < 0)
                return r;
        return check_size(o->artifact_fd, &manifest->artifact, "artifact", manifest->release,
                          reterr);
}

static void on_opened(const Message *m, int *fd, void *userdata)
{
        _cleanup_free_ char *err = NULL;
        FileOrder *o = userdata;
        int r = judge(o, m, *fd, &err);

        o->request = fetch_request_free(o->request);
        o->done(r, err_text(r, err), o->userdata);
}

static int check_file(int fd, const char *what, char **reterr)
{
        struct stat st;

        if (fstat(fd, &st) < 0)
                return fail_errno(reterr, -errno, "can't look at the %s", what);
        if (!S_ISREG(st.st_mode))
                return fail(reterr, -EINVAL, "the %s is no regular file", what);
        return 0;
}

static int check_files(const OrderFiles *files, char **reterr)
{
        int r = check_file(files->manifest_fd, "manifest", reterr);

        if (r >= 0)
                r = check_file(files->index_fd, "index", reterr);
        if (r >= 0)
                r = check_file(files->artifact_fd, "artifact", reterr);
        for (size_t i = 0; r >= 0 && i < files->n_provenances; i++)
                r = check_file(files->provenance_fds[i], "provenance", reterr);
        return r;
}

static int keep_files(FileOrder *o, const OrderFiles *files)
{
        o->index_fd = fcntl(files->index_fd, F_DUPFD_CLOEXEC, 0);
        o->artifact_fd = fcntl(files->artifact_fd, F_DUPFD_CLOEXEC, 0);
        if (o->index_fd < 0 || o->artifact_fd < 0)
                return -errno;
        for (size_t i = 0; i < files->n_provenances; i++) {
                o->provenance_fds[i] = fcntl(files->provenance_fds[i], F_DUPFD_CLOEXEC, 0);
                if (o->provenance_fds[i] < 0)
                        return -errno;
                o->n_provenances++;
        }
        return 0;
}

int file_order_new(Fetcher *fetcher, const Trust *trust, const AppConfig *app,
                   const OrderFiles *files, file_order_done_t done, void *userdata, FileOrder **ret,
                   char **reterr)
{
        _cleanup_(file_order_freep) FileOrder *o = NULL;
        Message m = { .type = MESSAGE_OPEN };
        int r = check_files(files, reterr);

        if (r < 0)
                return r;
        o = calloc(1, sizeof(FileOrder));
        if (!o)
                return -ENOMEM;
        *o = (FileOrder){ .trust = trust,
                          .app = app,
                          .index_fd = -EBADF,
                          .artifact_fd = -EBADF,
                          .done = done,
                          .userdata = userdata };
        r = keep_files(o, files);
        if (r < 0)
                return fail_errno(reterr, r, "can't keep the files");
        r = fetcher_request(fetcher, &m, files->manifest_fd, on_opened, o, &o->request);
        if (r < 0)
                return fail_errno(reterr, r, "can't ask slipway-fetch to open the manifest");
        *ret = TAKE_PTR(o);
        return 0;
}
