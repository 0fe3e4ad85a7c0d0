/* SPDX-License-Identifier: Apache-2.0 */
#include "test.h"

#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>

#include "fault-server.h"
#include "store.h"

/* What S3 answers to a request that is right but for its place, its time or its luck. */

#define HOME        "eu-central-1"
#define OTHER       "eu-west-3"
#define OBJECT_SIZE (1024 * 1024)
#define BREAK_SIZE  (300 * 1024)

static FaultServer server;

/* scratch[] of the server, by what is counted there */
enum {
        AWAY, /* requests signed for the wrong region */
        HEADS,
        RACES,
        BROKEN,
        SIGNED_HEADS,
        TROUBLE,
};

static int count(int what)
{
        return atomic_fetch_add(&fault_counts()->scratch[what], 1);
}

static int counted(int what)
{
        return atomic_load(&server.counts->scratch[what]);
}

static bool key_is(const FaultRequest *q, const char *key)
{
        char target[256];

        (void) snprintf(target, sizeof(target), " /bucket/pre/%s ", key);
        return strstr(q->head, target);
}

static void answer_error(const FaultRequest *q, int status, const char *headers, const char *code,
                         const char *more)
{
        char body[512];
        int n = snprintf(body, sizeof(body), "<Error><Code>%s</Code>%s</Error>", code, more);

        fault_answer(q, status, headers, body, n);
}

static void answer_elsewhere(const FaultRequest *q)
{
        (void) count(AWAY);
        if (key_is(q, "moved"))
                answer_error(q, 301, "x-amz-bucket-region: " OTHER "\r\n", "PermanentRedirect", "");
        else if (key_is(q, "malformed"))
                answer_error(q, 400, "", "AuthorizationHeaderMalformed",
                             "<Region>" OTHER "</Region>");
        else if (key_is(q, "for-now"))
                answer_error(q, 307,
                             "x-amz-bucket-region: " OTHER "\r\n"
                             "Location: https://bucket.s3.eu-west-3.amazonaws.com/pre/x\r\n",
                             "TemporaryRedirect", "");
        else if (key_is(q, "unsaid") || key_is(q, "secret"))
                answer_error(q, 400, "", "IllegalLocationConstraintException", "");
        else if (key_is(q, "evil"))
                answer_error(q, 301, "x-amz-bucket-region: evil.test/#\r\n", "PermanentRedirect",
                             "<Region>a b</Region>");
        else if (key_is(q, "abroad"))
                answer_error(q, 301, "x-amz-bucket-region: cn-north-1\r\n", "PermanentRedirect",
                             "");
        else
                answer_error(q, 301, "x-amz-bucket-region: us-east-1\r\n", "PermanentRedirect", "");
}

/* What every HEAD meets, in scratch[TROUBLE]. */
enum {
        NONE,
        BUSY,   /* the first one alone */
        CLOSES, /* the first one alone */
        DOWN,
};

static bool serve_trouble(const FaultRequest *q)
{
        const char busy[] = "HTTP/1.1 503 X\r\n\r\n";

        if (atomic_load(&fault_counts()->scratch[TROUBLE]) != CLOSES)
                fault_write(q, busy, strlen(busy));
        return false;
}

static bool serve_head(const FaultRequest *q)
{
        _cleanup_free_ char *authorization = fault_header(q, "Authorization");
        const char region[] = "HTTP/1.1 403 X\r\nx-amz-bucket-region: " OTHER "\r\n\r\n";
        const char silent[] = "HTTP/1.1 403 X\r\n\r\n";

        if (authorization)
                (void) count(SIGNED_HEADS);
        int trouble = atomic_load(&fault_counts()->scratch[TROUBLE]), n = count(HEADS);
        if (trouble == DOWN || (trouble != NONE && n == 0))
                return serve_trouble(q);
        if (n == (trouble != NONE))
                fault_write(q, region, strlen(region));
        else
                fault_write(q, silent, strlen(silent));
        return true;
}

