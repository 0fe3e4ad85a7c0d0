/* SPDX-License-Identifier: Apache-2.0 */
#include "test.h"

#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <time.h>

#include "clock.h"
#include "fault-server.h"
#include "s3-error.h"
#include "s3-list.h"
#include "s3-upload.h"
#include "store.h"

#define OBJECT_SIZE (1024 * 1024)
#define BREAK_SIZE  (300 * 1024)
#define LARGE_SIZE  ((UINT64_C(64) << 20) + 12345)
#define LARGE_CRC64 "dT4tE6r9UmM="

static FaultServer server;
static int stop_fd; /* the server interrupts an upload by it */

/* scratch[] of the server, by what is counted there */
enum {
        FLAKY,
        SKEWED,
        LOST,
        BROKEN,
        PARTS,
        COMPLETES,
        ABORTS,
        UNSIGNED,
        PATIENCE,
};

static int count(int what)
{
        return atomic_fetch_add(&fault_counts()->scratch[what], 1);
}

static bool target_is(const FaultRequest *q, const char *method, const char *target)
{
        char line[512];
        int n = snprintf(line, sizeof(line), "%s %s ", method, target);

        return strncmp(q->head, line, n) == 0;
}

static bool object_is(const FaultRequest *q, const char *key)
{
        char target[256];

        (void) snprintf(target, sizeof(target), "/bucket/pre/%s", key);
        return target_is(q, "GET", target) || target_is(q, "PUT", target);
}

static void answer_error(const FaultRequest *q, int status, const char *code)
{
        char body[512];
        int n = snprintf(body, sizeof(body),
                         "<?xml version=\"1.0\"?>\n<Error><Code>%s</Code><Message>it "
                         "is\nso</Message><RequestId>R1</RequestId></Error>",
                         code);

        fault_answer(q, status, "", body, n);
}

static void serve_skewed(const FaultRequest *q)
{
        char date[64];
        time_t theirs = time(NULL) + 3600;
        struct tm tm;
        _cleanup_free_ char *signed_at = fault_header(q, "x-amz-date");

        (void) gmtime_r(&theirs, &tm);
        if (count(SKEWED) > 0) {
                char hour[16];
                (void) strftime(hour, sizeof(hour), "%Y%m%dT%H", &tm);
                if (strncmp(signed_at, hour, strlen(hour)) == 0)
                        fault_answer(q, 200, "", "in time", 7);
                else
                        answer_error(q, 403, "RequestTimeTooSkewed");
                return;
        }
        (void) strftime(date, sizeof(date), "Date: %a, %d %b %Y %H:%M:%S GMT\r\n", &tm);
        fault_answer(q, 403, date, "<Error><Code>RequestTimeTooSkewed</Code></Error>", 48);
}

/* The first PUT works, but nobody hears of it. */
static bool serve_lost(const FaultRequest *q, const char *content)
{
        if (strncmp(q->head, "GET", 3) == 0)
                fault_answer(q, 200, "ETag: \"mine\"\r\n", content, strlen(content));
        else if (count(LOST) % 2 == 0)
                return false;
        else
                answer_error(q, 412, "PreconditionFailed");
        return true;
}

/* Breaks every answer after some bytes. */
static bool serve_broken(const FaultRequest *q)
{
        _cleanup_free_ char *range = fault_header(q, "Range"), *match = fault_header(q, "If-Match");
        size_t first, last;
        char head[256];

        (void) count(BROKEN);
        if (!range || !match || sscanf(range, "bytes=%zu-%zu", &first, &last) != 2)
                return false;
        char *data = malloc(OBJECT_SIZE);
        for (size_t i = 0; i < OBJECT_SIZE; i++)
                data[i] = (char) (i / 1000);
        int n = snprintf(head, sizeof(head),
                         "HTTP/1.1 206 X\r\nContent-Length: %zu\r\nETag: \"b\"\r\n"
                         "Content-Range: bytes %zu-%zu/%d\r\n\r\n",
                         last + 1 - first, first, last, OBJECT_SIZE);
        fault_write(q, head, n);
        fault_write(q, data + first, MIN(last + 1 - first, (size_t) BREAK_SIZE));
        free(data);
        return false;
}

