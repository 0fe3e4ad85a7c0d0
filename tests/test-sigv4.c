/* SPDX-License-Identifier: Apache-2.0 */
#include "test.h"

#include <dirent.h>
#include <stdlib.h>

#include <cJSON.h>

#include "digest.h"
#include "err.h"
#include "sigv4.h"

static const Credentials example = {
        .key_id = (char *) "AKIAIOSFODNN7EXAMPLE",
        .secret = (char *) "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
};

/* 20130524T000000Z */
#define EXAMPLE_TIME 1369353600

/* One for all tests: they sign for many secrets and scopes, in turn. */
static SigV4Key kept;

/* Amazon S3 API Reference, "Signature Calculations for the Authorization Header", examples. */
static void s3_examples(void **state)
{
        static const char put_hash[] =
                "44ce7dd67c959e0d3524ffac1771dfbba87d2b6b4b4e99e42034a8b803f8b072";
        static const struct {
                const char *method, *path, *query, *payload_hash;
                NameValue extra[2];
                size_t n_extra;
                const char *signed_headers, *signature;
        } table[] = {
                {"GET",
                 "/test.txt",         NULL,
                 SIGV4_EMPTY_PAYLOAD, { { "Range", "bytes=0-9" } },
                 1, "host;range;x-amz-content-sha256;x-amz-date",
                 "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41"},
                { "PUT",
                 "/test%24file.text", NULL,
                 put_hash,            { { "Date", "Fri, 24 May 2013 00:00:00 GMT" },
                    { "x-amz-storage-class", "REDUCED_REDUNDANCY" } },
                 2, "date;host;x-amz-content-sha256;x-amz-date;x-amz-storage-class",
                 "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd"},
                { "GET",
                 "/",                 "lifecycle=",
                 SIGV4_EMPTY_PAYLOAD, {},
                 0, "host;x-amz-content-sha256;x-amz-date",
                 "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543"},
                { "GET",
                 "/",                 "max-keys=2&prefix=J",
                 SIGV4_EMPTY_PAYLOAD, {},
                 0, "host;x-amz-content-sha256;x-amz-date",
                 "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7"},
        };

        (void) state;
        for (size_t i = 0; i < ELEMENTSOF(table); i++) {
                NameValue headers[4] = {
                        {"Host",                  "examplebucket.s3.amazonaws.com"},
                        { "x-amz-content-sha256", table[i].payload_hash           }
                };
                _cleanup_(sigv4_done) SigV4 s = {};
                char expected[512];

                for (size_t k = 0; k < table[i].n_extra; k++)
                        headers[2 + k] = table[i].extra[k];
                assert_int_equal(sigv4_sign(&(SigV4Request){ .method = table[i].method,
                                                             .path = table[i].path,
                                                             .query = table[i].query,
                                                             .headers = headers,
                                                             .n_headers = 2 + table[i].n_extra,
                                                             .payload_hash = table[i].payload_hash,
                                                             .region = "us-east-1",
                                                             .service = "s3",
                                                             .time = EXAMPLE_TIME },
                                            &example, &kept, &s),
                                 0);
                (void) snprintf(expected, sizeof(expected),
                                "AWS4-HMAC-SHA256 "
                                "Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/"
                                "aws4_request, SignedHeaders=%s, Signature=%s",
                                table[i].signed_headers, table[i].signature);
                assert_string_equal(s.authorization, expected);
                assert_string_equal(s.date, "20130524T000000Z");
        }
}

static char *signature_of(const SigV4Request *request, const Credentials *credentials,
                          SigV4Key *key)
{
        SigV4 s = {};
        char *text;

        assert_int_equal(sigv4_sign(request, credentials, key, &s), 0);
        text = TAKE_PTR(s.authorization);
        sigv4_done(&s);
        return text;
}

/* With the kept key, right after the one for `before`, as with a new one. */
static void expect_renewed(const SigV4Request *request, const Credentials *credentials,
                           const SigV4Request *before)
{
        _cleanup_(sigv4_key_done) SigV4Key new = {};
        _cleanup_free_ char *expected = signature_of(request, credentials, &new);
        _cleanup_free_ char *first = signature_of(before, &example, &kept);
        _cleanup_free_ char *renewed = signature_of(request, credentials, &kept);
        _cleanup_free_ char *again = signature_of(request, credentials, &kept);

        assert_string_equal(renewed, expected);
        assert_string_equal(again, expected);
        assert_string_not_equal(renewed, first);
}

