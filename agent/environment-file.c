/* SPDX-License-Identifier: Apache-2.0 */
#include "environment-file.h"

#include <ctype.h>
#include <fcntl.h>
#include <stdlib.h>

#include "err.h"
#include "fd.h"

#define BLANK " \t\r"

static bool is_name(const char *s)
{
        if (!isalpha((unsigned char) *s) && *s != '_')
                return false;
        for (; *s; s++)
                if (!isalnum((unsigned char) *s) && *s != '_')
                        return false;
        return true;
}

static void cut_blank_end(char *s)
{
        size_t size = strlen(s);

        while (size > 0 && strchr(BLANK, s[size - 1]))
                s[--size] = '\0';
}

/* Takes the quotes off, in place. */
static int take_value(char *s, char **ret)
{
        char quote = *s == '"' || *s == '\'' ? *s : '\0';
        size_t size = strlen(s);

        if (strchr(s, '\\'))
                return -EBADMSG;
        if (quote) {
                if (size < 2 || s[size - 1] != quote)
                        return -EBADMSG;
                s[size - 1] = '\0';
                s++;
                if (strchr(s, quote))
                        return -EBADMSG;
        }
        *ret = s;
        return 0;
}

static int take_line(char *line)
{
        char *value, *equals;
        int r;

        line += strspn(line, BLANK);
        cut_blank_end(line);
        if (*line == '\0' || *line == '#' || *line == ';')
                return 0;
        equals = strchr(line, '=');
        if (!equals)
                return -EBADMSG;
        *equals = '\0';
        cut_blank_end(line);
        value = equals + 1 + strspn(equals + 1, BLANK);
        r = is_name(line) ? take_value(value, &value) : -EBADMSG;
        if (r < 0)
                return r;
        return setenv(line, value, 0) < 0 ? -errno : 0;
}

int environment_file_load(const char *path, char **reterr)
{
        _cleanup_free_ char *text = NULL;
        unsigned n = 0;
        char *rest;
        int r = file_read_at(AT_FDCWD, path, ENVIRONMENT_FILE_SIZE_MAX, &text, NULL);

        if (r == -ENOENT)
                return 0;
        if (r < 0)
                return fail_errno(reterr, r, "can't read %s", path);
        rest = text;
        for (char *line = strsep(&rest, "\n"); line; line = strsep(&rest, "\n")) {
                n++;
                r = take_line(line);
                if (r < 0)
                        return fail(reterr, r,
                                    "%s:%u: this is not NAME=VALUE as it can be read here", path,
                                    n);
        }
        return 0;
}
