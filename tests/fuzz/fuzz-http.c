/* SPDX-License-Identifier: Apache-2.0 */
#include <ctype.h>
#include <errno.h>

#include "fuzz-server.h"
#include "fuzz.h"
#include "http.h"

/* What any host may answer, from the status line on. The first byte says what was asked. */

enum {
        WITH_RANGE = 1,
        WITH_ETAG = 2,
        WITH_BODY = 4,
        GIVES_UP = 8, /* on_body() */
};

#define RANGE_OFFSET 10
#define RANGE_SIZE   5
#define SIZE_MAX_    200
#define ETAG         "\"1f3a9c2\""

typedef struct Asked {
        const uint8_t *answer;
        size_t answer_size;
        unsigned flags;
        uint64_t n_body;
        bool ended;
} Asked;

static const void *answer(const char *request, size_t *ret_size, void *userdata)
{
        const Asked *a = userdata;

        assert(strstr(request, "Range: bytes=10-14\r\n") || !(a->flags & WITH_RANGE));
        *ret_size = a->answer_size;
        return a->answer;
}

static int on_body(const void *data, size_t size, void *userdata)
{
        Asked *a = userdata;

        (void) data;
        a->n_body += size;
        return a->flags & GIVES_UP ? -EXFULL : 0;
}

/* It may be sent back, or become a part of other headers. */
static void check_header(const HttpResponse *r, const char *name)
{
        const char *value = http_response_header(r, name);

        for (; value && *value; value++)
                assert(!iscntrl((unsigned char) *value));
}

static void check_response(const HttpResponse *r)
{
        static const char *const names[] = { "ETag",        "Content-Range", "Content-Type",
                                             "Retry-After", "Date",          "x-amz-request-id",
                                             "Location" };
        size_t size;
        const char *body = http_response_error_body(r, &size);

        assert(http_response_status(r) <= 999);
        assert(body && strlen(body) <= size && size <= 65536);
        for (size_t i = 0; i < ELEMENTSOF(names); i++)
                check_header(r, names[i]);
        (void) http_response_date(r);
        (void) http_response_retry_after_sec(r);
}

static void on_done(int result, const HttpResponse *response, const char *err, void *userdata)
{
        Asked *a = userdata;
        const unsigned status = http_response_status(response);
        const bool is_success = status >= 200 && status < 300;

        a->ended = true;
        assert(result == 0 || err);
        assert(result == 0 || result == -EHOSTDOWN || result == -EFBIG || result == -EPROTO ||
               (result == -ESTALE && a->flags & WITH_ETAG) ||
               (result == -EXFULL && a->flags & GIVES_UP));
        assert(a->n_body <= SIZE_MAX_);
        assert(a->n_body == 0 || is_success);
        if (result == 0 && is_success && a->flags & WITH_RANGE)
                assert(status == 206 && a->n_body == RANGE_SIZE);
        check_response(response);
}

static void ask(Http *h, Asked *a)
{
        static const HttpUpload body = { .data = "body", .size = 4 };
        FuzzServer *s = fuzz_server();
        HttpRequest q = { .method = a->flags & WITH_BODY ? "POST" : "GET",
                          .url = fuzz_server_url(s),
                          .upload = a->flags & WITH_BODY ? &body : NULL,
                          .etag = a->flags & WITH_ETAG ? ETAG : NULL,
                          .range_offset = RANGE_OFFSET,
                          .range_size = a->flags & WITH_RANGE ? RANGE_SIZE : 0,
                          .size_max = SIZE_MAX_,
                          .deadline_msec = 5000,
                          .on_body = on_body,
                          .done = on_done,
                          .userdata = a };
        HttpTransfer *t;
        int r = http_start(h, &q, &t, NULL);

        assert(r == 0);
        while (!a->ended) {
                r = http_step(h, fuzz_server_fd(s), UINT64_MAX);
                assert(r >= 0);
                if (r == 1)
                        fuzz_server_serve(s, answer, a);
        }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        static Http *always = NULL; /* so that libcurl is not set up each time */
        Http *h;

        if (size == 0)
                return 0;
        if (!always)
                assert(http_new(NULL, &always) == 0);
        assert(http_new(NULL, &h) == 0);
        Asked a = { .answer = data + 1, .answer_size = size - 1, .flags = data[0] };
        ask(h, &a);
        http_free(h);
        fuzz_server_reset(fuzz_server());
        return 0;
}
