/* SPDX-License-Identifier: Apache-2.0 */
#include "aws-call.h"

#include <stdio.h>
#include <sys/queue.h>
#include <time.h>

#include "aws-endpoint.h"
#include "aws-error.h"
#include "backoff.h"
#include "clock.h"
#include "digest.h"
#include "err.h"
#include "secret.h"
#include "sigv4.h"
#include "sink.h"

#define TRIES_DEFAULT   4
#define THROTTLE_FACTOR 5
#define SKEW_MIN_SEC    240 /* servers take 300; what the answer took on its way is in between */
#define N_HEADERS_MAX   6

struct AwsCall {
        AwsClient *client;
        AwsRequest request;
        char *body;
        HttpUpload upload;      /* of the body */
        HttpTransfer *transfer; /* NULL: waits until due_usec, or for credentials */
        Sink sink;
        uint64_t due_usec;
        unsigned n_tried;
        unsigned generation; /* of the credentials of the last try */
        bool fresh, skew_corrected, renewed;
        bool keyless; /* waits for credentials */
        aws_done_t done;
        void *userdata;
        LIST_ENTRY(AwsCall) entry;
};

struct AwsClient {
        const AwsService *service;
        AwsEndpoint endpoint;
        CredentialsSource *credentials;
        SigV4Key signing_key;
        Http *http;
        AwsLimits limits;
        time_t clock_offset; /* what their clock is ahead of ours */
        LIST_HEAD(, AwsCall) calls;
};

/* It takes a moment only where instance metadata has to be asked. */
static int wait_for_region(Http *http, CredentialsSource *credentials, const char **ret,
                           char **reterr)
{
        int r;

        while ((r = credentials_source_region(credentials, ret, reterr)) == CREDENTIALS_PENDING) {
                r = http_step(http, -1, UINT64_MAX);
                if (r < 0)
                        return r;
        }
        return r;
}

int aws_client_new(const AwsService *service, const char *region, Http *http,
                   CredentialsSource *settings, CredentialsSource *credentials, AwsClient **ret,
                   char **reterr)
{
        _cleanup_(aws_client_freep) AwsClient *a = calloc(1, sizeof(AwsClient));
        const Profile *profile = NULL;
        int r;

        if (!a)
                return -ENOMEM;
        LIST_INIT(&a->calls);
        a->service = service;
        a->http = http;
        a->credentials = credentials;
        a->limits = (AwsLimits){
                .connect_sec = 10, .stall_sec = 15, .deadline_sec = 60, .backoff_msec = 200
        };
        if (credentials)
                credentials_source_attach(credentials, http);
        r = credentials && !region ? wait_for_region(http, credentials, &region, reterr) : 0;
        if (r >= 0 && settings)
                r = credentials_source_profile(settings, &profile, reterr);
        if (r >= 0)
                r = aws_endpoint_find(service->name, region, profile, &a->endpoint, reterr);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(a);
        return 0;
}

AwsClient *aws_client_free(AwsClient *a)
{
        if (!a)
                return NULL;
        while (!LIST_EMPTY(&a->calls))
                (void) aws_cancel(LIST_FIRST(&a->calls));
        aws_endpoint_done(&a->endpoint);
        sigv4_key_done(&a->signing_key);
        free(a);
        return NULL;
}

const char *aws_client_region(const AwsClient *a)
{
        return a->endpoint.region;
}

time_t aws_client_clock_offset(const AwsClient *a)
{
        return a->clock_offset;
}

void aws_client_set_limits(AwsClient *a, const AwsLimits *limits)
{
        a->limits = *limits;
}

static void call_free(AwsCall *c)
{
        sink_done(&c->sink);
        secret_free(c->body); /* STS is sent tokens */
        free(c);
}
DEFINE_CLEANUP_FUNC(AwsCall *, call_free);

AwsCall *aws_cancel(AwsCall *c)
{
        if (!c)
                return NULL;
        LIST_REMOVE(c, entry);
        (void) http_cancel(c->transfer);
        call_free(c);
        return NULL;
}

static void finish(AwsCall *c, int result, const char *err)
{
        LIST_REMOVE(c, entry);
        /* An answer without a body is an empty text. */
        if (result >= 0 && !c->sink.data)
                result = sink_write(&c->sink, "", 0);
        c->done(result, &c->sink.data, c->sink.size, result < 0 ? err_text(result, err) : NULL,
                c->userdata);
        call_free(c);
}