/* Asks twice for a second: as a number, and as a date by a clock that is years behind. */
static void serve_patience(const FaultRequest *q)
{
        switch (count(PATIENCE)) {
        case 0:
                fault_answer(q, 503, "Retry-After: 1\r\n", "", 0);
                break;
        case 1:
                fault_answer(q, 429,
                             "Date: Fri, 24 May 2013 00:00:00 GMT\r\n"
                             "Retry-After: Fri, 24 May 2013 00:00:01 GMT\r\n",
                             "", 0);
                break;
        default:
                fault_answer(q, 200, "", "now", 3);
        }
}

static bool serve_list(const FaultRequest *q)
{
        static const char first[] =
                "<ListBucketResult xmlns=\"x\"><Name>bucket</Name><IsTruncated>true</IsTruncated>"
                "<Contents><Key>pre/web/a</Key><ETag>&quot;1&quot;</ETag></Contents>"
                "<Contents><Key>pre/web/b%20c</Key></Contents>"
                "<NextContinuationToken>t+/=&amp;</NextContinuationToken></ListBucketResult>";
        static const char last[] = "<ListBucketResult><IsTruncated>false</IsTruncated>"
                                   "<Contents><Key>pre/web/d%2De</Key></Contents>"
                                   "</ListBucketResult>";

        if (target_is(q, "GET",
                      "/bucket?encoding-type=url&list-type=2&max-keys=1000&prefix=pre%2Fweb%2F"))
                fault_answer(q, 200, "", first, strlen(first));
        else if (target_is(q, "GET",
                           "/bucket?continuation-token=t%2B%2F%3D%26&encoding-type=url&list-type=2"
                           "&max-keys=1000&prefix=pre%2Fweb%2F"))
                fault_answer(q, 200, "", last, strlen(last));
        else
                answer_error(q, 403, "AccessDenied");
        return true;
}

/* What CompleteMultipartUpload may answer under status 200. */
static bool serve_odd_complete(const FaultRequest *q)
{
        static const struct {
                const char *path, *answer;
        } table[] = {
                {"/bad-digest?",  "<Error><Code>BadDigest</Code><Message>m</Message></Error>"},
                { "/raced?",      "<Error><Code>PreconditionFailed</Code></Error>"           },
                { "/page?",       "<html>You are offline</html>"                             },
                { "/empty?",      ""                                                         },
                { "/cut?",        "<CompleteMultipartUploadResult><Location>http://b"        },
                { "/other-root?",
                 "<CompleteMultipartUploadResultX><a/></CompleteMultipartUploadResultX>"     },
        };

        for (size_t i = 0; i < ELEMENTSOF(table); i++)
                if (strstr(q->head, table[i].path)) {
                        (void) count(COMPLETES);
                        fault_answer(q, 200, "", table[i].answer, strlen(table[i].answer));
                        return true;
                }
        return false;
}

/* A CompleteMultipartUpload after whose tries nobody knows whether one of them worked. */
static bool serve_lost_complete(const FaultRequest *q, bool *ret_goes_on)
{
        bool lost = strstr(q->head, "/lost-ours?");

        if (!lost && !strstr(q->head, "/busy-"))
                return false;
        (void) count(COMPLETES);
        if (!lost)
                answer_error(q, 503, "SlowDown");
        *ret_goes_on = !lost;
        return true;
}

