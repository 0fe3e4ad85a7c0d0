/* SPDX-License-Identifier: Apache-2.0 */
#include "s3.h"

#include <stdio.h>
#include <sys/queue.h>
#include <sys/random.h>
#include <time.h>

#include "credentials.h"
#include "err.h"
#include "s3-address.h"
#include "s3-error.h"
#include "sigv4.h"

#define TRIES_DEFAULT     4
#define BACKOFF_MAX_USEC  UINT64_C(20000000)
#define THROTTLE_FACTOR   5
#define USEFUL_TRY_SIZE   (256 * 1024)
#define DEADLINE_BASE_SEC 60
#define SLOWEST_BYTES_SEC 16384

struct S3Call {
        S3 *s3;
        S3Request request;
        HttpTransfer *transfer; /* NULL: waits until due_usec */
        uint64_t due_usec;
        unsigned n_tried;
        uint64_t size_at_start; /* of the sink, when this try began */
        uint64_t progress_max;
        bool retried, fresh, skew_corrected;
        LIST_ENTRY(S3Call) entry;
};

struct S3 {
        S3Address address;
        CredentialsSource *credentials;
        Http *http;
        const StoreLimits *limits;
        time_t clock_offset; /* what their clock is ahead of ours; for signing only */
        LIST_HEAD(, S3Call) calls;
};

static const char *environment(const char *name, const char *other)
{
        const char *value = getenv(name);

        if (value && *value)
                return value;
        value = other ? getenv(other) : NULL;
        return value && *value ? value : NULL;
}

int s3_new(const char *url, const StoreLimits *limits, S3 **ret, char **reterr)
{
        _cleanup_(s3_freep) S3 *s = calloc(1, sizeof(S3));
        const char *region = environment("AWS_REGION", "AWS_DEFAULT_REGION");
        int r;

        if (!s)
                return -ENOMEM;
        LIST_INIT(&s->calls);
        s->limits = limits;
        if (!region)
                return fail(reterr, -EINVAL, "the region of %s is not known: set AWS_REGION", url);
        r = s3_address_parse(url, region, environment("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"),
                             &s->address, reterr);
        if (r < 0)
                return r;
        r = credentials_source_new(&s->credentials, reterr);
        if (r < 0)
                return r;
        r = http_new(environment("AWS_CA_BUNDLE", NULL), &s->http);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(s);
        return 0;
}

S3 *s3_free(S3 *s)
{
        if (!s)
                return NULL;
        while (!LIST_EMPTY(&s->calls))
                (void) s3_cancel(LIST_FIRST(&s->calls));
        (void) http_free(s->http);
        (void) credentials_source_free(s->credentials);
        s3_address_done(&s->address);
        free(s);
        return NULL;
}

const char *s3_prefix(const S3 *s)
{
        return s->address.prefix;
}

static uint64_t now_usec(void)
{
        struct timespec ts;

        (void) clock_gettime(CLOCK_MONOTONIC, &ts);
        return (uint64_t) ts.tv_sec * 1000000 + (uint64_t) ts.tv_nsec / 1000;
}

static void call_free(S3Call *c)
{
        sink_done(&c->request.sink);
        free(c);
}

S3Call *s3_cancel(S3Call *c)
{
        if (!c)
                return NULL;
        LIST_REMOVE(c, entry);
        (void) http_cancel(c->transfer);
        call_free(c);
        return NULL;
}

static void finish(S3Call *c, int result, const HttpResponse *response, const char *err)
{
        const S3Answer answer = {
                .result = result,
                .err = err,
                .etag = response ? http_response_header(response, "ETag") : NULL,
                .sink = &c->request.sink,
                .retried = c->retried,
        };

        LIST_REMOVE(c, entry);
        c->request.done(&answer, c->request.userdata);
        call_free(c);
}

static void tell_progress(S3Call *c, uint64_t done_bytes, uint64_t total_bytes)
{
        if (!c->request.progress || done_bytes <= c->progress_max)
                return;
        c->progress_max = done_bytes;
        c->request.progress(done_bytes, total_bytes, c->request.userdata);
}