static int on_body(const void *data, size_t size, void *userdata)
{
        AwsCall *c = userdata;

        return sink_write(&c->sink, data, size);
}

static void on_done(int result, const HttpResponse *response, const char *err, void *userdata);

static int send_try(AwsCall *c, const NameValue *headers, size_t n_headers, char **reterr)
{
        const AwsLimits *limits = &c->client->limits;

        c->n_tried++;
        sink_restart(&c->sink);
        return http_start(c->client->http,
                          &(HttpRequest){
                                  .method = "POST",
                                  .url = c->client->endpoint.url,
                                  .headers = headers,
                                  .n_headers = n_headers,
                                  .upload = &c->upload,
                                  .size_max = c->request.size_max,
                                  .connect_sec = limits->connect_sec,
                                  .stall_sec = limits->stall_sec,
                                  .deadline_msec = limits->deadline_sec * 1000,
                                  .fresh = c->fresh,
                                  .on_body = on_body,
                                  .done = on_done,
                                  .userdata = c,
                          },
                          &c->transfer, reterr);
}

/* The headers are complete but for what the signature adds. The first one is Host, which libcurl
 * makes from the URL. */
static int sign_and_send(AwsCall *c, NameValue headers[static N_HEADERS_MAX], size_t n,
                         char **reterr)
{
        AwsClient *a = c->client;
        _cleanup_(sigv4_done) SigV4 signature = {};
        const Credentials *credentials;
        char hash[SHA256_HEX_SIZE];
        Sha256 digest;
        int r = credentials_source_get(a->credentials, &credentials, reterr);

        c->keyless = r == CREDENTIALS_PENDING;
        if (r == 0)
                r = sha256(c->body, c->upload.size, &digest);
        if (r != 0)
                return r;
        c->generation = credentials_source_generation(a->credentials);
        r = sigv4_sign(&(SigV4Request){ .method = "POST",
                                        .path = "/",
                                        .headers = headers,
                                        .n_headers = n,
                                        .payload_hash = sha256_to_hex(&digest, hash),
                                        .region = a->endpoint.region,
                                        .service = a->service->name,
                                        .time = time(NULL) + a->clock_offset },
                       credentials, &a->signing_key, &signature);
        if (r < 0)
                return r;
        headers[0] = (NameValue){ "Authorization", signature.authorization };
        headers[n++] = (NameValue){ "x-amz-date", signature.date };
        if (credentials->session_token)
                headers[n++] = (NameValue){ "x-amz-security-token", credentials->session_token };
        return send_try(c, headers, n, reterr);
}

/* CREDENTIALS_PENDING: it has to wait for them. */
static int start_try(AwsCall *c, char **reterr)
{
        const AwsClient *a = c->client;
        NameValue headers[N_HEADERS_MAX];
        _cleanup_free_ char *target = NULL;
        size_t n = 0;

        headers[n++] = (NameValue){ "Host", a->endpoint.host };
        if (a->service->protocol == AWS_JSON) {
                if (asprintf(&target, "%s.%s", a->service->version, c->request.action) < 0)
                        return target = NULL, -ENOMEM;
                headers[n++] = (NameValue){ "Content-Type", "application/x-amz-json-1.1" };
                headers[n++] = (NameValue){ "X-Amz-Target", target };
        } else
                headers[n++] = (NameValue){ "Content-Type",
                                            "application/x-www-form-urlencoded; charset=utf-8" };
        if (a->credentials)
                return sign_and_send(c, headers, n, reterr);
        return send_try(c, headers + 1, n - 1, reterr);
}

static int format_body(const AwsClient *a, const AwsRequest *q, char **ret)
{
        _cleanup_free_ NameValue *params = NULL;
        size_t n = 0;

        if (a->service->protocol == AWS_JSON) {
                *ret = strdup(q->json);
                return *ret ? 0 : -ENOMEM;
        }
        params = calloc(q->n_params + 2, sizeof(NameValue));
        if (!params)
                return -ENOMEM;
        params[n++] = (NameValue){ "Action", q->action };
        params[n++] = (NameValue){ "Version", a->service->version };
        for (size_t i = 0; i < q->n_params; i++)
                params[n++] = q->params[i];
        /* The encoding of a query is a valid one of a form, too. */
        return query_format(params, n, ret);
}