static bool serve_upload(const FaultRequest *q)
{
        static const char id[] = "<InitiateMultipartUploadResult><UploadId>u 1</UploadId>"
                                 "</InitiateMultipartUploadResult>";
        static const char late[] = "  \n<Error><Code>InternalError</Code></Error>";
        static const char done[] = "<CompleteMultipartUploadResult/>";
        bool doomed = strstr(q->head, "/doomed?") != NULL, goes_on = true;

        if (strstr(q->head, "uploadId=") && strncmp(q->head, "POST", 4) == 0 &&
            (serve_odd_complete(q) || serve_lost_complete(q, &goes_on)))
                return goes_on;
        if (strstr(q->head, "?uploads= ") &&
            !strstr(q->head, "CRC64NVME\r\nx-amz-checksum-type: FULL"))
                answer_error(q, 400, "InvalidRequest");
        else if (strstr(q->head, "/silent?uploads= ")) {
                (void) eventfd_write(stop_fd, 1);
                fault_stall(q);
                return false;
        } else if (strstr(q->head, "?uploads= "))
                fault_answer(q, 200, "", id, strlen(id));
        else if (strncmp(q->head, "PUT", 3) == 0 && doomed && strstr(q->head, "partNumber=3&"))
                answer_error(q, 403, "AccessDenied");
        else if (strncmp(q->head, "PUT", 3) == 0) {
                if (count(PARTS) == 1)
                        return false; /* a part that has to go again */
                if (strstr(q->head, "/slow?")) {
                        (void) eventfd_write(stop_fd, 1);
                        fault_stall(q);
                        return false;
                }
                if (!strstr(q->head, "x-amz-checksum-crc64nvme: "))
                        answer_error(q, 400, "InvalidRequest");
                fault_answer(q, 200, "ETag: \"<p>\"\r\n", "", 0);
        } else if (strncmp(q->head, "DELETE", 6) == 0) {
                (void) count(ABORTS);
                fault_answer(q, 204, "", "", 0);
        } else if (strncmp(q->head, "GET", 3) == 0)
                fault_answer(q, 200, "", "other", 5);
        else if (count(COMPLETES) == 0)
                fault_answer(q, 200, "", late, strlen(late));
        else if (strstr(q->body, "<PartNumber>5</PartNumber><ETag>\"&#60;p&#62;\"</ETag>"
                                 "<ChecksumCRC64NVME>") &&
                 strstr(q->head, "x-amz-checksum-crc64nvme: " LARGE_CRC64 "\r\n"))
                fault_answer(q, 200, "", done, strlen(done));
        else
                answer_error(q, 400, "InvalidPart");
        return true;
}

static bool serve_objects(const FaultRequest *q)
{
        if (object_is(q, "ok"))
                fault_answer(q, 200, "ETag: \"e1\"\r\n", "hello", 5);
        else if (object_is(q, "head"))
                fault_answer(q, 200, "", q->head, strlen(q->head));
        else if (object_is(q, "empty") || object_is(q, "busy-other"))
                fault_answer(q, 200, "", "another", 7);
        else if (object_is(q, "same"))
                fault_answer(q, 304, "", "", 0);
        else if (object_is(q, "cut") || object_is(q, "lost-ours")) {
                static const char zeroes[LARGE_SIZE];
                fault_answer(q, 200, "", zeroes, sizeof(zeroes));
        } else if (object_is(q, "missing") || object_is(q, "page") || object_is(q, "other-root") ||
                   object_is(q, "busy-none"))
                answer_error(q, 404, "NoSuchKey");
        else if (object_is(q, "no-bucket"))
                answer_error(q, 404, "NoSuchBucket");
        else if (object_is(q, "denied"))
                answer_error(q, 403, "AccessDenied");
        else if (object_is(q, "bare-403"))
                fault_answer(q, 403, "", "", 0);
        else if (object_is(q, "bad-key"))
                answer_error(q, 403, "SignatureDoesNotMatch");
        else if (object_is(q, "expired"))
                answer_error(q, 400, "ExpiredToken");
        else if (object_is(q, "elsewhere"))
                fault_answer(q, 301, "x-amz-bucket-region: eu-west-3\r\n", "", 0);
        else if (object_is(q, "precondition"))
                answer_error(q, 412, "PreconditionFailed");
        else if (object_is(q, "conflict"))
                answer_error(q, 409, "ConditionalRequestConflict");
        else if (object_is(q, "down"))
                answer_error(q, 500, "InternalError");
        else if (object_is(q, "stalls"))
                fault_stall(q);
        else
                return false;
        return true;
}

