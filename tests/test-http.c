/* SPDX-License-Identifier: Apache-2.0 */
#include "test.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#include "err.h"
#include "fault-server.h"
#include "http.h"

static FaultServer server;

/* How often a client acknowledged something at once. */
static atomic_int *n_acknowledged(struct FaultCounts *counts)
{
        return &counts->scratch[0];
}

/* Stands before the C library's. */
int setsockopt(int fd, int level, int name, const void *value, socklen_t size)
{
        if (server.counts && level == IPPROTO_TCP && name == TCP_QUICKACK)
                (*n_acknowledged(server.counts))++;
        return (int) syscall(SYS_setsockopt, fd, level, name, value, size);
}

static bool path_is(const FaultRequest *q, const char *path)
{
        const char *p = strchr(q->head, ' ') + 1;

        return strncmp(p, path, strlen(path)) == 0 && p[strlen(path)] == ' ';
}

static void serve_endless(const FaultRequest *q, bool chunked)
{
        static char block[4096];
        const char *head = chunked ? "HTTP/1.1 200 X\r\nTransfer-Encoding: chunked\r\n\r\n"
                                   : "HTTP/1.1 200 X\r\nConnection: close\r\n\r\n";

        fault_write(q, head, strlen(head));
        for (;;) {
                if (chunked)
                        fault_write(q, "1000\r\n", 6);
                fault_write(q, block, sizeof(block));
                if (chunked)
                        fault_write(q, "\r\n", 2);
        }
}

static bool serve_raw(const FaultRequest *q, const char *bytes)
{
        fault_write(q, bytes, strlen(bytes));
        return false;
}

/* What asks for a wait, and of how many seconds. */
static const struct {
        const char *headers;
        uint64_t min_sec, max_sec;
} waits[] = {
        {"",                                                                                       0,          0                   },
        { "Retry-After: 120\r\n",                                                                  120,        120                 },
        { "Retry-After: 0\r\n",                                                                    0,          0                   },
        { "retry-after: 7 \r\n",                                                                   7,          7                   },
        { "Retry-After: 99999999999999999999999\r\n",                                              UINT64_MAX, UINT64_MAX          },
        { "Retry-After: Fri, 24 May 2013 00:00:30 GMT\r\nDate: Fri, 24 May 2013 00:00:01 GMT\r\n",
         29,                                                                                                   29                  },
        { "Retry-After: Fri, 24 May 2013 00:00:00 GMT\r\nDate: Fri, 24 May 2013 00:00:01 GMT\r\n",
         0,                                                                                                    0                   },
        { "Retry-After: Fri, 01 Jan 2100 00:00:00 GMT\r\n",                                        1,          UINT64_C(4102444800)},
        { "Retry-After: Fri, 24 May 2013 00:00:30 GMT\r\n",                                        0,          0                   },
        { "Retry-After: -5\r\n",                                                                   0,          0                   },
        { "Retry-After: 1.5\r\n",                                                                  0,          0                   },
        { "Retry-After: soon\r\n",                                                                 0,          0                   },
        { "Retry-After:\r\n",                                                                      0,          0                   },
};

static void write_text(const FaultRequest *q, const char *text)
{
        fault_write(q, text, strlen(text));
}

/* The body once the client has acknowledged the head. */
static void serve_head_first(const FaultRequest *q)
{
        write_text(q, "HTTP/1.1 200 X\r\nContent-Length: 5\r\n\r\n");
        for (unsigned msec = 0; *n_acknowledged(fault_counts()) == 0 && msec < 10000; msec++)
                (void) usleep(1000);
        write_text(q, *n_acknowledged(fault_counts()) > 0 ? "later" : "never");
}

