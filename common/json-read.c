/* SPDX-License-Identifier: Apache-2.0 */
#include "json-read.h"

#include <stdio.h>

#include "digest.h"
#include "err.h"
#include "json-scan.h"
#include "name.h"

#define PATH_KEY_SHOWN_MAX 64

static unsigned line_at(const char *data, size_t pos, unsigned *ret_column)
{
        unsigned line = 1;
        size_t start = 0;

        for (size_t i = 0; i < pos; i++)
                if (data[i] == '\n') {
                        line++;
                        start = i + 1;
                }
        *ret_column = (unsigned) (pos - start + 1);
        return line;
}

int json_parse(const char *data, size_t size, cJSON **ret, char **reterr)
{
        JsonScanner s = { .data = data, .size = size };
        unsigned line, column;
        cJSON *tree;
        int r;

        json_scan_start(&s);
        do {
                r = json_scan_key(&s);
                if (r == 0)
                        r = json_scan_value(&s);
        } while (r > 0);
        if (r < 0) {
                line = line_at(data, s.pos, &column);
                return fail(reterr, r, "line %u, column %u: %s", line, column, s.reason);
        }
        /* The NUL counts: cJSON looks for it, and without that ignores what follows. */
        tree = cJSON_ParseWithLengthOpts(data, size + 1, NULL, true);
        if (!tree)
                return -ENOMEM;
        *ret = tree;
        return 0;
}

static bool key_is_plain(const char *key)
{
        return key[0] && !key[strspn(key, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
                                          "0123456789_-$")];
}

static char *path_member(const char *path, const char *key)
{
        char shown[PATH_KEY_SHOWN_MAX + 1];
        char *s = NULL;
        size_t i;

        if (key_is_plain(key) && strlen(key) <= PATH_KEY_SHOWN_MAX)
                return asprintf(&s, "%s%s%s", path, path[0] ? "." : "", key) < 0 ? NULL : s;
        for (i = 0; i < PATH_KEY_SHOWN_MAX && key[i]; i++)
                shown[i] = key[i] >= ' ' && key[i] < 0x7f && key[i] != '"' ? key[i] : '?';
        shown[i] = '\0';
        return asprintf(&s, "%s[\"%s\"]", path, shown) < 0 ? NULL : s;
}

static char *path_element(const char *path, size_t index)
{
        char *s = NULL;

        return asprintf(&s, "%s[%zu]", path, index) < 0 ? NULL : s;
}

/* The path as a message's subject: the document itself has none. */
static const char *subject(const char *path)
{
        return path[0] ? path : "the document";
}

static const char *kind_of(const cJSON *v)
{
        return cJSON_IsObject(v)   ? "an object"
               : cJSON_IsArray(v)  ? "an array"
               : cJSON_IsString(v) ? "a string"
               : cJSON_IsNumber(v) ? "a number"
               : cJSON_IsBool(v)   ? "true or false"
                                   : "null";
}

int json_fail_type(const cJSON *v, const char *path, const char *wanted, char **reterr)
{
        return fail(reterr, -EBADMSG, "%s: must be %s, is %s", subject(path), wanted, kind_of(v));
}

/* Calls a field's parse function with the member's path. */
static int dispatch_member(const cJSON *value, const char *path, const JsonField *field,
                           void *target, char **reterr)
{
        _cleanup_free_ char *member = path_member(path, field->name);

        if (!member)
                return -ENOMEM;
        return field->parse(value, member, (char *) target + field->offset, reterr);
}

static const JsonField *field_find(const JsonField *fields, const char *name)
{
        for (; fields->name; fields++)
                if (streq(fields->name, name))
                        return fields;
        return NULL;
}

static int fail_member(char **reterr, const char *path, const char *name, const char *reason)
{
        _cleanup_free_ char *member = path_member(path, name);

        return fail(reterr, -EBADMSG, "%s: %s", strempty(member), reason);
}

static int fail_if_missing(const JsonField *fields, uint64_t seen, const char *path, char **reterr)
{
        for (size_t i = 0; fields[i].name; i++)
                if (fields[i].required && !(seen & UINT64_C(1) << i))
                        return fail_member(reterr, path, fields[i].name, "missing");
        return 0;
}

/* What it says goes for all the rest, wherever it stands. */
static int judge_schema(const cJSON *object, const char *path, const JsonField *fields,
                        void *target, char **reterr)
{
        const JsonField *field = field_find(fields, JSON_SCHEMA);
        const cJSON *v = cJSON_GetObjectItemCaseSensitive(object, JSON_SCHEMA);

        return field && v ? dispatch_member(v, path, field, target, reterr) : 0;
}