static bool serve(const FaultRequest *q)
{
        _cleanup_free_ char *authorization = fault_header(q, "Authorization");
        _cleanup_free_ char *hash = fault_header(q, "x-amz-content-sha256");

        if (!authorization || !hash)
                (void) count(UNSIGNED);
        if (object_is(q, "flaky")) {
                int n = count(FLAKY);
                if (n == 2)
                        fault_answer(q, 200, "", "at last", 7);
                else
                        answer_error(q, n ? 503 : 500, n ? "SlowDown" : "InternalError");
                return true;
        }
        if (object_is(q, "skewed")) {
                serve_skewed(q);
                return true;
        }
        if (object_is(q, "patience")) {
                serve_patience(q);
                return true;
        }
        if (object_is(q, "lost"))
                return serve_lost(q, "mine");
        if (object_is(q, "lost-to-other"))
                return serve_lost(q, "other");
        if (object_is(q, "broken"))
                return serve_broken(q);
        if (strstr(q->head, "uploadId=") || strstr(q->head, "?uploads=") ||
            strstr(q->head, "/large "))
                return serve_upload(q);
        return strncmp(q->head, "GET /bucket?", 12) == 0 ? serve_list(q) : serve_objects(q);
}

static Store *open_store(void)
{
        _cleanup_free_ char *err = NULL;
        char endpoint[64];
        Store *s = NULL;

        (void) snprintf(endpoint, sizeof(endpoint), "http://127.0.0.1:%u", server.port);
        assert_int_equal(setenv("AWS_ENDPOINT_URL_S3", endpoint, 1), 0);
        assert_int_equal(store_open("s3://bucket/pre/", &s, &err), 0);
        store_set_limits(s, &(StoreLimits){ .connect_sec = 5, .stall_sec = 1, .backoff_msec = 5 });
        return s;
}

static void gets(void **state)
{
        static const struct {
                const char *path;
                int result;
                const char *data, *err;
        } table[] = {
                {"ok",            0,                  "hello",   NULL                               },
                { "same",         STORE_NOT_MODIFIED, NULL,      NULL                               },
                { "missing",      STORE_ABSENT,       NULL,      NULL                               },
                { "precondition", STORE_CONFLICT,     NULL,      NULL                               },
                { "denied",       STORE_UNKNOWN,      NULL,      "s3:GetObject"                     },
                { "bare-403",     STORE_UNKNOWN,      NULL,      "s3:ListBucket"                    },
                { "no-bucket",    -ENOENT,            NULL,
                 "NoSuchBucket: it is so (status 404, request id R1)"                               },
                { "bad-key",      -EACCES,            NULL,      "credentials"                      },
                { "expired",      -EACCES,            NULL,      "ExpiredToken"                     },
                { "elsewhere",    -EINVAL,            NULL,      "eu-west-3"                        },
                { "down",         -EBUSY,             NULL,      "tried 4 times"                    },
                { "closes",       -EHOSTDOWN,         NULL,      "can't read s3://bucket/pre/closes"},
                { "flaky",        0,                  "at last", NULL                               },
                { "skewed",       0,                  "in time", NULL                               },
        };
        _cleanup_(store_freep) Store *s = open_store();

        (void) state;
        for (size_t i = 0; i < ELEMENTSOF(table); i++) {
                _cleanup_(store_reply_done) StoreReply reply = {};
                _cleanup_free_ char *err = NULL;
                int r = store_call(s, &(StoreRequest){ .path = table[i].path, .size_max = 4096 },
                                   &reply, &err);
                if (r != table[i].result)
                        fail_msg("%s: %d (%s)", table[i].path, r, strempty(err));
                if (table[i].data)
                        assert_string_equal(reply.data, table[i].data);
                if (table[i].err && !strstr(strempty(err), table[i].err))
                        fail_msg("%s: '%s'", table[i].path, strempty(err));
                if (!table[i].err)
                        assert_null(err);
                if (streq(table[i].path, "ok"))
                        assert_string_equal(reply.etag, "\"e1\"");
        }
        assert_int_equal(server.counts->scratch[UNSIGNED], 0);
}

