/* SPDX-License-Identifier: Apache-2.0 */
#include "json-member.h"

#include "time-text.h"

const cJSON *json_member(const cJSON *object, const char *name)
{
        return cJSON_GetObjectItemCaseSensitive(object, name);
}

const char *json_member_text(const cJSON *object, const char *name)
{
        return cJSON_GetStringValue(json_member(object, name));
}

uint64_t json_number(const cJSON *v)
{
        return cJSON_IsNumber(v) && v->valuedouble > 0 ? (uint64_t) v->valuedouble : 0;
}

uint64_t json_member_number(const cJSON *object, const char *name)
{
        return json_number(json_member(object, name));
}

uint64_t json_member_time(const cJSON *object, const char *name)
{
        const char *text = json_member_text(object, name);
        uint64_t sec;

        return text && time_parse_utc(text, &sec) >= 0 ? sec : 0;
}