static void the_key_is_that_of_secret_and_scope(void **state)
{
        static const NameValue host = { "Host", "examplebucket.s3.amazonaws.com" };
        static const Credentials other = { .key_id = (char *) "AKIAIOSFODNN7EXAMPLE",
                                           .secret = (char *) "another" };
        const SigV4Request q = { .method = "GET",
                                 .path = "/",
                                 .headers = &host,
                                 .n_headers = 1,
                                 .payload_hash = SIGV4_EMPTY_PAYLOAD,
                                 .region = "us-east-1",
                                 .service = "s3",
                                 .time = EXAMPLE_TIME };
        SigV4Request tomorrow = q, region = q, service = q, today = q;

        (void) state;
        tomorrow.time += 24 * 3600;
        region.region = "eu-central-1";
        service.service = "kms";
        today.time += 24 * 3600 - 1;
        expect_renewed(&tomorrow, &example, &q);
        expect_renewed(&region, &example, &q);
        expect_renewed(&service, &example, &q);
        expect_renewed(&today, &example, &q);
        expect_renewed(&q, &other, &q);
}

/* The same reference, "Authenticating Requests: Using Query Parameters", example. */
static void s3_example_in_the_query(void **state)
{
        static const NameValue host = { "Host", "examplebucket.s3.amazonaws.com" };
        _cleanup_(sigv4_done) SigV4 s = {};

        (void) state;
        assert_int_equal(sigv4_presign(&(SigV4Request){ .method = "GET",
                                                        .path = "/test.txt",
                                                        .headers = &host,
                                                        .n_headers = 1,
                                                        .payload_hash = SIGV4_UNSIGNED_PAYLOAD,
                                                        .region = "us-east-1",
                                                        .service = "s3",
                                                        .time = EXAMPLE_TIME },
                                       &(SigV4Presign){ .expires_sec = 86400 }, &example, &kept,
                                       &s),
                         0);
        assert_string_equal(
                s.query,
                "X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=AKIAIOSFODNN7EXAMPLE%2F20130524%"
                "2Fus-east-1%2Fs3%2Faws4_request&X-Amz-Date=20130524T000000Z&X-Amz-Expires=86400&"
                "X-Amz-SignedHeaders=host&X-Amz-Signature="
                "aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404");
        assert_null(s.authorization);
}

static void query_is_encoded_and_sorted(void **state)
{
        static const NameValue params[] = {
                {"a-b",      "1"           },
                { "a",       "z"           },
                { "a",       "b c"         },
                { "token",   "x+/="        },
                { "uploads", ""            },
                { "A",       "\xe1\x88\xb4"},
                { "a1",      "~._-'()*"    }
        };
        _cleanup_free_ char *q = NULL, *none = NULL, *path = NULL;

        (void) state;
        assert_int_equal(query_format(params, ELEMENTSOF(params), &q), 0);
        assert_string_equal(q, "A=%E1%88%B4&a=b%20c&a=z&a-b=1&a1=~._-%27%28%29%2A&"
                               "token=x%2B%2F%3D&uploads=");
        assert_int_equal(query_format(NULL, 0, &none), 0);
        assert_string_equal(none, "");
        assert_int_equal(uri_encode("/a b/../c//d", true, &path), 0);
        assert_string_equal(path, "/a%20b/../c//d");
}

static void too_many_headers(void **state)
{
        static const NameValue headers[40] = {};
        const SigV4Request request = { .headers = headers, .n_headers = 40 };
        SigV4 s = {};

        (void) state;
        assert_int_equal(sigv4_sign(&request, &example, &kept, &s), -E2BIG);
        assert_int_equal(sigv4_presign(&request, &(SigV4Presign){}, &example, &kept, &s), -E2BIG);
        assert_null(s.authorization);
        assert_null(s.query);
}

/*
 * The public suite of awslabs/aws-c-auth (tests/aws-signing-test-suite, Apache-2.0), which is not
 * part of this repository: a folder per case.
 */
#define SUITE "../shared/data/aws-signing-test-suite/v4"

#define SUITE_HEADERS_MAX 16

/* What signing in one of the two ways ("header", "query") is to give. */
typedef struct SuiteExpected {
        char *canonical, *string, *signature;
} SuiteExpected;

