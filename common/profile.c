/* SPDX-License-Identifier: Apache-2.0 */
#include "profile.h"

#include <fcntl.h>
#include <stdio.h>

#include "err.h"
#include "fd.h"
#include "secret.h"

#define BLANK " \t"

static const struct {
        const char *name;
        size_t offset;
} members[] = {
        {"aws_access_key_id",                offsetof(Profile, key_id)                         },
        { "aws_secret_access_key",           offsetof(Profile, secret)                         },
        { "aws_session_token",               offsetof(Profile, session_token)                  },
        { "region",                          offsetof(Profile, region)                         },
        { "role_arn",                        offsetof(Profile, role_arn)                       },
        { "source_profile",                  offsetof(Profile, source_profile)                 },
        { "credential_source",               offsetof(Profile, credential_source)              },
        { "role_session_name",               offsetof(Profile, role_session_name)              },
        { "external_id",                     offsetof(Profile, external_id)                    },
        { "duration_seconds",                offsetof(Profile, duration_seconds)               },
        { "mfa_serial",                      offsetof(Profile, mfa_serial)                     },
        { "web_identity_token_file",         offsetof(Profile, web_identity_token_file)        },
        { "credential_process",              offsetof(Profile, credential_process)             },
        { "sso_session",                     offsetof(Profile, sso_session)                    },
        { "sso_start_url",                   offsetof(Profile, sso_start_url)                  },
        { "endpoint_url",                    offsetof(Profile, endpoint_url)                   },
        { "services",                        offsetof(Profile, services)                       },
        { "ignore_configured_endpoint_urls", offsetof(Profile, ignore_configured_endpoint_urls)},
};

/* As Profile.service_urls has them. */
static const char *const services[PROFILE_N_SERVICES] = { "ec2", "kms", "s3", "sts" };

/* How far a file is read. */
typedef struct Reading {
        ProfileFile file;
        Profile *profile;
        const char *kind;      /* of the section: its first word; NULL: names alone */
        const char *name;      /* of the section */
        bool in_section, seen; /* that one */
        bool any_section;
        size_t indent;   /* of the last section or member */
        bool has_member; /* there was one in this section */
        char **present;  /* the profile's member that the last line set; NULL: none of ours */
        char **url; /* where that of the service goes whose lines these are; NULL: passed over */
        bool set[ELEMENTSOF(members)]; /* by this file; or services that were said something of */
} Reading;

Profile *profile_free(Profile *p)
{
        if (!p)
                return NULL;
        for (size_t i = 0; i < ELEMENTSOF(members); i++)
                secret_free(*(char **) ((char *) p + members[i].offset));
        for (size_t i = 0; i < PROFILE_N_SERVICES; i++)
                free(p->service_urls[i]);
        free(p->name);
        free(p);
        return NULL;
}

const char *profile_endpoint_url(const Profile *p, const char *service)
{
        for (size_t i = 0; i < PROFILE_N_SERVICES; i++)
                if (streq(services[i], service) && p->service_urls[i])
                        return p->service_urls[i];
        return p->endpoint_url;
}

static void cut_blank_end(char *s)
{
        size_t n = strlen(s);

        while (n > 0 && strchr(BLANK "\r", s[n - 1]))
                s[--n] = '\0';
}

/* A comment begins with the line or after a blank. */
static void cut_comment(char *s)
{
        for (char *c = s; *c; c++)
                if ((*c == '#' || *c == ';') && (c == s || strchr(BLANK, c[-1]))) {
                        *c = '\0';
                        break;
                }
        cut_blank_end(s);
}

/* For the kind "profile": "profile x" or "profile 'x'" -> "x"; NULL: a section of another kind. */
static const char *config_section(const char *kind, char *s)
{
        size_t n = strcspn(s, BLANK);

        if (streq(s, "default") && streq(kind, "profile"))
                return s;
        if (n != strlen(kind) || strncmp(s, kind, n) != 0)
                return NULL;
        s += n + strspn(s + n, BLANK);
        n = strlen(s);
        if (n >= 2 && (*s == '"' || *s == '\'') && s[n - 1] == *s) {
                s[n - 1] = '\0';
                s++;
        }
        return s;
}

