/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>

#include "fuzz-server.h"
#include "fuzz.h"
#include "metadata.h"
#include "utf8.h"

/* Who answers as the metadata service, and as EC2's API where it has no tags: whatever they say of
 * the instance, what comes of it is what slipwayd takes. An input is the bodies of the answers, a
 * NUL between them; a digit before each is its status. The token is always given. */

typedef struct Script {
        const char *text, *end;
        char *answer;
        bool ended;
} Script;

static int status_of(char c)
{
        static const int statuses[] = { 200, 404, 401, 403, 400, 301 };

        return c >= '0' && (size_t) (c - '0') < ELEMENTSOF(statuses) ? statuses[c - '0'] : 200;
}

static const void *answer(const char *request, size_t *ret_size, void *userdata)
{
        Script *s = userdata;
        const bool asks_token = strncmp(request, "PUT ", 4) == 0;
        const size_t size = (size_t) (s->end - s->text);
        const char *body = asks_token ? "token" : s->text;
        size_t body_size = asks_token ? strlen(body) : strnlen(s->text, size), head_size;
        int status = asks_token ? 200 : 404;

        if (!asks_token && size > 0) {
                s->text += MIN(size, body_size + 1);
                if (body_size > 0) {
                        status = status_of(*body++);
                        body_size--;
                }
        }
        free(TAKE_PTR(s->answer));
        s->answer = malloc(256 + body_size);
        assert(s->answer);
        head_size = (size_t) sprintf(s->answer,
                                     "HTTP/1.1 %d X\r\nContent-Length: %zu\r\n"
                                     "X-aws-ec2-metadata-token-ttl-seconds: 21600\r\n\r\n",
                                     status, body_size);
        memcpy(s->answer + head_size, body, body_size);
        *ret_size = head_size + body_size;
        return s->answer;
}

static void on_done(int result, Instance *i, const char *err, void *userdata)
{
        _cleanup_(instance_freep) Instance *again = NULL;
        _cleanup_free_ char *packed = NULL;
        Script *s = userdata;
        size_t size;

        s->ended = true;
        if (result < 0) {
                assert(err && !i);
                return;
        }
        assert(instance_pack(i, &packed, &size) == 0 && size <= INSTANCE_PACKED_MAX);
        assert(instance_unpack(packed, size, &again) == 0 && instance_equal(i, again));
}

static Http *http(void)
{
        static Http *always = NULL; /* so that libcurl is not set up each time */
        Http *h;

        if (!always) {
                const char *url = fuzz_server_url(fuzz_server());
                assert(http_new(NULL, &always) == 0);
                assert(setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", url, 1) == 0);
                assert(setenv("AWS_ENDPOINT_URL", url, 1) == 0);
                assert(setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE", 1) == 0);
                assert(setenv("AWS_SECRET_ACCESS_KEY", "secret", 1) == 0);
                assert(setenv("AWS_CONFIG_FILE", "/dev/null", 1) == 0);
                assert(setenv("AWS_SHARED_CREDENTIALS_FILE", "/dev/null", 1) == 0);
                assert(unsetenv("AWS_EC2_METADATA_DISABLED") == 0);
        }
        assert(http_new(NULL, &h) == 0);
        return h;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        _cleanup_free_ char *text = fuzz_text(data, size);
        Script s = { .text = text, .end = text + size };
        FuzzServer *server = fuzz_server();
        Http *h = http();
        Metadata *m = NULL;

        assert(metadata_new(h, &m, NULL) == 0);
        assert(metadata_ask(m, on_done, &s, NULL) == 0);
        while (!s.ended) {
                int r = http_step(h, fuzz_server_fd(server), metadata_due_in_usec(m));
                assert(r >= 0);
                if (r == 1)
                        fuzz_server_serve(server, answer, &s);
                metadata_start_due(m);
        }
        metadata_free(m);
        http_free(h);
        free(s.answer);
        fuzz_server_reset(server);
        return 0;
}