static bool serve_bodies(const FaultRequest *q)
{
        if (path_is(q, "/echo"))
                fault_answer(q, 200, "ETag: \"e\"\r\nX-Twice: 1\r\nx-twice: 2\r\n", q->body,
                             q->body_size);
        else if (path_is(q, "/head"))
                fault_answer(q, 200, "", q->head, strlen(q->head));
        else if (path_is(q, "/a/../b//c%20d?x=%2F"))
                fault_answer(q, 200, "", "as is", 5);
        else if (path_is(q, "/missing"))
                fault_answer(q, 404, "", "<Error/>", 8);
        else if (strncmp(q->head, "GET /wait/", 10) == 0)
                fault_answer(q, 503, waits[atoi(q->head + 10)].headers, "", 0);
        else if (path_is(q, "/not-changed"))
                write_text(q, "HTTP/1.1 304 X\r\n\r\n");
        else if (path_is(q, "/head-first"))
                serve_head_first(q);
        else if (path_is(q, "/nothing"))
                write_text(q, "HTTP/1.1 204 X\r\n\r\n");
        else if (path_is(q, "/redirect"))
                fault_answer(q, 302, "Location: /echo\r\n", "", 0);
        else if (path_is(q, "/controls"))
                fault_answer(q, 200, "ETag: \"a\rX: b\x1b[2J\t\"\r\n", "", 0);
        else if (path_is(q, "/ignores-range"))
                fault_answer(q, 200, "", "0123456789", 10);
        else if (path_is(q, "/range"))
                fault_answer(q, 206, "Content-Range: bytes 2-4/10\r\n", "234", 3);
        else if (path_is(q, "/range-other"))
                fault_answer(q, 206, "Content-Range: bytes 3-5/10\r\n", "345", 3);
        else if (path_is(q, "/range-unsaid"))
                fault_answer(q, 206, "", "234", 3);
        else if (path_is(q, "/range-short"))
                fault_answer(q, 206, "Content-Range: bytes 2-4/10\r\n", "23", 2);
        else if (path_is(q, "/range-long"))
                fault_answer(q, 206, "Content-Range: bytes 2-4/10\r\n", "2345", 4);
        else
                return false;
        return true;
}

/* `again` for ever after `begin`. */
static void serve_for_ever(const FaultRequest *q, const char *begin, const char *again)
{
        fault_write(q, begin, strlen(begin));
        for (;;)
                fault_write(q, again, strlen(again));
}

#define CHUNKED " X\r\nTransfer-Encoding: chunked\r\n\r\n"

static bool serve_chunks(const FaultRequest *q)
{
        if (path_is(q, "/chunks"))
                write_text(q, "HTTP/1.1 200" CHUNKED "3;x=y\r\nin \r\n6\r\nchunks\r\n0\r\n\r\n");
        else if (path_is(q, "/refused-in-chunks"))
                write_text(q, "HTTP/1.1 404" CHUNKED "8\r\n<Error/>\r\n0\r\nT: 1\r\n\r\n");
        else if (path_is(q, "/chunks-early"))
                return serve_raw(q, "HTTP/1.1 200" CHUNKED "3\r\nin \r\n6\r\nchu");
        else if (path_is(q, "/no-chunks"))
                return serve_raw(q, "HTTP/1.1 200" CHUNKED "zz\r\n");
        else if (path_is(q, "/chunk-without-end"))
                serve_for_ever(q, "HTTP/1.1 200" CHUNKED "1;", "and=more;and=more;");
        else if (path_is(q, "/interim-without-end"))
                serve_for_ever(q, "", "HTTP/1.1 103 X\r\nLink: </x>\r\n\r\n");
        else if (path_is(q, "/headers-without-end"))
                serve_for_ever(q, "HTTP/1.1 200 X\r\n", "X-More: and more\r\n");
        else
                return serve_bodies(q);
        return true;
}

