/* SPDX-License-Identifier: Apache-2.0 */
#include "tags-api.h"

#include <time.h>

#include "aws-call.h"
#include "err.h"
#include "utf8.h"
#include "xml-scan.h"

#define KEPT_SEC   600
#define FAILED_SEC 60

#define PATH_KEY   "DescribeTagsResponse/tagSet/item/key"
#define PATH_VALUE "DescribeTagsResponse/tagSet/item/value"
#define PATH_TOKEN "DescribeTagsResponse/nextToken"

/* Others wait for it. */
static const AwsLimits limits = {
        .connect_sec = 4, .stall_sec = 4, .deadline_sec = 8, .backoff_msec = 200
};
#define N_TRIES 2

static const AwsService ec2 = { .name = "ec2", .protocol = AWS_QUERY, .version = "2016-11-15" };

struct TagsApi {
        Http *http;
        CredentialsSource *credentials;
        AwsClient *client;
        AwsCall *call;
        Instance *answer; /* its tags; NULL: none, or `result` says why */
        int result;
        char *err;
        uint64_t until_sec; /* CLOCK_BOOTTIME; 0: nothing was answered */
        void (*done)(void *userdata);
        void *userdata;
};

static uint64_t now_sec(void)
{
        struct timespec ts;

        (void) clock_gettime(CLOCK_BOOTTIME, &ts);
        return (uint64_t) ts.tv_sec;
}

int tags_api_new(Http *http, TagsApi **ret)
{
        TagsApi *t = calloc(1, sizeof(TagsApi));

        if (!t)
                return -ENOMEM;
        t->http = http;
        *ret = t;
        return 0;
}

TagsApi *tags_api_free(TagsApi *t)
{
        if (!t)
                return NULL;
        aws_client_free(t->client);
        credentials_source_free(t->credentials);
        instance_free(t->answer);
        free(t->err);
        free(t);
        return NULL;
}

int tags_api_get(const TagsApi *t, Instance *i, char **reterr)
{
        int r = 0;

        if (now_sec() >= t->until_sec)
                return -EAGAIN;
        if (t->result < 0)
                return fail(reterr, t->result, "%s", err_text(t->result, t->err));
        for (size_t k = 0; r >= 0 && k < t->answer->n_tags; k++)
                r = instance_add_tag(i, t->answer->tags[k].key, t->answer->tags[k].value);
        return r;
}

/* --- the answer --- */

typedef struct Page {
        Instance *instance;
        char *key; /* whose value comes next */
} Page;

static int flush(Page *p, const char *value)
{
        _cleanup_free_ char *key = TAKE_PTR(p->key), *clean = NULL;

        if (!key)
                return 0;
        clean = strdup(value);
        if (!clean)
                return -ENOMEM;
        utf8_clean(key);
        utf8_clean(clean);
        if (!*key || strlen(key) > TAG_KEY_SIZE_MAX || strlen(clean) > TAG_VALUE_SIZE_MAX ||
            instance_tag(p->instance, key))
                return -EBADMSG;
        return instance_add_tag(p->instance, key, clean);
}

/* An empty value may be left out. */
static int take_leaf(const char *path, const char *text, void *userdata)
{
        Page *p = userdata;
        int r;

        if (streq(path, PATH_VALUE))
                return flush(p, text);
        if (streq(path, PATH_TOKEN) && *text)
                return -E2BIG;
        if (!streq(path, PATH_KEY))
                return 0;
        r = flush(p, "");
        if (r < 0)
                return r;
        p->key = strdup(text);
        return p->key ? 0 : -ENOMEM;
}

static int take_answer(TagsApi *t, const char *data, size_t size, char **reterr)
{
        Page page = { .instance = calloc(1, sizeof(Instance)) };
        int r = page.instance ? xml_scan(data, size, take_leaf, &page) : -ENOMEM;

        if (r >= 0)
                r = flush(&page, "");
        free(page.key);
        instance_free(t->answer);
        t->answer = page.instance;
        return r < 0 ? fail_errno(reterr, r, "what ec2:DescribeTags answers makes no sense") : 0;
}

static void keep(TagsApi *t, int result, const char *err)
{
        t->result = result;
        free(t->err);
        t->err = err ? strdup(err) : NULL;
        t->until_sec = now_sec() + (result >= 0 || result == -EACCES ? KEPT_SEC : FAILED_SEC);
}

static void on_answer(int result, char **data, size_t size, const char *err, void *userdata)
{
        TagsApi *t = userdata;
        _cleanup_free_ char *why = NULL;

        t->call = NULL;
        if (result == 0) {
                result = take_answer(t, *data, size, &why);
                err = why;
        }
        keep(t, result, err);
        t->done(t->userdata);
}

/* --- the question --- */

static int find_client(TagsApi *t, const char *region, char **reterr)
{
        int r = t->credentials ? 0 : credentials_source_new(&t->credentials, reterr);

        if (r < 0 || (t->client && streq(aws_client_region(t->client), region)))
                return r;
        t->client = aws_client_free(t->client);
        r = aws_client_new(&ec2, region, t->http, t->credentials, t->credentials, &t->client,
                           reterr);
        if (r >= 0)
                aws_client_set_limits(t->client, &limits);
        return r;
}

static int start(TagsApi *t, const Instance *i, char **reterr)
{
        const NameValue params[] = {
                {"Filter.1.Name",     "resource-id"},
                { "Filter.1.Value.1", i->id        },
                { "MaxResults",       "1000"       },
        };
        int r = find_client(t, i->region, reterr);

        if (r < 0)
                return r;
        return aws_start(t->client,
                         &(AwsRequest){ .action = "DescribeTags",
                                        .what = "ask EC2 for the instance's tags",
                                        .params = params,
                                        .n_params = ELEMENTSOF(params),
                                        .n_tries = N_TRIES },
                         on_answer, t, &t->call, reterr);
}

int tags_api_ask(TagsApi *t, const Instance *i, void (*done)(void *userdata), void *userdata)
{
        _cleanup_free_ char *err = NULL;
        int r;

        if (t->call)
                return -EBUSY;
        t->done = done;
        t->userdata = userdata;
        r = i->region ? start(t, i, &err) : fail(&err, -EINVAL, "the region is not known");
        if (r < 0)
                keep(t, r, err_text(r, err));
        return r;
}

uint64_t tags_api_due_in_usec(const TagsApi *t)
{
        return t->client ? aws_due_in_usec(t->client) : UINT64_MAX;
}

void tags_api_start_due(TagsApi *t)
{
        if (t->client)
                aws_start_due(t->client);
}