static int dispatch(const cJSON *object, const char *path, const JsonField *fields,
                    bool ignore_unknown, void *target, char **reterr)
{
        uint64_t seen = 0;
        const cJSON *v;
        int r;

        if (!cJSON_IsObject(object))
                return json_fail_type(object, path, "an object", reterr);
        r = judge_schema(object, path, fields, target, reterr);
        if (r < 0)
                return r;
        cJSON_ArrayForEach(v, object)
        {
                const JsonField *field = field_find(fields, v->string);
                if (!field && ignore_unknown)
                        continue;
                if (!field)
                        return fail_member(reterr, path, v->string,
                                           "this version knows no such member");
                uint64_t bit = UINT64_C(1) << (field - fields);
                if (seen & bit)
                        return fail_member(reterr, path, v->string, "stands there twice");
                seen |= bit;
                r = dispatch_member(v, path, field, target, reterr);
                if (r < 0)
                        return r;
        }
        return fail_if_missing(fields, seen, path, reterr);
}

int json_dispatch(const cJSON *object, const char *path, const JsonField *fields, void *target,
                  char **reterr)
{
        return dispatch(object, path, fields, false, target, reterr);
}

int json_dispatch_known(const cJSON *object, const char *path, const JsonField *fields,
                        void *target, char **reterr)
{
        return dispatch(object, path, fields, true, target, reterr);
}

bool json_schema_is_newer(const char *schema, const char *known)
{
        size_t size = (size_t) (strrchr(known, '/') - known) + 1;

        return strncmp(schema, known, size) == 0 &&
               strtoul(schema + size, NULL, 10) > strtoul(known + size, NULL, 10);
}

int json_each(const cJSON *array, const char *path, size_t n_max, json_parse_t each, void *target,
              char **reterr)
{
        size_t i = 0;
        const cJSON *v;
        int r;

        if (!cJSON_IsArray(array))
                return json_fail_type(array, path, "an array", reterr);
        cJSON_ArrayForEach(v, array)
        {
                if (i >= n_max)
                        return fail(reterr, -EBADMSG, "%s: has more than %zu elements",
                                    subject(path), n_max);
                _cleanup_free_ char *element = path_element(path, i++);
                if (!element)
                        return -ENOMEM;
                r = each(v, element, target, reterr);
                if (r < 0)
                        return r;
        }
        return 0;
}

static bool key_came_before(const cJSON *object, const cJSON *v)
{
        for (const cJSON *e = object->child; e != v; e = e->next)
                if (streq(e->string, v->string))
                        return true;
        return false;
}

int json_each_member(const cJSON *object, const char *path, size_t n_max, json_parse_t each,
                     void *target, char **reterr)
{
        size_t n = 0;
        const cJSON *v;
        int r;

        if (!cJSON_IsObject(object))
                return json_fail_type(object, path, "an object", reterr);
        cJSON_ArrayForEach(v, object)
        {
                if (n++ >= n_max)
                        return fail(reterr, -EBADMSG, "%s: has more than %zu members",
                                    subject(path), n_max);
                if (key_came_before(object, v))
                        return fail_member(reterr, path, v->string, "stands there twice");
                _cleanup_free_ char *member = path_member(path, v->string);
                if (!member)
                        return -ENOMEM;
                r = each(v, member, target, reterr);
                if (r < 0)
                        return r;
        }
        return 0;
}

/* C0, DEL, and C1 (U+0080..U+009F), which some terminals obey. The text is UTF-8. */
static bool has_control(const char *s)
{
        for (const unsigned char *p = (const unsigned char *) s; *p; p++)
                if (*p < ' ' || *p == 0x7f || (*p == 0xc2 && p[1] < 0xa0))
                        return true;
        return false;
}

static int store_string(const char *s, void *target)
{
        char *copy = strdup(s);

        if (!copy)
                return -ENOMEM;
        free(*(char **) target);
        *(char **) target = copy;
        return 0;
}

int json_check_text(const cJSON *v, const char *path, size_t size_min, size_t size_max,
                    char **reterr)
{
        if (!cJSON_IsString(v))
                return json_fail_type(v, path, "a string", reterr);
        size_t size = strlen(v->valuestring);
        if (size < size_min)
                return fail(reterr, -EBADMSG, "%s: must not be empty", path);
        if (size > size_max)
                return fail(reterr, -EBADMSG, "%s: is longer than %zu bytes", path, size_max);
        if (has_control(v->valuestring))
                return fail(reterr, -EBADMSG, "%s: holds a control character", path);
        return 0;
}

int json_parse_string(const cJSON *v, const char *path, void *target, char **reterr)
{
        int r = json_check_text(v, path, 1, JSON_STRING_SIZE_MAX, reterr);

        return r < 0 ? r : store_string(v->valuestring, target);
}

