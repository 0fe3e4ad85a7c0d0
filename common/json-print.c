/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>

#include "json-print.h"
#include "json-read.h"
#include "macro.h"

#define CJSON_EXACT_MAX 999999999999999.0

/* The children of the trees of json-read.h are not deeper than JSON_DEPTH_MAX, and what is built
 * here is flat: as cJSON's own functions, these call themselves for each level. */

/* Leaves texts in place of numbers. */
/* NOLINTNEXTLINE(misc-no-recursion): as deep as said above */
static bool put_texts(cJSON *v)
{
        bool ok = true;

        if (cJSON_IsNumber(v) && v->valuedouble > CJSON_EXACT_MAX &&
            v->valuedouble <= (double) JSON_UINT_MAX) {
                char *text = NULL;

                if (asprintf(&text, "%.0f", v->valuedouble) < 0)
                        return false;
                v->valuestring = text;
                v->type = (v->type & ~0xff) | cJSON_Raw;
        }
        for (cJSON *child = v->child; child && ok; child = child->next)
                ok = put_texts(child);
        return ok;
}

/* NOLINTNEXTLINE(misc-no-recursion): as deep as said above */
static void take_texts(cJSON *v)
{
        if (cJSON_IsRaw(v) && v->valuedouble > CJSON_EXACT_MAX) {
                free(TAKE_PTR(v->valuestring));
                v->type = (v->type & ~0xff) | cJSON_Number;
        }
        for (cJSON *child = v->child; child; child = child->next)
                take_texts(child);
}

/* Only strings can have one. Takes text. */
static char *escape_deletes(char *text)
{
        static const char escape[] = "\\u007f";
        _cleanup_free_ char *owned = text;
        char *escaped = malloc(strlen(text) * (sizeof(escape) - 1) + 1), *to = escaped;

        if (!escaped)
                return NULL;
        for (const char *s = text; *s; s++)
                if (*s == '\x7f')
                        to = stpcpy(to, escape);
                else
                        *to++ = *s;
        *to = '\0';
        return escaped;
}

char *json_print(const cJSON *tree, bool formatted)
{
        cJSON *v = (cJSON *) tree; /* it is the same again afterwards */
        char *text = NULL;

        if (put_texts(v))
                text = formatted ? cJSON_Print(v) : cJSON_PrintUnformatted(v);
        take_texts(v);
        return text && strchr(text, '\x7f') ? escape_deletes(text) : text;
}