static int on_body(const void *data, size_t size, void *userdata)
{
        S3Call *c = userdata;
        const S3Request *q = &c->request;
        int r = sink_write(&c->request.sink, data, size);

        if (r >= 0)
                tell_progress(c, q->sink.size, q->range_size ? q->range_size : q->size_max);
        return r;
}

static void on_sent(uint64_t size, void *userdata)
{
        S3Call *c = userdata;

        tell_progress(c, size, c->request.upload->size);
}

static void on_done(int result, const HttpResponse *response, const char *err, void *userdata);

static unsigned deadline_msec(uint64_t size)
{
        return 1000 *
               (DEADLINE_BASE_SEC + (unsigned) MIN(size / SLOWEST_BYTES_SEC, UINT64_C(1) << 20));
}

/* Sends one try: `headers` are signed and complete but for what the signature adds. */
static int send_signed(S3Call *c, const char *path, const char *query, NameValue *headers, size_t n,
                       const char *payload_hash, char **reterr)
{
        S3 *s = c->s3;
        const S3Request *q = &c->request;
        const Credentials *credentials;
        _cleanup_(sigv4_done) SigV4 signature = {};
        _cleanup_free_ char *url = NULL;
        int r = credentials_source_get(s->credentials, &credentials, reterr);

        if (r < 0)
                return r;
        r = sigv4_sign(&(SigV4Request){ .method = q->method,
                                        .path = path,
                                        .query = query,
                                        .headers = headers,
                                        .n_headers = n,
                                        .payload_hash = payload_hash,
                                        .region = s->address.region,
                                        .service = "s3",
                                        .time = time(NULL) + s->clock_offset },
                       credentials, &signature);
        if (r < 0)
                return r;
        if (asprintf(&url, "%s%s%s%s", s->address.endpoint, path, *query ? "?" : "", query) < 0) {
                url = NULL;
                return -ENOMEM;
        }
        /* The first one is Host, which libcurl makes from the URL. */
        headers[0] = (NameValue){ "Authorization", signature.authorization };
        headers[n++] = (NameValue){ "x-amz-date", signature.date };
        if (credentials->session_token)
                headers[n++] = (NameValue){ "x-amz-security-token", credentials->session_token };
        const uint64_t done = q->resumes ? q->sink.size : 0;
        const uint64_t size = q->upload       ? q->upload->size
                              : q->range_size ? q->range_size - done
                                              : q->size_max;
        return http_start(s->http,
                          &(HttpRequest){
                                  .method = q->method,
                                  .url = url,
                                  .headers = headers,
                                  .n_headers = n,
                                  .upload = q->upload,
                                  .range_offset = q->range_offset + done,
                                  .range_size = q->range_size - done,
                                  .size_max = q->size_max,
                                  .connect_sec = s->limits->connect_sec,
                                  .stall_sec = q->stall_sec ? q->stall_sec : s->limits->stall_sec,
                                  .deadline_msec = deadline_msec(size),
                                  .fresh = c->fresh,
                                  .on_body = on_body,
                                  .on_sent = q->upload ? on_sent : NULL,
                                  .done = on_done,
                                  .userdata = c,
                          },
                          &c->transfer, reterr);
}

static int start_try(S3Call *c, char **reterr)
{
        const S3Request *q = &c->request;
        NameValue headers[S3_HEADERS_MAX + 4];
        _cleanup_free_ char *path = NULL, *query = NULL;
        char hash[SHA256_HEX_SIZE] = SIGV4_EMPTY_PAYLOAD;
        size_t n = 0;
        int r = s3_address_path(&c->s3->address, q->key, &path);

        if (r < 0)
                return r;
        r = query_format(q->params, q->n_params, &query);
        if (r < 0)
                return r;
        if (q->upload)
                (void) sha256_to_hex(q->body_sha256, hash);
        if (!q->resumes)
                sink_restart(&c->request.sink);
        c->size_at_start = q->sink.size;
        headers[n++] = (NameValue){ "Host", c->s3->address.host };
        headers[n++] = (NameValue){ "x-amz-content-sha256", hash };
        for (size_t i = 0; i < q->n_headers; i++)
                headers[n++] = q->headers[i];
        c->n_tried++;
        return send_signed(c, path, query, headers, n, hash, reterr);
}