/* Breaks every answer after some bytes, and says another ETag from the third on if it `changes`. */
static bool serve_broken(const FaultRequest *q, bool changes)
{
        static char data[OBJECT_SIZE];
        _cleanup_free_ char *range = fault_header(q, "Range"), *match = fault_header(q, "If-Match");
        int n_before = count(BROKEN), n;
        size_t first, last;
        char head[256];

        if (!range || sscanf(range, "bytes=%zu-%zu", &first, &last) != 2 ||
            (n_before > 0) != (match && strcmp(match, "\"b\"") == 0))
                return false;
        for (size_t i = 0; i < OBJECT_SIZE; i++)
                data[i] = (char) (i / 1000);
        n = snprintf(head, sizeof(head),
                     "HTTP/1.1 206 X\r\nContent-Length: %zu\r\nETag: \"%c\"\r\n"
                     "Content-Range: bytes %zu-%zu/%d\r\n\r\n",
                     last + 1 - first, changes && n_before >= 2 ? 'c' : 'b', first, last,
                     OBJECT_SIZE);
        fault_write(q, head, n);
        fault_write(q, data + first, MIN(last + 1 - first, (size_t) BREAK_SIZE));
        return false;
}

/* The same without an ETag, so that each try begins anew. */
static bool serve_broken_nameless(const FaultRequest *q)
{
        static char data[BREAK_SIZE];
        char head[128];
        int n = snprintf(head, sizeof(head),
                         "HTTP/1.1 206 X\r\nContent-Length: %d\r\n"
                         "Content-Range: bytes 0-%d/%d\r\n\r\n",
                         OBJECT_SIZE, OBJECT_SIZE - 1, OBJECT_SIZE);

        (void) count(BROKEN);
        fault_write(q, head, n);
        fault_write(q, data, sizeof(data));
        return false;
}

/* Promises more than was asked for, which never comes. */
static bool serve_promise(const FaultRequest *q)
{
        const char answer[] = "HTTP/1.1 206 X\r\nContent-Length: 20\r\nETag: \"e\"\r\n"
                              "Content-Range: bytes 0-9/20\r\n\r\n0123456789";

        fault_write(q, answer, strlen(answer));
        fault_stall(q);
        return false;
}

static bool serve_objects(const FaultRequest *q)
{
        if (key_is(q, "raced") && count(RACES) < 2)
                answer_error(q, 409, "", "ConditionalRequestConflict", "");
        else if (key_is(q, "raced-away") && count(RACES) < 2)
                answer_error(q, 409, "", "ConditionalRequestConflict", "");
        else if (key_is(q, "raced-away") || key_is(q, "there"))
                answer_error(q, 412, "", "PreconditionFailed", "");
        else if (key_is(q, "always-raced") && strncmp(q->head, "PUT", 3) == 0)
                answer_error(q, 409, "", "ConcurrentModification", "");
        else if (key_is(q, "always-raced"))
                answer_error(q, 404, "", "NoSuchKey", "");
        else if (key_is(q, "kms"))
                answer_error(q, 400, "", "KMS.DisabledException", "");
        else if (key_is(q, "changed"))
                fault_answer(q, 206, "Content-Range: bytes 0-9/20\r\nETag: \"new\"\r\n",
                             "0123456789", 10);
        else if (key_is(q, "garbage"))
                fault_answer(q, 404, "", "<Error><Code>NoSuch\xff<<<\0<!DOCTYPE", 31);
        else if (key_is(q, "busy"))
                answer_error(q, 503, "", "SlowDown", "");
        else
                fault_answer(q, 200, "ETag: \"e\"\r\n", q->head, strlen(q->head));
        return true;
}

static bool serve_skewed(const FaultRequest *q)
{
        char date[64], hour[16];
        time_t theirs = time(NULL) + 3600;
        struct tm tm;
        _cleanup_free_ char *signed_at = fault_header(q, "x-amz-date");

        (void) gmtime_r(&theirs, &tm);
        (void) strftime(hour, sizeof(hour), "%Y%m%dT%H", &tm);
        (void) strftime(date, sizeof(date), "Date: %a, %d %b %Y %H:%M:%S GMT\r\n", &tm);
        if (strncmp(signed_at, hour, strlen(hour)) == 0)
                fault_answer(q, 200, date, "in time", 7);
        else
                answer_error(q, 403, date, "RequestTimeTooSkewed", "");
        return true;
}

static bool serve(const FaultRequest *q)
{
        _cleanup_free_ char *authorization = fault_header(q, "Authorization");
        bool at_home = authorization && strstr(authorization, "/" HOME "/s3/");

        if (strncmp(q->head, "HEAD", 4) == 0)
                return serve_head(q);
        if (key_is(q, "skewed") || key_is(q, "skewed-too"))
                return serve_skewed(q);
        if (key_is(q, "broken"))
                return serve_broken(q, false);
        if (key_is(q, "broken-nameless"))
                return serve_broken_nameless(q);
        if (key_is(q, "promise"))
                return serve_promise(q);
        if (key_is(q, "broken-changes"))
                return serve_broken(q, true);
        if (at_home && (key_is(q, "moved") || key_is(q, "malformed") || key_is(q, "for-now") ||
                        key_is(q, "abroad") || key_is(q, "unsaid") || key_is(q, "secret") ||
                        key_is(q, "evil")))
                answer_elsewhere(q);
        else if (key_is(q, "nowhere"))
                answer_elsewhere(q);
        else
                return serve_objects(q);
        return true;
}