static bool serve(const FaultRequest *q)
{
        if (path_is(q, "/stall"))
                fault_stall(q);
        else if (path_is(q, "/stall-in-body")) {
                const char *part = "HTTP/1.1 200 X\r\nContent-Length: 10\r\n\r\n01234";
                fault_write(q, part, strlen(part));
                fault_stall(q);
        } else if (path_is(q, "/early-close"))
                return false;
        else if (path_is(q, "/short-body"))
                return serve_raw(q, "HTTP/1.1 200 X\r\nContent-Length: 10\r\n\r\n01234");
        else if (path_is(q, "/garbage"))
                return serve_raw(q, "no HTTP at all\r\n\r\n");
        else if (path_is(q, "/no-status"))
                return serve_raw(q, "HTTP/x\r\nContent-Length: 3\r\n\r\nabc");
        else if (path_is(q, "/no-end-of-headers"))
                return serve_raw(q, "HTTP/1.1 200 X\r\nContent-Length: 3\r\n\rX: y\r\nabc");
        else if (path_is(q, "/no-end-nor-body"))
                return serve_raw(q, "HTTP/1.1 206 X\r\nContent-Length: 0\r\n\rX: y\r\n");
        else if (path_is(q, FAULT_NO_EXPECT)) {
                _cleanup_free_ char *expect = fault_header(q, "Expect");
                if (expect)
                        fault_answer(q, 417, "ETag: \"not this\"\r\n", "no", 2);
                else
                        fault_answer(q, 200, "ETag: \"e\"\r\n", "yes", 3);
                return true;
        } else if (path_is(q, "/codings"))
                return serve_raw(q, "HTTP/1.1 200 X\r\nTransfer-Encoding: identity\r\n"
                                    "transfer-encoding:\tChunked \r\n\r\n3\r\nabc\r\n0\r\n\r\n");
        else if (path_is(q, "/other-coding"))
                return serve_raw(q, "HTTP/1.1 200 X\r\nTransfer-Encoding: xchunked\r\n\r\n"
                                    "3\r\nabc\r\n0\r\n\r\n");
        else if (path_is(q, "/trailers"))
                return serve_raw(q, "HTTP/1.1 200 X\r\nTransfer-Encoding: chunked\r\n"
                                    "ETag: \"a\"\r\n\r\n3\r\nabc\r\n0\r\n"
                                    "HTTP/1.1 500 X\r\nETag: \"b\"\r\n\r\n");
        else if (path_is(q, "/endless"))
                serve_endless(q, false);
        else if (path_is(q, "/endless-chunks"))
                serve_endless(q, true);
        else
                return serve_chunks(q);
        return false;
}

typedef struct Got {
        bool done;
        int result;
        unsigned status;
        char *err, *etag;
        char body[4096];
        size_t size;
        char error_body[64];
        uint64_t retry_after_sec;
} Got;

static int got_body(const void *data, size_t size, void *userdata)
{
        Got *g = userdata;

        if (g->size + size >= sizeof(g->body))
                return -ENOSPC;
        memcpy(g->body + g->size, data, size);
        g->size += size;
        g->body[g->size] = '\0';
        return 0;
}

static void got_done(int result, const HttpResponse *r, const char *err, void *userdata)
{
        Got *g = userdata;
        const char *etag = http_response_header(r, "ETAG");

        g->done = true;
        g->result = result;
        g->status = http_response_status(r);
        g->err = err ? strdup(err) : NULL;
        g->etag = etag ? strdup(etag) : NULL;
        (void) snprintf(g->error_body, sizeof(g->error_body), "%s",
                        http_response_error_body(r, NULL));
        g->retry_after_sec = http_response_retry_after_sec(r);
        assert_true((result < 0) == (err != NULL));
}

static void got_reset(Got *g)
{
        free(g->err);
        free(g->etag);
        *g = (Got){};
}

static void ask(Http *h, const char *path, HttpRequest request, Got *g)
{
        char url[256];

        got_reset(g);
        (void) snprintf(url, sizeof(url), "http://127.0.0.1:%u%s", server.port, path);
        request.url = url;
        request.method = request.method ? request.method : "GET";
        request.size_max = request.size_max ? request.size_max : 1000;
        request.on_body = got_body;
        request.done = got_done;
        request.userdata = g;
        assert_int_equal(http_start(h, &request, NULL, NULL), 0);
        while (!g->done)
                assert_int_equal(http_step(h, -1, UINT64_MAX), 0);
}