int s3_start(S3 *s, const S3Request *request, S3Call **ret, char **reterr)
{
        S3Call *c = calloc(1, sizeof(S3Call));
        int r;

        if (!c)
                return -ENOMEM;
        *c = (S3Call){ .s3 = s, .request = *request };
        r = start_try(c, reterr);
        if (r < 0) {
                call_free(c);
                return r;
        }
        LIST_INSERT_HEAD(&s->calls, c, entry);
        *ret = c;
        return 0;
}

/* "read s3://bucket/key" */
#define WHAT_FORMAT "%s s3://%s/%s%s"
#define WHAT_ARGS(c)                                                         \
        (c)->request.what, (c)->s3->address.bucket, (c)->s3->address.prefix, \
                strempty((c)->request.key)

static uint64_t backoff_usec(const S3Call *c, S3Verdict verdict)
{
        uint64_t limit = (uint64_t) c->s3->limits->backoff_msec * 1000, random = 0;

        if (verdict == S3_THROTTLED)
                limit *= THROTTLE_FACTOR;
        for (unsigned i = 1; i < c->n_tried && limit < BACKOFF_MAX_USEC; i++)
                limit *= 2;
        if (getrandom(&random, sizeof(random), 0) < 0)
                return limit;
        return random % (MIN(limit, BACKOFF_MAX_USEC) + 1);
}

/* Tries again after a while, or says that it was of no use. `fresh`: the connection is suspect. */
static void retry(S3Call *c, int error, S3Verdict verdict, const char *err, bool fresh)
{
        const S3Request *q = &c->request;
        _cleanup_free_ char *text = NULL;

        /* On a line that keeps breaking, tries that brought the object on do not count. */
        if (q->resumes && q->sink.size - c->size_at_start >= USEFUL_TRY_SIZE)
                c->n_tried = 0;
        if (c->n_tried < (q->n_tries ? q->n_tries : TRIES_DEFAULT)) {
                c->retried = true;
                c->fresh = fresh;
                c->due_usec = now_usec() + backoff_usec(c, verdict);
                return;
        }
        (void) fail(&text, error, "can't " WHAT_FORMAT " (tried %u times): %s", WHAT_ARGS(c),
                    c->n_tried, err);
        finish(c, error, NULL, err_text(error, text));
}

static void explain(const S3Call *c, S3Verdict verdict, const S3Error *e, unsigned status,
                    const HttpResponse *response, char **ret)
{
        const char *region = http_response_header(response, "x-amz-bucket-region");
        const char *id = http_response_header(response, "x-amz-request-id");
        _cleanup_free_ char *hint = NULL;

        if (verdict == S3_ELSEWHERE)
                err_set(&hint, "; the bucket is in region %s, set AWS_REGION to that",
                        region       ? region
                        : *e->region ? e->region
                                     : "(not told)");
        else if (streq(e->code, "AccessDenied") || (status == 403 && !*e->code))
                err_set(&hint, "; this takes the permission %s", c->request.actions);
        else if (verdict == S3_REFUSED || verdict == S3_SKEWED)
                err_set(&hint, "; the credentials in use are not taken%s",
                        verdict == S3_SKEWED ? " because of this host's clock" : "");
        err_set(ret, "can't " WHAT_FORMAT ": %s%s%s (status %u, request id %s)%s", WHAT_ARGS(c),
                *e->code ? e->code : "refused", *e->message ? ": " : "", e->message, status,
                id ? id : strempty(e->request_id), strempty(hint));
}

/* True if the answer is one that a caller expects and not an error. */
static bool judge_outcome(const S3Call *c, unsigned status, const S3Error *e, int *ret)
{
        bool reading = streq(c->request.method, "GET") && c->request.key;

        if (status == 304)
                *ret = STORE_NOT_MODIFIED;
        /* 409: ConditionalRequestConflict and OperationAborted of S3, ConcurrentModification of
         * radosgw; objects know no other. */
        else if (status == 412 || status == 409)
                *ret = STORE_CONFLICT;
        else if (status == 404 && !streq(e->code, "NoSuchBucket") &&
                 !streq(e->code, "NoSuchUpload"))
                *ret = STORE_ABSENT;
        else if (reading && status == 403 && (!*e->code || streq(e->code, "AccessDenied")))
                *ret = STORE_UNKNOWN;
        else
                return false;
        return true;
}