static int n_notices;
static char last_notice[512];

static void note(const char *text)
{
        n_notices++;
        (void) snprintf(last_notice, sizeof(last_notice), "%s", text);
}

static Store *open_store(const char *options)
{
        _cleanup_free_ char *err = NULL;
        char text[128];
        Store *s = NULL;

        n_notices = 0;
        for (size_t i = 0; i < ELEMENTSOF(server.counts->scratch); i++)
                atomic_store(&server.counts->scratch[i], 0);
        (void) snprintf(text, sizeof(text), "http://127.0.0.1:%u", server.port);
        assert_int_equal(setenv("AWS_ENDPOINT_URL_S3", text, 1), 0);
        (void) snprintf(text, sizeof(text), "s3://bucket/pre%s", options);
        assert_int_equal(store_open(text, &s, &err), 0);
        store_set_limits(s, &(StoreLimits){ .connect_sec = 5, .stall_sec = 1, .backoff_msec = 5 });
        store_set_notice(s, note);
        return s;
}

static int get(Store *s, const char *path, char **ret_data, char **reterr)
{
        _cleanup_(store_reply_done) StoreReply reply = {};
        int r = store_call(s, &(StoreRequest){ .path = path, .size_max = 4096 }, &reply, reterr);

        if (ret_data)
                *ret_data = TAKE_PTR(reply.data);
        return r;
}

static void other_regions(void **state)
{
        static const char *const told[] = { "moved", "malformed", "unsaid" };

        (void) state;
        for (size_t i = 0; i < ELEMENTSOF(told); i++) {
                _cleanup_(store_freep) Store *s = open_store("");
                _cleanup_free_ char *err = NULL, *data = NULL;

                if (get(s, told[i], &data, &err) != 0)
                        fail_msg("%s: %s", told[i], strempty(err));
                assert_non_null(strstr(data, "/" OTHER "/s3/aws4_request"));
                assert_int_equal(counted(HEADS), streq(told[i], "unsaid") ? 1 : 0);
                assert_int_equal(counted(SIGNED_HEADS), 0);
                assert_int_equal(n_notices, 1);
                assert_non_null(strstr(last_notice, OTHER));
                /* From now on it is known. */
                assert_int_equal(get(s, told[i], NULL, NULL), 0);
                assert_int_equal(counted(AWAY), 1);
                assert_int_equal(n_notices, 1);
        }
}

/* That the region could not be asked for says nothing about the bucket. */
static void region_that_is_told_late(void **state)
{
        static const struct {
                int trouble, result, n_heads;
        } table[] = {
                {BUSY,    0,      2},
                { CLOSES, 0,      2},
                { DOWN,   -EBUSY, 4},
        };

        (void) state;
        for (size_t i = 0; i < ELEMENTSOF(table); i++) {
                _cleanup_(store_freep) Store *s = open_store("");
                _cleanup_free_ char *err = NULL;

                atomic_store(&server.counts->scratch[TROUBLE], table[i].trouble);
                int r = get(s, "unsaid", NULL, &err);
                if (r != table[i].result)
                        fail_msg("%zu: %d, %s", i, r, strempty(err));
                if (r < 0)
                        assert_non_null(strstr(err, "can't find out the bucket's region"));
                assert_int_equal(counted(HEADS), table[i].n_heads);
        }
}

static void temporary_redirect_is_not_kept(void **state)
{
        _cleanup_(store_freep) Store *s = open_store("");

        (void) state;
        for (int i = 0; i < 2; i++) {
                _cleanup_free_ char *data = NULL;
                assert_int_equal(get(s, "for-now", &data, NULL), 0);
                assert_non_null(strstr(data, "/" OTHER "/s3/aws4_request"));
                assert_int_equal(counted(AWAY), i + 1);
        }
        assert_int_equal(n_notices, 0);
}