static void sent_headers(void **state)
{
        _cleanup_(store_freep) Store *s = open_store();
        _cleanup_(store_reply_done) StoreReply reply = {};

        (void) state;
        assert_int_equal(store_call(s,
                                    &(StoreRequest){ .path = "head",
                                                     .if_none_match = "\"e\"",
                                                     .size_max = 4096 },
                                    &reply, NULL),
                         0);
        assert_non_null(strstr(reply.data, "If-None-Match: \"e\"\r\n"));
        assert_non_null(strstr(reply.data, "x-amz-security-token: token\r\n"));
        assert_non_null(strstr(reply.data, "/eu-central-1/s3/aws4_request, SignedHeaders=host;"
                                           "if-none-match;x-amz-content-sha256;x-amz-date;"
                                           "x-amz-security-token, Signature="));
        assert_null(strstr(reply.data, "secret"));
}

static void stalls(void **state)
{
        _cleanup_(store_freep) Store *s = open_store();
        _cleanup_free_ char *err = NULL;
        int before = server.counts->n_connections;

        (void) state;
        assert_int_equal(
                store_call(s, &(StoreRequest){ .path = "stalls", .size_max = 10, .n_tries = 2 },
                           NULL, &err),
                -ETIMEDOUT);
        assert_int_equal(server.counts->n_connections - before, 2);
}

static int put(Store *s, const char *path, const char *body)
{
        _cleanup_free_ char *err = NULL;

        return store_call(s,
                          &(StoreRequest){ .method = STORE_PUT,
                                           .path = path,
                                           .body = body,
                                           .body_size = strlen(body),
                                           .if_none_match = "*" },
                          NULL, &err);
}

static void waits_as_asked(void **state)
{
        _cleanup_(store_freep) Store *s = open_store();
        _cleanup_(store_reply_done) StoreReply reply = {};
        const uint64_t before_usec = clock_usec(CLOCK_MONOTONIC);

        (void) state;
        assert_int_equal(
                store_call(
                        s,
                        &(StoreRequest){ .method = STORE_GET, .path = "patience", .size_max = 100 },
                        &reply, NULL),
                0);
        assert_true(clock_usec(CLOCK_MONOTONIC) - before_usec >= 2000000);
}

static void puts_with_conditions(void **state)
{
        _cleanup_(store_freep) Store *s = open_store();

        (void) state;
        assert_int_equal(put(s, "ok", "x"), 0);
        assert_int_equal(put(s, "precondition", "x"), STORE_CONFLICT);
        assert_int_equal(put(s, "conflict", "x"), STORE_CONFLICT);
        assert_int_equal(put(s, "denied", "x"), -EACCES);
        /* On a connection that was used before libcurl tries again by itself, on a new one we do.
         */
        for (int i = 0; i < 2; i++) {
                _cleanup_(store_freep) Store *s2 = open_store();
                if (i == 0)
                        assert_int_equal(put(s2, "ok", "x"), 0);
                assert_int_equal(put(s2, "lost", "mine"), 0);
        }
        assert_int_equal(put(s, "lost-to-other", "mine"), STORE_CONFLICT);
}

static uint64_t last_progress;

static void note_progress(uint64_t done_bytes, uint64_t total_bytes, void *userdata)
{
        (void) userdata;
        assert_true(done_bytes > last_progress && done_bytes <= total_bytes);
        last_progress = done_bytes;
}