static void answers(void **state)
{
        _cleanup_(http_freep) Http *h = NULL;
        _cleanup_(got_reset) Got g = {};
        int before;

        (void) state;
        assert_int_equal(http_new(NULL, &h), 0);
        before = server.counts->n_connections;
        const NameValue headers[] = {
                {"X-Test",   "one"},
                { "X-Empty", ""   }
        };
        ask(h, "/head", (HttpRequest){ .headers = headers, .n_headers = 2 }, &g);
        assert_int_equal(g.result, 0);
        assert_non_null(strstr(g.body, "\r\nX-Test: one\r\n"));
        assert_non_null(strstr(g.body, "\r\nX-Empty:\r\n"));
        assert_null(strstr(g.body, "Accept-Encoding"));
        ask(h, "/a/../b//c%20d?x=%2F", (HttpRequest){}, &g);
        assert_string_equal(g.body, "as is");
        ask(h, "/chunks", (HttpRequest){}, &g);
        assert_int_equal(g.result, 0);
        assert_string_equal(g.body, "in chunks");
        ask(h, "/refused-in-chunks", (HttpRequest){}, &g);
        assert_int_equal(g.status, 404);
        assert_string_equal(g.error_body, "<Error/>");
        ask(h, "/missing", (HttpRequest){}, &g);
        assert_int_equal(g.result, 0);
        assert_int_equal(g.status, 404);
        assert_string_equal(g.error_body, "<Error/>");
        assert_int_equal(g.size, 0);
        ask(h, "/redirect", (HttpRequest){}, &g);
        assert_int_equal(g.status, 302);
        ask(h, "/controls", (HttpRequest){}, &g);
        assert_string_equal(g.etag, "\"a X: b [2J \"");
        ask(h, "/missing", (HttpRequest){ .method = "HEAD" }, &g);
        assert_int_equal(server.counts->n_connections - before, 1);
}

/* So that the body comes at once from a server that waits for that. */
static void acknowledges_heads(void **state)
{
        _cleanup_(http_freep) Http *h = NULL;
        _cleanup_(got_reset) Got g = {};

        (void) state;
        assert_int_equal(http_new(NULL, &h), 0);
        *n_acknowledged(server.counts) = 0;
        ask(h, "/not-changed", (HttpRequest){}, &g);
        ask(h, "/nothing", (HttpRequest){}, &g);
        assert_int_equal(g.status, 204);
        assert_int_equal(*n_acknowledged(server.counts), 0);
        ask(h, "/head-first", (HttpRequest){}, &g);
        assert_string_equal(g.body, "later");
}

static void asked_to_wait(void **state)
{
        _cleanup_(http_freep) Http *h = NULL;
        _cleanup_(got_reset) Got g = {};

        (void) state;
        assert_int_equal(http_new(NULL, &h), 0);
        for (size_t i = 0; i < ELEMENTSOF(waits); i++) {
                char path[32];
                (void) snprintf(path, sizeof(path), "/wait/%zu", i);
                ask(h, path, (HttpRequest){}, &g);
                assert_in_range(g.retry_after_sec, waits[i].min_sec, waits[i].max_sec);
        }
}

static void uploads(void **state)
{
        _cleanup_(http_freep) Http *h = NULL;
        _cleanup_(got_reset) Got g = {};
        _cleanup_close_ int fd = memfd_create("body", MFD_CLOEXEC);

        (void) state;
        assert_int_equal(http_new(NULL, &h), 0);
        assert_int_equal(fd_pwrite_all(fd, "0123456789", 10, 0), 0);
        ask(h, "/echo",
            (HttpRequest){
                    .method = "PUT", .upload = &(HttpUpload){.data = "abc", .size = 3}
        },
            &g);
        assert_string_equal(g.body, "abc");
        assert_string_equal(g.etag, "\"e\"");
        ask(h, "/echo",
            (HttpRequest){
                    .method = "POST", .upload = &(HttpUpload){.fd = fd, .offset = 3, .size = 4}
        },
            &g);
        assert_string_equal(g.body, "3456");
        ask(h, "/echo", (HttpRequest){ .method = "POST", .upload = &(HttpUpload){ .data = "" } },
            &g);
        assert_int_equal(g.result, 0);
        assert_int_equal(g.size, 0);
        ask(h, "/head",
            (HttpRequest){
                    .method = "PUT", .upload = &(HttpUpload){.data = "abc", .size = 3}
        },
            &g);
        assert_null(strstr(g.body, "Expect"));
        ask(h, "/echo",
            (HttpRequest){
                    .method = "PUT", .upload = &(HttpUpload){.fd = fd, .offset = 3, .size = 8}
        },
            &g);
        assert_int_equal(g.result, -ENODATA);
}

