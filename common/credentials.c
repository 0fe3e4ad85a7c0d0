/* SPDX-License-Identifier: Apache-2.0 */
#include "credentials.h"

#include <string.h>

#include "err.h"

struct CredentialsSource {
        Credentials credentials;
};

static void secret_free(char *s)
{
        if (s)
                explicit_bzero(s, strlen(s));
        free(s);
}

CredentialsSource *credentials_source_free(CredentialsSource *s)
{
        if (!s)
                return NULL;
        secret_free(s->credentials.key_id);
        secret_free(s->credentials.secret);
        secret_free(s->credentials.session_token);
        free(s);
        return NULL;
}

/* These values become header lines: a line break in one would be a header of its own. */
static int take_variable(const char *name, bool required, char **ret, char **reterr)
{
        const char *value = getenv(name);

        if (!value || !*value)
                return required ? fail(reterr, -EINVAL,
                                       "there are no AWS credentials: set AWS_ACCESS_KEY_ID and "
                                       "AWS_SECRET_ACCESS_KEY (%s is not set)",
                                       name)
                                : 0;
        for (const char *c = value; *c; c++)
                if (*c <= ' ' || *c > '~')
                        return fail(reterr, -EINVAL,
                                    "the environment variable %s holds a blank or another "
                                    "character that no credential has",
                                    name);
        *ret = strdup(value);
        return *ret ? 0 : -ENOMEM;
}

int credentials_source_new(CredentialsSource **ret, char **reterr)
{
        _cleanup_(credentials_source_freep) CredentialsSource *s = calloc(1, sizeof(*s));
        int r;

        if (!s)
                return -ENOMEM;
        r = take_variable("AWS_ACCESS_KEY_ID", true, &s->credentials.key_id, reterr);
        if (r < 0)
                return r;
        r = take_variable("AWS_SECRET_ACCESS_KEY", true, &s->credentials.secret, reterr);
        if (r < 0)
                return r;
        r = take_variable("AWS_SESSION_TOKEN", false, &s->credentials.session_token, reterr);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(s);
        return 0;
}

int credentials_source_get(CredentialsSource *s, const Credentials **ret, char **reterr)
{
        (void) reterr;
        *ret = &s->credentials;
        return 0;
}
