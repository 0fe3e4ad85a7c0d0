/* SPDX-License-Identifier: Apache-2.0 */
#include "s3-address.h"

#include <stdio.h>

#include "aws-endpoint.h"
#include "err.h"
#include "http.h"
#include "name.h"
#include "sigv4.h"

#define SCHEME            "s3://"
#define BUCKET_SIZE_MIN   3
#define BUCKET_SIZE_MAX   63
#define ACCOUNT_SIZE      12
#define KMS_KEY_SIZE_MAX  512
#define LOWER             "abcdefghijklmnopqrstuvwxyz"
#define DIGITS            "0123456789"
#define LETTERS_DIGITS    LOWER DIGITS "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
#define DIRECTORY_BUCKET  "--x-s3"
#define ARN_RESOURCE_KIND "accesspoint"

void s3_address_done(S3Address *a)
{
        free(a->base);
        free(a->bucket);
        free(a->prefix);
        free(a->region);
        free(a->host);
        free(a->kms_key);
        free(a->owner);
        *a = (S3Address){};
}

void s3_place_done(S3Place *p)
{
        free(p->region);
        free(p->endpoint);
        *p = (S3Place){};
}

static bool has_only(const char *s, const char *characters)
{
        return s[strspn(s, characters)] == '\0';
}

static bool ends_with(const char *s, const char *end)
{
        size_t n = strlen(s), k = strlen(end);

        return n >= k && streq(s + n - k, end);
}

static bool account_is_valid(const char *s)
{
        return strlen(s) == ACCOUNT_SIZE && has_only(s, DIGITS);
}

/* A name that can stand before ".s3.region.amazonaws.com" under a certificate for one label. */
static bool is_label(const char *s)
{
        size_t n = strlen(s);

        return n > 0 && n <= BUCKET_SIZE_MAX && has_only(s, LOWER DIGITS "-") && s[0] != '-' &&
               s[n - 1] != '-';
}

/* --- the URL --- */

static int take(char **field, const char *value, bool valid, const char *name, char **reterr)
{
        if (!valid || *field)
                return fail(reterr, -EINVAL, "the store's URL has a wrong '%s=%s'", name, value);
        *field = strdup(value);
        return *field ? 0 : -ENOMEM;
}

static int take_style(S3Address *a, const char *value, char **reterr)
{
        if (a->style == S3_STYLE_AUTO && streq(value, "path"))
                a->style = S3_STYLE_PATH;
        else if (a->style == S3_STYLE_AUTO && streq(value, "virtual"))
                a->style = S3_STYLE_VIRTUAL;
        else
                return fail(reterr, -EINVAL,
                            "the store's URL has a wrong 'style=%s': path and virtual are known",
                            value);
        return 0;
}

static int take_option(S3Address *a, const char *name, const char *value, char **reterr)
{
        size_t n = strlen(value);

        if (streq(name, "style"))
                return take_style(a, value, reterr);
        if (streq(name, "kms-key"))
                return take(&a->kms_key, value,
                            n > 0 && n <= KMS_KEY_SIZE_MAX &&
                                    has_only(value, LETTERS_DIGITS ":/_-"),
                            name, reterr);
        if (streq(name, "owner"))
                return take(&a->owner, value, account_is_valid(value), name, reterr);
        if (streq(name, "requester-pays") && streq(value, "true") && !a->requester_pays) {
                a->requester_pays = true;
                return 0;
        }
        return fail(reterr, -EINVAL,
                    "the store's URL has the option '%s=%s': kms-key, owner, requester-pays=true "
                    "and style are known, each once",
                    name, value);
}

/* "name=value&...": nothing in it needs to be encoded. Splits it in place. */
static int parse_options(S3Address *a, char *options, char **reterr)
{
        char *option;

        while ((option = strsep(&options, "&"))) {
                char *value = strchr(option, '=');
                if (value)
                        *value++ = '\0';
                int r = take_option(a, option, strempty(value), reterr);
                if (r < 0)
                        return r;
        }
        return 0;
}

static int parse_prefix(S3Address *a, const char *url, char *prefix, char **reterr)
{
        prefix += strspn(prefix, "/");
        size_t n = strlen(prefix);

        while (n > 0 && prefix[n - 1] == '/')
                prefix[--n] = '\0';
        if (n > 0 && !store_path_is_valid(prefix))
                return fail(reterr, -EINVAL,
                            "the prefix in '%s' may have only letters, digits, '.', '_' and "
                            "'-' between its slashes",
                            url);
        if (asprintf(&a->prefix, "%s%s", prefix, n ? "/" : "") < 0) {
                a->prefix = NULL;
                return -ENOMEM;
        }
        return 0;
}

/* "arn:PARTITION:s3:REGION:ACCOUNT:accesspoint/NAME/prefix"; AWS takes ":" before NAME as well.
 * Cuts the text after the name, and gives what follows. */