/* libcurl asks again by itself, without expecting anything: that answer counts. */
static void expectations_refused(void **state)
{
        _cleanup_free_ char *body = calloc(1, 2 * 1024 * 1024);
        const HttpUpload upload = { .data = body, .size = 2 * 1024 * 1024 };
        _cleanup_(http_freep) Http *h = NULL;
        _cleanup_(got_reset) Got g = {};

        (void) state;
        assert_non_null(body);
        assert_return_code(http_new(NULL, &h), 0);
        ask(h, FAULT_NO_EXPECT, (HttpRequest){ .method = "PUT", .upload = &upload }, &g);
        assert_int_equal(g.result, 0);
        assert_int_equal(g.status, 200);
        assert_string_equal(g.etag, "\"e\"");
        assert_string_equal(g.body, "yes");
        assert_string_equal(g.error_body, "");
}

static void faults(void **state)
{
        static const struct {
                const char *path;
                uint64_t offset, size, max;
                int result;
        } table[] = {
                {"/stall",                0, 0, 0,      -ETIMEDOUT},
                { "/stall-in-body",       0, 0, 0,      -ETIMEDOUT},
                { "/early-close",         0, 0, 0,      -EHOSTDOWN},
                { "/short-body",          0, 0, 0,      -EHOSTDOWN},
                { "/garbage",             0, 0, 0,      -EHOSTDOWN},
                { "/no-status",           0, 0, 0,      -EPROTO   },
                { "/no-end-of-headers",   2, 3, 0,      -EPROTO   },
                { "/no-end-of-headers",   0, 0, 0,      -EPROTO   },
                { "/no-end-nor-body",     0, 0, 0,      -EPROTO   },
                { "/endless",             0, 0, 2000,   -EFBIG    },
                { "/endless-chunks",      0, 0, 2000,   -EFBIG    },
                { "/endless",             0, 0, 100000, -ENOSPC   },
                { "/chunks",              0, 0, 9,      0         },
                { "/chunks",              0, 0, 8,      -EFBIG    },
                { "/chunks-early",        0, 0, 0,      -EHOSTDOWN},
                { "/no-chunks",           0, 0, 0,      -EPROTO   },
                { "/chunk-without-end",   0, 0, 0,      -EPROTO   },
                { "/interim-without-end", 0, 0, 0,      -EPROTO   },
                { "/headers-without-end", 0, 0, 0,      -EPROTO   },
                { "/range",               2, 3, 0,      0         },
                { "/range",               0, 0, 0,      -EPROTO   },
                { "/range",               2, 4, 0,      -EPROTO   },
                { "/range",               3, 3, 0,      -EPROTO   },
                { "/range-other",         2, 3, 0,      -EPROTO   },
                { "/range-unsaid",        2, 3, 0,      -EPROTO   },
                { "/range-short",         2, 3, 0,      -EPROTO   },
                { "/range-long",          2, 3, 0,      -EPROTO   },
                { "/ignores-range",       2, 3, 0,      -EPROTO   },
        };
        _cleanup_(http_freep) Http *h = NULL;
        _cleanup_(got_reset) Got g = {};

        (void) state;
        assert_int_equal(http_new(NULL, &h), 0);
        for (size_t i = 0; i < ELEMENTSOF(table); i++) {
                ask(h, table[i].path,
                    (HttpRequest){ .range_offset = table[i].offset,
                                   .range_size = table[i].size,
                                   .size_max = table[i].max,
                                   .stall_sec = 1 },
                    &g);
                if (g.result != table[i].result)
                        fail_msg("%s, row %zu: %d (%s)", table[i].path, i, g.result,
                                 strempty(g.err));
                if (g.result == -EPROTO)
                        assert_true(g.size < 4);
        }
        ask(h, "/codings", (HttpRequest){}, &g);
        assert_int_equal(g.result, 0);
        assert_string_equal(g.body, "abc");
        ask(h, "/other-coding", (HttpRequest){}, &g);
        assert_int_equal(g.result, -EPROTO);
        ask(h, "/trailers", (HttpRequest){}, &g);
        assert_int_equal(g.status, 200);
        assert_string_equal(g.etag, "\"a\"");
        ask(h, "/stall", (HttpRequest){ .deadline_msec = 200 }, &g);
        assert_int_equal(g.result, -ETIMEDOUT);
        assert_null(strstr(g.err, "milliseconds"));
}

