/* SPDX-License-Identifier: Apache-2.0 */
#include "s3-address.h"

#include <stdio.h>

#include "err.h"
#include "http.h"
#include "name.h"
#include "sigv4.h"

#define SCHEME          "s3://"
#define BUCKET_SIZE_MIN 3
#define BUCKET_SIZE_MAX 63
#define REGION_SIZE_MAX 32
#define LOWER_DIGITS    "abcdefghijklmnopqrstuvwxyz0123456789"

void s3_address_done(S3Address *a)
{
        free(a->bucket);
        free(a->prefix);
        free(a->region);
        free(a->endpoint);
        *a = (S3Address){};
}

static int parse_url(const char *url, S3Address *a, char **reterr)
{
        const char *bucket = url + STRLEN(SCHEME);
        size_t n = strcspn(bucket, "/");
        const char *prefix = bucket + n + strspn(bucket + n, "/");
        size_t prefix_size = strlen(prefix);

        if (strncmp(url, SCHEME, STRLEN(SCHEME)) != 0)
                return fail(reterr, -EINVAL, "'%s' does not begin with " SCHEME, url);
        if (n < BUCKET_SIZE_MIN || n > BUCKET_SIZE_MAX ||
            strspn(bucket, LOWER_DIGITS "ABCDEFGHIJKLMNOPQRSTUVWXYZ._-") != n)
                return fail(reterr, -EINVAL, "'%s' does not name a bucket: use s3://bucket/prefix",
                            url);
        while (prefix_size > 0 && prefix[prefix_size - 1] == '/')
                prefix_size--;
        a->bucket = strndup(bucket, n);
        if (!a->bucket ||
            asprintf(&a->prefix, "%.*s%s", (int) prefix_size, prefix, prefix_size ? "/" : "") < 0) {
                a->prefix = NULL;
                return -ENOMEM;
        }
        if (prefix_size > 0) {
                a->prefix[prefix_size] = '\0';
                bool valid = store_path_is_valid(a->prefix);
                a->prefix[prefix_size] = '/';
                if (!valid)
                        return fail(
                                reterr, -EINVAL,
                                "the prefix in '%s' may have only letters, digits, '.', '_' and "
                                "'-' between its slashes",
                                url);
        }
        return 0;
}

static const char *dns_suffix(const char *region)
{
        if (strncmp(region, "cn-", 3) == 0)
                return "amazonaws.com.cn";
        if (strncmp(region, "eusc-", 5) == 0)
                return "amazonaws.eu";
        return "amazonaws.com";
}

static int aws_endpoint(S3Address *a)
{
        const char *suffix = dns_suffix(a->region);
        size_t n = strlen(a->bucket);
        int r;

        a->path_style = strspn(a->bucket, LOWER_DIGITS "-") != n || a->bucket[0] == '-' ||
                        a->bucket[n - 1] == '-';
        if (a->path_style)
                r = asprintf(&a->endpoint, "https://s3.%s.%s", a->region, suffix);
        else
                r = asprintf(&a->endpoint, "https://%s.s3.%s.%s", a->bucket, a->region, suffix);
        if (r < 0) {
                a->endpoint = NULL;
                return -ENOMEM;
        }
        return 0;
}

static int own_endpoint(const char *endpoint, S3Address *a, char **reterr)
{
        size_t n = strlen(endpoint);
        int r = http_url_check(endpoint, reterr);

        if (r < 0)
                return fail_prefix(reterr, r, "the S3 endpoint");
        while (n > 0 && endpoint[n - 1] == '/')
                n--;
        a->path_style = true;
        a->endpoint = strndup(endpoint, n);
        if (!a->endpoint)
                return -ENOMEM;
        const char *host = strstr(a->endpoint, "://") + 3;
        if (strspn(host, LOWER_DIGITS ".:[]-") != strlen(host))
                return fail(reterr, -EINVAL,
                            "the S3 endpoint '%s' must be https://host[:port], in lower case, "
                            "without a path",
                            endpoint);
        return 0;
}

/* The Host header has no port that is the scheme's own, so neither may the URL: both are signed. */
static void drop_default_port(char *endpoint)
{
        size_t n = strlen(endpoint);
        const char *port = strncmp(endpoint, "https:", 6) == 0 ? ":443" : ":80";

        if (n > strlen(port) && streq(endpoint + n - strlen(port), port))
                endpoint[n - strlen(port)] = '\0';
}

int s3_address_parse(const char *url, const char *region, const char *endpoint, S3Address *ret,
                     char **reterr)
{
        _cleanup_(s3_address_done) S3Address a = {};
        size_t n = strlen(region);
        int r = parse_url(url, &a, reterr);

        if (r < 0)
                return r;
        if (n == 0 || n > REGION_SIZE_MAX || strspn(region, LOWER_DIGITS "-") != n)
                return fail(reterr, -EINVAL, "'%s' is not the name of a region", region);
        a.region = strdup(region);
        if (!a.region)
                return -ENOMEM;
        r = endpoint ? own_endpoint(endpoint, &a, reterr) : aws_endpoint(&a);
        if (r < 0)
                return r;
        drop_default_port(a.endpoint);
        a.host = strstr(a.endpoint, "://") + 3;
        *ret = a;
        a = (S3Address){};
        return 0;
}

int s3_address_path(const S3Address *a, const char *key, char **ret)
{
        _cleanup_free_ char *path = NULL;

        if (asprintf(&path, "%s%s%s%s%s", a->path_style ? "/" : "", a->path_style ? a->bucket : "",
                     key || !a->path_style ? "/" : "", key ? a->prefix : "", strempty(key)) < 0) {
                path = NULL;
                return -ENOMEM;
        }
        return uri_encode(path, true, ret);
}