static int parse_access_point(S3Address *a, const char *url, char *arn, char **ret_rest,
                              char **reterr)
{
        const size_t kind = STRLEN(ARN_RESOURCE_KIND);
        char *part[5], *rest = arn, *name;
        size_t n = 0;

        while (n < ELEMENTSOF(part) && rest)
                part[n++] = strsep(&rest, ":");
        if (n < ELEMENTSOF(part) || !rest || !streq(part[2], "s3") ||
            !aws_region_is_valid(part[3]) || !account_is_valid(part[4]) ||
            strncmp(rest, ARN_RESOURCE_KIND, kind) != 0 || !strchr(":/", rest[kind]))
                return fail(reterr, -EINVAL,
                            "'%s' is not the ARN of an access point in one region: use "
                            "s3://arn:aws:s3:REGION:ACCOUNT:accesspoint/NAME/prefix",
                            url);
        name = rest + kind + (rest[kind] != '\0');
        *ret_rest = name + strcspn(name, "/");
        if (**ret_rest)
                *(*ret_rest)++ = '\0';
        if (asprintf(&a->bucket, "%s-%s", name, part[4]) < 0) {
                a->bucket = NULL;
                return -ENOMEM;
        }
        if (!is_label(name) || !is_label(a->bucket))
                return fail(reterr, -EINVAL, "'%s' does not name an access point", url);
        a->region = strdup(part[3]);
        return a->region ? 0 : -ENOMEM;
}

static int parse_bucket(S3Address *a, const char *url, char *text, char **ret_rest, char **reterr)
{
        size_t n = strcspn(text, "/");

        *ret_rest = text + n;
        if (text[n])
                *(*ret_rest)++ = '\0';
        if (n < BUCKET_SIZE_MIN || n > BUCKET_SIZE_MAX || !has_only(text, LETTERS_DIGITS "._-"))
                return fail(reterr, -EINVAL, "'%s' does not name a bucket: use s3://bucket/prefix",
                            url);
        if (ends_with(text, DIRECTORY_BUCKET))
                return fail(reterr, -EINVAL,
                            "%s is a directory bucket (S3 Express), which needs sessions that "
                            "Slipway does not make: use a general purpose bucket",
                            text);
        a->bucket = strdup(text);
        return a->bucket ? 0 : -ENOMEM;
}

static int parse_s3(S3Address *a, const char *url, char *text, char **reterr)
{
        char *options = strchr(text, '?'), *rest;
        int r;

        if (options)
                *options++ = '\0';
        if (strncmp(text, "arn:", 4) == 0)
                r = parse_access_point(a, url, text, &rest, reterr);
        else
                r = parse_bucket(a, url, text, &rest, reterr);
        if (r >= 0)
                r = parse_prefix(a, url, rest, reterr);
        if (r >= 0 && options)
                r = parse_options(a, options, reterr);
        return r;
}

static int parse_https(S3Address *a, const char *url, char *text, char **reterr)
{
        char *host = strstr(text, "://");
        int r = http_url_check(url, reterr);

        if (r < 0)
                return r;
        host += STRLEN("://");
        size_t n = strcspn(host, "/");
        char *rest = host + n + (host[n] == '/');
        host[n] = '\0';
        if (n == 0 || !has_only(host, LETTERS_DIGITS ".:[]-"))
                return fail(reterr, -EINVAL, "'%s' is not https://host[:port]/path", url);
        a->host = strdup(text);
        return a->host ? parse_prefix(a, url, rest, reterr) : -ENOMEM;
}

int s3_address_parse(const char *url, S3Address *ret, char **reterr)
{
        _cleanup_(s3_address_done) S3Address a = {};
        _cleanup_free_ char *text = strdup(url);
        int r;

        if (!text)
                return -ENOMEM;
        if (strncmp(url, SCHEME, STRLEN(SCHEME)) == 0)
                r = parse_s3(&a, url, text + STRLEN(SCHEME), reterr);
        else
                r = parse_https(&a, url, text, reterr);
        if (r < 0)
                return r;
        if (asprintf(&a.base, "%s%s/%s", a.host ? "" : SCHEME, a.host ? a.host : a.bucket,
                     a.prefix) < 0) {
                a.base = NULL;
                return -ENOMEM;
        }
        *ret = a;
        a = (S3Address){};
        return 0;
}

/* --- the place --- */