static void urls_refused(void **state)
{
        static const char *const bad[] = { "http://192.0.2.1/",         "http://example.com/",
                                           "ftp://127.0.0.1/",          "file:///etc/passwd",
                                           "http://127.0.0.1.nip.test", "no url",
                                           "http://xlocalhost/",        "gopher://localhost/",
                                           "http://x.localhost/" };
        _cleanup_(http_freep) Http *h = NULL;

        (void) state;
        assert_int_equal(http_new(NULL, &h), 0);
        for (size_t i = 0; i < ELEMENTSOF(bad); i++) {
                _cleanup_free_ char *err = NULL;
                assert_int_equal(
                        http_start(h, &(HttpRequest){ .method = "GET", .url = bad[i] }, NULL, &err),
                        -EINVAL);
                assert_non_null(err);
        }
}

static void nearby(void **state)
{
        static const char *const good[] = { "http://169.254.169.254/", "http://[fd00:ec2::254]/",
                                            "http://10.99.0.1:80",     "http://172.31.0.1/",
                                            "http://192.168.1.1/",     "http://[fe80::1]/",
                                            "http://127.0.0.1/",       "https://example.com/" };
        static const char *const bad[] = { "http://192.0.2.1/",         "http://172.32.0.1/",
                                           "http://169.253.1.1/",       "http://11.0.0.1/",
                                           "http://[2001:db8::1]/",     "http://192.169.1.1/",
                                           "http://[::ffff:10.0.0.1]/", "http://10.0.0.1.nip.test/",
                                           "http://metadata.internal/", "ftp://10.0.0.1/" };

        (void) state;
        for (size_t i = 0; i < ELEMENTSOF(good); i++)
                assert_int_equal(http_url_check_nearby(good[i], NULL), 0);
        for (size_t i = 0; i < ELEMENTSOF(bad); i++) {
                _cleanup_free_ char *err = NULL;
                assert_int_equal(http_url_check_nearby(bad[i], &err), -EINVAL);
                assert_non_null(strstr(err, bad[i]));
        }
}

/* Two wait, one of them is cancelled, and others are not held up by them. */
static void delays(void **state)
{
        _cleanup_(http_freep) Http *h = NULL;
        _cleanup_(got_reset) Got late = {}, now = {};
        HttpRequest q = { .method = "GET", .size_max = 1000, .delay_msec = 300, .done = got_done };
        HttpTransfer *never;
        struct timespec start, end;
        char url[64];

        (void) state;
        assert_int_equal(http_new(NULL, &h), 0);
        (void) snprintf(url, sizeof(url), "http://127.0.0.1:%u/missing", server.port);
        q.url = url;
        q.userdata = &late;
        assert_int_equal(clock_gettime(CLOCK_MONOTONIC, &start), 0);
        assert_int_equal(http_start(h, &q, NULL, NULL), 0);
        q.delay_msec = 100;
        q.userdata = NULL;
        assert_int_equal(http_start(h, &q, &never, NULL), 0);
        ask(h, "/missing", (HttpRequest){}, &now);
        assert_false(late.done);
        assert_null(http_cancel(never));
        while (!late.done)
                assert_int_equal(http_step(h, -1, UINT64_MAX), 0);
        assert_int_equal(clock_gettime(CLOCK_MONOTONIC, &end), 0);
        assert_int_equal(late.status, 404);
        assert_true((end.tv_sec - start.tv_sec) * 1000 + (end.tv_nsec - start.tv_nsec) / 1000000 >=
                    300);
        assert_int_equal(http_start(h, &q, NULL, NULL), 0); /* ends with h */
}

