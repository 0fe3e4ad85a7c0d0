/* SPDX-License-Identifier: Apache-2.0 */
#include "aws-endpoint.h"

#include <ctype.h>
#include <stdio.h>

#include "err.h"
#include "http.h"

#define LOWER_DIGITS "abcdefghijklmnopqrstuvwxyz0123456789"

void aws_endpoint_done(AwsEndpoint *e)
{
        free(e->region);
        free(e->url);
        *e = (AwsEndpoint){};
}

const char *aws_environment(const char *name)
{
        const char *value = getenv(name);

        return value && *value ? value : NULL;
}

static bool is_switched_on(const char *name)
{
        const char *value = aws_environment(name);

        return value && strcasecmp(value, "true") == 0;
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

static const char *own_url(const char *service)
{
        char name[64];
        const char *url;

        if (is_switched_on("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS"))
                return NULL;
        (void) snprintf(name, sizeof(name), "AWS_ENDPOINT_URL_%s", service);
        for (char *c = name; *c; c++)
                *c = *c == '-' ? '_' : (char) toupper((unsigned char) *c);
        url = aws_environment(name);
        return url ? url : aws_environment("AWS_ENDPOINT_URL");
}

/* The Host header has no port that is the scheme's own, so neither may the URL: both are signed. */
static void drop_default_port(char *url)
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
        drop_default_port(copy);
        *ret = TAKE_PTR(copy);
        return 0;
}

static const char *dns_suffix(const char *region, bool dual_stack)
{
        if (strncmp(region, "cn-", 3) == 0)
                return dual_stack ? "api.amazonwebservices.com.cn" : "amazonaws.com.cn";
        if (strncmp(region, "eusc-", 5) == 0)
                return dual_stack ? "api.amazonwebservices.eu" : "amazonaws.eu";
        return dual_stack ? "api.aws" : "amazonaws.com";
}

static int make_url(const char *service, const char *region, char **ret)
{
        bool fips = is_switched_on("AWS_USE_FIPS_ENDPOINT");
        bool dual_stack = is_switched_on("AWS_USE_DUALSTACK_ENDPOINT");

        if (asprintf(ret, "https://%s%s.%s.%s", service, fips ? "-fips" : "", region,
                     dns_suffix(region, dual_stack)) < 0) {
                *ret = NULL;
                return -ENOMEM;
        }
        return 0;
}

int aws_endpoint_find(const char *service, const char *region, AwsEndpoint *ret, char **reterr)
{
        _cleanup_(aws_endpoint_done) AwsEndpoint e = {};
        const char *own = own_url(service);
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
