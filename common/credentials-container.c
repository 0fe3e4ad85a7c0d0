/* SPDX-License-Identifier: Apache-2.0 */
#include <fcntl.h>
#include <stdio.h>

#include "aws-environment.h"
#include "credentials-answer.h"
#include "credentials-kind.h"
#include "err.h"
#include "fd.h"
#include "secret.h"
#include "sink.h"

/*
 * Source: AWS SDKs and Tools Reference Guide, "Container credential provider"; the addresses
 * besides are those of EKS Pod Identity.
 */

#define RELATIVE_HOST  "http://169.254.170.2"
#define TOKEN_SIZE_MAX 16384
#define TRIES          3
#define TRY_SEC        2
#define TRY_AGAIN_MSEC 1000

typedef struct Container {
        CredentialsSource *source;
        char *url;
        HttpTransfer *transfer;
        Sink body;
        unsigned n_tried;
} Container;

static void close_container(CredentialsSource *s)
{
        Container *c = s->data;

        if (!c)
                return;
        (void) http_cancel(c->transfer);
        sink_done(&c->body);
        free(c->url);
        free(c);
}

/* Goes out as a header. */
static bool authorization_is_valid(const char *s)
{
        for (; *s; s++)
                if (*s < ' ' || *s > '~')
                        return false;
        return true;
}

/* *ret NULL: none is wanted. */
static int read_authorization(char **ret, char **reterr)
{
        const char *file = aws_environment("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE");
        const char *variable = aws_environment("AWS_CONTAINER_AUTHORIZATION_TOKEN");
        _cleanup_(secret_freep) char *token = NULL;
        size_t size = 0;
        int r = 0;

        if (file)
                r = file_read_at(AT_FDCWD, file, TOKEN_SIZE_MAX, &token, &size);
        if (r < 0)
                return fail_errno(reterr, r, "can't read the token %s", file);
        if (token && size > 0 && token[size - 1] == '\n')
                token[--size] = '\0';
        if (!file && variable) {
                token = strdup(variable);
                if (!token)
                        return -ENOMEM;
                size = strlen(token);
        }
        if (token && (size == 0 || strlen(token) != size || !authorization_is_valid(token)))
                return fail(reterr, -EBADMSG, "%s holds no token for the container's credentials",
                            file ? file : "AWS_CONTAINER_AUTHORIZATION_TOKEN");
        *ret = TAKE_PTR(token);
        return 0;
}

static int take_body(const void *data, size_t size, void *userdata)
{
        Container *c = userdata;

        return sink_write(&c->body, data, size);
}

static void on_done(int result, const HttpResponse *response, const char *err, void *userdata);

static int begin_try(Container *c, char **reterr)
{
        _cleanup_(secret_freep) char *authorization = NULL;
        Http *http = NULL;
        int r = credentials_source_http(c->source, &http);

        if (r >= 0)
                r = read_authorization(&authorization, reterr);
        if (r < 0)
                return r;
        const NameValue header = { "Authorization", authorization };
        sink_done(&c->body);
        c->n_tried++;
        return http_start(http,
                          &(HttpRequest){ .method = "GET",
                                          .url = c->url,
                                          .headers = &header,
                                          .n_headers = authorization ? 1 : 0,
                                          .size_max = CREDENTIALS_ANSWER_SIZE_MAX,
                                          .connect_sec = TRY_SEC,
                                          .deadline_msec = TRY_SEC * 1000,
                                          .delay_msec = c->n_tried > 1 ? TRY_AGAIN_MSEC : 0,
                                          .nearby = true,
                                          .on_body = take_body,
                                          .done = on_done,
                                          .userdata = c },
                          &c->transfer, reterr);
}

static int judge(Container *c, int result, unsigned status, const char *err, Credentials *ret,
                 char **reterr)
{
        int r;

        if (result < 0)
                return fail(reterr, result, "%s", err);
        if (status != 200)
                return fail(reterr, -EACCES, "the container's endpoint %s answers with status %u",
                            c->url, status);
        r = credentials_parse_json(strempty(c->body.data), c->body.size, ret, reterr);
        return fail_prefix(reterr, r, "the answer of the container's endpoint");
}

static void on_done(int result, const HttpResponse *response, const char *err, void *userdata)
{
        Container *c = userdata;
        _cleanup_(credentials_done) Credentials credentials = {};
        _cleanup_free_ char *text = NULL;
        unsigned status = http_response_status(response);
        bool may_pass = result == -EHOSTDOWN || result == -ETIMEDOUT ||
                        (result == 0 && (status == 429 || status >= 500));
        int r;

        c->transfer = NULL;
        if (may_pass && c->n_tried < TRIES) {
                r = begin_try(c, &text);
                if (r >= 0)
                        return;
        } else
                r = judge(c, result, status, err, &credentials, &text);
        sink_done(&c->body);
        credentials_source_finish(c->source, r, &credentials, text);
}

static int fetch_container(CredentialsSource *s, char **reterr)
{
        Container *c = s->data;

        c->n_tried = 0;
        return begin_try(c, reterr);
}

/* Where http goes with a token must be out of everybody's reach. */
static int check_url(const char *url, char **reterr)
{
        static const char *const hosts[] = { "169.254.170.2", "169.254.170.23", "[fd00:ec2::23]" };
        const char *host = url + STRLEN("http://");

        if (http_url_check(url, NULL) >= 0)
                return 0;
        for (size_t i = 0; i < ELEMENTSOF(hosts); i++) {
                size_t n = strlen(hosts[i]);
                if (strncasecmp(url, "http://", STRLEN("http://")) == 0 &&
                    strncmp(host, hosts[i], n) == 0 && strchr(":/?", host[n]) &&
                    !memchr(host, '@', strcspn(host, "/?#")))
                        return 0;
        }
        return fail(reterr, -EINVAL,
                    "AWS_CONTAINER_CREDENTIALS_FULL_URI is not allowed: it must be https, or http "
                    "to this host or to an address of ECS or EKS");
}

static int open_container(CredentialsSource *s, char **reterr)
{
        const char *relative = aws_environment("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI");
        const char *full = aws_environment("AWS_CONTAINER_CREDENTIALS_FULL_URI");
        Container *c;
        int r = 0;

        if (!relative && !full)
                return 0;
        if (relative && *relative != '/')
                return fail(reterr, -EINVAL,
                            "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI must begin with a slash");
        if (!relative)
                r = check_url(full, reterr);
        if (r < 0)
                return r;
        c = s->data = calloc(1, sizeof(Container));
        if (!c)
                return -ENOMEM;
        c->source = s;
        err_set(&c->url, "%s%s", relative ? RELATIVE_HOST : "", relative ? relative : full);
        return c->url ? 1 : -ENOMEM;
}

const CredentialsKind credentials_container = {
        .name = "container",
        .renews = true,
        .lives_on = true,
        .open = open_container,
        .close = close_container,
        .fetch = fetch_container,
};