int json_parse_name(const cJSON *v, const char *path, void *target, char **reterr)
{
        int r = json_check_text(v, path, 1, JSON_STRING_SIZE_MAX, reterr);

        if (r < 0)
                return r;
        if (!name_is_valid(v->valuestring))
                return fail(reterr, -EBADMSG,
                            "%s: \"%s\" is not a name (letters, digits, \".\", \"_\" and \"-\", "
                            "starting with a letter or digit, at most %d)",
                            path, v->valuestring, NAME_SIZE_MAX);
        return store_string(v->valuestring, target);
}

int json_parse_uint(const cJSON *v, const char *path, void *target, char **reterr)
{
        if (!cJSON_IsNumber(v))
                return json_fail_type(v, path, "a whole number", reterr);
        if (v->valuedouble < 0)
                return fail(reterr, -EBADMSG, "%s: must not be negative", path);
        *(uint64_t *) target = (uint64_t) v->valuedouble;
        return 0;
}

int json_parse_counter(const cJSON *v, const char *path, void *target, char **reterr)
{
        int r = json_parse_uint(v, path, target, reterr);

        if (r < 0)
                return r;
        return *(uint64_t *) target > 0 ? 0
                                        : fail(reterr, -EBADMSG, "%s: must be at least 1", path);
}

int json_parse_bool(const cJSON *v, const char *path, void *target, char **reterr)
{
        if (!cJSON_IsBool(v))
                return json_fail_type(v, path, "true or false", reterr);
        *(bool *) target = cJSON_IsTrue(v);
        return 0;
}

int json_parse_sha256(const cJSON *v, const char *path, void *target, char **reterr)
{
        if (!cJSON_IsString(v))
                return json_fail_type(v, path, "a string", reterr);
        if (sha256_from_hex(v->valuestring, target) < 0)
                return fail(reterr, -EBADMSG,
                            "%s: must be a SHA-256 digest of 64 digits 0-9 and a-f", path);
        return 0;
}

int json_parse_time(const cJSON *v, const char *path, void *target, char **reterr)
{
        if (!cJSON_IsString(v))
                return json_fail_type(v, path, "a string", reterr);
        if (time_parse_utc(v->valuestring, target) < 0)
                return fail(reterr, -EBADMSG,
                            "%s: must be a time in UTC such as \"2026-11-22T14:00:00Z\"", path);
        return 0;
}

int json_parse_duration(const cJSON *v, const char *path, void *target, char **reterr)
{
        if (!cJSON_IsString(v))
                return json_fail_type(v, path, "a string such as \"10s\"", reterr);
        if (duration_parse(v->valuestring, target) < 0)
                return fail(reterr, -EBADMSG,
                            "%s: must be a whole number with one of the units ms, s, min, h, such "
                            "as \"10s\"",
                            path);
        return 0;
}

int json_add_uint(cJSON *object, const char *name, uint64_t value)
{
        char text[24];

        if (value > JSON_UINT_MAX)
                return -ERANGE;
        snprintf(text, sizeof(text), "%llu", (unsigned long long) value);
        return cJSON_AddRawToObject(object, name, text) ? 0 : -ENOMEM;
}

/* The present member's name as cJSON reads it, to be freed by cJSON_Delete(). */
static cJSON *key_decode(const JsonScanner *s, const JsonLevel *l)
{
        return cJSON_ParseWithLength(s->data + l->key_pos, l->key_size);
}

/* The path of the value at which the scanner stands. */
static char *scan_path(const JsonScanner *s)
{
        char *path = strdup("");

        for (size_t i = 0; path && i < s->depth; i++) {
                const JsonLevel *l = &s->levels[i];
                _cleanup_free_ char *above = path;
                if (l->object) {
                        _cleanup_json_ cJSON *key = key_decode(s, l);
                        path = key ? path_member(above, key->valuestring) : NULL;
                } else
                        path = path_element(above, l->index);
        }
        return path;
}

/* True if `path` is what `text` starts with, or an object or array around that. */
static bool path_leads_to(const char *path, const char *text)
{
        size_t size = strlen(path);

        return strncmp(text, path, size) == 0 && (size == 0 || strchr(".[:", text[size]));
}

unsigned json_line_of(const char *data, size_t size, const char *path)
{
        JsonScanner s = { .data = data, .size = size };
        size_t found = SIZE_MAX, found_size = 0;
        unsigned column;
        int r;

        json_scan_start(&s);
        do {
                size_t pos = s.pos;
                r = json_scan_key(&s);
                if (r < 0)
                        break;
                _cleanup_free_ char *here = scan_path(&s);
                if (here && path_leads_to(here, path) && strlen(here) >= found_size) {
                        found = pos;
                        found_size = strlen(here);
                }
                r = json_scan_value(&s);
        } while (r > 0);
        return found == SIZE_MAX ? 0 : line_at(data, found, &column);
}
