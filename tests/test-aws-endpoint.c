/* SPDX-License-Identifier: Apache-2.0 */
#include "test.h"

#include <stdlib.h>

#include "aws-endpoint.h"

static const char *const variables[] = {
        "AWS_REGION",
        "AWS_DEFAULT_REGION",
        "AWS_ENDPOINT_URL",
        "AWS_ENDPOINT_URL_KMS",
        "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS",
        "AWS_USE_FIPS_ENDPOINT",
        "AWS_USE_DUALSTACK_ENDPOINT",
};

typedef struct Case {
        const char *environment[4]; /* "NAME=value" */
        const char *region;
        const char *url, *host; /* NULL: must fail */
        const char *err;
        const char *service; /* NULL: kms */
} Case;

static void check(const Case *c)
{
        _cleanup_(aws_endpoint_done) AwsEndpoint e = {};
        _cleanup_free_ char *err = NULL;

        for (size_t i = 0; i < ELEMENTSOF(variables); i++)
                assert_int_equal(unsetenv(variables[i]), 0);
        for (size_t i = 0; i < ELEMENTSOF(c->environment) && c->environment[i]; i++)
                assert_int_equal(putenv((char *) c->environment[i]), 0);
        int r = aws_endpoint_find(c->service ? c->service : "kms", c->region, NULL, &e, &err);
        if (!c->url) {
                assert_int_equal(r, -EINVAL);
                if (!strstr(strempty(err), c->err))
                        fail_msg("'%s' has not '%s'", strempty(err), c->err);
                return;
        }
        if (r < 0)
                fail_msg("%s: %s", c->url, strempty(err));
        assert_string_equal(e.url, c->url);
        assert_string_equal(e.host, c->host);
}

static void of_aws(void **state)
{
        static const Case cases[] = {
                {{},
                 "eu-central-1",   "https://kms.eu-central-1.amazonaws.com",
                 "kms.eu-central-1.amazonaws.com",              NULL},
                { {},
                 "cn-north-1",     "https://kms.cn-north-1.amazonaws.com.cn",
                 "kms.cn-north-1.amazonaws.com.cn",             NULL},
                { {},
                 "us-gov-west-1",  "https://kms.us-gov-west-1.amazonaws.com",
                 "kms.us-gov-west-1.amazonaws.com",             NULL},
                { {},
                 "eusc-de-east-1", "https://kms.eusc-de-east-1.amazonaws.eu",
                 "kms.eusc-de-east-1.amazonaws.eu",             NULL},
                { { "AWS_USE_FIPS_ENDPOINT=true" },
                 "us-east-1",      "https://kms-fips.us-east-1.amazonaws.com",
                 "kms-fips.us-east-1.amazonaws.com",            NULL},
                { { "AWS_USE_DUALSTACK_ENDPOINT=true", "AWS_USE_FIPS_ENDPOINT=TRUE" },
                 "us-east-1",      "https://kms-fips.us-east-1.api.aws",
                 "kms-fips.us-east-1.api.aws",                  NULL},
                { { "AWS_USE_DUALSTACK_ENDPOINT=true" },
                 "cn-north-1",     "https://kms.cn-north-1.api.amazonwebservices.com.cn",
                 "kms.cn-north-1.api.amazonwebservices.com.cn", NULL},
                { { "AWS_USE_FIPS_ENDPOINT=false" },
                 "us-east-1",      "https://kms.us-east-1.amazonaws.com",
                 "kms.us-east-1.amazonaws.com",                 NULL},
        };

        (void) state;
        for (size_t i = 0; i < ELEMENTSOF(cases); i++)
                check(&cases[i]);
}

/* As botocore has them. */
static void of_other_partitions(void **state)
{
        static const struct {
                const char *service, *region;
                bool fips, dual_stack;
                const char *url;
        } table[] = {
                {"sts",  "us-iso-east-1",  false, false, "https://sts.us-iso-east-1.c2s.ic.gov"    },
                { "kms", "us-isob-east-1", false, false,
                 "https://kms.us-isob-east-1.sc2s.sgov.gov"                                        },
                { "ec2", "us-isof-east-1", true,  false,
                 "https://ec2-fips.us-isof-east-1.csp.hci.ic.gov"                                  },
                { "sts", "eu-isoe-west-1", false, false,
                 "https://sts.eu-isoe-west-1.cloud.adc-e.uk"                                       },
                { "sts", "us-isob-west-1", false, true,
                 "https://sts.us-isob-west-1.api.aws.scloud"                                       },
                { "sts", "us-gov-west-1",  true,  false, "https://sts.us-gov-west-1.amazonaws.com" },
                { "ec2", "us-gov-east-1",  true,  false, "https://ec2.us-gov-east-1.amazonaws.com" },
                { "ec2", "us-gov-east-1",  true,  true,  "https://ec2-fips.us-gov-east-1.api.aws"  },
                { "kms", "us-gov-west-1",  true,  false,
                 "https://kms-fips.us-gov-west-1.amazonaws.com"                                    },
                { "sts", "us-east-1",      true,  false, "https://sts-fips.us-east-1.amazonaws.com"},
        };

        (void) state;
        for (size_t i = 0; i < ELEMENTSOF(table); i++)
                check(&(Case){
                        .environment = {table[i].fips ? "AWS_USE_FIPS_ENDPOINT=true" : "X=",
                                        table[i].dual_stack ? "AWS_USE_DUALSTACK_ENDPOINT=true"
                                                             : "X="},
                        .region = table[i].region,
                        .url = table[i].url,
                        .host = table[i].url + strlen("https://"),
                        .service = table[i].service,
                });
}

