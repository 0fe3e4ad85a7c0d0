/* SPDX-License-Identifier: Apache-2.0 */
#include "s3.h"

#include <stdio.h>
#include <sys/queue.h>
#include <time.h>

#include "aws-endpoint.h"
#include "aws-environment.h"
#include "backoff.h"
#include "clock.h"
#include "credentials.h"
#include "err.h"
#include "s3-address.h"
#include "s3-error.h"
#include "s3-recheck.h"
#include "sigv4.h"
#include "xml-scan.h"

#define TRIES_DEFAULT      4
#define THROTTLE_FACTOR    5
#define USEFUL_TRY_SIZE    (256 * 1024)
#define DEADLINE_BASE_SEC  60
#define SLOWEST_BYTES_SEC  16384
#define S3_RECHECKS_MAX    8 /* a connection each */
#define RECHECK_TRIES      3
#define RECHECK_PAUSE_USEC (UINT64_C(600) * 1000000)

struct S3Call {
        S3 *s3;
        S3Request request;
        HttpTransfer *transfer; /* NULL: waits until due_usec, or for credentials */
        S3Recheck *recheck;     /* or for its answer */
        uint64_t due_usec;
        unsigned n_tried;
        uint64_t size_at_start; /* of the sink, when this try began */
        uint64_t progress_max;
        unsigned generation; /* of the credentials of the last try */
        bool retried, fresh, skew_corrected, moved, renewed;
        bool keyless;      /* waits for credentials, or for the region */
        S3Place elsewhere; /* for this call alone, if it has an endpoint */
        char *region;      /* of the last try */
        char *etag;        /* of the object that a broken range began with */
        char *err;         /* why it is looked for in another region */
        LIST_ENTRY(S3Call) entry;
};

struct S3 {
        S3Address address;
        char *endpoint_url; /* of environment or profile; NULL: AWS */
        S3Endpoints endpoints;
        S3Place place;                  /* without endpoint: the region is not known yet */
        CredentialsSource *credentials; /* NULL: an https:// store, not signed */
        SigV4Key signing_key;
        Http *http;
        S3Recheck *rechecks[S3_RECHECKS_MAX]; /* as many as were needed at once */
        bool recheck_failed; /* the last one; not tried again until an answer says "not modified" */
        unsigned n_rechecks_failed; /* since the last one that did not */
        uint64_t recheck_from_usec;
        const StoreLimits *limits;
        const store_notice_t *notice;
        time_t clock_offset; /* what their clock is ahead of ours; for signing only */
        bool skew_told;
        LIST_HEAD(, S3Call) calls;
};

/* What the SDKs call these settings: AWS SDKs and Tools Reference Guide, "Settings reference". */
static int read_endpoints(S3 *s, char **reterr)
{
        const Profile *profile = NULL;
        int r = credentials_source_profile(s->credentials, &profile, reterr);
        const char *url = r < 0 ? NULL : aws_own_url("s3", profile);

        if (r < 0)
                return r;
        s->endpoint_url = url ? strdup(url) : NULL;
        if (url && !s->endpoint_url)
                return -ENOMEM;
        s->endpoints = (S3Endpoints){
                .url = s->endpoint_url,
                .dual_stack = aws_environment_is_on("AWS_USE_DUALSTACK_ENDPOINT"),
                .fips = aws_environment_is_on("AWS_USE_FIPS_ENDPOINT"),
        };
        return 0;
}

/* CREDENTIALS_PENDING: instance metadata is asked for the region. */
static int find_place(S3 *s, char **reterr)
{
        const char *region = NULL;
        int r = 0;

        if (s->place.endpoint)
                return 0;
        if (s->address.bucket && !s->address.region)
                r = credentials_source_region(s->credentials, &region, reterr);
        return r != 0 ? r : s3_place_find(&s->address, region, &s->endpoints, &s->place, reterr);
}

