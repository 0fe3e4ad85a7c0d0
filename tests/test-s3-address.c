/* SPDX-License-Identifier: Apache-2.0 */
#include "test.h"

#include "s3-address.h"

#define ARN "arn:aws:s3:eu-west-1:123456789012:accesspoint"

static const struct {
        const char *url, *region;
        S3Endpoints endpoints;
        const char *place, *path; /* expected; NULL: refused */
} place_table[] = {
        {"s3://acme",                                         "eu-west-1",  {},                                                                          "https://acme.s3.eu-west-1.amazonaws.com", "/web/x"       },
        { "s3://acme/a/b/",
         "cn-north-1",                                                      {},
         "https://acme.s3.cn-north-1.amazonaws.com.cn",                                                                                                                                             "/a/b/web/x"   },
        { "s3://acme",
         "us-gov-west-1",                                                   {},
         "https://acme.s3.us-gov-west-1.amazonaws.com",                                                                                                                                             "/web/x"       },
        { "s3://acme",
         "eusc-de-east-1",                                                  {},
         "https://acme.s3.eusc-de-east-1.amazonaws.eu",                                                                                                                                             "/web/x"       },
        { "s3://acme",
         "us-isob-east-1",                                                  {},
         "https://acme.s3.us-isob-east-1.sc2s.sgov.gov",                                                                                                                                            "/web/x"       },
        { "s3://a.b",                                         "us-east-1",  {},                                                                          "https://s3.us-east-1.amazonaws.com",      "/a.b/web/x"   },
        { "s3://ABC",                                         "us-east-1",  {},                                                                          "https://s3.us-east-1.amazonaws.com",      "/ABC/web/x"   },
        { "s3://acme-",                                       "us-east-1",  {},                                                                          "https://s3.us-east-1.amazonaws.com",      "/acme-/web/x" },
        { "s3://acme?style=path",
         "us-east-1",                                                       {},
         "https://s3.us-east-1.amazonaws.com",                                                                                                                                                      "/acme/web/x"  },
        { "s3://a.b?style=virtual",                           "us-east-1",  {},                                                                          NULL,                                      NULL           },
 /* the kinds of endpoints */
        { "s3://acme",
         "eu-west-1",                                                       { .dual_stack = true },
         "https://acme.s3.dualstack.eu-west-1.amazonaws.com",                                                                                                                                       "/web/x"       },
        { "s3://acme",
         "us-east-2",                                                       { .fips = true },
         "https://acme.s3-fips.us-east-2.amazonaws.com",                                                                                                                                            "/web/x"       },
        { "s3://a.b",
         "us-gov-east-1",                                                   { .fips = true, .dual_stack = true },
         "https://s3-fips.dualstack.us-gov-east-1.amazonaws.com",                                                                                                                                   "/a.b/web/x"   },
        { "s3://acme",
         "cn-north-1",                                                      { .dual_stack = true },
         "https://acme.s3.dualstack.cn-north-1.amazonaws.com.cn",                                                                                                                                   "/web/x"       },
        { "s3://acme",                                        "cn-north-1", { .fips = true },                                                            NULL,                                      NULL           },
 /* access points */
        { "s3://deploy-0123456789abcdefghijklmnopqr-s3alias",
         "eu-west-1",                                                       {},
         "https://deploy-0123456789abcdefghijklmnopqr-s3alias.s3.eu-west-1.amazonaws.com",                                                                                                          "/web/x"       },
        { "s3://" ARN "/deploy/pre",
         "us-east-1",                                                       {},
         "https://deploy-123456789012.s3-accesspoint.eu-west-1.amazonaws.com",                                                                                                                      "/pre/web/x"   },
        { "s3://" ARN ":deploy",
         NULL,                                                              {},
         "https://deploy-123456789012.s3-accesspoint.eu-west-1.amazonaws.com",                                                                                                                      "/web/x"       },
        { "s3://" ARN "/deploy",
         NULL,                                                              { .fips = true, .dual_stack = true },
         "https://deploy-123456789012.s3-accesspoint-fips.dualstack.eu-west-1.amazonaws.com",                                                                                                       "/web/x"       },
        { "s3://" ARN "/deploy",
         NULL,                                                              { .url = "https://accesspoint.vpce-1a-2b.s3.eu-west-1.vpce.amazonaws.com" },
         "https://deploy-123456789012.accesspoint.vpce-1a-2b.s3.eu-west-1.vpce.amazonaws.com",                                                                                                      "/web/x"       },
        { "s3://" ARN "/deploy",                              NULL,         { .url = "https://192.0.2.1" },                                              NULL,                                      NULL           },
 /* endpoints of one's own */
        { "s3://acme",
         "eu-west-1",                                                       { .url = "https://bucket.vpce-1a-2b.s3.eu-west-1.vpce.amazonaws.com" },
         "https://acme.bucket.vpce-1a-2b.s3.eu-west-1.vpce.amazonaws.com",                                                                                                                          "/web/x"       },
        { "s3://a.b",
         "eu-west-1",                                                       { .url = "https://bucket.vpce-1a-2b.s3.eu-west-1.vpce.amazonaws.com" },
         "https://bucket.vpce-1a-2b.s3.eu-west-1.vpce.amazonaws.com",                                                                                                                               "/a.b/web/x"   },
        { "s3://acme/p",
         "x",                                                               { .url = "https://s3.test:9000/" },
         "https://s3.test:9000",                                                                                                                                                                    "/acme/p/web/x"},
        { "s3://acme/p?style=virtual",
         "x",                                                               { .url = "https://s3.test:9000" },
         "https://acme.s3.test:9000",                                                                                                                                                               "/p/web/x"     },
        { "s3://acme",                                        "x",          { .url = "https://s3.test:443" },                                            "https://s3.test",                         "/acme/web/x"  },
        { "s3://acme",                                        "x",          { .url = "http://127.0.0.1:80" },                                            "http://127.0.0.1",                        "/acme/web/x"  },
        { "s3://acme",                                        "x",          { .url = "http://[::1]:81" },                                                "http://[::1]:81",                         "/acme/web/x"  },
        { "s3://acme?style=virtual",                          "x",          { .url = "http://127.0.0.1:81" },                                            NULL,                                      NULL           },
        { "s3://acme?style=virtual",                          "x",          { .url = "http://[::1]:81" },                                                NULL,                                      NULL           },
        { "s3://acme",                                        "x",          { .url = "http://s3.test" },                                                 NULL,                                      NULL           },
        { "s3://acme?style=virtual",                          "x",          { .url = "http://localhost:81" },                                            NULL,                                      NULL           },
        { "s3://acme",                                        "x",          { .url = "https://s3.test/path" },                                           NULL,                                      NULL           },
        { "s3://acme",                                        "x",          { .url = "https://user@s3.test" },                                           NULL,                                      NULL           },
        { "s3://acme",                                        "x",          { .url = "https://s3.test", .fips = true },                                  NULL,                                      NULL           },
        { "s3://acme",                                        "x",          { .url = "https://s3.test", .dual_stack = true },                            NULL,                                      NULL           },
 /* regions */
        { "s3://acme",                                        "a/b",        {},                                                                          NULL,                                      NULL           },
        { "s3://acme",                                        "evil.test#", {},                                                                          NULL,                                      NULL           },
        { "s3://acme",                                        NULL,         {},                                                                          NULL,                                      NULL           },
 /* web servers */
        { "https://cdn.test",                                 NULL,         {},                                                                          "https://cdn.test",                        "/web/x"       },
        { "https://CDN.test:8443/a/b/",
         NULL,                                                              { .url = "https://s3.test", .fips = true },
         "https://CDN.test:8443",                                                                                                                                                                   "/a/b/web/x"   },
        { "http://127.0.0.1:80/a",                            NULL,         {},                                                                          "http://127.0.0.1",                        "/a/web/x"     },
};