static void nobody_listens(void **state)
{
        _cleanup_(http_freep) Http *h = NULL;
        _cleanup_(got_reset) Got g = {};
        const uint16_t port = server.port;

        (void) state;
        assert_int_equal(http_new(NULL, &h), 0);
        server.port = 1;
        ask(h, "/", (HttpRequest){ .connect_sec = 5 }, &g);
        server.port = port;
        assert_int_equal(g.result, -EHOSTDOWN);
        assert_non_null(strstr(g.err, "127.0.0.1"));
        assert_null(strstr(g.err, " ms"));
}

static void steps(void **state)
{
        _cleanup_(http_freep) Http *h = NULL;
        _cleanup_(got_reset) Got g = {}, other = {};
        char url[64];
        int fds[2];
        HttpTransfer *t;

        (void) state;
        assert_int_equal(http_new(NULL, &h), 0);
        assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, fds), 0);
        assert_int_equal(http_step(h, fds[0], 1000), 0);
        assert_int_equal(close(fds[1]), 0);
        assert_int_equal(http_step(h, fds[0], UINT64_MAX), 1);
        (void) close(fds[0]);
        (void) snprintf(url, sizeof(url), "http://127.0.0.1:%u/stall", server.port);
        assert_int_equal(
                http_start(h,
                           &(HttpRequest){
                                   .method = "GET", .url = url, .done = got_done, .userdata = &g },
                           &t, NULL),
                0);
        ask(h, "/missing", (HttpRequest){}, &other);
        assert_null(http_cancel(t));
        assert_false(g.done);
}

/* One is stepped, the transfers of the others get on: at once, and those that wait. */
static void guests(void **state)
{
        _cleanup_(http_freep) Http *h = NULL, *guest = NULL, *guests_guest = NULL;
        _cleanup_(got_reset) Got first = {}, second = {}, of_guest = {};
        HttpRequest q = { .method = "GET", .size_max = 1000, .done = got_done };
        char url[64];

        (void) state;
        assert_int_equal(http_new(NULL, &h), 0);
        assert_int_equal(http_new(NULL, &guest), 0);
        assert_int_equal(http_new(NULL, &guests_guest), 0);
        http_attach(h, guest);
        http_attach(guest, guests_guest);
        http_attach(h, guest);
        (void) snprintf(url, sizeof(url), "http://127.0.0.1:%u/missing", server.port);
        q.url = url;
        q.userdata = &first;
        assert_int_equal(http_start(guest, &q, NULL, NULL), 0);
        q.delay_msec = 100;
        q.userdata = &second;
        assert_int_equal(http_start(guests_guest, &q, NULL, NULL), 0);
        while (!first.done || !second.done)
                assert_int_equal(http_step(h, -1, UINT64_MAX), 0);
        assert_int_equal(first.status, 404);
        assert_int_equal(second.status, 404);
        /* Any of them may go first. */
        guest = http_free(guest);
        ask(guests_guest, "/missing", (HttpRequest){}, &of_guest);
        assert_int_equal(http_step(h, -1, 1000), 0);
        http_attach(h, guests_guest);
        h = http_free(h);
        ask(guests_guest, "/missing", (HttpRequest){}, &of_guest);
}

static int start_server(void **state)
{
        (void) state;
        fault_server_start(&server, serve);
        return 0;
}

static int stop_server(void **state)
{
        (void) state;
        fault_server_stop(&server);
        return 0;
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(answers),
                cmocka_unit_test(acknowledges_heads),
                cmocka_unit_test(uploads),
                cmocka_unit_test(faults),
                cmocka_unit_test(expectations_refused),
                cmocka_unit_test(urls_refused),
                cmocka_unit_test(nobody_listens),
                cmocka_unit_test(steps),
                cmocka_unit_test(nearby),
                cmocka_unit_test(delays),
                cmocka_unit_test(guests),
                cmocka_unit_test(asked_to_wait),
        };

        return cmocka_run_group_tests(tests, start_server, stop_server);
}