static void redirects_that_lead_nowhere(void **state)
{
        static const struct {
                const char *path, *err;
                int n_away;
        } table[] = {
                {"nowhere", "the bucket is in region us-east-1",  2},
                { "evil",   "(not told)",                         1},
                { "abroad", "the bucket is in region cn-north-1", 1},
                { "secret", "(not told)",                         1},
        };

        (void) state;
        for (size_t i = 0; i < ELEMENTSOF(table); i++) {
                _cleanup_(store_freep) Store *s = open_store("");
                _cleanup_free_ char *err = NULL;

                atomic_store(&server.counts->scratch[HEADS], 1); /* they say nothing */
                assert_int_equal(get(s, table[i].path, NULL, &err), -EINVAL);
                if (!strstr(err, table[i].err))
                        fail_msg("%s: %s", table[i].path, err);
                assert_int_equal(counted(AWAY), table[i].n_away);
        }
}

static void access_points_stay_where_they_are(void **state)
{
        (void) state;
        assert_int_equal(setenv("AWS_ENDPOINT_URL_S3", "https://s3.test:1", 1), 0);
        _cleanup_(store_freep) Store *s = NULL;
        assert_int_equal(unsetenv("AWS_REGION"), 0);
        int r = store_open("s3://arn:aws:s3:eu-west-1:123456789012:accesspoint/a", &s, NULL);
        assert_int_equal(setenv("AWS_REGION", HOME, 1), 0);
        assert_int_equal(r, 0);
}

static void clock_is_corrected_and_said_once(void **state)
{
        _cleanup_(store_freep) Store *s = open_store("");

        (void) state;
        assert_int_equal(get(s, "skewed", NULL, NULL), 0);
        assert_int_equal(get(s, "skewed-too", NULL, NULL), 0);
        assert_int_equal(n_notices, 1);
        assert_non_null(strstr(last_notice, "seconds behind S3's"));
        assert_true(strstr(last_notice, "3600") || strstr(last_notice, "3599"));
}

static int put(Store *s, const char *path, bool replace)
{
        return store_call(s,
                          &(StoreRequest){ .method = STORE_PUT,
                                           .path = path,
                                           .body = "x",
                                           .body_size = 1,
                                           .if_match = replace ? "\"m\"" : NULL,
                                           .if_none_match = replace ? NULL : "*" },
                          NULL, NULL);
}

/* 409 is a race that is not decided, 412 one that is lost. */
static void races(void **state)
{
        static const struct {
                const char *path;
                int result, n_requests;
        } table[] = {
                {"raced",         0,              3},
                { "raced-away",   STORE_CONFLICT, 4}, /* the last request compares what is there */
                { "there",        STORE_CONFLICT, 1},
                { "always-raced", STORE_CONFLICT, 5},
        };

        (void) state;
        for (size_t i = 0; i < ELEMENTSOF(table); i++)
                for (int replace = 0; replace < 2; replace++) {
                        _cleanup_(store_freep) Store *s = open_store("");
                        int before = server.counts->n_requests;
                        assert_int_equal(put(s, table[i].path, replace), table[i].result);
                        if (server.counts->n_requests - before != table[i].n_requests)
                                fail_msg("%s: %d requests", table[i].path,
                                         server.counts->n_requests - before);
                }
}

static int get_range(Store *s, const char *path, const char *if_match, uint64_t size, int fd)
{
        _cleanup_free_ char *err = NULL;

        return store_call(s,
                          &(StoreRequest){ .path = path,
                                           .if_match = if_match,
                                           .size_max = size,
                                           .range_size = size,
                                           .to_fd = true,
                                           .sink_fd = fd,
                                           .n_tries = 2 },
                          NULL, &err);
}

/* A server that ignores If-Match must not make a mix of two objects of it. */
static void object_that_changes(void **state)
{
        _cleanup_(store_freep) Store *s = open_store("");
        _cleanup_close_ int fd = memfd_create("sink", MFD_CLOEXEC);
        char byte;

        (void) state;
        assert_int_equal(get_range(s, "changed", "\"old\"", 10, fd), STORE_CONFLICT);
        assert_int_equal(fd_pread_exactly(fd, &byte, 1, 0), -ENODATA);
        assert_int_equal(get_range(s, "changed", "\"new\"", 10, fd), 0);
        assert_int_equal(get_range(s, "broken-changes", NULL, OBJECT_SIZE, fd), STORE_CONFLICT);
        assert_int_equal(counted(BROKEN), 3);
}

/* The first answer's ETag is what the rest of the range must have. */
static void broken_range_resumes_what_it_began(void **state)
{
        _cleanup_(store_freep) Store *s = open_store("");
        _cleanup_close_ int fd = memfd_create("sink", MFD_CLOEXEC);
        _cleanup_free_ char *data = malloc(OBJECT_SIZE);

        (void) state;
        assert_int_equal(get_range(s, "broken", NULL, OBJECT_SIZE, fd), 0);
        assert_int_equal(counted(BROKEN), 4);
        assert_int_equal(fd_pread_exactly(fd, data, OBJECT_SIZE, 0), 0);
        for (size_t i = 0; i < OBJECT_SIZE; i++)
                assert_int_equal(data[i], (char) (i / 1000));
}