static void places(void **state)
{
        (void) state;
        for (size_t i = 0; i < ELEMENTSOF(place_table); i++) {
                _cleanup_(s3_address_done) S3Address a = {};
                _cleanup_(s3_place_done) S3Place p = {};
                _cleanup_free_ char *err = NULL, *path = NULL;

                assert_int_equal(s3_address_parse(place_table[i].url, &a, &err), 0);
                int r = s3_place_find(&a, place_table[i].region, &place_table[i].endpoints, &p,
                                      &err);
                if (!place_table[i].place) {
                        if (r != -EINVAL || !err)
                                fail_msg("row %zu: %d, %s", i, r, strempty(p.endpoint));
                        continue;
                }
                if (r < 0)
                        fail_msg("row %zu: %s", i, strempty(err));
                assert_string_equal(p.endpoint, place_table[i].place);
                assert_string_equal(p.host, strstr(p.endpoint, "://") + 3);
                assert_int_equal(s3_place_path(&p, &a, "web/x", &path), 0);
                assert_string_equal(path, place_table[i].path);
        }
}

static void bucket_paths(void **state)
{
        _cleanup_(s3_address_done) S3Address a = {};
        _cleanup_(s3_place_done) S3Place virtual = {}, own = {};
        _cleanup_free_ char *path = NULL, *own_path = NULL;

        (void) state;
        assert_int_equal(s3_address_parse("s3://acme/pre", &a, NULL), 0);
        assert_int_equal(s3_place_find(&a, "x", &(S3Endpoints){}, &virtual, NULL), 0);
        assert_int_equal(s3_place_path(&virtual, &a, NULL, &path), 0);
        assert_string_equal(path, "/");
        assert_int_equal(
                s3_place_find(&a, "x", &(S3Endpoints){ .url = "https://s3.test" }, &own, NULL), 0);
        assert_int_equal(s3_place_path(&own, &a, NULL, &own_path), 0);
        assert_string_equal(own_path, "/acme");
}