/* Only two tries, and it takes four: a try that brings the object on does not count. */
static void broken_ranges_resume(void **state)
{
        _cleanup_(store_freep) Store *s = open_store();
        _cleanup_close_ int fd = memfd_create("sink", MFD_CLOEXEC);
        _cleanup_free_ char *err = NULL, *data = NULL;

        (void) state;
        last_progress = 0;
        assert_int_equal(store_call(s,
                                    &(StoreRequest){ .path = "broken",
                                                     .if_match = "\"b\"",
                                                     .size_max = OBJECT_SIZE,
                                                     .range_offset = 1000,
                                                     .range_size = OBJECT_SIZE - 1000,
                                                     .to_fd = true,
                                                     .sink_fd = fd,
                                                     .n_tries = 2,
                                                     .progress = note_progress },
                                    NULL, &err),
                         0);
        assert_int_equal(last_progress, OBJECT_SIZE - 1000);
        assert_int_equal(server.counts->scratch[BROKEN], 4);
        data = malloc(OBJECT_SIZE);
        assert_int_equal(fd_pread_exactly(fd, data, OBJECT_SIZE - 1000, 0), 0);
        for (size_t i = 1000; i < OBJECT_SIZE; i++)
                assert_int_equal(data[i - 1000], (char) (i / 1000));
}

static void lists(void **state)
{
        _cleanup_(store_freep) Store *s = open_store();
        _cleanup_(store_reply_done) StoreReply reply = {};
        _cleanup_free_ char *err = NULL;

        (void) state;
        assert_int_equal(
                store_call(s,
                           &(StoreRequest){ .method = STORE_LIST, .path = "web", .size_max = 1000 },
                           &reply, &err),
                0);
        assert_string_equal(reply.data, "web/a\nweb/d-e\n");
        assert_int_equal(
                store_call(s, &(StoreRequest){ .method = STORE_LIST, .path = "web", .size_max = 8 },
                           NULL, &err),
                -EFBIG);
        assert_int_equal(
                store_call(s, &(StoreRequest){ .method = STORE_LIST, .path = "x", .size_max = 8 },
                           NULL, &err),
                -EACCES);
        assert_non_null(strstr(err, "s3:ListBucket"));
}

static void sizes_of_parts(void **state)
{
        static const uint64_t mib = UINT64_C(1) << 20, largest = UINT64_C(5) << 40;

        (void) state;
        assert_int_equal(s3_upload_part_size(S3_UPLOAD_SIZE_MIN), 16 * mib);
        assert_int_equal(s3_upload_part_size(160000 * mib), 16 * mib);
        assert_int_equal(s3_upload_part_size(160000 * mib + 1), 16 * mib + 1);
        /* The largest object that S3 takes in parts: at most 10000 of at most 5 GiB. */
        const uint64_t size = s3_upload_part_size(largest);
        assert_true((largest + size - 1) / size <= 10000);
        assert_true(size <= 5 * 1024 * mib);
}

static void uploads_in_parts(void **state)
{
        _cleanup_(store_freep) Store *s = open_store();
        _cleanup_close_ int fd = memfd_create("large", MFD_CLOEXEC);
        _cleanup_free_ char *err = NULL;
        Sha256 digest;

        (void) state;
        assert_int_equal(ftruncate(fd, LARGE_SIZE), 0);
        assert_int_equal(sha256_fd(fd, 0, LARGE_SIZE, &digest), 0);
        last_progress = 0;
        assert_int_equal(
                store_upload(s, "large", fd, LARGE_SIZE, &digest, note_progress, NULL, -1, &err),
                0);
        assert_int_equal(last_progress, LARGE_SIZE);
        assert_int_equal(server.counts->scratch[PARTS], 6);
        assert_int_equal(server.counts->scratch[COMPLETES], 2);
        assert_int_equal(server.counts->scratch[ABORTS], 0);
        assert_int_equal(store_upload(s, "doomed", fd, LARGE_SIZE, &digest, NULL, NULL, -1, &err),
                         -EACCES);
        assert_non_null(strstr(err, "s3:PutObject"));
        assert_int_equal(server.counts->scratch[ABORTS], 1);
}

