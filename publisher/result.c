/* SPDX-License-Identifier: Apache-2.0 */
#include "result.h"

#include <errno.h>

#include "json-read.h"

/* Length of the UTF-8 sequence at s (RFC 3629), 0 if it is none. */
static size_t utf8_length(const unsigned char *s)
{
        static const struct {
                unsigned char first_min, first_max, second_min, second_max;
                size_t length;
        } forms[] = {
                {0x01,  0x7f, 0,    0,    1},
                { 0xc2, 0xdf, 0x80, 0xbf, 2},
                { 0xe0, 0xe0, 0xa0, 0xbf, 3},
                { 0xe1, 0xec, 0x80, 0xbf, 3},
                { 0xed, 0xed, 0x80, 0x9f, 3},
                { 0xee, 0xef, 0x80, 0xbf, 3},
                { 0xf0, 0xf0, 0x90, 0xbf, 4},
                { 0xf1, 0xf3, 0x80, 0xbf, 4},
                { 0xf4, 0xf4, 0x80, 0x8f, 4},
        };

        for (size_t i = 0; i < ELEMENTSOF(forms); i++) {
                if (s[0] < forms[i].first_min || s[0] > forms[i].first_max)
                        continue;
                if (forms[i].length > 1 &&
                    (s[1] < forms[i].second_min || s[1] > forms[i].second_max))
                        return 0;
                for (size_t k = 2; k < forms[i].length; k++)
                        if ((s[k] & 0xc0) != 0x80)
                                return 0;
                return forms[i].length;
        }
        return 0;
}

int result_add_string(cJSON *object, const char *name, const char *value)
{
        if (!value)
                return 0;
        _cleanup_free_ char *clean = strdup(value);
        if (!clean)
                return -ENOMEM;
        for (char *p = clean; *p;) {
                size_t n = utf8_length((unsigned char *) p);
                if (n == 0)
                        *p = '?';
                p += MAX(n, (size_t) 1);
        }
        return cJSON_AddStringToObject(object, name, clean) ? 0 : -ENOMEM;
}

int result_add_uint(cJSON *object, const char *name, uint64_t value)
{
        return cJSON_AddNumberToObject(object, name, value) ? 0 : -ENOMEM;
}

int result_add_bool(cJSON *object, const char *name, bool value)
{
        return cJSON_AddBoolToObject(object, name, value) ? 0 : -ENOMEM;
}

int result_add_time(cJSON *object, const char *name, uint64_t sec)
{
        char text[TIME_TEXT_SIZE];

        return result_add_string(object, name, time_format_utc(sec, text));
}

int result_add_sha256(cJSON *object, const char *name, const Sha256 *digest)
{
        char hex[SHA256_HEX_SIZE];

        return result_add_string(object, name, sha256_to_hex(digest, hex));
}

int result_add_object(cJSON *object, const char *name, cJSON **ret)
{
        cJSON *o = cJSON_AddObjectToObject(object, name);

        if (!o)
                return -ENOMEM;
        *ret = o;
        return 0;
}

int result_add_array(cJSON *object, const char *name, cJSON **ret)
{
        cJSON *array = cJSON_AddArrayToObject(object, name);

        if (!array)
                return -ENOMEM;
        *ret = array;
        return 0;
}

static int append(cJSON *array, cJSON *item)
{
        if (cJSON_AddItemToArray(array, item))
                return 0;
        cJSON_Delete(item);
        return -ENOMEM;
}

int result_append_string(cJSON *array, const char *value)
{
        return append(array, cJSON_CreateString(value));
}

int result_append_object(cJSON *array, cJSON **ret)
{
        cJSON *o = cJSON_CreateObject();
        int r = append(array, o);

        if (r >= 0)
                *ret = o;
        return r;
}
