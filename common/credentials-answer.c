/* SPDX-License-Identifier: Apache-2.0 */
#include "credentials-answer.h"

#include <stdio.h>

#include "err.h"
#include "json-read.h"
#include "secret.h"
#include "time-text.h"
#include "xml-scan.h"

#define MESSAGE_SIZE_MAX 512

bool credentials_value_is_valid(const char *s)
{
        if (!*s)
                return false;
        for (; *s; s++)
                if (*s <= ' ' || *s > '~')
                        return false;
        return true;
}

static int take_value(const char *text, char **field)
{
        if (*field || !credentials_value_is_valid(text))
                return -EBADMSG;
        *field = strdup(text);
        return *field ? 0 : -ENOMEM;
}

/* "Z", "+02:00": what local time is ahead of UTC. */
static int parse_zone(const char *s, int *ret_sec)
{
        static const char form[] = "+dd:dd";
        const size_t n = sizeof(form) - 1;

        *ret_sec = 0;
        if (streq(s, "Z"))
                return 0;
        if (strlen(s) != n || !strchr("+-", s[0]))
                return -EBADMSG;
        for (size_t i = 1; i < n; i++)
                if (form[i] == 'd' ? s[i] < '0' || s[i] > '9' : s[i] != form[i])
                        return -EBADMSG;
        const int hours = atoi(s + 1), minutes = atoi(s + 4);
        if (hours > 23 || minutes > 59)
                return -EBADMSG;
        *ret_sec = (*s == '-' ? -60 : 60) * (hours * 60 + minutes);
        return 0;
}

int credentials_parse_expiration(const char *text, uint64_t *ret_sec)
{
        const size_t n = TIME_TEXT_SIZE - 2;
        char whole[TIME_TEXT_SIZE];
        const char *rest = text + n;
        uint64_t sec = 0;
        int r, zone_sec;

        if (strlen(text) < n)
                return -EBADMSG;
        if (*rest == '.')
                rest += 1 + strspn(rest + 1, "0123456789");
        (void) snprintf(whole, sizeof(whole), "%.*sZ", (int) n, text);
        r = parse_zone(rest, &zone_sec);
        if (r >= 0)
                r = time_parse_utc(whole, &sec);
        if (r < 0)
                return r;
        *ret_sec = (uint64_t) MAX((int64_t) sec - zone_sec, INT64_C(1));
        return 0;
}

static int take_expiration(const char *text, uint64_t *field)
{
        return *field ? -EBADMSG : credentials_parse_expiration(text, field);
}

/* JSON */

typedef struct Answer {
        Credentials credentials;
        char *code, *message;
} Answer;

static void answer_done(Answer *a)
{
        credentials_done(&a->credentials);
        free(a->code);
        free(a->message);
}

static int parse_value(const cJSON *v, const char *path, void *target, char **reterr)
{
        int r = json_check_text(v, path, 1, CREDENTIALS_ANSWER_SIZE_MAX, reterr);

        if (r < 0)
                return r;
        r = take_value(v->valuestring, target);
        return r == -EBADMSG ? fail(reterr, r, "%s: is not what a credential looks like", path) : r;
}

static int parse_value_or_null(const cJSON *v, const char *path, void *target, char **reterr)
{
        return cJSON_IsNull(v) ? 0 : parse_value(v, path, target, reterr);
}

static int parse_expiration(const cJSON *v, const char *path, void *target, char **reterr)
{
        int r;

        if (cJSON_IsNull(v))
                return 0;
        r = json_check_text(v, path, 1, JSON_STRING_SIZE_MAX, reterr);
        if (r < 0)
                return r;
        r = take_expiration(v->valuestring, target);
        return r == -EBADMSG ? fail(reterr, r, "%s: is not a time", path) : r;
}

static int parse_message(const cJSON *v, const char *path, void *target, char **reterr)
{
        int r = json_check_text(v, path, 0, JSON_STRING_SIZE_MAX, reterr);

        if (r < 0)
                return r;
        *(char **) target = strndup(v->valuestring, MESSAGE_SIZE_MAX);
        return *(char **) target ? 0 : -ENOMEM;
}

/* Without recursion: what holds secrets has no elements. */
static void wipe(cJSON *json)
{
        cJSON *v;

        cJSON_ArrayForEach(v, json) if (cJSON_IsString(v))
                explicit_bzero(v->valuestring, strlen(v->valuestring));
}

static int parse_json(const cJSON *json, Answer *a, char **reterr)
{
        static const JsonField ends[] = {
                {"Code",           parse_message, offsetof(Answer, code), false },
                { "Message", parse_message, offsetof(Answer, message), false },
                {      }
        };
        static const JsonField fields[] = {
                {"AccessKeyId",         parse_value, offsetof(Credentials, key_id), true },
                { "SecretAccessKey", parse_value, offsetof(Credentials, secret), true },
                { "Token",                 parse_value_or_null, offsetof(Credentials, session_token), false },
                { "Expiration",    parse_expiration, offsetof(Credentials, expires_sec), false },
                {                }
        };
        int r = json_dispatch_known(json, "", ends, a, reterr);

        if (r < 0)
                return r;
        if (a->code && !streq(a->code, "Success"))
                return fail(reterr, -ENOKEY, "%s%s%s", *a->code ? a->code : "no success",
                            a->message && *a->message ? ": " : "", strempty(a->message));
        return json_dispatch_known(json, "", fields, &a->credentials, reterr);
}

int credentials_parse_json(const char *data, size_t size, Credentials *ret, char **reterr)
{
        _cleanup_(answer_done) Answer a = {};
        _cleanup_json_ cJSON *json = NULL;
        int r = json_parse(data, size, &json, reterr);

        if (r < 0)
                return r;
        r = parse_json(json, &a, reterr);
        wipe(json);
        if (r < 0)
                return r;
        *ret = a.credentials;
        a.credentials = (Credentials){};
        return 0;
}

/* XML */

/* "AssumeRoleResponse/AssumeRoleResult/Credentials/SecretAccessKey" -> "SecretAccessKey" */
static const char *member_of(const char *path)
{
        static const char *const starts[] = {
                "AssumeRoleResponse/AssumeRoleResult/Credentials/",
                "AssumeRoleWithWebIdentityResponse/AssumeRoleWithWebIdentityResult/Credentials/",
        };

        for (size_t i = 0; i < ELEMENTSOF(starts); i++)
                if (strncmp(path, starts[i], strlen(starts[i])) == 0)
                        return path + strlen(starts[i]);
        return "";
}

static int take_leaf(const char *path, const char *text, void *userdata)
{
        const char *member = member_of(path);
        Credentials *c = userdata;

        if (streq(member, "AccessKeyId"))
                return take_value(text, &c->key_id);
        if (streq(member, "SecretAccessKey"))
                return take_value(text, &c->secret);
        if (streq(member, "SessionToken"))
                return take_value(text, &c->session_token);
        return streq(member, "Expiration") ? take_expiration(text, &c->expires_sec) : 0;
}

int credentials_parse_sts(const char *data, size_t size, Credentials *ret, char **reterr)
{
        _cleanup_(credentials_done) Credentials c = {};
        int r = xml_scan(data, size, take_leaf, &c);

        if (r >= 0 && (!c.key_id || !c.secret || !c.session_token || c.expires_sec == 0))
                r = -EBADMSG;
        if (r < 0)
                return fail(reterr, r, "these are no credentials as STS gives them");
        *ret = c;
        c = (Credentials){};
        return 0;
}