/* Status 200 alone is no success. */
static void upload_that_may_have_failed(void **state)
{
        static const struct {
                const char *path;
                int result;
                const char *err;
        } table[] = {
                {"bad-digest",  -EPROTO,        "BadDigest: m"               },
                { "raced",      STORE_CONFLICT, NULL                         },
                { "page",       -EPROTO,        "neither success nor failure"},
                { "other-root", -EPROTO,        "neither success nor failure"},
                { "empty",      STORE_CONFLICT, NULL                         }, /* another is there */
                { "cut",        0,              NULL                         }, /* ours is there */
        };
        _cleanup_(store_freep) Store *s = open_store();
        _cleanup_close_ int fd = memfd_create("large", MFD_CLOEXEC);
        Sha256 digest;

        (void) state;
        assert_int_equal(ftruncate(fd, LARGE_SIZE), 0);
        assert_int_equal(sha256_fd(fd, 0, LARGE_SIZE, &digest), 0);
        for (size_t i = 0; i < ELEMENTSOF(table); i++) {
                _cleanup_free_ char *err = NULL;
                int completes = server.counts->scratch[COMPLETES];
                int r = store_upload(s, table[i].path, fd, LARGE_SIZE, &digest, NULL, NULL, -1,
                                     &err);
                if (r != table[i].result || (table[i].err && !strstr(err, table[i].err)))
                        fail_msg("%s: %d, %s", table[i].path, r, strempty(err));
                assert_int_equal(server.counts->scratch[COMPLETES] - completes, 1);
        }
}

/* What is there is looked at, though no try was told that it worked. */
static void upload_whose_end_gets_lost(void **state)
{
        static const struct {
                const char *path;
                int result;
        } table[] = {
                {"lost-ours",   0             },
                { "busy-other", STORE_CONFLICT},
                { "busy-none",  -EBUSY        },
        };
        _cleanup_(store_freep) Store *s = open_store();
        _cleanup_close_ int fd = memfd_create("large", MFD_CLOEXEC);
        Sha256 digest;

        (void) state;
        assert_int_equal(ftruncate(fd, LARGE_SIZE), 0);
        assert_int_equal(sha256_fd(fd, 0, LARGE_SIZE, &digest), 0);
        for (size_t i = 0; i < ELEMENTSOF(table); i++) {
                _cleanup_free_ char *err = NULL;
                const int completes = server.counts->scratch[COMPLETES];
                const int aborts = server.counts->scratch[ABORTS];
                int r = store_upload(s, table[i].path, fd, LARGE_SIZE, &digest, NULL, NULL, -1,
                                     &err);
                if (r != table[i].result || (r < 0 && !strstr(err, "tried 4 times")))
                        fail_msg("%s: %d, %s", table[i].path, r, strempty(err));
                assert_true(server.counts->scratch[COMPLETES] - completes >= 4);
                assert_int_equal(server.counts->scratch[ABORTS] - aborts, r == 0 ? 0 : 1);
        }
}

static void upload_that_is_interrupted(void **state)
{
        _cleanup_(store_freep) Store *s = open_store();
        _cleanup_close_ int fd = memfd_create("large", MFD_CLOEXEC);
        _cleanup_free_ char *err = NULL;
        int aborts = server.counts->scratch[ABORTS];
        Sha256 digest = {};

        (void) state;
        store_set_limits(s, &(StoreLimits){ .connect_sec = 5, .stall_sec = 60 });
        assert_int_equal(ftruncate(fd, LARGE_SIZE), 0);
        assert_int_equal(
                store_upload(s, "slow", fd, LARGE_SIZE, &digest, NULL, NULL, stop_fd, &err),
                -ECANCELED);
        assert_non_null(strstr(err, "'slow' was interrupted"));
        assert_int_equal(server.counts->scratch[ABORTS] - aborts, 1);
        /* Before it has an id there is nothing to abort. */
        eventfd_t n;
        assert_int_equal(eventfd_read(stop_fd, &n), 0);
        assert_int_equal(
                store_upload(s, "silent", fd, LARGE_SIZE, &digest, NULL, NULL, stop_fd, NULL),
                -ECANCELED);
        assert_int_equal(server.counts->scratch[ABORTS] - aborts, 1);
        /* In one piece as well. */
        assert_int_equal(store_upload(s, "stalls", fd, 10, &digest, NULL, NULL, stop_fd, NULL),
                         -ECANCELED);
}

