/* SPDX-License-Identifier: Apache-2.0 */
#include <time.h>

#include "aws-environment.h"
#include "credentials-answer.h"
#include "credentials-kind.h"
#include "err.h"
#include "time-text.h"

static int take_variable(const char *name, bool required, char **ret, char **reterr)
{
        const char *value = aws_environment(name);

        if (!value)
                return required ? fail(reterr, -EINVAL,
                                       "half of the AWS credentials is missing: AWS_ACCESS_KEY_ID "
                                       "and AWS_SECRET_ACCESS_KEY go together (%s is not set)",
                                       name)
                                : 0;
        if (!credentials_value_is_valid(value))
                return fail(reterr, -EINVAL,
                            "the environment variable %s holds a blank or another character that "
                            "no credential has",
                            name);
        *ret = strdup(value);
        return *ret ? 0 : -ENOMEM;
}

/* As the AWS CLI exports it ("aws configure export-credentials --format env"). */
#define EXPIRATION "AWS_CREDENTIAL_EXPIRATION"

static int take_end(uint64_t *ret_sec, char **reterr)
{
        const char *text = aws_environment(EXPIRATION);

        if (!text)
                return 0;
        if (credentials_parse_expiration(text, ret_sec) < 0)
                return fail(reterr, -EINVAL,
                            "the environment variable " EXPIRATION " is not a time "
                            "(2026-11-22T14:00:00Z)");
        if (*ret_sec <= (uint64_t) time(NULL))
                return fail(reterr, -EINVAL,
                            "the AWS credentials of the environment have ended, by this host's "
                            "clock: at %s (" EXPIRATION ")",
                            text);
        return 0;
}

/* Nobody changes the environment of a program that runs. */
static int fetch_environment(CredentialsSource *s, char **reterr)
{
        char end[TIME_TEXT_SIZE];

        return fail(reterr, -ENOKEY, "those of the environment end at %s (" EXPIRATION ")",
                    time_format_utc(s->current.expires_sec, end));
}

static int open_environment(CredentialsSource *s, char **reterr)
{
        _cleanup_(credentials_done) Credentials c = {};
        /* AWS_SECURITY_TOKEN is what it was called once. */
        const char *token =
                aws_environment("AWS_SESSION_TOKEN") ? "AWS_SESSION_TOKEN" : "AWS_SECURITY_TOKEN";
        int r;

        if (!aws_environment("AWS_ACCESS_KEY_ID") && !aws_environment("AWS_SECRET_ACCESS_KEY"))
                return 0;
        r = take_variable("AWS_ACCESS_KEY_ID", true, &c.key_id, reterr);
        if (r >= 0)
                r = take_variable("AWS_SECRET_ACCESS_KEY", true, &c.secret, reterr);
        if (r >= 0)
                r = take_variable(token, false, &c.session_token, reterr);
        if (r >= 0)
                r = take_end(&c.expires_sec, reterr);
        if (r < 0)
                return r;
        credentials_source_finish(s, 0, &c, NULL);
        return 1;
}

const CredentialsKind credentials_environment = {
        .name = "environment",
        .open = open_environment,
        .fetch = fetch_environment,
};