static int judge_error(S3Verdict verdict, unsigned status)
{
        if (verdict == S3_TRANSIENT || verdict == S3_THROTTLED)
                return -EHOSTDOWN;
        if (verdict == S3_ELSEWHERE)
                return -EINVAL;
        if (verdict == S3_REFUSED || verdict == S3_SKEWED || status == 403 || status == 401)
                return -EACCES;
        return status == 404 ? -ENOENT : -EPROTO;
}

static bool correct_clock(S3Call *c, const HttpResponse *response)
{
        time_t theirs = http_response_date(response);

        if (c->skew_corrected || theirs == (time_t) -1)
                return false;
        c->s3->clock_offset = theirs - time(NULL);
        c->skew_corrected = true;
        c->due_usec = now_usec();
        return true;
}

static void judge_answer(S3Call *c, const HttpResponse *response, unsigned status, const S3Error *e)
{
        S3Verdict verdict = s3_error_judge(status, e->code);
        _cleanup_free_ char *err = NULL;
        int result;

        explain(c, verdict, e, status, response, &err);
        if (judge_outcome(c, status, e, &result)) {
                finish(c, result, response, result == STORE_UNKNOWN ? strempty(err) : NULL);
                return;
        }
        result = judge_error(verdict, status);
        if (verdict == S3_SKEWED && correct_clock(c, response))
                return;
        if (verdict == S3_TRANSIENT || verdict == S3_THROTTLED)
                retry(c, result, verdict, err_text(result, err), false);
        else
                finish(c, result, response, err_text(result, err));
}

/* 1: there is an error in *ret, which the caller has to free. */
static int find_error(const S3Call *c, const HttpResponse *response, unsigned *status, S3Error *ret)
{
        const char *body;
        size_t size;
        int r;

        if (*status < 200 || *status >= 300) {
                body = http_response_error_body(response, &size);
                r = s3_error_parse(body, size, false, ret);
                return r < 0 ? r : 1;
        }
        if (!c->request.late_error)
                return 0;
        r = s3_error_parse(strempty(c->request.sink.data), c->request.sink.size, true, ret);
        if (r == -EBADMSG)
                return 0;
        *status = 500;
        return r < 0 ? r : 1;
}

static void on_done(int result, const HttpResponse *response, const char *err, void *userdata)
{
        S3Call *c = userdata;
        unsigned status = http_response_status(response);
        S3Error e = {};

        c->transfer = NULL;
        if (http_response_resent(response))
                c->retried = true;
        if (result == -EHOSTDOWN || result == -ETIMEDOUT) {
                retry(c, result, S3_TRANSIENT, err, true);
                return;
        }
        if (result < 0) {
                _cleanup_free_ char *text = NULL;
                (void) fail(&text, result, "can't " WHAT_FORMAT ": %s", WHAT_ARGS(c), err);
                finish(c, result, NULL, err_text(result, text));
                return;
        }
        result = find_error(c, response, &status, &e);
        if (result > 0)
                judge_answer(c, response, status, &e);
        else
                finish(c, result, response, result < 0 ? err_text(result, NULL) : NULL);
        s3_error_done(&e);
}

/* Starts the tries whose time has come. Finishing one calls back, which may change the list. */
static void start_due(S3 *s)
{
        S3Call *c;

again:
        LIST_FOREACH(c, &s->calls, entry)
        if (!c->transfer && c->due_usec <= now_usec()) {
                _cleanup_free_ char *err = NULL;
                int r = start_try(c, &err);
                if (r >= 0)
                        continue;
                c->transfer = NULL;
                finish(c, r, NULL, err_text(r, err));
                goto again;
        }
}

int s3_step(S3 *s, int extra_fd, uint64_t timeout_usec)
{
        uint64_t now = now_usec();
        const S3Call *c;
        int r;

        LIST_FOREACH(c, &s->calls, entry)
        if (!c->transfer)
                timeout_usec = MIN(timeout_usec, c->due_usec > now ? c->due_usec - now : 0);
        r = http_step(s->http, extra_fd, timeout_usec);
        start_due(s);
        return r;
}
