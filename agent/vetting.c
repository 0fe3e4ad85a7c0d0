/* SPDX-License-Identifier: Apache-2.0 */
#include "vetting.h"

#include <sys/stat.h>

#include "err.h"
#include "fd.h"
#include "provenance.h"

struct Vetting {
        Fetcher *fetcher;
        sd_event_source *timeout_source;
        const AppConfig *app;
        const Manifest *manifest;
        FetchRequest *request;
        int fd;
        vetting_done_t done;
        void *userdata;
};

Vetting *vetting_free(Vetting *v)
{
        if (!v)
                return NULL;
        /* What is asked for twice at a time stays for the other one. */
        if (v->request) {
                fetch_request_free(v->request);
                fetcher_drop(v->fetcher, &v->manifest->provenance.sha256);
        }
        sd_event_source_disable_unref(v->timeout_source);
        fd_close(v->fd);
        free(v);
        return NULL;
}

static int check_policy(const AppConfig *app, const Provenance *p, char **reterr)
{
        if (!config_allows_builder(app, p->builder))
                return fail(reterr, -EBADMSG,
                            "it was built by %s, which \"provenance\" of app %s in the agent's "
                            "configuration does not allow",
                            p->builder, app->app);
        if (!config_allows_repository(app, p->repository))
                return fail(reterr, -EBADMSG,
                            "it was built of %s, which \"provenance\" of app %s in the agent's "
                            "configuration does not allow",
                            p->repository ? p->repository : "an unknown repository", app->app);
        return 0;
}

int vetting_judge(const AppConfig *app, const Manifest *m, const char *data, size_t size,
                  char **reterr)
{
        _cleanup_(provenance_freep) Provenance *p = NULL;
        int r = provenance_open(data, size, NULL, &p, reterr);

        if (r >= 0)
                r = provenance_check(p, m, reterr);
        if (r >= 0)
                r = check_policy(app, p, reterr);
        /* What was signed is too long for good, too. */
        return r == -EFBIG ? -EBADMSG : r;
}

static int check_named(const AppConfig *app, const Manifest *m, char **reterr)
{
        return m->provenance.path
                       ? 0
                       : fail(reterr, -EBADMSG,
                              "the manifest names no provenance, which \"provenance\" of app %s in "
                              "the agent's configuration asks for",
                              app->app);
}

/* Copied before anything is looked at: others may change the file at any time. */
static int read_object(int fd, const StoredObject *o, char **ret, char **reterr)
{
        _cleanup_free_ char *data = malloc(o->size_bytes + 1);
        Sha256 digest;
        int r;

        if (!data)
                return -ENOMEM;
        r = fd_pread_exactly(fd, data, o->size_bytes, 0);
        if (r >= 0)
                r = sha256(data, o->size_bytes, &digest);
        if (r < 0)
                return fail_errno(reterr, r, "can't read it");
        if (!sha256_equal(&digest, &o->sha256))
                return fail(reterr, -EKEYREJECTED, "it is not what was signed");
        data[o->size_bytes] = '\0';
        *ret = TAKE_PTR(data);
        return 0;
}

bool vetting_file_fits(const Manifest *m, int fd)
{
        _cleanup_free_ char *data = NULL;
        struct stat st;

        return m->provenance.path && fstat(fd, &st) >= 0 &&
               (uint64_t) st.st_size == m->provenance.size_bytes &&
               read_object(fd, &m->provenance, &data, NULL) >= 0;
}

int vetting_judge_file(const AppConfig *app, const Manifest *m, int fd, char **reterr)
{
        _cleanup_free_ char *data = NULL;
        int r = check_named(app, m, reterr);

        if (r < 0)
                return r;
        r = read_object(fd, &m->provenance, &data, reterr);
        if (r >= 0)
                r = vetting_judge(app, m, data, m->provenance.size_bytes, reterr);
        return r < 0 ? fail_prefix(reterr, r, "the provenance of release %s", m->release) : 0;
}

static int judge(const Vetting *v, const Message *m, char **reterr)
{
        /* Only what was checked against a signed digest may condemn a release. */
        if (m->result < 0)
                return fail(reterr,
                            m->result == -EBADMSG || m->result == -EKEYREJECTED ? -EIO : m->result,
                            "can't fetch the provenance of release %s: %s", v->manifest->release,
                            m->text[0] ? m->text : strerror(-m->result));
        if (v->fd < 0)
                return fail(reterr, -EPROTO, "slipway-fetch gave no provenance");
        return vetting_judge_file(v->app, v->manifest, v->fd, reterr);
}

static void on_object(const Message *m, int *fd, void *userdata)
{
        _cleanup_free_ char *err = NULL;
        Vetting *v = userdata;
        int r;

        if (m->type == MESSAGE_SPOOLED && v->fd < 0) {
                v->fd = TAKE_FD(*fd);
                return;
        }
        if (m->type != 0 && m->type != MESSAGE_GOT)
                return;
        r = judge(v, m, &err);
        v->done(r, err_text(r, err), v->userdata);
}

static int on_timeout(sd_event_source *source, uint64_t usec, void *userdata)
{
        _cleanup_free_ char *err = NULL;
        Vetting *v = userdata;
        int r = fail(&err, -ETIMEDOUT,
                     "can't fetch the provenance of release %s: it did not come in time",
                     v->manifest->release);

        (void) source;
        (void) usec;
        v->done(r, err_text(r, err), v->userdata);
        return 0;
}

int vetting_start(sd_event *event, Fetcher *fetcher, const AppConfig *app, const Manifest *manifest,
                  uint64_t timeout_usec, vetting_done_t done, void *userdata, Vetting **ret,
                  char **reterr)
{
        const StoredObject *o = &manifest->provenance;
        Message m = { .type = MESSAGE_GET, .size = o->size_bytes, .sha256 = o->sha256 };
        _cleanup_(vetting_freep) Vetting *v = NULL;
        int r = check_named(app, manifest, reterr);

        if (r < 0)
                return r;
        v = calloc(1, sizeof(Vetting));
        if (!v)
                return -ENOMEM;
        *v = (Vetting){ .fetcher = fetcher,
                        .app = app,
                        .manifest = manifest,
                        .fd = -EBADF,
                        .done = done,
                        .userdata = userdata };
        r = sd_event_add_time_relative(event, &v->timeout_source, CLOCK_BOOTTIME, timeout_usec, 0,
                                       on_timeout, v);
        if (r < 0)
                return fail_errno(reterr, r, "can't set a limit for the provenance");
        (void) stpncpy(m.text, o->path, MESSAGE_TEXT_MAX);
        r = fetcher_request(fetcher, &m, -1, on_object, v, &v->request);
        if (r < 0)
                return fail_errno(reterr, r, "can't ask slipway-fetch for the provenance");
        *ret = TAKE_PTR(v);
        return 0;
}
