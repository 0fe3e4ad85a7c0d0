/* SPDX-License-Identifier: Apache-2.0 */
#include "os-release.h"

#include <fcntl.h>

#include "fd.h"
#include "utf8.h"

#define FILE_SIZE_MAX 16384

/* The value that begins at `from`, up to the quote that ends it, or the line's end. */
static void take_value(const char *from, char *ret, size_t size)
{
        const char quote = *from == '"' || *from == '\'' ? *from++ : '\n';
        size_t n = 0;

        for (; *from && *from != quote && *from != '\n' && n < size - 1; from++) {
                if (*from == '\\' && quote != '\'' && from[1] && from[1] != '\n')
                        from++;
                ret[n++] = *from;
        }
        ret[n] = '\0';
        utf8_clean(ret);
}

static const char *value_of(const char *line, const char *name)
{
        size_t n = strlen(name);

        return strncmp(line, name, n) == 0 && line[n] == '=' ? line + n + 1 : NULL;
}

void os_release_parse(const char *text, OsRelease *ret)
{
        *ret = (OsRelease){};
        for (const char *line = text; line; line = strchr(line, '\n')) {
                line += *line == '\n';
                const char *name = value_of(line, "NAME"), *version = value_of(line, "VERSION_ID");
                if (name)
                        take_value(name, ret->name, sizeof(ret->name));
                if (version)
                        take_value(version, ret->version, sizeof(ret->version));
        }
        if (!*ret->name)
                (void) stpcpy(ret->name, "Linux");
}

void os_release_read(OsRelease *ret)
{
        _cleanup_free_ char *text = NULL;
        int r = file_read_at(AT_FDCWD, "/etc/os-release", FILE_SIZE_MAX, &text, NULL);

        if (r < 0)
                r = file_read_at(AT_FDCWD, "/usr/lib/os-release", FILE_SIZE_MAX, &text, NULL);
        os_release_parse(r < 0 ? "" : text, ret);
}
