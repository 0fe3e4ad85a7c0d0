/* SPDX-License-Identifier: Apache-2.0 */
#include <fcntl.h>

#include "aws-environment.h"
#include "credentials-answer.h"
#include "credentials-kind.h"
#include "credentials-sts.h"
#include "err.h"
#include "fd.h"
#include "secret.h"

/* The limits of AssumeRoleWithWebIdentity. */
#define TOKEN_SIZE_MIN 4
#define TOKEN_SIZE_MAX 20000

typedef struct WebIdentity {
        char *token_file, *role_arn, *session_name;
        char *what;
        Sts *sts;
} WebIdentity;

static void close_web_identity(CredentialsSource *s)
{
        WebIdentity *w = s->data;

        if (!w)
                return;
        (void) sts_free(w->sts);
        free(w->token_file);
        free(w->role_arn);
        free(w->session_name);
        free(w->what);
        free(w);
}

/* Read each time, because it is written anew before the token ends. */
static int read_token(const char *path, char **ret, char **reterr)
{
        _cleanup_(secret_freep) char *token = NULL;
        size_t size = 0;
        int r = file_read_at(AT_FDCWD, path, TOKEN_SIZE_MAX + 2, &token, &size);

        if (r < 0)
                return fail_errno(reterr, r, "can't read the web identity token %s", path);
        while (size > 0 && (token[size - 1] == '\n' || token[size - 1] == '\r'))
                token[--size] = '\0';
        if (size < TOKEN_SIZE_MIN || size > TOKEN_SIZE_MAX || strlen(token) != size ||
            !credentials_value_is_valid(token))
                return fail(reterr, -EBADMSG, "%s holds no token", path);
        *ret = TAKE_PTR(token);
        return 0;
}

static int fetch_web_identity(CredentialsSource *s, char **reterr)
{
        static const AwsHint hints[] = {
                {"ExpiredTokenException",                              "the token file is not written anew in time" },
                { "ExpiredToken",                                                   "the token file is not written anew in time" },
                { "InvalidIdentityToken",
                 "the role's account must have the token's issuer as an identity provider" },
                { "IDPRejectedClaim",                              "the identity provider does not stand by the token" },
                { "AccessDenied",
                 "the role's trust policy must allow the token's issuer, audience and subject" },
                {                                     }
        };
        WebIdentity *w = s->data;
        _cleanup_(secret_freep) char *token = NULL;
        int r = read_token(w->token_file, &token, reterr);

        if (r < 0)
                return r;
        const NameValue params[] = {
                {"RoleArn",           w->role_arn    },
                { "RoleSessionName",  w->session_name},
                { "WebIdentityToken", token          },
        };
        return sts_assume(w->sts,
                          &(AwsRequest){ .action = "AssumeRoleWithWebIdentity",
                                         .what = w->what,
                                         .params = params,
                                         .n_params = ELEMENTSOF(params),
                                         .hints = hints },
                          reterr);
}

static void advance_web_identity(CredentialsSource *s)
{
        sts_advance(((WebIdentity *) s->data)->sts);
}

static uint64_t web_identity_due_in_usec(const CredentialsSource *s)
{
        return sts_due_in_usec(((const WebIdentity *) s->data)->sts);
}

int credentials_open_web_identity(CredentialsSource *s, const char *token_file,
                                  const char *role_arn, const char *session_name, char **reterr)
{
        WebIdentity *w = s->data = calloc(1, sizeof(WebIdentity));
        int r = sts_role_check(role_arn, reterr);

        s->kind = &credentials_web_identity;
        session_name = session_name ? session_name : STS_SESSION_NAME;
        if (!w)
                return -ENOMEM;
        if (r >= 0)
                r = sts_session_name_check(session_name, reterr);
        if (r >= 0)
                r = sts_new(s, NULL, &w->sts, reterr);
        if (r < 0)
                return r;
        w->token_file = strdup(token_file);
        w->role_arn = strdup(role_arn);
        w->session_name = strdup(session_name);
        err_set(&w->what, "assume the role %s with the token in %s", role_arn, token_file);
        return w->token_file && w->role_arn && w->session_name && w->what ? 1 : -ENOMEM;
}

static int open_web_identity(CredentialsSource *s, char **reterr)
{
        const char *file = aws_environment("AWS_WEB_IDENTITY_TOKEN_FILE");
        const char *role = aws_environment("AWS_ROLE_ARN");

        if (!file)
                return 0;
        if (!role)
                return fail(reterr, -EINVAL,
                            "AWS_WEB_IDENTITY_TOKEN_FILE needs AWS_ROLE_ARN, which is not set");
        return credentials_open_web_identity(s, file, role,
                                             aws_environment("AWS_ROLE_SESSION_NAME"), reterr);
}

const CredentialsKind credentials_web_identity = {
        .name = "web identity",
        .renews = true,
        .open = open_web_identity,
        .close = close_web_identity,
        .fetch = fetch_web_identity,
        .advance = advance_web_identity,
        .due_in_usec = web_identity_due_in_usec,
};
