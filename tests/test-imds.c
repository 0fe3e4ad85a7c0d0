/* SPDX-License-Identifier: Apache-2.0 */
#include "test.h"

#include "fault-server.h"
#include "imds.h"

static FaultServer server;

/* Of fault_counts()->scratch */
enum {
        N_TOKENS,
        N_ITEMS,
        MODE,  /* how tokens are answered, one of the following */
        STALE, /* tokens before this one are refused with 401, by their number */
        DOWN,  /* so many requests more are answered 503 */
};

enum {
        TOKEN_GOOD,
        TOKEN_SHORT_LIVED,
        TOKEN_EMPTY,
        TOKEN_BROKEN,
        TOKEN_ENDLESS,
        TOKEN_FORBIDDEN,
        TOKEN_STALLS,
};

static atomic_int *shared(int i)
{
        return &server.counts->scratch[i];
}

static bool take_one(int i)
{
        struct FaultCounts *counts = fault_counts();

        if (atomic_load(&counts->scratch[i]) == 0)
                return false;
        atomic_fetch_sub(&counts->scratch[i], 1);
        return true;
}

static _Noreturn void serve_endless(const FaultRequest *q)
{
        static const char head[] = "HTTP/1.1 200 X\r\nConnection: close\r\n\r\n";
        static char block[4096];

        memset(block, 'x', sizeof(block));
        fault_write(q, head, sizeof(head) - 1);
        for (;;)
                fault_write(q, block, sizeof(block));
}

static bool serve_token(const FaultRequest *q)
{
        char *ttl = fault_header(q, "X-aws-ec2-metadata-token-ttl-seconds");
        bool asked_well = ttl && streq(ttl, "21600") && q->body_size == 0;
        char token[32];

        free(ttl);
        (void) snprintf(token, sizeof(token),
                        "token-%d==", atomic_fetch_add(&fault_counts()->scratch[N_TOKENS], 1));
        switch (atomic_load(&fault_counts()->scratch[MODE])) {
        case TOKEN_SHORT_LIVED:
                fault_answer(q, 200, "X-aws-ec2-metadata-token-ttl-seconds: 1\r\n", token,
                             strlen(token));
                break;
        case TOKEN_EMPTY:
                fault_answer(q, 200, "", "", 0);
                break;
        case TOKEN_BROKEN:
                fault_answer(q, 200, "", "a\r\nX-Evil: 1", 12);
                break;
        case TOKEN_ENDLESS:
                serve_endless(q);
        case TOKEN_FORBIDDEN:
                fault_answer(q, 403, "", "", 0);
                break;
        case TOKEN_STALLS:
                fault_stall(q);
                return false;
        default:
                fault_answer(q, asked_well ? 200 : 400,
                             "X-aws-ec2-metadata-token-ttl-seconds: 21600\r\n", token,
                             strlen(token));
        }
        return true;
}

static bool serve_item(const FaultRequest *q, const char *path)
{
        char *token = fault_header(q, "X-aws-ec2-metadata-token");
        int n = -1;
        bool good = token && sscanf(token, "token-%d==", &n) == 1;

        free(token);
        if (!good || n < atomic_load(&fault_counts()->scratch[STALE]))
                fault_answer(q, 401, "", "", 0);
        else if (streq(path, "meta-data/instance-id"))
                fault_answer(q, 200, "", "i-0123456789abcdef0", 19);
        else if (streq(path, "meta-data/tags/instance/slipway:store"))
                fault_answer(q, 200, "", "s3://bucket", 11);
        else if (streq(path, "redirect"))
                fault_answer(q, 302, "Location: /latest/meta-data/instance-id\r\n", "", 0);
        else if (streq(path, "forbidden"))
                fault_answer(q, 403, "", "", 0);
        else if (streq(path, "broken"))
                fault_answer(q, 200, "", "a\0b", 3);
        else if (streq(path, "empty"))
                fault_answer(q, 200, "", "", 0);
        else if (streq(path, "down"))
                fault_answer(q, 500, "", "", 0);
        else if (streq(path, "throttled"))
                fault_answer(q, 429, "", "", 0);
        else if (streq(path, "endless"))
                serve_endless(q);
        else if (streq(path, "stalls")) {
                fault_stall(q);
                return false;
        } else
                fault_answer(q, 404, "", "<html>", 6);
        return true;
}