/* What can't be gone on with is no progress: the tries end. */
static void broken_range_without_etag(void **state)
{
        _cleanup_(store_freep) Store *s = open_store("");
        _cleanup_close_ int fd = memfd_create("sink", MFD_CLOEXEC);

        (void) state;
        assert_int_equal(get_range(s, "broken-nameless", NULL, OBJECT_SIZE, fd), -EHOSTDOWN);
        assert_int_equal(counted(BROKEN), 2);
}

static void what_was_asked_for_is_enough(void **state)
{
        _cleanup_(store_freep) Store *s = open_store("");
        _cleanup_close_ int fd = memfd_create("sink", MFD_CLOEXEC);
        int before = server.counts->n_requests;
        char data[10];

        (void) state;
        assert_int_equal(get_range(s, "promise", NULL, sizeof(data), fd), 0);
        assert_int_equal(fd_pread_exactly(fd, data, sizeof(data), 0), 0);
        assert_memory_equal(data, "0123456789", sizeof(data));
        assert_int_equal(server.counts->n_requests - before, 1);
}

static void options_become_headers(void **state)
{
        _cleanup_(store_freep) Store *s =
                open_store("?kms-key=k/1&owner=123456789012&requester-pays=true");
        _cleanup_free_ char *data = NULL;
        _cleanup_(store_reply_done) StoreReply reply = {};

        (void) state;
        assert_int_equal(get(s, "head", &data, NULL), 0);
        assert_non_null(strstr(data, "x-amz-request-payer: requester\r\n"));
        assert_non_null(strstr(data, "x-amz-expected-bucket-owner: 123456789012\r\n"));
        assert_non_null(strstr(data, "SignedHeaders=host;x-amz-content-sha256;x-amz-date;"
                                     "x-amz-expected-bucket-owner;x-amz-request-payer,"));
        assert_null(strstr(data, "encryption"));
        assert_int_equal(store_call(s,
                                    &(StoreRequest){ .method = STORE_PUT,
                                                     .path = "head",
                                                     .if_match = "\"m\"",
                                                     .body = "",
                                                     .size_max = 1 },
                                    &reply, NULL),
                         0);
}

static void errors_explained(void **state)
{
        static const struct {
                const char *path;
                int result;
                const char *err;
        } table[] = {
                {"kms",      -EPROTO,      "kms:Decrypt"},
                { "garbage", STORE_ABSENT, NULL         },
                { "busy",    -EBUSY,       "SlowDown"   },
        };
        _cleanup_(store_freep) Store *s = open_store("");

        (void) state;
        for (size_t i = 0; i < ELEMENTSOF(table); i++) {
                _cleanup_free_ char *err = NULL;
                assert_int_equal(get(s, table[i].path, NULL, &err), table[i].result);
                if (table[i].err && !strstr(strempty(err), table[i].err))
                        fail_msg("%s: '%s'", table[i].path, strempty(err));
        }
}

static int start(void **state)
{
        (void) state;
        (void) setenv("AWS_REGION", HOME, 1);
        (void) setenv("AWS_ACCESS_KEY_ID", "id", 1);
        (void) setenv("AWS_SECRET_ACCESS_KEY", "secret", 1);
        (void) unsetenv("AWS_SESSION_TOKEN");
        (void) unsetenv("AWS_DEFAULT_REGION");
        (void) unsetenv("AWS_CA_BUNDLE");
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
                cmocka_unit_test(other_regions),
                cmocka_unit_test(region_that_is_told_late),
                cmocka_unit_test(temporary_redirect_is_not_kept),
                cmocka_unit_test(redirects_that_lead_nowhere),
                cmocka_unit_test(access_points_stay_where_they_are),
                cmocka_unit_test(clock_is_corrected_and_said_once),
                cmocka_unit_test(races),
                cmocka_unit_test(object_that_changes),
                cmocka_unit_test(broken_range_resumes_what_it_began),
                cmocka_unit_test(broken_range_without_etag),
                cmocka_unit_test(what_was_asked_for_is_enough),
                cmocka_unit_test(options_become_headers),
                cmocka_unit_test(errors_explained),
        };

        return cmocka_run_group_tests(tests, start, stop);
}
