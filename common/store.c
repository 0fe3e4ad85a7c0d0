/* SPDX-License-Identifier: Apache-2.0 */
#include "store.h"

#include "err.h"
#include "name.h"
#include "store-backend.h"

static const StoreBackend *const backends[] = { &store_file_backend, &store_s3_backend,
                                                &store_https_backend, &store_http_backend };

static const StoreBackend *backend_find(const char *url)
{
        for (size_t i = 0; i < ELEMENTSOF(backends); i++)
                if (strncmp(url, backends[i]->scheme, strlen(backends[i]->scheme)) == 0)
                        return backends[i];
        return NULL;
}

int store_open(const char *url, Store **ret, char **reterr)
{
        _cleanup_(store_freep) Store *s = calloc(1, sizeof(Store));
        int r;

        if (!s)
                return -ENOMEM;
        TAILQ_INIT(&s->calls);
        s->limits = (StoreLimits){ .connect_sec = 10, .stall_sec = 15, .backoff_msec = 200 };
        r = store_url_check(url, reterr);
        if (r < 0)
                return r;
        const StoreBackend *backend = backend_find(url);
        s->url = strdup(url);
        if (!s->url)
                return -ENOMEM;
        r = backend->open(s, reterr);
        if (r < 0)
                return r;
        s->backend = backend;
        *ret = TAKE_PTR(s);
        return 0;
}

Store *store_free(Store *s)
{
        if (!s)
                return NULL;
        while (!TAILQ_EMPTY(&s->calls))
                (void) store_cancel(TAILQ_FIRST(&s->calls));
        if (s->backend)
                s->backend->free(s);
        free(s->url);
        free(s);
        return NULL;
}

const char *store_url(const Store *s)
{
        return s->url;
}

const char *store_credentials(const Store *s)
{
        return s->backend->credentials ? s->backend->credentials(s) : NULL;
}

bool store_attach(Store *s, Http *guest)
{
        if (s->backend->attach)
                s->backend->attach(s, guest);
        return s->backend->attach;
}

void store_set_limits(Store *s, const StoreLimits *limits)
{
        s->limits = *limits;
}

void store_set_notice(Store *s, store_notice_t notice)
{
        s->notice = notice;
}

void store_reply_done(StoreReply *r)
{
        free(r->data);
        free(r->etag);
        *r = (StoreReply){};
}

static StoreCall *call_free(StoreCall *c)
{
        free((char *) c->request.path);
        free((char *) c->request.if_match);
        free((char *) c->request.if_none_match);
        free((char *) c->request.content_type);
        free((void *) c->request.body);
        free(c);
        return NULL;
}
DEFINE_CLEANUP_FUNC(StoreCall *, call_free);

static int copy_string(const char *s, const char **ret)
{
        if (!s)
                return 0;
        *ret = strdup(s);
        return *ret ? 0 : -ENOMEM;
}

static int copy_body(const StoreRequest *from, StoreRequest *to)
{
        if (!from->body || from->from_fd)
                return 0;
        void *body = malloc(from->body_size + 1);
        if (!body)
                return -ENOMEM;
        memcpy(body, from->body, from->body_size);
        to->body = body;
        return 0;
}

static int call_new(Store *s, const StoreRequest *request, StoreCall **ret)
{
        _cleanup_(call_freep) StoreCall *c = calloc(1, sizeof(StoreCall));
        int r;

        if (!c)
                return -ENOMEM;
        c->store = s;
        c->request = *request;
        c->request.path = c->request.if_match = c->request.if_none_match = NULL;
        c->request.content_type = NULL;
        c->request.body = NULL;
        r = copy_string(request->path, &c->request.path);
        if (r >= 0)
                r = copy_string(request->if_match, &c->request.if_match);
        if (r >= 0)
                r = copy_string(request->if_none_match, &c->request.if_none_match);
        if (r >= 0)
                r = copy_string(request->content_type, &c->request.content_type);
        if (r >= 0)
                r = copy_body(request, &c->request);
        if (r < 0)
                return r;
        if (request->body_sha256) {
                c->body_sha256 = *request->body_sha256;
                c->request.body_sha256 = &c->body_sha256;
        }
        *ret = TAKE_PTR(c);
        return 0;
}

static bool request_is_valid(const StoreRequest *r)
{
        if (r->method == STORE_LIST && r->path && streq(r->path, ""))
                return r->size_max > 0;
        if (!r->path || !store_path_is_valid(r->path))
                return false;
        if (r->method == STORE_PUT)
                return r->body || r->from_fd || r->body_size == 0;
        return r->size_max > 0 && r->range_size <= r->size_max &&
               r->range_offset <= UINT64_MAX - r->range_size;
}