static bool serve(const FaultRequest *q)
{
        char path[256];

        if (take_one(DOWN)) {
                fault_answer(q, 503, "", "", 0);
                return true;
        }
        if (strncmp(q->head, "PUT /latest/api/token ", 22) == 0)
                return serve_token(q);
        atomic_fetch_add(&fault_counts()->scratch[N_ITEMS], 1);
        if (sscanf(q->head, "GET /latest/%255s ", path) != 1)
                return false;
        return serve_item(q, path);
}

typedef struct Got {
        bool done;
        int result;
        char *value, *err;
} Got;

static void got_reset(Got *g)
{
        free(g->value);
        free(g->err);
        *g = (Got){};
}

static void got_done(int result, const char *value, const char *err, void *userdata)
{
        Got *g = userdata;

        assert_false(g->done);
        assert_true((result == 0) == (value != NULL));
        assert_true((result < 0) == (err != NULL));
        g->done = true;
        g->result = result;
        g->value = value ? strdup(value) : NULL;
        g->err = err ? strdup(err) : NULL;
}

static void start(Imds *i, const char *path, Got *g)
{
        got_reset(g);
        assert_int_equal(imds_get(i, path, got_done, g, NULL, NULL), 0);
        assert_false(g->done);
}

static void wait_for(Http *h, const Got *g)
{
        while (!g->done)
                assert_int_equal(http_step(h, -1, UINT64_MAX), 0);
}

static void ask(Http *h, Imds *i, const char *path, Got *g)
{
        start(i, path, g);
        wait_for(h, g);
}

static void expect(Http *h, Imds *i, const char *path, int result, const char *words)
{
        _cleanup_(got_reset) Got g = {};

        ask(h, i, path, &g);
        if (g.result != result)
                fail_msg("%s: %d (%s)", path, g.result, strempty(g.err));
        if (words && !strstr(g.err, words))
                fail_msg("%s: '%s' lacks '%s'", path, g.err, words);
}

static void open_imds(Http **ret_http, Imds **ret)
{
        for (int k = 0; k < 8; k++)
                atomic_store(shared(k), 0);
        assert_int_equal(http_new(NULL, ret_http), 0);
        assert_int_equal(imds_new(*ret_http, ret, NULL), 0);
}

static void items(void **state)
{
        _cleanup_(http_freep) Http *h = NULL;
        _cleanup_(imds_freep) Imds *i = NULL;
        _cleanup_(got_reset) Got id = {}, tag = {}, none = {};

        (void) state;
        open_imds(&h, &i);
        start(i, "meta-data/instance-id", &id);
        start(i, "meta-data/tags/instance/slipway:store", &tag);
        start(i, "meta-data/tags/instance/Nope", &none);
        wait_for(h, &id);
        wait_for(h, &tag);
        wait_for(h, &none);
        assert_string_equal(id.value, "i-0123456789abcdef0");
        assert_string_equal(tag.value, "s3://bucket");
        assert_int_equal(none.result, IMDS_ABSENT);
        ask(h, i, "empty", &none);
        assert_string_equal(none.value, "");
        assert_int_equal(atomic_load(shared(N_TOKENS)), 1);
        assert_int_equal(atomic_load(shared(N_ITEMS)), 4);
}

static void tokens_end(void **state)
{
        _cleanup_(http_freep) Http *h = NULL;
        _cleanup_(imds_freep) Imds *i = NULL;
        _cleanup_(got_reset) Got a = {}, b = {};

        (void) state;
        open_imds(&h, &i);
        atomic_store(shared(MODE), TOKEN_SHORT_LIVED);
        expect(h, i, "meta-data/instance-id", 0, NULL);
        atomic_store(shared(MODE), TOKEN_GOOD);
        expect(h, i, "meta-data/instance-id", 0, NULL);
        expect(h, i, "meta-data/instance-id", 0, NULL);
        assert_int_equal(atomic_load(shared(N_TOKENS)), 2);

        /* Both find out that the token is not taken any more. */
        atomic_store(shared(STALE), 2);
        start(i, "meta-data/instance-id", &a);
        start(i, "meta-data/instance-id", &b);
        wait_for(h, &a);
        wait_for(h, &b);
        assert_int_equal(a.result, 0);
        assert_int_equal(b.result, 0);
        assert_int_equal(atomic_load(shared(N_TOKENS)), 3);

        /* Neither is a fresh one. */
        atomic_store(shared(STALE), 100);
        atomic_store(shared(N_ITEMS), 0);
        expect(h, i, "meta-data/instance-id", -EACCES, "status 401");
        assert_int_equal(atomic_load(shared(N_TOKENS)), 4);
        assert_int_equal(atomic_load(shared(N_ITEMS)), 2);
}