int s3_new(const char *url, const StoreLimits *limits, const store_notice_t *notice, S3 **ret,
           char **reterr)
{
        _cleanup_(s3_freep) S3 *s = calloc(1, sizeof(S3));
        int r;

        if (!s)
                return -ENOMEM;
        LIST_INIT(&s->calls);
        s->limits = limits;
        s->notice = notice;
        r = s3_address_parse(url, &s->address, reterr);
        if (r < 0)
                return r;
        if (s->address.bucket)
                r = credentials_source_new(&s->credentials, reterr);
        if (r >= 0 && s->address.bucket)
                r = read_endpoints(s, reterr);
        if (r >= 0)
                r = find_place(s, reterr);
        if (r >= 0)
                r = http_new(aws_environment("AWS_CA_BUNDLE"), &s->http);
        if (r < 0)
                return r;
        if (s->credentials)
                credentials_source_attach(s->credentials, s->http);
        *ret = TAKE_PTR(s);
        return 0;
}

S3 *s3_free(S3 *s)
{
        if (!s)
                return NULL;
        while (!LIST_EMPTY(&s->calls))
                (void) s3_cancel(LIST_FIRST(&s->calls));
        for (size_t i = 0; i < ELEMENTSOF(s->rechecks); i++)
                (void) s3_recheck_free(s->rechecks[i]);
        (void) http_free(s->http);
        (void) credentials_source_free(s->credentials);
        sigv4_key_done(&s->signing_key);
        s3_place_done(&s->place);
        s3_address_done(&s->address);
        free(s->endpoint_url);
        free(s);
        return NULL;
}

const char *s3_prefix(const S3 *s)
{
        return s->address.prefix;
}

const char *s3_credentials_name(const S3 *s)
{
        return s->credentials ? credentials_source_name(s->credentials) : NULL;
}

void s3_attach(S3 *s, Http *guest)
{
        http_attach(s->http, guest);
}

void s3_add_encryption(const S3 *s, S3Request *request)
{
        if (!s->address.kms_key)
                return;
        request->headers[request->n_headers++] =
                (NameValue){ "x-amz-server-side-encryption", "aws:kms" };
        request->headers[request->n_headers++] =
                (NameValue){ "x-amz-server-side-encryption-aws-kms-key-id", s->address.kms_key };
}

static void notice(const S3 *s, const char *text)
{
        if (*s->notice && text)
                (*s->notice)(text);
}

static void call_free(S3Call *c)
{
        sink_done(&c->request.sink);
        s3_place_done(&c->elsewhere);
        free(c->region);
        free(c->etag);
        free(c->err);
        free(c);
}