typedef struct SuiteCase {
        char *request;
        SuiteExpected header, presigned;
        cJSON *context;
        char *path, *query, *body;
        NameValue params[SUITE_HEADERS_MAX], headers[SUITE_HEADERS_MAX];
        size_t n_params, n_headers;
        char hash[SHA256_HEX_SIZE];
} SuiteCase;

static char *suite_read(int dir_fd, const char *name)
{
        char *text = NULL;

        assert_int_equal(file_read_at(dir_fd, name, 65536, &text, NULL), 0);
        return text;
}

/* Folds "." and ".." segments and doubled slashes, as services other than S3 do. */
static void path_normalize(char *path)
{
        char *out[64], *save = NULL;
        size_t n = 0;
        bool slash_at_end = path[strlen(path) - 1] == '/';
        char *copy = strdup(path);

        assert_non_null(copy);
        for (char *s = strtok_r(copy, "/", &save); s; s = strtok_r(NULL, "/", &save))
                if (streq(s, ".."))
                        n -= n > 0;
                else if (!streq(s, ".")) {
                        assert_true(n < ELEMENTSOF(out));
                        out[n++] = s;
                }
        char *p = path;
        for (size_t i = 0; i < n; i++)
                p += sprintf(p, "/%s", out[i]);
        if (n == 0 || slash_at_end)
                *p++ = '/';
        *p = '\0';
        free(copy);
}

static void url_decode(char *s)
{
        char *out = s;

        for (; *s; s++)
                if (*s == '%' && s[1] && s[2]) {
                        char hex[3] = { s[1], s[2] };
                        *out++ = (char) strtol(hex, NULL, 16);
                        s += 2;
                } else
                        *out++ = *s;
        *out = '\0';
}

static void suite_parse_target(SuiteCase *c, char *target)
{
        char *query = strchr(target, '?'), *save = NULL;

        if (query)
                *query++ = '\0';
        if (cJSON_IsTrue(cJSON_GetObjectItem(c->context, "normalize")))
                path_normalize(target);
        assert_int_equal(uri_encode(target, true, &c->path), 0);
        for (char *p = query ? strtok_r(query, "&", &save) : NULL; p;
             p = strtok_r(NULL, "&", &save)) {
                char *value = strchr(p, '=');
                if (value)
                        *value++ = '\0';
                else
                        value = p + strlen(p);
                url_decode(p);
                url_decode(value);
                assert_true(c->n_params < ELEMENTSOF(c->params));
                c->params[c->n_params++] = (NameValue){ p, value };
        }
        assert_int_equal(query_format(c->params, c->n_params, &c->query), 0);
}

/* Splits the text in place. A line that begins with a blank continues the header before. */
static void suite_parse_headers(SuiteCase *c, char *lines)
{
        char *next;

        for (char *line = lines; line && *line; line = next) {
                next = strchr(line, '\n');
                while (next && next[1] == ' ')
                        next = strchr(next + 1, '\n');
                if (next)
                        *next++ = '\0';
                char *colon = strchr(line, ':');
                assert_non_null(colon);
                *colon = '\0';
                assert_true(c->n_headers < SUITE_HEADERS_MAX - 1);
                c->headers[c->n_headers++] = (NameValue){ line, colon + 1 };
        }
}

static void suite_parse(SuiteCase *c)
{
        char *line_end = strchr(c->request, '\n'), *body = strstr(c->request, "\n\n");
        Sha256 digest;

        c->body = (char *) "";
        if (body) {
                *body = '\0';
                c->body = body + 2;
        }
        if (line_end) {
                *line_end = '\0';
                if (line_end != body)
                        suite_parse_headers(c, line_end + 1);
        }
        char *target = strchr(c->request, ' ');
        *target++ = '\0';
        *strrchr(target, ' ') = '\0';
        suite_parse_target(c, target);
        assert_int_equal(sha256(c->body, strlen(c->body), &digest), 0);
        (void) sha256_to_hex(&digest, c->hash);
}

static void suite_compare(const SigV4 *s, const char *text, const SuiteExpected *expected)
{
        assert_string_equal(s->canonical_request, expected->canonical);
        assert_string_equal(s->string_to_sign, expected->string);
        assert_string_equal(strstr(text, "Signature=") + STRLEN("Signature="), expected->signature);
}