int aws_start(AwsClient *a, const AwsRequest *request, aws_done_t done, void *userdata,
              AwsCall **ret, char **reterr)
{
        _cleanup_(call_freep) AwsCall *c = calloc(1, sizeof(AwsCall));
        int r;

        if (!c)
                return -ENOMEM;
        *c = (AwsCall){ .client = a, .request = *request, .done = done, .userdata = userdata };
        r = format_body(a, request, &c->body);
        if (r < 0)
                return r;
        if (c->request.size_max == 0)
                c->request.size_max = AWS_ANSWER_SIZE_MAX;
        c->request.json = NULL;
        c->request.params = NULL;
        c->upload = (HttpUpload){ .data = c->body, .size = strlen(c->body) };
        r = start_try(c, reterr);
        if (r < 0)
                return r;
        LIST_INSERT_HEAD(&a->calls, c, entry);
        *ret = TAKE_PTR(c);
        return 0;
}

/* Tries again after a while, or says that it was of no use. `response` NULL: none came whole, and
 * the connection is suspect. */
static void retry(AwsCall *c, int error, AwsVerdict verdict, const char *err,
                  const HttpResponse *response)
{
        const unsigned n_tries = c->request.n_tries ? c->request.n_tries : TRIES_DEFAULT;
        const uint64_t base_usec = (uint64_t) c->client->limits.backoff_msec * 1000;
        _cleanup_free_ char *text = NULL;

        if (c->n_tried < n_tries) {
                c->fresh = !response;
                c->due_usec =
                        clock_usec(CLOCK_MONOTONIC) +
                        backoff_usec(c->n_tried,
                                     base_usec * (verdict == AWS_THROTTLED ? THROTTLE_FACTOR : 1),
                                     response ? http_response_retry_after_sec(response) : 0);
                return;
        }
        (void) fail(&text, error, "can't %s (tried %u times): %s", c->request.what, c->n_tried,
                    err);
        finish(c, error, text);
}

/* A clock that is wrong has many names among the services' errors, so the answer's own date decides
 * whether that is it. */
static bool correct_clock(AwsCall *c, const HttpResponse *response)
{
        const time_t theirs = http_response_date(response);
        const time_t offset = theirs - time(NULL);

        if (c->skew_corrected || theirs == (time_t) -1 ||
            llabs(offset - c->client->clock_offset) < SKEW_MIN_SEC)
                return false;
        c->client->clock_offset = offset;
        c->skew_corrected = true;
        c->due_usec = clock_usec(CLOCK_MONOTONIC);
        return true;
}

static void format_hint(const AwsCall *c, AwsVerdict verdict, const AwsError *e, char **ret)
{
        for (const AwsHint *h = c->request.hints; h && h->code; h++)
                if (streq(h->code, e->code)) {
                        err_set(ret, "; %s", h->text);
                        return;
                }
        if (verdict == AWS_DENIED)
                err_set(ret, "; this takes the permission %s:%s", c->client->service->name,
                        c->request.action);
        else if (verdict == AWS_REFUSED)
                err_set(ret, "; the credentials in use are not taken%s",
                        c->skew_corrected ? ", and this host's clock is wrong" : "");
}

static void explain(const AwsCall *c, AwsVerdict verdict, const AwsError *e,
                    const HttpResponse *response, char **ret)
{
        const char *id = http_response_header(response, "x-amzn-RequestId");
        _cleanup_free_ char *hint = NULL, *what = NULL;

        format_hint(c, verdict, e, &hint);
        if (!*e->code && !*e->message)
                err_set(&what, "%s refused", c->client->endpoint.host);
        else
                err_set(&what, "%s%s%s", e->code, *e->code && *e->message ? ": " : "", e->message);
        err_set(ret, "%s (status %u, request id %s)%s", strempty(what),
                http_response_status(response), id ? id : "not told", strempty(hint));
}

/* Credentials that are not taken may have ended, or been rotated: others get one try. */
static bool renew_credentials(AwsCall *c)
{
        if (c->renewed || !credentials_source_renew(c->client->credentials, c->generation))
                return false;
        c->renewed = true;
        c->due_usec = clock_usec(CLOCK_MONOTONIC);
        return true;
}

