/* SPDX-License-Identifier: Apache-2.0 */

/* s3://bucket/prefix: maps the calls of store.h to requests of s3.h. https://host/path: the same
 * GETs, unsigned. */

#include <stdio.h>

#include "base64.h"
#include "err.h"
#include "s3-list.h"
#include "s3-upload.h"
#include "s3.h"
#include "store-backend.h"

#define PAGE_SIZE_MAX   (8 * 1024 * 1024)
#define ANSWER_SIZE_MAX 65536

/* What a StoreCall's data points to. */
typedef struct Op {
        StoreCall *call;
        S3Call *s3_call;
        char *err; /* why starting failed; told by the next step */
        int error;
        HttpUpload upload;
        Sha256 body_sha256;
        char *checksum;
        char *list_prefix, *token; /* LIST */
        Sink keys;
} Op;

static void op_free(Op *op)
{
        (void) s3_cancel(op->s3_call);
        free(op->err);
        free(op->checksum);
        free(op->list_prefix);
        free(op->token);
        sink_done(&op->keys);
        free(op);
}
DEFINE_CLEANUP_FUNC(Op *, op_free);

static int s3_backend_open(Store *s, char **reterr)
{
        S3 *s3;
        int r = s3_new(s->url, &s->limits, &s->notice, &s3, reterr);

        if (r < 0)
                return r;
        s->data = s3;
        return 0;
}

static void s3_backend_free(Store *s)
{
        (void) s3_free(s->data);
}

static void op_finish(Op *op, int result, StoreReply *reply, const char *err)
{
        store_call_finish(op->call, result, reply, err);
}

static void get_done(const S3Answer *a, void *userdata)
{
        Op *op = userdata;
        StoreReply reply = {};
        int r = a->result;

        op->s3_call = NULL;
        if (r >= 0 && a->etag) {
                reply.etag = strdup(a->etag);
                r = reply.etag ? r : -ENOMEM;
        }
        if (r == 0) {
                reply.size = a->sink->size;
                if (!op->call->request.to_fd) {
                        reply.data = a->sink->data ? TAKE_PTR(a->sink->data) : strdup("");
                        r = reply.data ? r : -ENOMEM;
                }
        }
        op_finish(op, r, &reply, a->err ? a->err : r < 0 ? err_text(r, NULL) : NULL);
}

static void op_progress(uint64_t done_bytes, uint64_t total_bytes, void *userdata)
{
        StoreCall *c = ((Op *) userdata)->call;

        c->request.progress(done_bytes, total_bytes, c->userdata);
}

static uint64_t op_again(void *userdata)
{
        StoreCall *c = ((Op *) userdata)->call;

        return c->request.again(c->userdata);
}

static void add_header(S3Request *request, const char *name, const char *value)
{
        if (value)
                request->headers[request->n_headers++] = (NameValue){ name, value };
}

static int start_get(Op *op, char **reterr)
{
        const StoreRequest *q = &op->call->request;
        S3Request request = {
                .method = "GET",
                .key = q->path,
                .what = "read",
                .actions = "s3:GetObject (and s3:ListBucket, to tell a missing object)",
                .size_max = q->size_max,
                .range_offset = q->range_offset,
                .range_size = q->range_size,
                .if_match = q->if_match,
                .resumes = q->to_fd && q->range_size > 0,
                .if_none_match = q->if_none_match,
                .again = q->again && q->if_none_match ? op_again : NULL,
                .n_tries = q->n_tries,
                .progress = q->progress ? op_progress : NULL,
                .done = get_done,
                .userdata = op,
        };

        if (q->to_fd)
                request.sink =
                        (Sink){ .kind = SINK_FD, .fd = q->sink_fd, .offset = q->sink_offset };
        return s3_start(op->call->store->data, &request, &op->s3_call, reterr);
}

/* What is there under our name: is it what a try of ours wrote, whose answer got lost? */
static void compare_done(const S3Answer *a, void *userdata)
{
        Op *op = userdata;
        StoreReply reply = {};
        Sha256 theirs;
        int r = STORE_CONFLICT;

        op->s3_call = NULL;
        if (a->result == 0 && a->etag && sink_digest(a->sink, &theirs) >= 0 &&
            sha256_equal(&theirs, &op->body_sha256)) {
                reply.etag = strdup(a->etag);
                r = reply.etag ? 0 : -ENOMEM;
        }
        op_finish(op, r, &reply, r < 0 ? err_text(r, NULL) : NULL);
}