static int take_section(Reading *r, char *line, const char **ret_reason)
{
        char *end = strchr(line, ']');
        const char *name;

        *ret_reason = "this is not a section's name in brackets";
        if (!end || (end[1] != '\0' && !strchr(BLANK, end[1])))
                return -EBADMSG;
        *end = '\0';
        line += 1 + strspn(line + 1, BLANK);
        cut_blank_end(line);
        name = r->kind ? config_section(r->kind, line) : line;
        r->any_section = true;
        r->has_member = false;
        r->present = NULL;
        r->in_section = name && streq(name, r->name);
        if (!r->in_section)
                return 0;
        *ret_reason = "this section is here a second time";
        if (r->seen)
                return -EBADMSG;
        r->seen = true;
        return 0;
}

/* The credentials file is read first: what it says stays. */
static int take_value(char **field, const char *value, const char **ret_reason)
{
        *ret_reason = "the value is too long";
        if (strlen(value) > PROFILE_VALUE_SIZE_MAX)
                return -EBADMSG;
        *ret_reason = "the value holds a control character";
        for (const char *c = value; *c; c++)
                if ((unsigned char) *c < ' ' || *c == 0x7f)
                        return -EBADMSG;
        if (*field || !*value)
                return 0;
        *field = strdup(value);
        return *field ? 0 : -ENOMEM;
}

/* "name = value" -> its value; `line` becomes the name. NULL: it is none. */
static char *split_line(char *line)
{
        char *equals = strchr(line, '='), *value;

        if (!equals || equals == line)
                return NULL;
        *equals = '\0';
        value = equals + 1 + strspn(equals + 1, BLANK);
        cut_blank_end(line);
        cut_comment(value);
        return value;
}

/* A member of ours, or a service of ours, which may be there once. */
static int mark_set(Reading *r, size_t i, const char **ret_reason)
{
        *ret_reason = "this member is here a second time";
        if (r->set[i])
                return -EBADMSG;
        r->set[i] = true;
        return 0;
}

static int take_service(Reading *r, size_t i, const char *value, const char **ret_reason)
{
        int k = mark_set(r, i, ret_reason);

        if (k < 0)
                return k;
        *ret_reason = "what is said of a service stands in lines below, indented";
        if (*value)
                return -EBADMSG;
        r->url = &r->profile->service_urls[i];
        return 0;
}

static int take_profile_member(Reading *r, size_t i, const char *value, const char **ret_reason)
{
        int k = mark_set(r, i, ret_reason);

        if (k < 0)
                return k;
        r->present = (char **) ((char *) r->profile + members[i].offset);
        return take_value(r->present, value, ret_reason);
}

static int take_member(Reading *r, char *line, const char **ret_reason)
{
        char *value = split_line(line);

        *ret_reason = "this is neither a section nor \"name = value\"";
        if (!r->any_section || !value)
                return -EBADMSG;
        r->has_member = true;
        r->present = r->url = NULL;
        if (!r->in_section)
                return 0;
        for (size_t i = 0; r->file == PROFILE_SERVICES && i < PROFILE_N_SERVICES; i++)
                if (strcasecmp(line, services[i]) == 0)
                        return take_service(r, i, value, ret_reason);
        for (size_t i = 0; r->file != PROFILE_SERVICES && i < ELEMENTSOF(members); i++)
                if (strcasecmp(line, members[i].name) == 0)
                        return take_profile_member(r, i, value, ret_reason);
        return 0;
}

/* A line that is indented deeper than the one before. */
static int take_deeper(Reading *r, char *line, const char **ret_reason)
{
        const char *value;

        *ret_reason = "a value of the profile goes on here, which is not understood";
        if (!r->url)
                return r->present ? -EBADMSG : 0;
        value = split_line(line);
        *ret_reason = "this is not \"name = value\"";
        if (!value)
                return -EBADMSG;
        if (strcasecmp(line, "endpoint_url") != 0)
                return 0;
        *ret_reason = "this endpoint is here a second time";
        return *r->url ? -EBADMSG : take_value(r->url, value, ret_reason);
}

