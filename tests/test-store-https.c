/* SPDX-License-Identifier: Apache-2.0 */
#include "test.h"

#include <stdlib.h>

#include "fault-server.h"
#include "store.h"

/* A web server as a store: the same answers as from S3, nothing signed, nothing written. */

static FaultServer server;

static bool target_is(const FaultRequest *q, const char *target)
{
        char line[256];

        (void) snprintf(line, sizeof(line), "GET /pre/%s ", target);
        return strncmp(q->head, line, strlen(line)) == 0;
}

static bool serve(const FaultRequest *q)
{
        if (target_is(q, "web/head"))
                fault_answer(q, 200, "ETag: \"e\"\r\n", q->head, strlen(q->head));
        else if (target_is(q, "same"))
                fault_answer(q, 304, "", "", 0);
        else if (target_is(q, "missing"))
                fault_answer(q, 404, "", "<html>not here</html>", 21);
        else if (target_is(q, "denied"))
                fault_answer(q, 403, "", "", 0);
        else if (target_is(q, "redirected"))
                fault_answer(q, 302, "Location: https://elsewhere.test/\r\n", "", 0);
        else if (target_is(q, "busy"))
                fault_answer(q, 503, "", "<html>later</html>", 18);
        else if (target_is(q, "part"))
                fault_answer(q, 206, "Content-Range: bytes 2-4/10\r\nETag: \"e\"\r\n", "234", 3);
        else
                fault_answer(q, 400, "", "", 0);
        return true;
}

static Store *open_store(void)
{
        _cleanup_free_ char *err = NULL;
        char url[64];
        Store *s = NULL;

        (void) snprintf(url, sizeof(url), "http://127.0.0.1:%u/pre/", server.port);
        assert_int_equal(store_open(url, &s, &err), 0);
        store_set_limits(s, &(StoreLimits){ .connect_sec = 5, .stall_sec = 1, .backoff_msec = 5 });
        return s;
}

static void gets(void **state)
{
        static const struct {
                const char *path;
                int result;
                const char *err;
        } table[] = {
                {"same",        STORE_NOT_MODIFIED, NULL                               },
                { "missing",    STORE_ABSENT,       NULL                               },
                { "denied",     STORE_UNKNOWN,      "/pre/denied: refused (status 403)"},
                { "redirected", -EPROTO,            "redirects are not followed"       },
                { "busy",       -EBUSY,             "tried 4 times"                    },
        };
        _cleanup_(store_freep) Store *s = open_store();

        (void) state;
        for (size_t i = 0; i < ELEMENTSOF(table); i++) {
                _cleanup_free_ char *err = NULL;
                int r = store_call(s, &(StoreRequest){ .path = table[i].path, .size_max = 4096 },
                                   NULL, &err);
                if (r != table[i].result || !strstr(strempty(err), strempty(table[i].err)))
                        fail_msg("%s: %d (%s)", table[i].path, r, strempty(err));
        }
}

static void nothing_is_signed(void **state)
{
        _cleanup_(store_freep) Store *s = open_store();
        _cleanup_(store_reply_done) StoreReply reply = {};

        (void) state;
        assert_int_equal(store_call(s,
                                    &(StoreRequest){ .path = "web/head",
                                                     .if_none_match = "\"o\"",
                                                     .size_max = 4096 },
                                    &reply, NULL),
                         0);
        assert_string_equal(reply.etag, "\"e\"");
        assert_non_null(strstr(reply.data, "If-None-Match: \"o\"\r\n"));
        assert_null(strcasestr(reply.data, "authorization"));
        assert_null(strcasestr(reply.data, "x-amz"));
}

static void ranges(void **state)
{
        static const struct {
                const char *path, *etag;
                int result;
        } table[] = {
                {"part",      NULL,    0             },
                { "part",     "\"e\"", 0             },
                { "part",     "\"f\"", STORE_CONFLICT},
                { "web/head", NULL,    -EPROTO       },
        };
        _cleanup_(store_freep) Store *s = open_store();

        (void) state;
        for (size_t i = 0; i < ELEMENTSOF(table); i++)
                assert_int_equal(store_call(s,
                                            &(StoreRequest){ .path = table[i].path,
                                                             .if_match = table[i].etag,
                                                             .range_offset = 2,
                                                             .range_size = 3,
                                                             .size_max = 3 },
                                            NULL, NULL),
                                 table[i].result);
}

static void nothing_is_written(void **state)
{
        static const StoreRequest requests[] = {
                {.method = STORE_PUT, .path = "x", .body = "x",         .body_size = 1 },
                { .method = STORE_LIST,                  .path = "",         .size_max = 100},
        };
        _cleanup_(store_freep) Store *s = open_store();
        int before = server.counts->n_requests;

        (void) state;
        for (size_t i = 0; i < ELEMENTSOF(requests); i++) {
                _cleanup_free_ char *err = NULL;
                assert_int_equal(store_call(s, &requests[i], NULL, &err), -EROFS);
                assert_non_null(strstr(err, "can only be read"));
        }
        assert_int_equal(server.counts->n_requests, before);
        assert_true(store_url_is_read_only("https://cdn.test/x"));
        assert_true(store_url_is_read_only("http://127.0.0.1/x"));
        assert_false(store_url_is_read_only("s3://bucket"));
        assert_false(store_url_is_read_only("file:///srv/https://x"));
}

static int start(void **state)
{
        (void) state;
        /* What s3:// takes has no say here. */
        (void) setenv("AWS_ENDPOINT_URL_S3", "https://192.0.2.1", 1);
        (void) setenv("AWS_ACCESS_KEY_ID", "id", 1);
        (void) unsetenv("AWS_SECRET_ACCESS_KEY");
        (void) unsetenv("AWS_REGION");
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
                cmocka_unit_test(gets),
                cmocka_unit_test(nothing_is_signed),
                cmocka_unit_test(ranges),
                cmocka_unit_test(nothing_is_written),
        };

        return cmocka_run_group_tests(tests, start, stop);
}