static int start_compare(Op *op)
{
        const StoreRequest *q = &op->call->request;
        const S3Request request = {
                .method = "GET",
                .key = q->path,
                .what = "read back",
                .actions = "s3:GetObject",
                .size_max = q->body_size,
                .sink = { .kind = SINK_HASH },
                .n_tries = q->n_tries,
                .done = compare_done,
                .userdata = op,
        };

        return s3_start(op->call->store->data, &request, &op->s3_call, NULL);
}

static void put_done(const S3Answer *a, void *userdata)
{
        Op *op = userdata;
        StoreReply reply = {};
        int r = a->result;

        op->s3_call = NULL;
        if (r == STORE_CONFLICT && a->retried && start_compare(op) >= 0)
                return;
        if (r == 0 && a->etag) {
                reply.etag = strdup(a->etag);
                r = reply.etag ? 0 : -ENOMEM;
        }
        op_finish(op, r, &reply, a->err ? a->err : r < 0 ? err_text(r, NULL) : NULL);
}

static int digest_body(Op *op)
{
        const StoreRequest *q = &op->call->request;

        if (q->body_sha256)
                op->body_sha256 = *q->body_sha256;
        else {
                int r = q->from_fd ? sha256_fd(q->body_fd, q->body_offset, q->body_size,
                                               &op->body_sha256)
                                   : sha256(strempty(q->body), q->body_size, &op->body_sha256);
                if (r < 0)
                        return r;
        }
        return base64_encode(op->body_sha256.bytes, SHA256_SIZE, &op->checksum);
}

static int start_put(Op *op, char **reterr)
{
        const StoreRequest *q = &op->call->request;
        int r = digest_body(op);

        if (r < 0)
                return fail_errno(reterr, r, "can't read what is to be written as '%s'", q->path);
        op->upload = (HttpUpload){ .data = q->from_fd ? NULL : strempty(q->body),
                                   .fd = q->body_fd,
                                   .offset = q->from_fd ? q->body_offset : 0,
                                   .size = q->body_size };
        S3Request request = {
                .method = "PUT",
                .key = q->path,
                .what = "write",
                .actions = q->if_match ? "s3:PutObject and s3:GetObject" : "s3:PutObject",
                .if_match = q->if_match,
                .upload = &op->upload,
                .body_sha256 = &op->body_sha256,
                .size_max = ANSWER_SIZE_MAX,
                .n_tries = q->n_tries,
                .progress = q->progress ? op_progress : NULL,
                .done = put_done,
                .userdata = op,
        };
        add_header(&request, "Content-Type",
                   q->content_type ? q->content_type : "application/octet-stream");
        add_header(&request, "If-None-Match", q->if_none_match);
        s3_add_encryption(op->call->store->data, &request);
        add_header(&request, "x-amz-checksum-sha256", op->checksum);
        /* S3 needs only the digest; radosgw checks it only with this beside it. */
        add_header(&request, "x-amz-sdk-checksum-algorithm", "SHA256");
        return s3_start(op->call->store->data, &request, &op->s3_call, reterr);
}

static int start_list_page(Op *op, char **reterr);

static void list_done(const S3Answer *a, void *userdata)
{
        Op *op = userdata;
        const StoreRequest *q = &op->call->request;
        _cleanup_free_ char *err = NULL;
        StoreReply reply = {};
        int r = a->result;

        op->s3_call = NULL;
        if (r == 0) {
                free(op->token);
                op->token = NULL;
                r = s3_list_take_page(strempty(a->sink->data), a->sink->size,
                                      s3_prefix(op->call->store->data), q->size_max, &op->keys,
                                      &op->token);
                if (r < 0)
                        (void) fail(&err, r,
                                    r == -EFBIG ? "the list of '%s' is over its limit of size"
                                                : "S3's list of '%s' makes no sense",
                                    q->path);
        } else if (r > 0) {
                r = -EPROTO;
                (void) fail(&err, r, "S3 has no list of '%s'", q->path);
        }
        if (r == 0 && op->token) {
                r = start_list_page(op, &err);
                if (r >= 0)
                        return;
        }
        if (r == 0) {
                reply.size = op->keys.size;
                reply.data = op->keys.data ? TAKE_PTR(op->keys.data) : strdup("");
                r = reply.data ? 0 : -ENOMEM;
        }
        op_finish(op, r, &reply, a->err ? a->err : r < 0 ? err_text(r, err) : NULL);
}

