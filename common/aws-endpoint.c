/* SPDX-License-Identifier: Apache-2.0 */
#include "aws-endpoint.h"

#include <ctype.h>
#include <stdio.h>

#include "aws-environment.h"
#include "err.h"
#include "http.h"

#define LOWER_DIGITS "abcdefghijklmnopqrstuvwxyz0123456789"

void aws_endpoint_done(AwsEndpoint *e)
{
        free(e->region);
        free(e->url);
        *e = (AwsEndpoint){};
}

bool aws_region_is_valid(const char *region)
{
        size_t n = strlen(region);

        return n > 0 && n <= AWS_REGION_SIZE_MAX && strspn(region, LOWER_DIGITS "-") == n;
}

static int find_region(const char *service, const char *region, char **ret, char **reterr)
{
        if (!region)
                region = aws_environment("AWS_REGION");
        if (!region)
                region = aws_environment("AWS_DEFAULT_REGION");
        if (!region)
                return fail(reterr, -EINVAL, "the region of %s is not known: set AWS_REGION",
                            service);
        if (!aws_region_is_valid(region))
                return fail(reterr, -EINVAL, "'%s' is not the name of a region", region);
        *ret = strdup(region);
        return *ret ? 0 : -ENOMEM;
}

static bool is_ignored(const Profile *p)
{
        const char *ignore = aws_environment("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS");

        if (!ignore && p)
                ignore = p->ignore_configured_endpoint_urls;
        return ignore && strcasecmp(ignore, "true") == 0;
}

const char *aws_own_url(const char *service, const Profile *profile)
{
        char name[64];
        const char *url;

        if (is_ignored(profile))
                return NULL;
        (void) snprintf(name, sizeof(name), "AWS_ENDPOINT_URL_%s", service);
        for (char *c = name; *c; c++)
                *c = *c == '-' ? '_' : (char) toupper((unsigned char) *c);
        url = aws_environment(name);
        if (!url)
                url = aws_environment("AWS_ENDPOINT_URL");
        return url || !profile ? url : profile_endpoint_url(profile, service);
}

void aws_drop_default_port(char *url)
{
        size_t n = strlen(url);
        const char *port = strncmp(url, "https:", 6) == 0 ? ":443" : ":80";

        if (n > strlen(port) && streq(url + n - strlen(port), port))
                url[n - strlen(port)] = '\0';
}

static int take_own_url(const char *service, const char *url, char **ret, char **reterr)
{
        _cleanup_free_ char *copy = NULL;
        size_t n = strlen(url);
        int r = http_url_check(url, reterr);

        if (r < 0)
                return fail_prefix(reterr, r, "the endpoint of %s", service);
        while (n > 0 && url[n - 1] == '/')
                n--;
        copy = strndup(url, n);
        if (!copy)
                return -ENOMEM;
        const char *host = strstr(copy, "://") + 3;
        if (strspn(host, LOWER_DIGITS ".:[]-") != strlen(host))
                return fail(reterr, -EINVAL,
                            "the endpoint of %s ('%s') must be https://host[:port], in lower case, "
                            "without a path",
                            service, url);
        aws_drop_default_port(copy);
        *ret = TAKE_PTR(copy);
        return 0;
}

const char *aws_dns_suffix(const char *region, bool dual_stack)
{
        static const struct {
                const char *regions, *suffix, *dual_stack;
        } partitions[] = {
                {"cn-",       "amazonaws.com.cn", "api.amazonwebservices.com.cn"},
                { "eusc-",    "amazonaws.eu",     "api.amazonwebservices.eu"    },
                { "us-isob-", "sc2s.sgov.gov",    "api.aws.scloud"              },
                { "us-isof-", "csp.hci.ic.gov",   "api.aws.hci.ic.gov"          },
                { "us-iso-",  "c2s.ic.gov",       "api.aws.ic.gov"              },
                { "eu-isoe-", "cloud.adc-e.uk",   "api.cloud-aws.adc-e.uk"      },
        };

        for (size_t i = 0; i < ELEMENTSOF(partitions); i++)
                if (strncmp(region, partitions[i].regions, strlen(partitions[i].regions)) == 0)
                        return dual_stack ? partitions[i].dual_stack : partitions[i].suffix;
        return dual_stack ? "api.aws" : "amazonaws.com";
}

/* In AWS GovCloud the plain endpoints of these are the FIPS ones, but for the dual-stack ones. */
static bool has_fips_name(const char *service, const char *region, bool dual_stack)
{
        return dual_stack || strncmp(region, "us-gov-", 7) != 0 ||
               (!streq(service, "sts") && !streq(service, "ec2"));
}

static int make_url(const char *service, const char *region, char **ret)
{
        bool dual_stack = aws_environment_is_on("AWS_USE_DUALSTACK_ENDPOINT");
        bool fips = aws_environment_is_on("AWS_USE_FIPS_ENDPOINT") &&
                    has_fips_name(service, region, dual_stack);

        if (asprintf(ret, "https://%s%s.%s.%s", service, fips ? "-fips" : "", region,
                     aws_dns_suffix(region, dual_stack)) < 0) {
                *ret = NULL;
                return -ENOMEM;
        }
        return 0;
}

int aws_endpoint_find(const char *service, const char *region, const Profile *profile,
                      AwsEndpoint *ret, char **reterr)
{
        _cleanup_(aws_endpoint_done) AwsEndpoint e = {};
        const char *own = aws_own_url(service, profile);
        int r = find_region(service, region, &e.region, reterr);

        if (r < 0)
                return r;
        r = own ? take_own_url(service, own, &e.url, reterr) : make_url(service, e.region, &e.url);
        if (r < 0)
                return r;
        e.host = strstr(e.url, "://") + 3;
        *ret = e;
        e = (AwsEndpoint){};
        return 0;
}