static void suite_check(SuiteCase *c)
{
        _cleanup_(sigv4_done) SigV4 s = {}, presigned = {};
        cJSON *keys = cJSON_GetObjectItem(c->context, "credentials");
        bool omit = cJSON_IsTrue(cJSON_GetObjectItem(c->context, "omit_session_token"));
        const Credentials credentials = {
                .key_id = cJSON_GetObjectItem(keys, "access_key_id")->valuestring,
                .secret = cJSON_GetObjectItem(keys, "secret_access_key")->valuestring,
                .session_token =
                        omit ? NULL : cJSON_GetStringValue(cJSON_GetObjectItem(keys, "token")),
        };
        struct tm tm = {};

        assert_non_null(strptime(cJSON_GetObjectItem(c->context, "timestamp")->valuestring,
                                 "%Y-%m-%dT%H:%M:%SZ", &tm));
        SigV4Request request = {
                .method = c->request,
                .path = c->path,
                .query = c->query,
                .headers = c->headers,
                .n_headers = c->n_headers,
                .payload_hash = c->hash,
                .region = cJSON_GetObjectItem(c->context, "region")->valuestring,
                .service = cJSON_GetObjectItem(c->context, "service")->valuestring,
                .time = timegm(&tm),
        };
        const SigV4Presign presign = {
                .params = c->params,
                .n_params = c->n_params,
                .expires_sec = (unsigned) cJSON_GetNumberValue(
                        cJSON_GetObjectItem(c->context, "expiration_in_seconds")),
        };
        assert_int_equal(sigv4_presign(&request, &presign, &credentials, &kept, &presigned), 0);
        suite_compare(&presigned, presigned.query, &c->presigned);
        /* An URL says nothing of the body. */
        if (cJSON_IsTrue(cJSON_GetObjectItem(c->context, "sign_body")))
                c->headers[request.n_headers++] = (NameValue){ "x-amz-content-sha256", c->hash };
        assert_int_equal(sigv4_sign(&request, &credentials, &kept, &s), 0);
        suite_compare(&s, s.authorization, &c->header);
}

static SuiteExpected suite_read_expected(int dir_fd, const char *way)
{
        static const char *const names[] = { "canonical-request", "string-to-sign", "signature" };
        SuiteExpected e;
        char **const fields[] = { &e.canonical, &e.string, &e.signature };

        for (size_t i = 0; i < ELEMENTSOF(names); i++) {
                char name[64];
                (void) snprintf(name, sizeof(name), "%s-%s.txt", way, names[i]);
                *fields[i] = suite_read(dir_fd, name);
        }
        return e;
}

static void suite_free_expected(SuiteExpected *e)
{
        free(e->canonical);
        free(e->string);
        free(e->signature);
}

static void suite_run_case(int suite_fd, const char *name)
{
        SuiteCase c = {};
        _cleanup_close_ int fd = dir_open_at(suite_fd, name);

        assert_true(fd >= 0);
        _cleanup_free_ char *context = suite_read(fd, "context.json");
        c.request = suite_read(fd, "request.txt");
        c.header = suite_read_expected(fd, "header");
        c.presigned = suite_read_expected(fd, "query");
        c.context = cJSON_Parse(context);
        assert_non_null(c.context);
        suite_parse(&c);
        suite_check(&c);
        cJSON_Delete(c.context);
        free(c.request);
        suite_free_expected(&c.header);
        suite_free_expected(&c.presigned);
        free(c.path);
        free(c.query);
}

static void public_suite(void **state)
{
        char path[4096];
        size_t n = 0;
        struct dirent *entry;

        (void) state;
        (void) snprintf(path, sizeof(path), "%s/" SUITE, strempty(getenv("SLIPWAY_SOURCE_ROOT")));
        DIR *dir = opendir(path);
        if (!dir) {
                print_message("skipped: the public signing suite is not at %s\n", path);
                skip();
        }
        while ((entry = readdir(dir)))
                if (entry->d_name[0] != '.') {
                        suite_run_case(dirfd(dir), entry->d_name);
                        n++;
                }
        (void) closedir(dir);
        assert_true(n >= 38);
}

/*
 * Requests that another client (the agent of AWS Systems Manager) signed; not part of this
 * repository either.
 */
#define RECORDED          "../shared/reference/ssm-requests.json"
#define RECORDED_SIZE_MAX (1024 * 1024)

static const char *text_of(const cJSON *object, const char *name)
{
        const char *text = cJSON_GetStringValue(cJSON_GetObjectItem(object, name));

        assert_non_null(text);
        return text;
}

