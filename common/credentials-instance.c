/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>

#include "credentials-answer.h"
#include "credentials-kind.h"
#include "err.h"

/* Source: Amazon EC2 User Guide, "Retrieve security credentials from instance metadata". */

#define PATH "meta-data/iam/security-credentials/"

static void finish(CredentialsSource *s, int error, const char *text)
{
        Credentials none = {};

        credentials_source_finish(s, error, &none, text);
}

/* Outcomes and errors other than an answer. */
static void fail_on(CredentialsSource *s, int result, const char *err)
{
        _cleanup_free_ char *text = NULL;

        if (result == IMDS_ABSENT)
                result = fail(&text, -ENOENT, "this instance has no role, or not yet");
        else if (result == -EHOSTDOWN || result == -ETIMEDOUT)
                err_set(&text,
                        "%s; elsewhere than on EC2, set AWS_ACCESS_KEY_ID and "
                        "AWS_SECRET_ACCESS_KEY, or AWS_PROFILE",
                        err);
        finish(s, result, text ? text : err);
}

static void on_credentials(int result, const char *value, const char *err, void *userdata)
{
        CredentialsSource *s = userdata;
        _cleanup_(credentials_done) Credentials c = {};
        _cleanup_free_ char *text = NULL;

        if (result != 0) {
                fail_on(s, result, err);
                return;
        }
        int r = credentials_parse_json(value, strlen(value), &c, &text);
        (void) fail_prefix(&text, r, "the credentials in instance metadata");
        credentials_source_finish(s, r, &c, text);
}

/* The list of roles has one at most. */
static void on_role(int result, const char *value, const char *err, void *userdata)
{
        CredentialsSource *s = userdata;
        _cleanup_free_ char *path = NULL, *text = NULL;
        size_t n = result == 0 ? strcspn(value, "\n") : 0;
        int r;

        if (result != 0) {
                fail_on(s, result, err);
                return;
        }
        if (n == 0) {
                fail_on(s, IMDS_ABSENT, NULL);
                return;
        }
        if (asprintf(&path, PATH "%.*s", (int) MIN(n, (size_t) IMDS_PATH_SIZE_MAX), value) < 0) {
                path = NULL;
                finish(s, -ENOMEM, NULL);
                return;
        }
        r = imds_get(s->imds, path, on_credentials, s, NULL, &text);
        if (r < 0)
                finish(s, r, text);
}

static int fetch_instance(CredentialsSource *s, char **reterr)
{
        return imds_get(s->imds, PATH, on_role, s, NULL, reterr);
}

static int open_instance(CredentialsSource *s, char **reterr)
{
        Imds *imds = NULL;
        int r = credentials_source_imds(s, &imds, reterr);

        if (r < 0)
                return r;
        return imds_is_disabled(imds) ? 0 : 1;
}

const CredentialsKind credentials_instance = {
        .name = "instance role",
        .renews = true,
        .lives_on = true,
        .open = open_instance,
        .fetch = fetch_instance,
};