static int take_line(Reading *r, char *line, const char **ret_reason)
{
        size_t indent = strspn(line, BLANK);

        cut_blank_end(line);
        line += indent;
        if (!*line || *line == '#' || *line == ';')
                return 0;
        if (r->has_member && indent > r->indent)
                return take_deeper(r, line, ret_reason);
        r->indent = indent;
        return *line == '[' ? take_section(r, line, ret_reason) : take_member(r, line, ret_reason);
}

int profile_parse(const char *text, size_t size, ProfileFile file, const char *path, Profile *p,
                  char **reterr)
{
        Reading r = {
                .file = file,
                .profile = p,
                .kind = file == PROFILE_CONFIG     ? "profile"
                        : file == PROFILE_SERVICES ? "services"
                                                   : NULL,
                .name = file == PROFILE_SERVICES ? p->services : p->name,
        };
        const char *end = text + size, *reason = NULL;
        unsigned n = 0;

        if (strlen(text) != size)
                return fail(reterr, -EBADMSG, "%s has a NUL in it", path);
        for (const char *at = text; at < end;) {
                size_t line_size = strcspn(at, "\n");
                char *line = strndup(at, line_size);
                int k = line ? take_line(&r, line, &reason) : -ENOMEM;

                n++;
                if (line)
                        explicit_bzero(line, line_size);
                free(line);
                if (k < 0)
                        return k == -ENOMEM ? k : fail(reterr, k, "%s:%u: %s", path, n, reason);
                at += line_size + 1;
        }
        return r.seen;
}

/* Leaves NULL if there is none to look for. */
static int find_file(const char *variable, const char *usual, char **ret)
{
        const char *named = getenv(variable), *home = getenv("HOME");
        const char *path = named && *named ? named : usual;

        if (strncmp(path, "~/", 2) != 0)
                *ret = strdup(path);
        else if (!home || !*home)
                return 0;
        else if (asprintf(ret, "%s%s", home, path + 1) < 0)
                *ret = NULL;
        return *ret ? 0 : -ENOMEM;
}

static int read_file(const char *path, ProfileFile file, Profile *p, char **reterr)
{
        char *text = NULL;
        size_t size = 0;
        int r;

        /* How people say that there is none. */
        if (!path || streq(path, "/dev/null"))
                return 0;
        r = file_read_at(AT_FDCWD, path, PROFILE_FILE_SIZE_MAX, &text, &size);
        if (r == -ENOENT || r == -ENOTDIR)
                return 0;
        if (r < 0)
                return fail_errno(reterr, r, "can't read %s", path);
        r = profile_parse(text, size, file, path, p, reterr);
        explicit_bzero(text, size);
        free(text);
        return r;
}

int profile_load(const char *name, Profile **ret, char **reterr)
{
        _cleanup_(profile_freep) Profile *p = calloc(1, sizeof(Profile));
        _cleanup_free_ char *credentials = NULL, *config = NULL;
        const char *named = getenv("AWS_PROFILE");
        int r, found;

        if (!p)
                return -ENOMEM;
        p->name = strdup(name ? name : named && *named ? named : "default");
        if (!p->name)
                return -ENOMEM;
        r = find_file("AWS_SHARED_CREDENTIALS_FILE", "~/.aws/credentials", &credentials);
        if (r >= 0)
                r = find_file("AWS_CONFIG_FILE", "~/.aws/config", &config);
        if (r >= 0)
                r = read_file(credentials, PROFILE_CREDENTIALS, p, reterr);
        if (r < 0)
                return r;
        found = r;
        r = read_file(config, PROFILE_CONFIG, p, reterr);
        if (r < 0)
                return r;
        if (!found && r == 0 && !streq(p->name, "default"))
                return fail(reterr, -ENOENT, "the AWS profile '%s' is neither in %s nor in %s",
                            p->name, credentials ? credentials : "~/.aws/credentials",
                            config ? config : "~/.aws/config");
        r = p->services ? read_file(config, PROFILE_SERVICES, p, reterr) : 1;
        if (r == 0)
                return fail(reterr, -ENOENT,
                            "the AWS profile '%s' names services '%s', which are not in %s",
                            p->name, p->services, config ? config : "~/.aws/config");
        if (r < 0)
                return r;
        *ret = TAKE_PTR(p);
        return 0;
}