static void bad_tokens(void **state)
{
        static const struct {
                int mode, result;
                const char *words;
        } table[] = {
                {TOKEN_EMPTY,      -EBADMSG, "malformed token"},
                { TOKEN_BROKEN,    -EBADMSG, "malformed token"},
                { TOKEN_ENDLESS,   -EFBIG,   "limit"          },
                { TOKEN_FORBIDDEN, -EACCES,  "switched off"   },
        };
        _cleanup_(http_freep) Http *h = NULL;
        _cleanup_(imds_freep) Imds *i = NULL;

        (void) state;
        open_imds(&h, &i);
        for (size_t k = 0; k < ELEMENTSOF(table); k++) {
                atomic_store(shared(MODE), table[k].mode);
                expect(h, i, "meta-data/instance-id", table[k].result, table[k].words);
        }
        assert_int_equal(atomic_load(shared(N_ITEMS)), 0);
        atomic_store(shared(MODE), TOKEN_GOOD);
        expect(h, i, "meta-data/instance-id", 0, NULL);
}

static void bad_answers(void **state)
{
        _cleanup_(http_freep) Http *h = NULL;
        _cleanup_(imds_freep) Imds *i = NULL;

        (void) state;
        open_imds(&h, &i);
        expect(h, i, "redirect", -EPROTO, "status 302");
        expect(h, i, "forbidden", -EACCES, "switched off");
        expect(h, i, "broken", -EBADMSG, "malformed value of /latest/broken");
        expect(h, i, "endless", -EFBIG, "limit");
        atomic_store(shared(N_ITEMS), 0);
        expect(h, i, "down", -EHOSTDOWN, "status 500, 3 times");
        expect(h, i, "throttled", -EHOSTDOWN, "status 429, 3 times");
        assert_int_equal(atomic_load(shared(N_ITEMS)), 2 * IMDS_TRIES);
}

static void comes_back(void **state)
{
        _cleanup_(http_freep) Http *h = NULL;
        _cleanup_(imds_freep) Imds *i = NULL;

        (void) state;
        open_imds(&h, &i);
        atomic_store(shared(DOWN), IMDS_TRIES - 1); /* of the token */
        expect(h, i, "meta-data/instance-id", 0, NULL);
        atomic_store(shared(DOWN), IMDS_TRIES - 1); /* of the item */
        expect(h, i, "meta-data/instance-id", 0, NULL);
        assert_int_equal(atomic_load(shared(N_TOKENS)), 1);
}

/* Both at once, for it takes its time. */
static void slow(void **state)
{
        _cleanup_(http_freep) Http *h = NULL;
        _cleanup_(imds_freep) Imds *i = NULL, *other = NULL;
        _cleanup_(got_reset) Got item = {}, token = {};

        (void) state;
        open_imds(&h, &i);
        assert_int_equal(imds_new(h, &other, NULL), 0);
        expect(h, i, "meta-data/instance-id", 0, NULL);
        atomic_store(shared(MODE), TOKEN_STALLS);
        start(i, "stalls", &item);
        start(other, "meta-data/instance-id", &token);
        wait_for(h, &item);
        wait_for(h, &token);
        assert_int_equal(item.result, -ETIMEDOUT);
        assert_int_equal(token.result, -ETIMEDOUT);
        assert_null(strstr(item.err, "hop limit"));
        assert_non_null(strstr(token.err, "hop limit"));
}

