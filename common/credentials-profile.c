/* SPDX-License-Identifier: Apache-2.0 */
#include "credentials-answer.h"
#include "credentials-kind.h"
#include "err.h"

static int check_keys(const Profile *p, char **reterr)
{
        if (!p->key_id || !p->secret)
                return fail(reterr, -EINVAL,
                            "half of the credentials of the AWS profile '%s' is missing: "
                            "aws_access_key_id and aws_secret_access_key go together",
                            p->name);
        if (!credentials_value_is_valid(p->key_id) || !credentials_value_is_valid(p->secret) ||
            (p->session_token && !credentials_value_is_valid(p->session_token)))
                return fail(reterr, -EINVAL,
                            "a credential of the AWS profile '%s' holds a blank or another "
                            "character that no credential has",
                            p->name);
        return 0;
}

/* What would take a program, or a person who types a code. */
static int refuse_programs(const Profile *p, char **reterr)
{
        const char *what = p->credential_process ? "by a program (credential_process)"
                           : p->sso_session || p->sso_start_url ? "by single sign-on"
                           : p->mfa_serial                      ? "with a code (mfa_serial)"
                                                                : NULL;

        if (!what)
                return 0;
        return fail(reterr, -EINVAL,
                    "the AWS profile '%s' gets its credentials %s, and Slipway runs no programs: "
                    "put them into the environment with: eval \"$(aws configure export-credentials "
                    "--profile %s --format env)\"",
                    p->name, what, p->name);
}

static int open_role(CredentialsSource *s, const Profile *p, char **reterr)
{
        int r;

        if (p->web_identity_token_file)
                return credentials_open_web_identity(s, p->web_identity_token_file, p->role_arn,
                                                     p->role_session_name, reterr);
        r = p->mfa_serial ? refuse_programs(p, reterr) : 0;
        if (r < 0)
                return r;
        if (!p->source_profile == !p->credential_source)
                return fail(reterr, -EINVAL,
                            "the AWS profile '%s' has a role_arn, which takes either "
                            "source_profile or credential_source",
                            p->name);
        return credentials_open_role(s, p, reterr);
}

static int open_profile(CredentialsSource *s, char **reterr)
{
        const Profile *p = NULL;
        int r = credentials_source_profile(s, &p, reterr);

        if (r < 0)
                return r;
        /* A role's own keys are those it is assumed with (source_profile names the profile itself).
         */
        if (p->role_arn && (s->depth == 0 || !p->key_id))
                return fail_prefix(reterr, open_role(s, p, reterr), "AWS profile '%s'", p->name);
        if (p->key_id || p->secret) {
                r = check_keys(p, reterr);
                return r < 0 ? r : 1;
        }
        return refuse_programs(p, reterr);
}

/* Those of a file that was written anew are found when the old ones are not taken any more. */
static int fetch_profile(CredentialsSource *s, char **reterr)
{
        _cleanup_(profile_freep) Profile *p = NULL;
        _cleanup_(credentials_done) Credentials c = {};
        int r = profile_load(s->profile->name, &p, reterr);

        if (r >= 0)
                r = check_keys(p, reterr);
        if (r < 0)
                return r;
        c.key_id = TAKE_PTR(p->key_id);
        c.secret = TAKE_PTR(p->secret);
        c.session_token = TAKE_PTR(p->session_token);
        credentials_source_finish(s, 0, &c, NULL);
        return 0;
}

const CredentialsKind credentials_profile = {
        .name = "profile",
        .renews = true,
        .open = open_profile,
        .fetch = fetch_profile,
};