static void options(void **state)
{
        _cleanup_(s3_address_done) S3Address a = {}, plain = {};

        (void) state;
        assert_int_equal(
                s3_address_parse("s3://acme/pre/?kms-key=arn:aws:kms:eu-west-1:1:alias/a-b_c&"
                                 "requester-pays=true&owner=123456789012&style=path",
                                 &a, NULL),
                0);
        assert_string_equal(a.base, "s3://acme/pre/");
        assert_string_equal(a.prefix, "pre/");
        assert_string_equal(a.kms_key, "arn:aws:kms:eu-west-1:1:alias/a-b_c");
        assert_string_equal(a.owner, "123456789012");
        assert_true(a.requester_pays);
        assert_int_equal(a.style, S3_STYLE_PATH);
        assert_int_equal(s3_address_parse("s3://acme", &plain, NULL), 0);
        assert_null(plain.kms_key);
        assert_null(plain.owner);
        assert_null(plain.region);
        assert_false(plain.requester_pays);
}

static void urls_refused(void **state)
{
        static const char *const bad[] = {
                "s3://",
                "s3://ab",
                "s3://acme/../x",
                "s3://acme/a b",
                "s3://acme/a%20b",
                "s3://evil@host",
                "s3://acme--use1-az4--x-s3",
                "s3://acme?",
                "s3://acme?kms-key",
                "s3://acme?kms-key=",
                "s3://acme?kms-key=a%20b",
                "s3://acme?kms-key=a&kms-key=b",
                "s3://acme?kms-key=a\r\nx:1",
                "s3://acme?owner=12345",
                "s3://acme?owner=12345678901x",
                "s3://acme?requester-pays=false",
                "s3://acme?requester-pays=true&requester-pays=true",
                "s3://acme?style=other",
                "s3://acme?style=path&style=virtual",
                "s3://acme?region=x",
                "s3://acme?style=path&",
                "s3://arn:aws:s3:eu-west-1:123456789012:accesspoint",
                "s3://arn:aws:s3:eu-west-1:123456789012:accesspoint/",
                "s3://arn:aws:s3:eu-west-1:123456789012:accesspoint/a.b",
                "s3://arn:aws:s3:eu-west-1:1234:accesspoint/deploy",
                "s3://arn:aws:s3::123456789012:accesspoint/mfzwi23gnjvgw.mrap",
                "s3://arn:aws:s3-outposts:eu-west-1:123456789012:outpost/op-01/accesspoint/a",
                "s3://arn:aws:s3:::acme",
                "s3://arn:aws",
                "https://",
                "https:///path",
                "https://user@cdn.test/",
                "https://cdn.test/a?b=c",
                "https://cdn.test?b",
                "https://cdn.test/a#b",
                "https://cdn.test/../a",
                "http://cdn.test/",
        };

        (void) state;
        for (size_t i = 0; i < ELEMENTSOF(bad); i++) {
                _cleanup_free_ char *err = NULL;
                S3Address a = {};
                if (s3_address_parse(bad[i], &a, &err) != -EINVAL || !err)
                        fail_msg("'%s' was taken", bad[i]);
                assert_null(a.base);
        }
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(places),
                cmocka_unit_test(bucket_paths),
                cmocka_unit_test(options),
                cmocka_unit_test(urls_refused),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