static void regions(void **state)
{
        static const Case cases[] = {
                {{ "AWS_REGION=eu-west-1", "AWS_DEFAULT_REGION=eu-west-2" },
                 NULL,                                                             "https://kms.eu-west-1.amazonaws.com",
                 "kms.eu-west-1.amazonaws.com",                                                                                 NULL                      },
                { { "AWS_REGION=", "AWS_DEFAULT_REGION=eu-west-2" },
                 NULL,                                                             "https://kms.eu-west-2.amazonaws.com",
                 "kms.eu-west-2.amazonaws.com",                                                                                 NULL                      },
                { { "AWS_REGION=eu-west-1" },
                 "eu-west-3",                                                      "https://kms.eu-west-3.amazonaws.com",
                 "kms.eu-west-3.amazonaws.com",                                                                                 NULL                      },
                { {},                                                        NULL, NULL,                                  NULL, "set AWS_REGION"          },
                { { "AWS_REGION=evil.com/" },                                NULL, NULL,                                  NULL, "not the name of a region"},
                { {},                                                        "",   NULL,                                  NULL, "not the name of a region"},
                { {},
                 "a-region-with-far-too-many-letters",                             NULL,
                 NULL,                                                                                                          "not the name of a region"},
        };

        (void) state;
        for (size_t i = 0; i < ELEMENTSOF(cases); i++)
                check(&cases[i]);
}

static void of_ones_own(void **state)
{
        static const Case cases[] = {
                {{ "AWS_ENDPOINT_URL_KMS=http://127.0.0.1:5000/",
                    "AWS_ENDPOINT_URL=http://127.0.0.1:5001" },
                 "us-east-1", "http://127.0.0.1:5000",
                 "127.0.0.1:5000",                          NULL                                },
                { { "AWS_ENDPOINT_URL_KMS=", "AWS_ENDPOINT_URL=http://127.0.0.1:5001" },
                 "us-east-1", "http://127.0.0.1:5001",
                 "127.0.0.1:5001",                          NULL                                },
                { { "AWS_ENDPOINT_URL_KMS=https://vpce-1.kms.us-east-1.vpce.amazonaws.com:443" },
                 "us-east-1", "https://vpce-1.kms.us-east-1.vpce.amazonaws.com",
                 "vpce-1.kms.us-east-1.vpce.amazonaws.com", NULL                                },
                { { "AWS_ENDPOINT_URL_KMS=http://127.0.0.1",
                    "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS=true" },
                 "us-east-1", "https://kms.us-east-1.amazonaws.com",
                 "kms.us-east-1.amazonaws.com",             NULL                                },
                { { "AWS_ENDPOINT_URL_KMS=http://kms.example.com" },
                 "us-east-1", NULL,
                 NULL,                                      "use https (http only on this host)"},
                { { "AWS_ENDPOINT_URL_KMS=https://kms.example.com/path" },
                 "us-east-1", NULL,
                 NULL,                                      "without a path"                    },
                { { "AWS_ENDPOINT_URL_KMS=https://user@kms.example.com" },
                 "us-east-1", NULL,
                 NULL,                                      "must be https://host[:port]"       },
                { { "AWS_ENDPOINT_URL_KMS=ftp://127.0.0.1" },
                 "us-east-1", NULL,
                 NULL,                                      "the endpoint of kms"               },
        };

        (void) state;
        for (size_t i = 0; i < ELEMENTSOF(cases); i++)
                check(&cases[i]);
}

static void of_the_profile(void **state)
{
        static const Profile all = { .endpoint_url = (char *) "http://127.0.0.1:1" };
        static const Profile ignored = {
                .endpoint_url = (char *) "http://127.0.0.1:1",
                .ignore_configured_endpoint_urls = (char *) "TRUE",
        };
        static const struct {
                const char *variable, *value;
                const Profile *profile;
                const char *url;
        } table[] = {
                {"X",                                    "",                   &all,     "http://127.0.0.1:1"},
                { "AWS_ENDPOINT_URL",                    "http://127.0.0.1:2", &all,     "http://127.0.0.1:2"},
                { "AWS_ENDPOINT_URL_KMS",                "http://127.0.0.1:2", &all,     "http://127.0.0.1:2"},
                { "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "true",               &all,
                 "https://kms.eu-west-1.amazonaws.com"                                                       },
                { "AWS_ENDPOINT_URL",                    "http://127.0.0.1:2", &ignored,
                 "https://kms.eu-west-1.amazonaws.com"                                                       },
                { "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "false",              &ignored, "http://127.0.0.1:1"},
        };

        (void) state;
        for (size_t i = 0; i < ELEMENTSOF(table); i++) {
                _cleanup_(aws_endpoint_done) AwsEndpoint e = {};
                for (size_t k = 0; k < ELEMENTSOF(variables); k++)
                        assert_int_equal(unsetenv(variables[k]), 0);
                assert_int_equal(setenv(table[i].variable, table[i].value, 1), 0);
                assert_int_equal(aws_endpoint_find("kms", "eu-west-1", table[i].profile, &e, NULL),
                                 0);
                assert_string_equal(e.url, table[i].url);
        }
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(of_aws),         cmocka_unit_test(of_other_partitions),
                cmocka_unit_test(regions),        cmocka_unit_test(of_ones_own),
                cmocka_unit_test(of_the_profile),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
