/* SPDX-License-Identifier: Apache-2.0 */
#include "s3-recheck.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "build-config.h"
#include "secret.h"

struct S3Recheck {
        HttpRecheck *http;
        char *request; /* NULL: nothing was signed */
        char *endpoint, *key, *etag;
        unsigned generation;
        time_t signed_at;
};

int s3_recheck_new(Http *h, S3Recheck **ret)
{
        _cleanup_(s3_recheck_freep) S3Recheck *r = calloc(1, sizeof(S3Recheck));
        int k = r ? http_recheck_new(h, &r->http) : -ENOMEM;

        if (k < 0)
                return k;
        *ret = TAKE_PTR(r);
        return 0;
}

static void forget(S3Recheck *r)
{
        secret_free(r->request); /* it may have the session's token */
        free(r->endpoint);
        free(r->key);
        free(r->etag);
        r->request = r->endpoint = r->key = r->etag = NULL;
}

S3Recheck *s3_recheck_free(S3Recheck *r)
{
        if (!r)
                return NULL;
        forget(r);
        http_recheck_free(r->http);
        free(r);
        return NULL;
}

void s3_recheck_cancel(S3Recheck *r)
{
        http_recheck_cancel(r->http);
}

bool s3_recheck_is_busy(const S3Recheck *r)
{
        return http_recheck_is_busy(r->http);
}

bool s3_recheck_knows(const S3Recheck *r, const char *key)
{
        return r->request && streq(r->key, key);
}

static bool is_good_for(const S3Recheck *r, const S3RecheckFor *what)
{
        return r->request && what->time >= r->signed_at &&
               what->time < r->signed_at + S3_RECHECK_SIGNED_SEC &&
               r->generation == what->generation && streq(r->etag, what->etag) &&
               streq(r->key, what->key) && streq(r->endpoint, what->endpoint);
}

static int ask(S3Recheck *r, const S3RecheckFor *what)
{
        const HttpRecheckRequest request = { .url = r->endpoint,
                                             .text = r->request,
                                             .again = what->again,
                                             .done = what->done,
                                             .userdata = what->userdata };

        return http_recheck_ask(r->http, &request);
}

int s3_recheck_again(S3Recheck *r, const S3RecheckFor *what)
{
        return is_good_for(r, what) ? ask(r, what) : -ENOENT;
}

static bool is_one_line(const char *value)
{
        return !value[strcspn(value, "\r\n")];
}

static int format(const char *host, const char *path, const NameValue *headers, size_t n,
                  char **ret)
{
        char *text = NULL;
        size_t size;
        FILE *f = open_memstream(&text, &size);
        bool bad = false;

        if (!f)
                return -ENOMEM;
        (void) fprintf(f,
                       "GET %s HTTP/1.1\r\nHost: %s\r\nUser-Agent: slipway/" SLIPWAY_VERSION
                       "\r\nAccept: */*\r\n",
                       path, host);
        for (size_t i = 0; i < n; i++) {
                bad = bad || !is_one_line(headers[i].value);
                (void) fprintf(f, "%s: %s\r\n", headers[i].name, headers[i].value);
        }
        (void) fputs("\r\n", f);
        bad = ferror(f) || bad;
        if (fclose(f) != 0 || bad) {
                secret_free(text);
                return -EINVAL;
        }
        *ret = text;
        return 0;
}

static int remember(S3Recheck *r, const S3RecheckFor *what, char *request)
{
        forget(r);
        r->request = request;
        r->endpoint = strdup(what->endpoint);
        r->key = strdup(what->key);
        r->etag = strdup(what->etag);
        r->generation = what->generation;
        r->signed_at = what->time;
        if (r->endpoint && r->key && r->etag)
                return 0;
        forget(r);
        return -ENOMEM;
}

int s3_recheck_ask(S3Recheck *r, const S3RecheckFor *what, const char *host, const char *path,
                   const NameValue *headers, size_t n_headers)
{
        char *request = NULL;
        int k = s3_recheck_is_busy(r) ? -EBUSY : format(host, path, headers, n_headers, &request);

        if (k >= 0)
                k = remember(r, what, request);
        return k < 0 ? k : ask(r, what);
}