static void judge_error(AwsCall *c, const HttpResponse *response, const AwsError *e)
{
        const AwsVerdict verdict = aws_error_judge(http_response_status(response), e->code);
        _cleanup_free_ char *err = NULL, *text = NULL;
        int result = verdict == AWS_DENIED || verdict == AWS_REFUSED ? -EACCES
                     : *e->code                                      ? -EREMOTEIO
                                                                     : -EPROTO;

        explain(c, verdict, e, response, &err);
        if (verdict == AWS_REFUSED && c->client->credentials &&
            (correct_clock(c, response) || renew_credentials(c)))
                return;
        if (verdict == AWS_TRANSIENT || verdict == AWS_THROTTLED) {
                retry(c, -EBUSY, verdict, strempty(err), response);
                return;
        }
        (void) fail(&text, result, "can't %s: %s", c->request.what, strempty(err));
        finish(c, result, text);
}

static void on_done(int result, const HttpResponse *response, const char *err, void *userdata)
{
        AwsCall *c = userdata;
        unsigned status = http_response_status(response);
        _cleanup_(aws_error_done) AwsError e = {};
        _cleanup_free_ char *text = NULL;

        c->transfer = NULL;
        if (result == -EHOSTDOWN || result == -ETIMEDOUT) {
                retry(c, http_response_unresolved(response) ? -ENOENT : result, AWS_TRANSIENT, err,
                      NULL);
                return;
        }
        if (result >= 0 && status >= 200 && status < 300) {
                finish(c, 0, NULL);
                return;
        }
        if (result >= 0)
                result = aws_error_parse(response, &e);
        if (result >= 0) {
                judge_error(c, response, &e);
                return;
        }
        (void) fail(&text, result, "can't %s: %s", c->request.what, err_text(result, err));
        finish(c, result, text);
}

uint64_t aws_due_in_usec(const AwsClient *a)
{
        const uint64_t now = clock_usec(CLOCK_MONOTONIC);
        uint64_t in_usec = UINT64_MAX;
        const AwsCall *c;

        LIST_FOREACH(c, &a->calls, entry)
        if (c->keyless)
                in_usec = MIN(in_usec, credentials_source_due_in_usec(a->credentials));
        else if (!c->transfer)
                in_usec = MIN(in_usec, c->due_usec > now ? c->due_usec - now : 0);
        return in_usec;
}

/* Finishing a call calls back, which may change the list. */
void aws_start_due(AwsClient *a)
{
        AwsCall *c;

again:
        LIST_FOREACH(c, &a->calls, entry)
        if (!c->transfer && c->due_usec <= clock_usec(CLOCK_MONOTONIC)) {
                _cleanup_free_ char *err = NULL, *text = NULL;
                int r = start_try(c, &err);
                if (r >= 0)
                        continue;
                c->transfer = NULL;
                (void) fail(&text, r, "can't %s: %s", c->request.what, err_text(r, err));
                finish(c, r, text);
                goto again;
        }
}

int aws_step(AwsClient *a, uint64_t timeout_usec)
{
        int r = http_step(a->http, -1, MIN(timeout_usec, aws_due_in_usec(a)));

        aws_start_due(a);
        return r;
}

typedef struct Waiting {
        bool done;
        int result;
        char *data;
        size_t size;
        char *err;
} Waiting;

static void on_call_done(int result, char **data, size_t size, const char *err, void *userdata)
{
        Waiting *w = userdata;

        *w = (Waiting){ .done = true, .result = result, .size = size };
        if (result >= 0)
                w->data = TAKE_PTR(*data);
        else
                w->err = strdup(err);
}

int aws_call(AwsClient *a, const AwsRequest *request, char **ret, size_t *ret_size, char **reterr)
{
        Waiting w = {};
        AwsCall *c;
        int r = aws_start(a, request, on_call_done, &w, &c, reterr);

        if (r < 0)
                return fail_prefix(reterr, r, "can't %s", request->what);
        while (!w.done) {
                r = aws_step(a, UINT64_MAX);
                if (r < 0 && !w.done) {
                        (void) aws_cancel(c);
                        return r;
                }
        }
        if (w.result < 0) {
                if (reterr) {
                        free(*reterr);
                        *reterr = TAKE_PTR(w.err);
                }
                free(w.err);
                return w.result;
        }
        *ret = w.data;
        *ret_size = w.size;
        return 0;
}