static void nobody(void **state)
{
        _cleanup_(http_freep) Http *h = NULL;
        _cleanup_(imds_freep) Imds *i = NULL;

        (void) state;
        assert_int_equal(setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", "http://127.0.0.1:1/", 1), 0);
        open_imds(&h, &i);
        expect(h, i, "meta-data/instance-id", -EHOSTDOWN, "127.0.0.1");
}

/* One whose answer starts another one and cancels a third. */
typedef struct Chain {
        Imds *imds;
        ImdsCall *other;
        int n_left;
} Chain;

static void go_on(int result, const char *value, const char *err, void *userdata)
{
        Chain *c = userdata;

        (void) value, (void) err;
        assert_int_equal(result, -EACCES);
        c->other = imds_cancel(c->other);
        if (c->n_left-- > 0)
                assert_int_equal(imds_get(c->imds, "forbidden", go_on, c, NULL, NULL), 0);
}

static void must_not_come(int result, const char *value, const char *err, void *userdata)
{
        (void) result, (void) value, (void) err, (void) userdata;
        fail_msg("a cancelled call called back");
}

static void calls_in_callbacks(void **state)
{
        _cleanup_(http_freep) Http *h = NULL;
        _cleanup_(imds_freep) Imds *i = NULL;
        Chain chain = { .n_left = 2 };

        (void) state;
        open_imds(&h, &i);
        atomic_store(shared(MODE), TOKEN_FORBIDDEN);
        chain.imds = i;
        assert_int_equal(imds_get(i, "forbidden", go_on, &chain, NULL, NULL), 0);
        assert_int_equal(imds_get(i, "x", must_not_come, NULL, &chain.other, NULL), 0);
        while (chain.n_left >= 0)
                assert_int_equal(http_step(h, -1, UINT64_MAX), 0);
        assert_int_equal(atomic_load(shared(N_TOKENS)), 3);
        /* and one that ends with the whole */
        assert_int_equal(imds_get(i, "x", must_not_come, NULL, NULL, NULL), 0);
}

static void environment(void **state)
{
        static const char *const bad[] = { "http://192.0.2.1", "http://metadata.test", "nonsense" };
        _cleanup_(http_freep) Http *h = NULL;
        Imds *i = NULL;

        (void) state;
        assert_int_equal(http_new(NULL, &h), 0);
        for (size_t k = 0; k < ELEMENTSOF(bad); k++) {
                _cleanup_free_ char *err = NULL;
                assert_int_equal(setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", bad[k], 1), 0);
                assert_int_equal(imds_new(h, &i, &err), -EINVAL);
                assert_non_null(strstr(err, "AWS_EC2_METADATA_SERVICE_ENDPOINT: "));
        }
        assert_int_equal(setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE", "IPv5", 1), 0);
        assert_int_equal(setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", "http://10.0.0.1/", 1), 0);
        assert_int_equal(imds_new(h, &i, NULL), 0);
        assert_string_equal(imds_endpoint(i), "http://10.0.0.1");
        assert_int_equal(unsetenv("AWS_EC2_METADATA_SERVICE_ENDPOINT"), 0);
        i = imds_free(i);
        assert_int_equal(imds_new(h, &i, NULL), -EINVAL);
        assert_int_equal(setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE", "ipv6", 1), 0);
        assert_int_equal(setenv("AWS_EC2_METADATA_DISABLED", "TRUE", 1), 0);
        assert_int_equal(imds_new(h, &i, NULL), 0);
        assert_string_equal(imds_endpoint(i), "http://[fd00:ec2::254]");
        assert_true(imds_is_disabled(i));
        assert_int_equal(imds_get(i, "x", must_not_come, NULL, NULL, NULL), -EOPNOTSUPP);
        i = imds_free(i);
        assert_int_equal(unsetenv("AWS_EC2_METADATA_DISABLED"), 0);
        assert_int_equal(unsetenv("AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE"), 0);
        assert_int_equal(imds_new(h, &i, NULL), 0);
        assert_string_equal(imds_endpoint(i), "http://169.254.169.254");
        assert_int_equal(imds_get(i, "../x y", must_not_come, NULL, NULL, NULL), -EINVAL);
        i = imds_free(i);
}

static int use_server(void **state)
{
        char url[64];

        (void) state;
        (void) snprintf(url, sizeof(url), "http://127.0.0.1:%u/", server.port);
        (void) unsetenv("AWS_EC2_METADATA_DISABLED");
        return setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", url, 1);
}

static int start_server(void **state)
{
        (void) state;
        fault_server_start(&server, serve);
        /* No proxy may be asked. */
        return setenv("http_proxy", "http://127.0.0.1:1", 1);
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
                cmocka_unit_test_setup(items, use_server),
                cmocka_unit_test_setup(tokens_end, use_server),
                cmocka_unit_test_setup(bad_tokens, use_server),
                cmocka_unit_test_setup(bad_answers, use_server),
                cmocka_unit_test_setup(comes_back, use_server),
                cmocka_unit_test_setup(slow, use_server),
                cmocka_unit_test_setup(calls_in_callbacks, use_server),
                cmocka_unit_test(nobody),
                cmocka_unit_test(environment),
        };

        return cmocka_run_group_tests(tests, start_server, stop_server);
}
