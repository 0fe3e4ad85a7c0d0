/* SPDX-License-Identifier: Apache-2.0 */
#include "imds.h"

#include <stdio.h>
#include <sys/queue.h>
#include <sys/random.h>

#include "aws-environment.h"
#include "clock.h"
#include "err.h"
#include "sink.h"

#define ENDPOINT_IPV4 "http://169.254.169.254"
#define ENDPOINT_IPV6 "http://[fd00:ec2::254]"

#define TOKEN_PATH      "/latest/api/token"
#define TOKEN_SIZE_MAX  4096
#define TOKEN_TTL_SEC   21600 /* the longest there is */
#define TOKEN_EARLY_SEC 300   /* so long before its end a token is renewed */

#define CONNECT_SEC      2
#define BACKOFF_MIN_MSEC 250

#define PATH_CHARACTERS                                        \
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz" \
        "0123456789/+=.,_:@-"

#define STRING(x)  STRING_(x)
#define STRING_(x) #x

/* A request that is tried again while that may help. */
typedef struct Try {
        HttpTransfer *transfer;
        Sink body;
        unsigned n;
} Try;

struct ImdsCall {
        Imds *imds;
        char *path;
        Try try;          /* without a transfer: it waits for the token */
        unsigned token_n; /* the token it was asked with */
        bool token_refused;
        bool lost; /* to be told that there is no token */
        imds_done_t done;
        void *userdata;
        TAILQ_ENTRY(ImdsCall) entry;
};

struct Imds {
        Http *http;
        char *endpoint;
        bool disabled;
        char *token;      /* NULL: none that is known to be good */
        unsigned token_n; /* raised with each */
        uint64_t token_until_usec;
        Try token_try;
        TAILQ_HEAD(, ImdsCall) calls;
};

static int choose_endpoint(const char **ret, char **reterr)
{
        const char *url = aws_environment("AWS_EC2_METADATA_SERVICE_ENDPOINT");
        const char *mode = aws_environment("AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE");
        int r;

        if (url) {
                r = http_url_check_nearby(url, reterr);
                *ret = url;
                return fail_prefix(reterr, r, "AWS_EC2_METADATA_SERVICE_ENDPOINT");
        }
        if (mode && strcasecmp(mode, "IPv4") != 0 && strcasecmp(mode, "IPv6") != 0)
                return fail(reterr, -EINVAL,
                            "AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE is '%s': it must be IPv4 or "
                            "IPv6",
                            mode);
        *ret = mode && strcasecmp(mode, "IPv6") == 0 ? ENDPOINT_IPV6 : ENDPOINT_IPV4;
        return 0;
}

int imds_new(Http *http, Imds **ret, char **reterr)
{
        _cleanup_(imds_freep) Imds *i = calloc(1, sizeof(Imds));
        const char *url = NULL;
        size_t size;
        int r;

        if (!i)
                return -ENOMEM;
        TAILQ_INIT(&i->calls);
        i->http = http;
        i->disabled = aws_environment_is_on("AWS_EC2_METADATA_DISABLED");
        r = choose_endpoint(&url, reterr);
        if (r < 0)
                return r;
        for (size = strlen(url); size > 0 && url[size - 1] == '/';)
                size--;
        i->endpoint = strndup(url, size);
        if (!i->endpoint)
                return -ENOMEM;
        *ret = TAKE_PTR(i);
        return 0;
}

bool imds_is_disabled(const Imds *i)
{
        return i->disabled;
}

const char *imds_endpoint(const Imds *i)
{
        return i->endpoint;
}

static void forget_token(Imds *i)
{
        if (i->token)
                explicit_bzero(i->token, strlen(i->token));
        free(i->token);
        i->token = NULL;
}

static void try_done(Try *t)
{
        t->transfer = http_cancel(t->transfer);
        sink_done(&t->body);
}

static void call_free(ImdsCall *c)
{
        try_done(&c->try);
        free(c->path);
        free(c);
}

ImdsCall *imds_cancel(ImdsCall *c)
{
        if (!c)
                return NULL;
        TAILQ_REMOVE(&c->imds->calls, c, entry);
        call_free(c);
        return NULL;
}

Imds *imds_free(Imds *i)
{
        if (!i)
                return NULL;
        while (!TAILQ_EMPTY(&i->calls))
                (void) imds_cancel(TAILQ_FIRST(&i->calls));
        try_done(&i->token_try);
        forget_token(i);
        free(i->endpoint);
        free(i);
        return NULL;
}

static void finish(ImdsCall *c, int result, const char *err)
{
        TAILQ_REMOVE(&c->imds->calls, c, entry);
        c->done(result, result == 0 ? strempty(c->try.body.data) : NULL,
                result < 0 ? err_text(result, err) : NULL, c->userdata);
        call_free(c);
}

