/* SPDX-License-Identifier: Apache-2.0 */
#include "credentials-sts.h"

#include <ctype.h>

#include "credentials-answer.h"
#include "err.h"

#define ROLE_SIZE_MIN 20
#define ROLE_SIZE_MAX 2048
#define NAME_SIZE_MIN 2
#define NAME_SIZE_MAX 64

struct Sts {
        CredentialsSource *source;
        AwsClient *client;
        AwsCall *call;
        const char *what; /* of the call under way, for messages */
};

int sts_new(CredentialsSource *s, CredentialsSource *signer, Sts **ret, char **reterr)
{
        static const AwsService service = { "sts", AWS_QUERY, "2011-06-15" };
        _cleanup_(sts_freep) Sts *t = calloc(1, sizeof(Sts));
        const char *region = NULL;
        Http *http = NULL;
        int r;

        if (!t)
                return -ENOMEM;
        t->source = s;
        r = credentials_source_known_region(s, &region, reterr);
        if (r >= 0 && !region)
                r = fail(reterr, -EINVAL, "the region of STS is not known: set AWS_REGION");
        if (r >= 0)
                r = credentials_source_http(s, &http);
        if (r >= 0)
                r = aws_client_new(&service, region, http, s, signer, &t->client, reterr);
        if (r < 0)
                return r;
        aws_client_set_limits(t->client, &(AwsLimits){ .connect_sec = 5,
                                                       .stall_sec = 5,
                                                       .deadline_sec = 10,
                                                       .backoff_msec = 500 });
        *ret = TAKE_PTR(t);
        return 0;
}

Sts *sts_free(Sts *t)
{
        if (!t)
                return NULL;
        (void) aws_cancel(t->call);
        (void) aws_client_free(t->client);
        free(t);
        return NULL;
}

static void on_answer(int result, char **data, size_t size, const char *err, void *userdata)
{
        Sts *t = userdata;
        _cleanup_(credentials_done) Credentials c = {};
        _cleanup_free_ char *text = NULL;
        int r = result;

        t->call = NULL;
        if (r >= 0) {
                r = credentials_parse_sts(*data, size, &c, &text);
                (void) fail_prefix(&text, r, "can't %s", t->what);
        }
        credentials_source_finish(t->source, r, &c, text ? text : err);
}

int sts_assume(Sts *t, const AwsRequest *request, char **reterr)
{
        t->what = request->what;
        return aws_start(t->client, request, on_answer, t, &t->call, reterr);
}

void sts_advance(Sts *t)
{
        aws_start_due(t->client);
}

uint64_t sts_due_in_usec(const Sts *t)
{
        return aws_due_in_usec(t->client);
}

int sts_role_check(const char *role_arn, char **reterr)
{
        size_t n = strlen(role_arn);

        if (n < ROLE_SIZE_MIN || n > ROLE_SIZE_MAX || strncmp(role_arn, "arn:", 4) != 0)
                return fail(reterr, -EINVAL,
                            "'%.*s' is not the ARN of a role (arn:aws:iam::ACCOUNT:role/NAME)", 80,
                            role_arn);
        return 0;
}

int sts_session_name_check(const char *name, char **reterr)
{
        size_t n = strlen(name);
        bool valid = n >= NAME_SIZE_MIN && n <= NAME_SIZE_MAX;

        for (const char *c = name; valid && *c; c++)
                valid = isalnum((unsigned char) *c) || strchr("_+=,.@-", *c);
        return valid ? 0
                     : fail(reterr, -EINVAL,
                            "'%.*s' can't be the name of a role's session: 2 to 64 letters, digits "
                            "and _+=,.@-",
                            NAME_SIZE_MAX, name);
}
