/* SPDX-License-Identifier: Apache-2.0 */
#include "ssm-refusal.h"

#include <errno.h>
#include <strings.h>

#include "utf8.h"
#include "xml-scan.h"

#define TEXT_SIZE_MAX 512
#define DENIED        "AccessDeniedException"

void ssm_refusal_done(SsmRefusal *r)
{
        aws_error_done(&r->error);
}

static int take(const char *text, size_t size, char **field)
{
        char *copy = strndup(text, MIN(size, (size_t) TEXT_SIZE_MAX));

        if (!copy)
                return -ENOMEM;
        utf8_clean(copy);
        free(*field);
        *field = copy;
        return 0;
}

/* What is on the way may answer with a page for people. */
static int take_root(const char *path, size_t size, char **code)
{
        const bool page = size == STRLEN("html") && strncasecmp(path, "html", size) == 0;

        return take(path, page ? 0 : size, code);
}

static int take_leaf(const char *path, const char *text, void *userdata)
{
        const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;
        AwsError *e = userdata;
        int r = 0;

        if (!e->code)
                r = take_root(path, strcspn(path, "/"), &e->code);
        if (r >= 0 && strcasecmp(name, "message") == 0)
                r = take(text, strlen(text), &e->message);
        if (r >= 0 && streq(name, "Code"))
                r = take(text, strlen(text), &e->code);
        return r;
}

static int parse(const char *body, size_t size, AwsError *e)
{
        int r = xml_scan(body, size, take_leaf, e);

        if (r == -EBADMSG) {
                aws_error_done(e);
                r = aws_error_parse_parts(NULL, body, size, e);
        }
        /* What is cut off is no XML, and has its beginning. */
        if (r >= 0 && !*strempty(e->code) && strstr(body, "<" DENIED))
                r = take(DENIED, STRLEN(DENIED), &e->code);
        if (r >= 0 && !e->code)
                r = take("", 0, &e->code);
        if (r >= 0 && !e->message)
                r = take("", 0, &e->message);
        return r;
}

int ssm_refusal_parse(unsigned status, const char *body, size_t size, SsmRefusal *ret)
{
        SsmRefusal f = {};
        int r = parse(body, size, &f.error);

        if (r < 0) {
                ssm_refusal_done(&f);
                return r;
        }
        f.verdict = aws_error_judge(status, f.error.code);
        if (strcasestr(f.error.message, "throttl"))
                f.verdict = AWS_THROTTLED;
        f.result = f.verdict == AWS_DENIED || f.verdict == AWS_REFUSED        ? -EACCES
                   : f.verdict == AWS_THROTTLED || f.verdict == AWS_TRANSIENT ? -EBUSY
                                                                              : -EREMOTEIO;
        *ret = f;
        return 0;
}
