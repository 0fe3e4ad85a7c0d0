/* SPDX-License-Identifier: Apache-2.0 */
#include "aws-environment.h"
#include "credentials-answer.h"
#include "credentials-kind.h"
#include "err.h"

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
        if (r < 0)
                return r;
        credentials_source_finish(s, 0, &c, NULL);
        return 1;
}

const CredentialsKind credentials_environment = {
        .name = "environment",
        .open = open_environment,
};