static int aws_place(const S3Address *a, const S3Endpoints *endpoints, S3Place *p, char **reterr)
{
        bool access_point = a->region;

        if (endpoints->fips && strncmp(p->region, "cn-", 3) == 0)
                return fail(reterr, -EINVAL,
                            "AWS_USE_FIPS_ENDPOINT is set, but region %s has no such endpoint",
                            p->region);
        p->path_style = !access_point && (a->style == S3_STYLE_PATH || !is_label(a->bucket));
        if (p->path_style && a->style == S3_STYLE_VIRTUAL)
                return fail(reterr, -EINVAL,
                            "the bucket %s can't be part of a host name: leave out style=virtual",
                            a->bucket);
        if (asprintf(&p->endpoint, "https://%s%ss3%s%s%s.%s.%s", p->path_style ? "" : a->bucket,
                     p->path_style ? "" : ".", access_point ? "-accesspoint" : "",
                     endpoints->fips ? "-fips" : "", endpoints->dual_stack ? ".dualstack" : "",
                     p->region, aws_dns_suffix(p->region, false)) < 0) {
                p->endpoint = NULL;
                return -ENOMEM;
        }
        return 0;
}

static int check_endpoint(const S3Endpoints *endpoints, char **reterr)
{
        int r = http_url_check(endpoints->url, reterr);

        if (r < 0)
                return fail_prefix(reterr, r, "the S3 endpoint");
        if (endpoints->fips || endpoints->dual_stack)
                return fail(reterr, -EINVAL,
                            "the S3 endpoint '%s' is set, so AWS_USE_FIPS_ENDPOINT and "
                            "AWS_USE_DUALSTACK_ENDPOINT can't be: its URL says what it is",
                            endpoints->url);
        return 0;
}

/* VPC endpoints take virtual hosts, as their certificates do; others may have no such names. */
static bool own_path_style(const S3Address *a, const char *host)
{
        bool of_aws = ends_with(host, ".amazonaws.com") || ends_with(host, ".amazonaws.com.cn");

        if (a->region || a->style != S3_STYLE_AUTO)
                return !a->region && a->style == S3_STYLE_PATH;
        return !of_aws || !is_label(a->bucket);
}

static int own_place(const S3Address *a, const S3Endpoints *endpoints, S3Place *p, char **reterr)
{
        size_t n = strlen(endpoints->url);
        int r = check_endpoint(endpoints, reterr);

        if (r < 0)
                return r;
        while (n > 0 && endpoints->url[n - 1] == '/')
                n--;
        _cleanup_free_ char *url = strndup(endpoints->url, n);
        if (!url)
                return -ENOMEM;
        const char *host = strstr(url, "://") + STRLEN("://");
        if (!has_only(host, LOWER DIGITS ".:[]-"))
                return fail(reterr, -EINVAL,
                            "the S3 endpoint '%s' must be https://host[:port], in lower case, "
                            "without a path",
                            endpoints->url);
        p->path_style = own_path_style(a, host);
        if (!p->path_style && (host[0] == '[' || has_only(host, DIGITS ".:")))
                return fail(reterr, -EINVAL,
                            "the S3 endpoint '%s' is a mere address: %s needs a host name",
                            endpoints->url, a->region ? "an access point" : "style=virtual");
        if (asprintf(&p->endpoint, "%.*s%s%s%s", (int) (host - url), url,
                     p->path_style ? "" : a->bucket, p->path_style ? "" : ".", host) < 0) {
                p->endpoint = NULL;
                return -ENOMEM;
        }
        /* Names below localhost need not be this host's. */
        r = http_url_check(p->endpoint, reterr);
        return fail_prefix(reterr, r, "the S3 endpoint with the bucket's name");
}

int s3_place_find(const S3Address *a, const char *region, const S3Endpoints *endpoints,
                  S3Place *ret, char **reterr)
{
        _cleanup_(s3_place_done) S3Place p = {};
        int r = 0;

        region = a->region ? a->region : strempty(region);
        if (!a->host && !aws_region_is_valid(region))
                return fail(reterr, -EINVAL, "'%s' is not the name of a region", region);
        p.region = strdup(region);
        if (!p.region)
                return -ENOMEM;
        if (a->host) {
                p.endpoint = strdup(a->host);
                r = p.endpoint ? 0 : -ENOMEM;
        } else if (endpoints->url)
                r = own_place(a, endpoints, &p, reterr);
        else
                r = aws_place(a, endpoints, &p, reterr);
        if (r < 0)
                return r;
        aws_drop_default_port(p.endpoint);
        p.host = strstr(p.endpoint, "://") + STRLEN("://");
        *ret = p;
        p = (S3Place){};
        return 0;
}

int s3_place_path(const S3Place *p, const S3Address *a, const char *key, char **ret)
{
        _cleanup_free_ char *path = NULL;

        if (asprintf(&path, "%s%s%s%s%s", p->path_style ? "/" : "", p->path_style ? a->bucket : "",
                     key || !p->path_style ? "/" : "", key ? a->prefix : "", strempty(key)) < 0) {
                path = NULL;
                return -ENOMEM;
        }
        return uri_encode(path, true, ret);
}
