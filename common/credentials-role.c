/* SPDX-License-Identifier: Apache-2.0 */
#include "credentials-kind.h"
#include "credentials-sts.h"
#include "err.h"

#define PARAMS_MAX 4

typedef struct Role {
        CredentialsSource *signer;
        NameValue params[PARAMS_MAX]; /* in the source's profile */
        size_t n_params;
        char *what;
        Sts *sts;
} Role;

static void close_role(CredentialsSource *s)
{
        Role *role = s->data;

        if (!role)
                return;
        (void) sts_free(role->sts);
        (void) credentials_source_free(role->signer);
        free(role->what);
        free(role);
}

static int fetch_role(CredentialsSource *s, char **reterr)
{
        static const AwsHint hints[] = {
                {"AccessDenied",
                 "the role's trust policy and sts:AssumeRole must allow it to the source's "
                  "credentials" },
                {                 }
        };
        Role *role = s->data;

        return sts_assume(role->sts,
                          &(AwsRequest){ .action = "AssumeRole",
                                         .what = role->what,
                                         .params = role->params,
                                         .n_params = role->n_params,
                                         .hints = hints },
                          reterr);
}

static void advance_role(CredentialsSource *s)
{
        sts_advance(((Role *) s->data)->sts);
}

static uint64_t role_due_in_usec(const CredentialsSource *s)
{
        return sts_due_in_usec(((const Role *) s->data)->sts);
}

static int new_signer(const CredentialsSource *s, const Profile *p, CredentialsSource **ret,
                      char **reterr)
{
        static const struct {
                const char *name;
                const CredentialsKind *kind;
        } sources[] = {
                {"Environment",          &credentials_environment},
                { "EcsContainer",        &credentials_container  },
                { "Ec2InstanceMetadata", &credentials_instance   },
        };

        if (p->source_profile)
                return credentials_source_new_below(s, &credentials_profile, p->source_profile, ret,
                                                    reterr);
        for (size_t i = 0; i < ELEMENTSOF(sources); i++)
                if (streq(p->credential_source, sources[i].name))
                        return credentials_source_new_below(s, sources[i].kind, NULL, ret, reterr);
        return fail(reterr, -EINVAL,
                    "credential_source is '%s': it must be Environment, EcsContainer or "
                    "Ec2InstanceMetadata",
                    p->credential_source);
}

static void add_param(Role *role, const char *name, const char *value)
{
        if (value)
                role->params[role->n_params++] = (NameValue){ name, value };
}

static int open_role(CredentialsSource *s, const Profile *p, Role *role, char **reterr)
{
        const char *session = p->role_session_name ? p->role_session_name : STS_SESSION_NAME;
        int r = sts_role_check(p->role_arn, reterr);

        if (r >= 0)
                r = sts_session_name_check(session, reterr);
        if (r >= 0)
                r = new_signer(s, p, &role->signer, reterr);
        if (r >= 0)
                r = sts_new(s, role->signer, &role->sts, reterr);
        if (r < 0)
                return r;
        add_param(role, "RoleArn", p->role_arn);
        add_param(role, "RoleSessionName", session);
        add_param(role, "ExternalId", p->external_id);
        add_param(role, "DurationSeconds", p->duration_seconds);
        err_set(&role->what, "assume the role %s", p->role_arn);
        return role->what ? 1 : -ENOMEM;
}

int credentials_open_role(CredentialsSource *s, const Profile *p, char **reterr)
{
        s->kind = &credentials_role;
        s->data = calloc(1, sizeof(Role));
        return s->data ? open_role(s, p, s->data, reterr) : -ENOMEM;
}

const CredentialsKind credentials_role = {
        .name = "assumed role",
        .renews = true,
        .close = close_role,
        .fetch = fetch_role,
        .advance = advance_role,
        .due_in_usec = role_due_in_usec,
};
