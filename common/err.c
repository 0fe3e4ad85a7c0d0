/* SPDX-License-Identifier: Apache-2.0 */
#include "err.h"

#include <stdarg.h>
#include <stdio.h>

static void set_text(char **reterr, char *text)
{
        if (!reterr) {
                free(text);
                return;
        }
        free(*reterr);
        *reterr = text;
}

static _printf_(1, 0) char *format_text(const char *format, va_list ap)
{
        char *s = NULL;

        return vasprintf(&s, format, ap) < 0 ? NULL : s;
}

void err_set(char **reterr, const char *format, ...)
{
        va_list ap;

        va_start(ap, format);
        set_text(reterr, format_text(format, ap));
        va_end(ap);
}

void err_set_errno(char **reterr, int error, const char *format, ...)
{
        _cleanup_free_ char *head = NULL;
        char *whole = NULL;
        va_list ap;

        va_start(ap, format);
        head = format_text(format, ap);
        va_end(ap);
        if (head && asprintf(&whole, "%s: %s", head, strerror(abs(error))) < 0)
                whole = NULL;
        set_text(reterr, whole);
}

void err_prefix(char **reterr, const char *format, ...)
{
        _cleanup_free_ char *head = NULL;
        char *whole = NULL;
        va_list ap;

        if (!reterr || !*reterr)
                return;
        va_start(ap, format);
        head = format_text(format, ap);
        va_end(ap);
        if (head && asprintf(&whole, "%s: %s", head, *reterr) < 0)
                whole = NULL;
        if (whole)
                set_text(reterr, whole);
}

#define REQUEST_ID "request id "

bool err_text_equal(const char *a, const char *b)
{
        for (; *a && *a == *b; a++, b++)
                if (strncmp(a, REQUEST_ID, STRLEN(REQUEST_ID)) == 0 &&
                    strncmp(b, REQUEST_ID, STRLEN(REQUEST_ID)) == 0) {
                        a += strcspn(a, ")");
                        b += strcspn(b, ")");
                        if (!*a || *a != *b)
                                break;
                }
        return *a == *b;
}

const char *err_text(int error, const char *err)
{
        return err ? err : strerror(abs(error));
}