static int take_item_body(const void *data, size_t size, void *userdata)
{
        ImdsCall *c = userdata;

        return sink_write(&c->try.body, data, size);
}

static int take_token_body(const void *data, size_t size, void *userdata)
{
        Imds *i = userdata;

        return sink_write(&i->token_try.body, data, size);
}

static unsigned backoff_msec(const Try *t)
{
        unsigned limit = t->n > 0 ? BACKOFF_MIN_MSEC << t->n : 0, random = 0;

        if (limit == 0 || getrandom(&random, sizeof(random), 0) < 0)
                return limit;
        return limit / 2 + random % (limit / 2 + 1);
}

/* Begins the next try, after a wait if it is not the first. */
static int begin(Imds *i, Try *t, const HttpRequest *request, const char *path, char **reterr)
{
        HttpRequest q = *request;
        _cleanup_free_ char *url = NULL;

        sink_done(&t->body);
        if (asprintf(&url, "%s%s", i->endpoint, path) < 0) {
                url = NULL;
                return -ENOMEM;
        }
        q.url = url;
        q.connect_sec = CONNECT_SEC;
        q.deadline_msec = IMDS_TRY_MSEC;
        q.delay_msec = backoff_msec(t);
        q.nearby = true;
        t->n++;
        return http_start(i->http, &q, &t->transfer, reterr);
}

static void on_item(int result, const HttpResponse *response, const char *err, void *userdata);
static void on_token(int result, const HttpResponse *response, const char *err, void *userdata);

static int ask_item(ImdsCall *c, char **reterr)
{
        const NameValue header = { "X-aws-ec2-metadata-token", c->imds->token };

        c->token_n = c->imds->token_n;
        return begin(c->imds, &c->try,
                     &(HttpRequest){ .method = "GET",
                                     .headers = &header,
                                     .n_headers = 1,
                                     .size_max = IMDS_VALUE_SIZE_MAX,
                                     .on_body = take_item_body,
                                     .done = on_item,
                                     .userdata = c },
                     c->path, reterr);
}

static int ask_token(Imds *i, char **reterr)
{
        static const NameValue header = { "X-aws-ec2-metadata-token-ttl-seconds",
                                          STRING(TOKEN_TTL_SEC) };
        static const HttpUpload nothing = { .data = "" };

        return begin(i, &i->token_try,
                     &(HttpRequest){ .method = "PUT",
                                     .headers = &header,
                                     .n_headers = 1,
                                     .upload = &nothing,
                                     .size_max = TOKEN_SIZE_MAX,
                                     .on_body = take_token_body,
                                     .done = on_token,
                                     .userdata = i },
                     TOKEN_PATH, reterr);
}

static bool has_token(Imds *i)
{
        if (i->token && clock_usec(CLOCK_BOOTTIME) >= i->token_until_usec)
                forget_token(i);
        return i->token;
}

/* Asks for the item, or for the token that it takes. */
static int advance(ImdsCall *c, char **reterr)
{
        Imds *i = c->imds;

        if (has_token(i))
                return ask_item(c, reterr);
        if (i->token_try.transfer)
                return 0;
        i->token_try.n = 0;
        return ask_token(i, reterr);
}

static bool may_pass(int result, unsigned status)
{
        return result == -EHOSTDOWN || result == -ETIMEDOUT ||
               (result == 0 && (status == 429 || status >= 500));
}

/* What an answer means that is not the one hoped for. */
static int explain(const Imds *i, const char *path, int result, unsigned status, const char *err,
                   char **reterr)
{
        if (result == -ETIMEDOUT && streq(path, TOKEN_PATH))
                return fail(reterr, result,
                            "the metadata service gives no token: %s (in a container, the "
                            "instance's metadata hop limit must be 2)",
                            err);
        if (result < 0)
                return fail(reterr, result, "can't ask the metadata service for %s: %s", path, err);
        if (status == 429 || status >= 500)
                return fail(reterr, -EHOSTDOWN,
                            "the metadata service at %s answers %s with status %u, %u times",
                            i->endpoint, path, status, IMDS_TRIES);
        if (status == 401 || status == 403)
                return fail(reterr, -EACCES,
                            "the metadata service at %s refuses %s (status %u): is it switched off "
                            "for this instance?",
                            i->endpoint, path, status);
        return fail(reterr, -EPROTO, "the metadata service at %s answers %s with status %u",
                    i->endpoint, path, status);
}

/* Ends all that wait for the token, but none that a callback starts. */
static void fail_waiting(Imds *i, int error, const char *err)
{
        ImdsCall *c;

        TAILQ_FOREACH(c, &i->calls, entry)
        c->lost = !c->try.transfer;
again:
        TAILQ_FOREACH(c, &i->calls, entry)
        if (c->lost) {
                finish(c, error, err);
                goto again;
        }
}