static bool is_listed(const char *names, const char *name)
{
        size_t n = strlen(name);

        for (const char *p = names; p; p = strchr(p, ';'), p = p ? p + 1 : NULL)
                if (strncasecmp(p, name, n) == 0 && (p[n] == ';' || p[n] == '\0'))
                        return true;
        return false;
}

static time_t parse_date(const char *text)
{
        struct tm tm = {};

        assert_non_null(strptime(text, "%Y%m%dT%H%M%SZ", &tm));
        return timegm(&tm);
}

/* Splits the lines in place; date and token are what the signer itself adds. */
static size_t recorded_headers(const cJSON *q, NameValue *headers, time_t *ret_time,
                               char **ret_token)
{
        cJSON *line;
        size_t n = 0;

        cJSON_ArrayForEach(line, cJSON_GetObjectItem(q, "headers"))
        {
                char *name = line->valuestring, *value = strchr(name, ':');
                assert_non_null(value);
                *value++ = '\0';
                value += strspn(value, " ");
                if (strcasecmp(name, "X-Amz-Date") == 0)
                        *ret_time = parse_date(value);
                else if (strcasecmp(name, "X-Amz-Security-Token") == 0)
                        *ret_token = value;
                else if (is_listed(text_of(q, "signed_headers"), name)) {
                        assert_true(n < SUITE_HEADERS_MAX);
                        headers[n++] = (NameValue){ name, value };
                }
        }
        return n;
}

static void recorded_check(const cJSON *q)
{
        _cleanup_(sigv4_done) SigV4 s = {};
        _cleanup_free_ char *path = strdup(text_of(q, "path"));
        const char *body = text_of(q, "body");
        char hash[SHA256_HEX_SIZE], expected[512];
        NameValue headers[SUITE_HEADERS_MAX];
        char *token = NULL, *query = strchr(path, '?');
        time_t t = 0;
        Sha256 digest;
        size_t n = recorded_headers(q, headers, &t, &token);

        if (query)
                *query++ = '\0';
        assert_int_equal(sha256(body, strlen(body), &digest), 0);
        const SigV4Request request = {
                .method = text_of(q, "method"),
                .path = path,
                .query = query,
                .headers = headers,
                .n_headers = n,
                .payload_hash = sha256_to_hex(&digest, hash),
                .region = text_of(q, "region"),
                .service = text_of(q, "service"),
                .time = t,
        };
        const Credentials credentials = {
                .key_id = (char *) text_of(q, "access_key"),
                .secret = (char *) text_of(q, "secret_key"),
                .session_token = token,
        };
        assert_int_equal(sigv4_sign(&request, &credentials, &kept, &s), 0);
        (void) snprintf(expected, sizeof(expected), "SignedHeaders=%s, Signature=%s",
                        text_of(q, "signed_headers"), text_of(q, "signature"));
        assert_string_equal(strstr(s.authorization, "SignedHeaders="), expected);
}

static void recorded_requests(void **state)
{
        _cleanup_free_ char *text = NULL;
        char path[4096];
        cJSON *recorded, *q;
        int n = 0;

        (void) state;
        (void) snprintf(path, sizeof(path), "%s/" RECORDED,
                        strempty(getenv("SLIPWAY_SOURCE_ROOT")));
        int r = file_read_at(AT_FDCWD, path, RECORDED_SIZE_MAX, &text, NULL);
        if (r == -ENOENT) {
                print_message("skipped: the recorded requests are not at %s\n", path);
                skip();
        }
        assert_int_equal(r, 0);
        recorded = cJSON_Parse(text);
        cJSON_ArrayForEach(q, cJSON_GetObjectItem(recorded, "requests"))
        {
                recorded_check(q);
                n++;
        }
        cJSON_Delete(recorded);
        assert_true(n >= 13);
}

static int forget_key(void **state)
{
        (void) state;
        sigv4_key_done(&kept);
        return 0;
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(s3_examples),
                cmocka_unit_test(s3_example_in_the_query),
                cmocka_unit_test(the_key_is_that_of_secret_and_scope),
                cmocka_unit_test(query_is_encoded_and_sorted),
                cmocka_unit_test(too_many_headers),
                cmocka_unit_test(public_suite),
                cmocka_unit_test(recorded_requests),
        };

        return cmocka_run_group_tests(tests, NULL, forget_key);
}
