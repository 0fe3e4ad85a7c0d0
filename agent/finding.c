/* SPDX-License-Identifier: Apache-2.0 */
#include "finding.h"

#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>

#include "admin-text.h"
#include "json-read.h"

static const char *const level_names[_FINDING_LEVEL_MAX] = {
        [FINDING_OK] = "ok",
        [FINDING_NOTE] = "note",
        [FINDING_WARN] = "warn",
        [FINDING_FAIL] = "fail",
};

const char *finding_level_to_string(FindingLevel l)
{
        return level_names[l];
}

void findings_done(Findings *f)
{
        for (size_t i = 0; i < f->n; i++) {
                free(f->items[i].text);
                free(f->items[i].mend);
        }
        free(f->items);
        *f = (Findings){};
}

void findings_add(Findings *f, FindingLevel level, const char *area, const char *format, ...)
{
        Finding *items = reallocarray(f->items, f->n + 1, sizeof(Finding));
        char *text = NULL;
        va_list ap;

        va_start(ap, format);
        if (vasprintf(&text, format, ap) < 0)
                text = NULL;
        va_end(ap);
        if (items)
                f->items = items;
        if (!items || !text) {
                free(text);
                f->error = -ENOMEM;
                return;
        }
        items[f->n++] = (Finding){ .level = level, .area = area, .text = text };
}

void findings_mend(Findings *f, const char *format, ...)
{
        char *mend;
        va_list ap;
        int n;

        va_start(ap, format);
        n = vasprintf(&mend, format, ap);
        va_end(ap);
        if (n < 0)
                f->error = -ENOMEM;
        else if (f->n == 0)
                free(mend);
        else {
                free(f->items[f->n - 1].mend);
                f->items[f->n - 1].mend = mend;
        }
}

FindingLevel findings_worst(const Findings *f)
{
        FindingLevel worst = FINDING_OK;

        for (size_t i = 0; i < f->n; i++)
                worst = MAX(worst, f->items[i].level);
        return worst;
}

void findings_print(const Findings *f, FILE *file)
{
        for (size_t i = 0; i < f->n; i++) {
                const Finding *e = &f->items[i];

                fprintf(file, "%-4s  %-6s  %s", level_names[e->level], e->area,
                        text_clean(e->text));
                if (e->mend)
                        fprintf(file, ". To mend it: %s", text_clean(e->mend));
                fputc('\n', file);
        }
}

static bool add_finding(cJSON *list, const Finding *e)
{
        cJSON *o = cJSON_CreateObject();

        if (o && cJSON_AddStringToObject(o, "level", level_names[e->level]) &&
            cJSON_AddStringToObject(o, "area", e->area) &&
            cJSON_AddStringToObject(o, "text", e->text) &&
            (!e->mend || cJSON_AddStringToObject(o, "mend", e->mend)) &&
            cJSON_AddItemToArray(list, o))
                return true;
        cJSON_Delete(o);
        return false;
}

int findings_format(const Findings *f, cJSON **ret)
{
        _cleanup_json_ cJSON *o = cJSON_CreateObject();
        cJSON *list;

        if (!o || !cJSON_AddStringToObject(o, "worst", level_names[findings_worst(f)]))
                return -ENOMEM;
        list = cJSON_AddArrayToObject(o, "findings");
        if (!list)
                return -ENOMEM;
        for (size_t i = 0; i < f->n; i++)
                if (!add_finding(list, &f->items[i]))
                        return -ENOMEM;
        *ret = TAKE_PTR(o);
        return 0;
}