static void settings_that_lack(void **state)
{
        static const char *const names[] = { "AWS_REGION", "AWS_ACCESS_KEY_ID",
                                             "AWS_SECRET_ACCESS_KEY" };

        (void) state;
        for (size_t i = 0; i < ELEMENTSOF(names); i++) {
                _cleanup_free_ char *err = NULL, *value = strdup(getenv(names[i]));
                Store *s = NULL;
                assert_int_equal(unsetenv(names[i]), 0);
                assert_int_equal(store_open("s3://bucket", &s, &err), -EINVAL);
                assert_non_null(strstr(err, names[i]));
                assert_int_equal(setenv(names[i], value, 1), 0);
        }
}

static void list_pages(void **state)
{
        static const char *const bad[] = {
                "",
                "<Other/>",
                "<ListBucketResult><IsTruncated>true</IsTruncated></ListBucketResult>",
                "<ListBucketResult><Contents><Key>other/x</Key></Contents></ListBucketResult>",
                "<ListBucketResult><Contents><Key>pre/%2</Key></Contents></ListBucketResult>",
                "<ListBucketResult><Contents><Key>pre/%00</Key></Contents></ListBucketResult>",
        };
        _cleanup_(sink_done) Sink keys = {};
        char *token = NULL;

        (void) state;
        for (size_t i = 0; i < ELEMENTSOF(bad); i++) {
                assert_int_equal(
                        s3_list_take_page(bad[i], strlen(bad[i]), "pre/", 100, &keys, &token),
                        -EBADMSG);
                assert_null(token);
        }
}

static void verdicts(void **state)
{
        (void) state;
        assert_int_equal(s3_error_judge(503, ""), S3_THROTTLED);
        assert_int_equal(s3_error_judge(500, ""), S3_TRANSIENT);
        assert_int_equal(s3_error_judge(400, "RequestTimeout"), S3_TRANSIENT);
        assert_int_equal(s3_error_judge(400, "BadDigest"), S3_FINAL);
        assert_int_equal(s3_error_judge(400, "AuthorizationHeaderMalformed"), S3_ELSEWHERE);
        assert_int_equal(s3_error_judge(403, "RequestTimeTooSkewed"), S3_SKEWED);
}

static int start(void **state)
{
        (void) state;
        (void) setenv("AWS_REGION", "eu-central-1", 1);
        (void) setenv("AWS_ACCESS_KEY_ID", "id", 1);
        (void) setenv("AWS_SECRET_ACCESS_KEY", "secret", 1);
        (void) setenv("AWS_SESSION_TOKEN", "token", 1);
        (void) unsetenv("AWS_DEFAULT_REGION");
        (void) unsetenv("AWS_CA_BUNDLE");
        (void) setenv("AWS_EC2_METADATA_DISABLED", "true", 1);
        stop_fd = eventfd(0, EFD_CLOEXEC);
        assert_true(stop_fd >= 0);
        fault_server_start(&server, serve);
        return 0;
}

static int stop(void **state)
{
        (void) state;
        fault_server_stop(&server);
        return 0;
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(settings_that_lack),
                cmocka_unit_test(list_pages),
                cmocka_unit_test(verdicts),
                cmocka_unit_test(gets),
                cmocka_unit_test(sent_headers),
                cmocka_unit_test(stalls),
                cmocka_unit_test(waits_as_asked),
                cmocka_unit_test(puts_with_conditions),
                cmocka_unit_test(broken_ranges_resume),
                cmocka_unit_test(lists),
                cmocka_unit_test(sizes_of_parts),
                cmocka_unit_test(uploads_in_parts),
                cmocka_unit_test(upload_that_may_have_failed),
                cmocka_unit_test(upload_whose_end_gets_lost),
                cmocka_unit_test(upload_that_is_interrupted),
        };

        return cmocka_run_group_tests(tests, start, stop);
}
