/* SPDX-License-Identifier: Apache-2.0 */
#include "audit-findings.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>

#include "result.h"
#include "utf8.h"

static const char *const words[_FINDING_WEIGHT_MAX] = {
        [FINDING_FAILED] = "failed",
        [FINDING_LOOK] = "look",
        [FINDING_NOTE] = "note",
};

static int add_json(AuditFindings *f, FindingWeight weight, const char *kind, const char *object,
                    const char *text)
{
        cJSON *entry;
        int r = result_append_object(f->array, &entry);

        if (r >= 0)
                r = result_add_string(entry, "weight", words[weight]);
        if (r >= 0)
                r = result_add_string(entry, "kind", kind);
        if (r >= 0)
                r = result_add_string(entry, "object", object);
        return r < 0 ? r : result_add_string(entry, "text", text);
}

int audit_finding(AuditFindings *f, FindingWeight weight, const char *kind, const char *object,
                  const char *format, ...)
{
        _cleanup_free_ char *text = NULL;
        size_t n_all = 0, n_object = strlen(object);
        va_list ap;

        va_start(ap, format);
        int n = vasprintf(&text, format, ap);
        va_end(ap);
        if (n < 0) {
                text = NULL;
                return -ENOMEM;
        }
        utf8_clean(text); /* what a store holds must not make up lines, or steer a terminal */
        for (size_t i = 0; i < _FINDING_WEIGHT_MAX; i++)
                n_all += f->n[i];
        f->n[weight]++;
        /* Most errors name what they are about. */
        bool has_object = strncmp(text, object, n_object) == 0;
        if (f->print)
                printf("%-7s %s%s%s\n", words[weight], has_object ? "" : object,
                       has_object ? "" : ": ", text);
        return n_all < FINDINGS_JSON_MAX ? add_json(f, weight, kind, object, text) : 0;
}