/* As a header's value: a line break in it would be a header of its own. */
static bool token_is_valid(const Sink *body)
{
        for (size_t k = 0; k < body->size; k++)
                if (body->data[k] <= ' ' || body->data[k] > '~')
                        return false;
        return body->size > 0;
}

static uint64_t token_ttl_sec(const HttpResponse *response)
{
        const char *text = http_response_header(response, "X-aws-ec2-metadata-token-ttl-seconds");
        unsigned ttl_sec = TOKEN_TTL_SEC;

        if (text && sscanf(text, "%5u", &ttl_sec) == 1)
                ttl_sec = MIN(ttl_sec, (unsigned) TOKEN_TTL_SEC);
        return ttl_sec > 2 * TOKEN_EARLY_SEC ? ttl_sec - TOKEN_EARLY_SEC : ttl_sec / 2;
}

/* Each callback may cancel any call, so the list is searched anew. */
static void ask_waiting(Imds *i)
{
        ImdsCall *c;

again:
        TAILQ_FOREACH(c, &i->calls, entry)
        if (!c->try.transfer && i->token) {
                _cleanup_free_ char *err = NULL;
                int r = ask_item(c, &err);
                if (r < 0)
                        finish(c, r, err);
                goto again;
        }
}

static int take_token(Imds *i, const HttpResponse *response, char **reterr)
{
        Sink *body = &i->token_try.body;

        if (!token_is_valid(body))
                return fail(reterr, -EBADMSG, "the metadata service at %s gave a malformed token",
                            i->endpoint);
        forget_token(i);
        i->token = TAKE_PTR(body->data);
        i->token_n++;
        i->token_until_usec = clock_usec(CLOCK_BOOTTIME) + token_ttl_sec(response) * 1000000;
        return 0;
}

static void on_token(int result, const HttpResponse *response, const char *err, void *userdata)
{
        Imds *i = userdata;
        Try *t = &i->token_try;
        unsigned status = http_response_status(response);
        _cleanup_free_ char *why = NULL;
        int r;

        t->transfer = NULL;
        if (may_pass(result, status) && t->n < IMDS_TRIES)
                r = ask_token(i, &why);
        else if (result == 0 && status == 200)
                r = take_token(i, response, &why);
        else
                r = explain(i, TOKEN_PATH, result, status, err, &why);
        if (r < 0)
                fail_waiting(i, r, why);
        else
                ask_waiting(i);
}

/* Negative: it is over. 0: it goes on. */
static int renew_token(ImdsCall *c, char **reterr)
{
        c->token_refused = true;
        c->try.n = 0;
        if (c->token_n == c->imds->token_n)
                forget_token(c->imds);
        return advance(c, reterr);
}

static void on_item(int result, const HttpResponse *response, const char *err, void *userdata)
{
        ImdsCall *c = userdata;
        Try *t = &c->try;
        unsigned status = http_response_status(response);
        _cleanup_free_ char *why = NULL;
        int r;

        t->transfer = NULL;
        if (result == 0 && status == 200) {
                r = memchr(strempty(t->body.data), '\0', t->body.size) ? -EBADMSG : 0;
                if (r < 0)
                        err_set(&why, "the metadata service gave a malformed value of %s", c->path);
                finish(c, r, why);
                return;
        }
        if (result == 0 && status == 404) {
                finish(c, IMDS_ABSENT, NULL);
                return;
        }
        if (result == 0 && status == 401 && !c->token_refused)
                r = renew_token(c, &why);
        else if (may_pass(result, status) && t->n < IMDS_TRIES)
                r = advance(c, &why);
        else
                r = explain(c->imds, c->path, result, status, err, &why);
        if (r < 0)
                finish(c, r, why);
}

int imds_get(Imds *i, const char *path, imds_done_t done, void *userdata, ImdsCall **ret,
             char **reterr)
{
        ImdsCall *c;
        int r;

        if (i->disabled)
                return fail(reterr, -EOPNOTSUPP,
                            "instance metadata is switched off by AWS_EC2_METADATA_DISABLED");
        if (strlen(path) > IMDS_PATH_SIZE_MAX || path[strspn(path, PATH_CHARACTERS)] != '\0')
                return fail(reterr, -EINVAL, "'%s' is not a path of instance metadata", path);
        c = calloc(1, sizeof(ImdsCall));
        if (!c)
                return -ENOMEM;
        *c = (ImdsCall){ .imds = i, .done = done, .userdata = userdata };
        err_set(&c->path, "/latest/%s", path);
        r = c->path ? advance(c, reterr) : -ENOMEM;
        if (r < 0) {
                call_free(c);
                return r;
        }
        TAILQ_INSERT_TAIL(&i->calls, c, entry);
        if (ret)
                *ret = c;
        return 0;
}