static int start_list_page(Op *op, char **reterr)
{
        S3Request request = {
                .method = "GET",
                .what = "list",
                .actions = "s3:ListBucket",
                .params = {{ "list-type", "2" },
                           { "prefix", op->list_prefix },
                           { "encoding-type", "url" },
                           { "max-keys", "1000" }},
                .n_params = 4,
                .size_max = PAGE_SIZE_MAX,
                .n_tries = op->call->request.n_tries,
                .done = list_done,
                .userdata = op,
        };

        if (op->token)
                request.params[request.n_params++] = (NameValue){ "continuation-token", op->token };
        return s3_start(op->call->store->data, &request, &op->s3_call, reterr);
}

static int start_list(Op *op, char **reterr)
{
        const char *path = op->call->request.path;

        if (asprintf(&op->list_prefix, "%s%s%s", s3_prefix(op->call->store->data), path,
                     *path ? "/" : "") < 0) {
                op->list_prefix = NULL;
                return -ENOMEM;
        }
        return start_list_page(op, reterr);
}

static int s3_backend_start(StoreCall *c)
{
        _cleanup_(op_freep) Op *op = calloc(1, sizeof(Op));

        if (!op)
                return -ENOMEM;
        op->call = c;
        if (c->request.method == STORE_GET)
                op->error = start_get(op, &op->err);
        else if (c->store->backend != &store_s3_backend)
                op->error = fail(&op->err, -EROFS,
                                 "%s can only be read: write to the store that it shows",
                                 c->store->url);
        else if (c->request.method == STORE_PUT)
                op->error = start_put(op, &op->err);
        else
                op->error = start_list(op, &op->err);
        c->data = TAKE_PTR(op);
        return 0;
}

static void s3_backend_drop(StoreCall *c)
{
        op_free(c->data);
}

/* Calls that could not be started have no request whose end would tell. */
static bool tell_failed(Store *s)
{
        StoreCall *c;

        TAILQ_FOREACH(c, &s->calls, entry)
        {
                Op *op = c->data;
                if (op->error < 0) {
                        _cleanup_free_ char *err = TAKE_PTR(op->err);
                        StoreReply reply = {};
                        op_finish(op, op->error, &reply, err_text(op->error, err));
                        return true;
                }
        }
        return false;
}

static int s3_backend_step(Store *s, int extra_fd, uint64_t timeout_usec)
{
        if (tell_failed(s))
                timeout_usec = 0;
        return s3_step(s->data, extra_fd, timeout_usec);
}

static int s3_backend_upload(Store *s, const StoreRequest *put, void *userdata, int stop_fd,
                             char **reterr)
{
        return s3_upload(s->data, put, userdata, stop_fd, reterr);
}

static const char *s3_backend_credentials(const Store *s)
{
        return s3_credentials_name(s->data);
}

static void s3_backend_attach(Store *s, Http *guest)
{
        s3_attach(s->data, guest);
}

#define NETWORK_STORE                                                                            \
        .open = s3_backend_open, .free = s3_backend_free, .start = s3_backend_start,             \
        .drop = s3_backend_drop, .step = s3_backend_step, .credentials = s3_backend_credentials, \
        .attach = s3_backend_attach

const StoreBackend store_s3_backend = {
        .scheme = STORE_S3_SCHEME,
        NETWORK_STORE,
        .upload = s3_backend_upload,
        .upload_size_min = S3_UPLOAD_SIZE_MIN,
};

const StoreBackend store_https_backend = { .scheme = STORE_HTTPS_SCHEME, NETWORK_STORE };
const StoreBackend store_http_backend = { .scheme = STORE_HTTP_SCHEME, NETWORK_STORE };