S3Call *s3_cancel(S3Call *c)
{
        if (!c)
                return NULL;
        LIST_REMOVE(c, entry);
        (void) http_cancel(c->transfer);
        if (c->recheck)
                s3_recheck_cancel(c->recheck);
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

static bool is_get(const S3Request *q)
{
        return streq(q->method, "GET");
}

/* The ETag that the object must have, or NULL. */
static const char *wanted_etag(const S3Call *c)
{
        return c->etag ? c->etag : c->request.if_match;
}

static unsigned deadline_msec(uint64_t size)
{
        return 1000 *
               (DEADLINE_BASE_SEC + (unsigned) MIN(size / SLOWEST_BYTES_SEC, UINT64_C(1) << 20));
}

/* What was signed is of use for as long as its credentials are; and they are renewed because
 * somebody asks for them. */
static uint64_t again_usec(void *userdata)
{
        const S3Call *c = userdata;
        CredentialsSource *source = c->s3->credentials;
        const Credentials *credentials;

        if (source && (credentials_source_get(source, &credentials, NULL) != 0 ||
                       credentials_source_generation(source) != c->generation))
                return 0;
        return c->request.again(c->request.userdata);
}

static void on_rechecked(bool unchanged, void *userdata)
{
        S3Call *c = userdata;

        c->recheck = NULL;
        c->n_tried = 0;
        c->s3->recheck_failed = !unchanged;
        c->s3->n_rechecks_failed = unchanged ? 0 : c->s3->n_rechecks_failed + 1;
        /* Its answers have another form, or what lies in between does not keep connections. */
        if (c->s3->n_rechecks_failed >= RECHECK_TRIES)
                c->s3->recheck_from_usec = clock_usec(CLOCK_MONOTONIC) + RECHECK_PAUSE_USEC;
        if (unchanged)
                finish(c, STORE_NOT_MODIFIED, NULL, NULL);
}

static bool can_recheck(const S3 *s)
{
        return !s->recheck_failed && clock_usec(CLOCK_MONOTONIC) >= s->recheck_from_usec;
}

static S3RecheckFor recheck_for(S3Call *c)
{
        return (S3RecheckFor){ .endpoint = c->s3->place.endpoint,
                               .key = c->request.key,
                               .etag = c->request.if_none_match,
                               .generation = c->generation,
                               .time = time(NULL) + c->s3->clock_offset,
                               .again = again_usec,
                               .done = on_rechecked,
                               .userdata = c };
}

static bool recheck_again(S3Call *c)
{
        const S3RecheckFor what = recheck_for(c);

        return s3_recheck_again(c->recheck, &what) >= 0;
}

/* Sends one try. */
static int send(S3Call *c, const S3Place *place, const char *path, const char *query,
                const NameValue *headers, size_t n, char **reterr)
{
        S3 *s = c->s3;
        const S3Request *q = &c->request;
        const uint64_t done = q->sink.size;
        const uint64_t size = q->upload       ? q->upload->size
                              : q->range_size ? q->range_size - done
                                              : q->size_max;
        _cleanup_free_ char *url = NULL;

        if (c->recheck) {
                const S3RecheckFor what = recheck_for(c);
                return s3_recheck_ask(c->recheck, &what, place->host, path, headers, n);
        }
        if (asprintf(&url, "%s%s%s%s", place->endpoint, path, *query ? "?" : "", query) < 0) {
                url = NULL;
                return -ENOMEM;
        }
        return http_start(s->http,
                          &(HttpRequest){
                                  .method = q->method,
                                  .url = url,
                                  .headers = headers,
                                  .n_headers = n,
                                  .upload = q->upload,
                                  .etag = is_get(q) ? wanted_etag(c) : NULL,
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

/* `headers` are complete but for what the signature adds; the first one is Host, which libcurl
 * makes from the URL, the second one the hash of the body. */
static int send_signed(S3Call *c, const Credentials *credentials, const S3Place *place,
                       const char *path, const char *query, NameValue *headers, size_t n,
                       char **reterr)
{
        S3 *s = c->s3;
        _cleanup_(sigv4_done) SigV4 signature = {};
        int r;

        r = sigv4_sign(&(SigV4Request){ .method = c->request.method,
                                        .path = path,
                                        .query = query,
                                        .headers = headers,
                                        .n_headers = n,
                                        .payload_hash = headers[1].value,
                                        .region = place->region,
                                        .service = "s3",
                                        .time = time(NULL) + s->clock_offset },
                       credentials, &s->signing_key, &signature);
        if (r < 0)
                return r;
        headers[0] = (NameValue){ "Authorization", signature.authorization };
        headers[n++] = (NameValue){ "x-amz-date", signature.date };
        if (credentials->session_token)
                headers[n++] = (NameValue){ "x-amz-security-token", credentials->session_token };
        /* NOLINTNEXTLINE(clang-analyzer-core.StackAddressEscape): nobody reads them later */
        return send(c, place, path, query, headers, n, reterr);
}

/* The headers but those of S3 itself, at most S3_HEADERS_MAX + 1. */
static size_t plain_headers(const S3Call *c, NameValue *headers)
{
        const S3Request *q = &c->request;
        size_t n = 0;

        for (; n < q->n_headers; n++)
                headers[n] = q->headers[n];
        if (wanted_etag(c))
                headers[n++] = (NameValue){ "If-Match", wanted_etag(c) };
        if (q->if_none_match)
                headers[n++] = (NameValue){ "If-None-Match", q->if_none_match };
        return n;
}

static int start_signed(S3Call *c, const Credentials *credentials, const S3Place *place,
                        const char *path, const char *query, char **reterr)
{
        const S3Address *a = &c->s3->address;
        NameValue headers[S3_HEADERS_MAX + 8];
        char hash[SHA256_HEX_SIZE] = SIGV4_EMPTY_PAYLOAD;
        size_t n = 0;

        if (c->request.upload)
                (void) sha256_to_hex(c->request.body_sha256, hash);
        headers[n++] = (NameValue){ "Host", place->host };
        headers[n++] = (NameValue){ "x-amz-content-sha256", hash };
        if (a->requester_pays)
                headers[n++] = (NameValue){ "x-amz-request-payer", "requester" };
        if (a->owner)
                headers[n++] = (NameValue){ "x-amz-expected-bucket-owner", a->owner };
        n += plain_headers(c, headers + n);
        return send_signed(c, credentials, place, path, query, headers, n, reterr);
}

/* CREDENTIALS_PENDING: region or credentials are on their way. */
static int get_ready(S3Call *c, const Credentials **ret, char **reterr)
{
        S3 *s = c->s3;
        int r = find_place(s, reterr);

        if (r == 0 && s->credentials)
                r = credentials_source_get(s->credentials, ret, reterr);
        c->keyless = r == CREDENTIALS_PENDING;
        if (r == 0 && s->credentials) {
                _cleanup_free_ char *worry = credentials_source_worry(s->credentials);
                notice(s, worry);
                c->generation = credentials_source_generation(s->credentials);
        }
        return r;
}

static int start_try(S3Call *c, char **reterr)
{
        const S3Place *place = c->elsewhere.endpoint ? &c->elsewhere : &c->s3->place;
        NameValue headers[S3_HEADERS_MAX + 1];
        const S3Request *q = &c->request;
        const Credentials *credentials = NULL;
        _cleanup_free_ char *path = NULL, *query = NULL;
        int r = get_ready(c, &credentials, reterr);

        if (r == 0 && c->recheck && recheck_again(c))
                return 0;
        if (r == 0)
                r = s3_place_path(place, &c->s3->address, q->key, &path);
        if (r == 0)
                r = query_format(q->params, q->n_params, &query);
        if (r != 0)
                return r;
        if (!q->resumes || !wanted_etag(c))
                sink_restart(&c->request.sink);
        c->size_at_start = q->sink.size;
        c->n_tried++;
        free(c->region);
        c->region = strdup(place->region);
        if (!c->region)
                return -ENOMEM;
        if (credentials)
                return start_signed(c, credentials, place, path, query, reterr);
        return send(c, place, path, query, headers, plain_headers(c, headers), reterr);
}

/* One that is free, first of all the one that asked for this object before. NULL: there is none. */
static S3Recheck *find_recheck(S3 *s, const char *key)
{
        S3Recheck *found = NULL, **end = s->rechecks + ELEMENTSOF(s->rechecks), **i;

        for (i = s->rechecks; i < end && *i; i++)
                if (!s3_recheck_is_busy(*i) && (!found || s3_recheck_knows(*i, key)))
                        found = *i;
        /* Better one more than one that has another object's connection and signature. */
        if (i < end && (!found || !s3_recheck_knows(found, key)) && s3_recheck_new(s->http, i) >= 0)
                found = *i;
        return found;
}

/* Anything but 0: it has to be asked for by other means. */
static int start_recheck(S3Call *c)
{
        int r;

        c->recheck = find_recheck(c->s3, c->request.key);
        r = c->recheck ? start_try(c, NULL) : -EBUSY;
        if (r != 0) {
                c->recheck = NULL;
                c->keyless = false;
                c->n_tried = 0;
        }
        return r;
}

int s3_start(S3 *s, const S3Request *request, S3Call **ret, char **reterr)
{
        S3Call *c = calloc(1, sizeof(S3Call));
        int r;

        if (!c)
                return -ENOMEM;
        *c = (S3Call){ .s3 = s, .request = *request };
        r = request->again && can_recheck(s) && start_recheck(c) == 0 ? 0 : start_try(c, reterr);
        if (r < 0) {
                call_free(c);
                return r;
        }
        LIST_INSERT_HEAD(&s->calls, c, entry);
        *ret = c;
        return 0;
}

/* "read s3://bucket/key" */
#define WHAT_FORMAT  "%s %s%s"
#define WHAT_ARGS(c) (c)->request.what, (c)->s3->address.base, strempty((c)->request.key)

/* Tries again after a while, or says that it was of no use: with `result`, an outcome or an error.
 * `response` NULL: none came whole, and the connection is suspect. */
static void retry(S3Call *c, int result, S3Verdict verdict, const char *err,
                  const HttpResponse *response)
{
        const S3Request *q = &c->request;
        const uint64_t base_usec = (uint64_t) c->s3->limits->backoff_msec * 1000;
        _cleanup_free_ char *text = NULL;

        /* On a line that keeps breaking, tries that brought the object on do not count. Without an
         * ETag to go on with, none does. */
        if (q->resumes && wanted_etag(c) && q->sink.size - c->size_at_start >= USEFUL_TRY_SIZE)
                c->n_tried = 0;
        if (c->n_tried < (q->n_tries ? q->n_tries : TRIES_DEFAULT)) {
                c->retried = true;
                c->fresh = !response;
                c->due_usec =
                        clock_usec(CLOCK_MONOTONIC) +
                        backoff_usec(c->n_tried,
                                     base_usec * (verdict == S3_THROTTLED ? THROTTLE_FACTOR : 1),
                                     response ? http_response_retry_after_sec(response) : 0);
                return;
        }
        err_set(&text, "can't " WHAT_FORMAT " (tried %u times): %s", WHAT_ARGS(c), c->n_tried, err);
        finish(c, result, NULL, result < 0 ? err_text(result, text) : NULL);
}

/* NULL: the answer does not say it, or it makes no sense. */
static const char *told_region(const HttpResponse *response, const S3Error *e)
{
        const char *region = http_response_header(response, "x-amz-bucket-region");

        if (!region && e)
                region = e->region;
        return region && aws_region_is_valid(region) ? region : NULL;
}

/* What to do about it; NULL: nothing is known. */
static char *hint(const S3Call *c, S3Verdict verdict, const S3Error *e, unsigned status,
                  const HttpResponse *response)
{
        const char *region = told_region(response, e), *location;
        char *text = NULL;

        location = http_response_header(response, "Location");
        if (!c->s3->address.bucket) {
                if (status >= 300 && status < 400 && location)
                        err_set(&text,
                                "; redirects are not followed: use the URL that it leads to");
        } else if (verdict == S3_ELSEWHERE)
                err_set(&text, "; the bucket is in region %s, set AWS_REGION to that",
                        region ? region : "(not told)");
        else if (strncmp(e->code, "KMS.", 4) == 0)
                err_set(&text, "; the object's KMS key is needed: reading takes kms:Decrypt, "
                               "writing kms:GenerateDataKey");
        else if (streq(e->code, "AccessDenied") || (status == 403 && !*e->code))
                err_set(&text,
                        "; this takes the permission %s, which a policy of the bucket, of a VPC "
                        "endpoint or of a KMS key may take away",
                        c->request.actions);
        else if (verdict == S3_REFUSED || verdict == S3_SKEWED)
                err_set(&text, "; the credentials in use (%s) are not taken%s",
                        c->s3->credentials ? credentials_source_name(c->s3->credentials) : "none",
                        verdict == S3_SKEWED ? " because of this host's clock" : "");
        return text;
}

static void explain(const S3Call *c, S3Verdict verdict, const S3Error *e, unsigned status,
                    const HttpResponse *response, char **ret)
{
        const char *id = http_response_header(response, "x-amz-request-id");
        _cleanup_free_ char *advice = hint(c, verdict, e, status, response);

        id = id ? id : e->request_id;
        err_set(ret, "can't " WHAT_FORMAT ": %s%s%s (status %u%s%s)%s", WHAT_ARGS(c),
                *e->code ? e->code : "refused", *e->message ? ": " : "", e->message, status,
                *id ? ", request id " : "", id, strempty(advice));
}

/* True if the answer is one that a caller expects and not an error. */
static bool judge_outcome(const S3Call *c, unsigned status, const S3Error *e, int *ret)
{
        bool reading = is_get(&c->request) && c->request.key;

        if (status == 304)
                *ret = STORE_NOT_MODIFIED;
        /* After a 409, an upload in parts has to begin anew. */
        else if (status == 412 || (status == 409 && c->request.late_root))
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
        if (status == 409)
                return STORE_CONFLICT;
        if (verdict == S3_TRANSIENT || verdict == S3_THROTTLED)
                return -EBUSY;
        if (verdict == S3_ELSEWHERE)
                return -EINVAL;
        if (verdict == S3_REFUSED || verdict == S3_SKEWED || status == 403 || status == 401)
                return -EACCES;
        return status == 404 ? -ENOENT : -EPROTO;
}

static void tell_skew(S3 *s)
{
        _cleanup_free_ char *text = NULL;
        long long offset = s->clock_offset;

        if (s->skew_told)
                return;
        s->skew_told = true;
        err_set(&text,
                "this host's clock is %lld seconds %s S3's: requests are signed by S3's clock, but "
                "what expires is judged by this host's; set it right",
                llabs(offset), offset > 0 ? "behind" : "ahead of");
        notice(s, text);
}

static bool correct_clock(S3Call *c, const HttpResponse *response)
{
        time_t theirs = http_response_date(response);

        if (c->skew_corrected || theirs == (time_t) -1)
                return false;
        c->s3->clock_offset = theirs - time(NULL);
        c->skew_corrected = true;
        c->due_usec = clock_usec(CLOCK_MONOTONIC);
        tell_skew(c->s3);
        return true;
}

static void settle(S3 *s, S3Place *place)
{
        _cleanup_free_ char *text = NULL;

        if (!streq(place->region, s->place.region)) {
                err_set(&text,
                        "the bucket %s is in region %s, not in %s: set AWS_REGION to that, which "
                        "saves a request at each start",
                        s->address.bucket, place->region, s->place.region);
                notice(s, text);
        }
        s3_place_done(&s->place);
        s->place = *place;
        *place = (S3Place){};
}

/* Tries again in another region; false: it was that one, or there is no such place, or it is in
 * another partition, where nothing of this one is known. A redirect that is temporary counts for
 * this call alone. */
static bool move(S3Call *c, const char *region, bool temporary)
{
        _cleanup_(s3_place_done) S3Place place = {};
        S3 *s = c->s3;

        if (streq(region, c->region) ||
            !streq(aws_dns_suffix(region, false), aws_dns_suffix(c->region, false)) ||
            s3_place_find(&s->address, region, &s->endpoints, &place, NULL) < 0)
                return false;
        c->moved = true;
        c->due_usec = clock_usec(CLOCK_MONOTONIC);
        if (!temporary) {
                settle(s, &place);
                return true;
        }
        c->elsewhere = place;
        place = (S3Place){};
        return true;
}

static void on_located(int result, const HttpResponse *response, const char *err, void *userdata)
{
        S3Call *c = userdata;
        const char *region = told_region(response, NULL);
        unsigned status = http_response_status(response);
        _cleanup_free_ char *text = NULL;

        c->transfer = NULL;
        if (region && move(c, region, false))
                return;
        if (result == -EHOSTDOWN || result == -ETIMEDOUT)
                err_set(&text, "can't find out the bucket's region: %s", err_text(result, err));
        else if (result >= 0 && !region && status >= 500)
                result = fail(&text, -EBUSY, "can't find out the bucket's region: status %u",
                              status);
        else {
                finish(c, -EINVAL, NULL, err_text(-EINVAL, c->err));
                return;
        }
        retry(c, result, S3_TRANSIENT, err_text(result, text), result == -EBUSY ? response : NULL);
}

/* Asks any region for the bucket's: even a refusal says it. Not signed, so that nobody gets a
 * signature for another place than its own. */
static bool locate(S3Call *c)
{
        S3 *s = c->s3;
        _cleanup_free_ char *path = NULL, *url = NULL;

        if (s3_place_path(&s->place, &s->address, NULL, &path) < 0)
                return false;
        if (asprintf(&url, "%s%s", s->place.endpoint, path) < 0) {
                url = NULL;
                return false;
        }
        return http_start(s->http,
                          &(HttpRequest){ .method = "HEAD",
                                          .url = url,
                                          .connect_sec = s->limits->connect_sec,
                                          .stall_sec = s->limits->stall_sec,
                                          .deadline_msec = deadline_msec(0),
                                          .done = on_located,
                                          .userdata = c },
                          &c->transfer, NULL) >= 0;
}

/* Goes where the bucket is, once. */
static bool follow(S3Call *c, const HttpResponse *response, unsigned status, const S3Error *e,
                   const char *err)
{
        const char *region = told_region(response, e);

        if (!c->s3->address.bucket || c->s3->address.region || c->moved)
                return false;
        if (region)
                return move(c, region, status == 307);
        free(c->err); /* of an earlier try */
        c->err = err ? strdup(err) : NULL;
        return locate(c);
}

/* Credentials that have ended or were rotated: others get one try. */
static bool renew_credentials(S3Call *c, const char *code)
{
        bool ended = streq(code, "ExpiredToken") || streq(code, "InvalidToken") ||
                     streq(code, "InvalidAccessKeyId");

        if (!ended || c->renewed || !c->s3->credentials ||
            !credentials_source_renew(c->s3->credentials, c->generation))
                return false;
        c->renewed = true;
        c->due_usec = clock_usec(CLOCK_MONOTONIC);
        return true;
}

static void judge_answer(S3Call *c, const HttpResponse *response, unsigned status, const S3Error *e)
{
        S3Verdict verdict = s3_error_judge(status, e->code);
        _cleanup_free_ char *err = NULL;
        int result;
        bool expected = judge_outcome(c, status, e, &result);

        /* Not for the answer to most polls: nothing has changed. */
        if (!expected || result == STORE_UNKNOWN)
                explain(c, verdict, e, status, response, &err);
        if (expected) {
                if (result == STORE_NOT_MODIFIED)
                        c->s3->recheck_failed = false;
                finish(c, result, response, result == STORE_UNKNOWN ? strempty(err) : NULL);
                return;
        }
        result = judge_error(verdict, status);
        if (verdict == S3_SKEWED && correct_clock(c, response))
                return;
        if (verdict == S3_REFUSED && renew_credentials(c, e->code))
                return;
        if (verdict == S3_ELSEWHERE && follow(c, response, status, e, err))
                return;
        if (verdict == S3_TRANSIENT || verdict == S3_THROTTLED)
                retry(c, result, verdict, err_text(result, err), response);
        else
                finish(c, result, response, err_text(result, err));
}

/* So that the range goes on with the object that it began with. */
static void remember_etag(S3Call *c, const HttpResponse *response)
{
        const char *etag = http_response_header(response, "ETag");

        if (c->request.resumes && etag && !wanted_etag(c))
                c->etag = strdup(etag);
}

/* The status that an error has which comes late, in an answer 200. */
static unsigned late_status(const char *code)
{
        static const struct {
                const char *code;
                unsigned status;
        } table[] = {
                {"PreconditionFailed",          412},
                { "ConditionalRequestConflict", 409},
                { "NoSuchUpload",               404},
                { "AccessDenied",               403},
        };

        for (size_t i = 0; i < ELEMENTSOF(table); i++)
                if (streq(code, table[i].code))
                        return table[i].status;
        return 200; /* what to do is said by the code alone */
}

static int take_root(const char *path, const char *text, void *userdata)
{
        const S3Request *q = userdata;
        size_t n = strlen(q->late_root);

        (void) text;
        return strncmp(path, q->late_root, n) == 0 && strchr("/", path[n]) ? 0 : -EBADMSG;
}

/* As find_error(), in the body of an answer 2xx: what is neither success nor error may be either.
 */
static int find_late_error(S3Call *c, unsigned *status, S3Error *ret, char **reterr)
{
        const Sink *sink = &c->request.sink;
        int r = s3_error_parse(strempty(sink->data), sink->size, true, ret);

        if (r >= 0) {
                *status = late_status(ret->code);
                return 1;
        }
        if (r == -EBADMSG)
                r = xml_scan(strempty(sink->data), sink->size, take_root, &c->request);
        if (r != -EBADMSG)
                return r;
        c->retried = true;
        return fail(reterr, -EPROTO,
                    "can't " WHAT_FORMAT ": the answer tells neither success nor failure",
                    WHAT_ARGS(c));
}

/* 1: there is an error in *ret, which the caller has to free. */
static int find_error(S3Call *c, const HttpResponse *response, unsigned *status, S3Error *ret,
                      char **reterr)
{
        const char *body;
        size_t size;
        int r;

        if (*status >= 200 && *status < 300)
                return c->request.late_root ? find_late_error(c, status, ret, reterr) : 0;
        body = http_response_error_body(response, &size);
        r = s3_error_parse(body, size, false, ret);
        return r < 0 ? r : 1;
}

static void on_done(int result, const HttpResponse *response, const char *err, void *userdata)
{
        S3Call *c = userdata;
        unsigned status = http_response_status(response);
        _cleanup_free_ char *text = NULL;
        S3Error e = {};

        c->transfer = NULL;
        if (http_response_resent(response))
                c->retried = true;
        /* All that was asked for is there, though the server promised more. */
        if ((result == -EHOSTDOWN || result == -ETIMEDOUT) && c->request.range_size > 0 &&
            c->request.sink.size == c->request.range_size)
                result = 0;
        if (result == -EHOSTDOWN || result == -ETIMEDOUT) {
                remember_etag(c, response);
                retry(c, result, S3_TRANSIENT, err, NULL);
                return;
        }
        if (result == -ESTALE) {
                finish(c, STORE_CONFLICT, NULL, NULL);
                return;
        }
        if (result < 0) {
                (void) fail(&text, result, "can't " WHAT_FORMAT ": %s", WHAT_ARGS(c), err);
                finish(c, result, NULL, err_text(result, text));
                return;
        }
        result = find_error(c, response, &status, &e, &text);
        if (result > 0)
                judge_answer(c, response, status, &e);
        else
                finish(c, result, response, result < 0 ? err_text(result, text) : NULL);
        s3_error_done(&e);
}

/* Starts the tries whose time has come. Finishing one calls back, which may change the list. */
static void start_due(S3 *s)
{
        S3Call *c;

again:
        LIST_FOREACH(c, &s->calls, entry)
        if (!c->transfer && !c->recheck && c->due_usec <= clock_usec(CLOCK_MONOTONIC)) {
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
        uint64_t now = clock_usec(CLOCK_MONOTONIC);
        const S3Call *c;
        int r;

        LIST_FOREACH(c, &s->calls, entry)
        if (c->keyless)
                timeout_usec = MIN(timeout_usec, credentials_source_due_in_usec(s->credentials));
        else if (!c->transfer && !c->recheck)
                timeout_usec = MIN(timeout_usec, c->due_usec > now ? c->due_usec - now : 0);
        r = http_step(s->http, extra_fd, timeout_usec);
        start_due(s);
        return r;
}