int store_start(Store *s, const StoreRequest *request, store_done_t done, void *userdata,
                StoreCall **ret)
{
        _cleanup_(call_freep) StoreCall *c = NULL;
        int r;

        if (!request_is_valid(request))
                return -EINVAL;
        r = call_new(s, request, &c);
        if (r < 0)
                return r;
        c->done = done;
        c->userdata = userdata;
        r = s->backend->start(c);
        if (r < 0)
                return r;
        TAILQ_INSERT_TAIL(&s->calls, c, entry);
        if (ret)
                *ret = c;
        c = NULL;
        return 0;
}

StoreCall *store_cancel(StoreCall *c)
{
        if (!c)
                return NULL;
        TAILQ_REMOVE(&c->store->calls, c, entry);
        c->store->backend->drop(c);
        return call_free(c);
}

void store_call_finish(StoreCall *c, int result, StoreReply *reply, const char *err)
{
        TAILQ_REMOVE(&c->store->calls, c, entry);
        c->store->backend->drop(c);
        c->done(result, reply, err, c->userdata);
        store_reply_done(reply);
        (void) call_free(c);
}

int store_step(Store *s, int extra_fd, uint64_t timeout_usec)
{
        return s->backend->step(s, extra_fd, timeout_usec);
}

size_t store_n_calls(const Store *s)
{
        const StoreCall *c;
        size_t n = 0;

        TAILQ_FOREACH(c, &s->calls, entry)
        n++;
        return n;
}

typedef struct Waiting {
        bool finished;
        int result;
        StoreReply reply;
        char *err;
        store_progress_t progress;
        void *userdata;
} Waiting;

static void waiting_progress(uint64_t done_bytes, uint64_t total_bytes, void *userdata)
{
        Waiting *w = userdata;

        w->progress(done_bytes, total_bytes, w->userdata);
}

static void waiting_done(int result, StoreReply *reply, const char *err, void *userdata)
{
        Waiting *w = userdata;

        w->finished = true;
        w->result = result;
        w->reply = *reply;
        *reply = (StoreReply){};
        w->err = err ? strdup(err) : NULL;
}

static int wait_for_call(Store *s, const StoreRequest *request, int stop_fd, Waiting *w)
{
        StoreCall *c;
        int r = store_start(s, request, waiting_done, w, &c);

        while (r >= 0 && !w->finished) {
                r = store_step(s, stop_fd, UINT64_MAX);
                if (r > 0 && !w->finished)
                        r = fail(&w->err, -ECANCELED, "the upload of '%s' was interrupted",
                                 request->path);
                if (r < 0 && !w->finished)
                        (void) store_cancel(c);
        }
        return r < 0 ? r : w->result;
}

static int call_and_report(Store *s, const StoreRequest *request, void *userdata, int stop_fd,
                           StoreReply *ret, char **reterr)
{
        Waiting w = { .progress = request->progress, .userdata = userdata };
        StoreRequest copy = *request;
        int r;

        if (copy.progress)
                copy.progress = waiting_progress;
        r = wait_for_call(s, &copy, stop_fd, &w);
        if (ret && r >= 0)
                *ret = w.reply;
        else
                store_reply_done(&w.reply);
        if (reterr && w.err) {
                free(*reterr);
                *reterr = TAKE_PTR(w.err);
        } else if (r < 0 && !w.err)
                r = fail_errno(reterr, r, "can't ask the store %s for '%s'", s->url, request->path);
        free(w.err);
        return r;
}

int store_call(Store *s, const StoreRequest *request, StoreReply *ret, char **reterr)
{
        return call_and_report(s, request, NULL, -1, ret, reterr);
}

int store_upload(Store *s, const char *path, int fd, uint64_t size, const Sha256 *sha256,
                 store_progress_t progress, void *userdata, int stop_fd, char **reterr)
{
        const StoreRequest put = {
                .method = STORE_PUT,
                .path = path,
                .if_none_match = "*",
                .from_fd = true,
                .body_fd = fd,
                .body_size = size,
                .body_sha256 = sha256,
                .progress = progress,
        };

        if (s->backend->upload && size >= s->backend->upload_size_min)
                return s->backend->upload(s, &put, userdata, stop_fd, reterr);
        return call_and_report(s, &put, userdata, stop_fd, NULL, reterr);
}
