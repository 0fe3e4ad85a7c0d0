/* SPDX-License-Identifier: Apache-2.0 */
#include "name.h"

#include <limits.h>

#define ALNUM "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"

bool name_is_valid(const char *s)
{
        size_t size = strlen(s);

        return size > 0 && size <= NAME_SIZE_MAX && strchr(ALNUM, s[0]) &&
               strspn(s, ALNUM "._-") == size;
}

static bool has_control(const char *s)
{
        for (; *s; s++)
                if ((unsigned char) *s < ' ' || *s == 0x7f)
                        return true;
        return false;
}

static bool component_is_clean(const char *s, size_t size)
{
        if (size == 0 || size > NAME_MAX)
                return false;
        return !(size == 1 && s[0] == '.') && !(size == 2 && s[0] == '.' && s[1] == '.');
}

bool tree_path_is_valid(const char *s)
{
        size_t depth = 0;

        if (strlen(s) > TREE_PATH_SIZE_MAX || has_control(s))
                return false;
        for (;;) {
                size_t size = strcspn(s, "/");
                if (!component_is_clean(s, size) || ++depth > TREE_DEPTH_MAX)
                        return false;
                if (s[size] == '\0')
                        return true;
                s += size + 1;
        }
}

bool tree_link_is_inside(const char *path, const char *target)
{
        size_t depth = 0;

        if (target[0] == '\0' || target[0] == '/' || strlen(target) > TREE_PATH_SIZE_MAX ||
            has_control(target))
                return false;
        for (const char *p = path; *p; p++)
                depth += *p == '/';
        for (const char *p = target; *p;) {
                size_t size = strcspn(p, "/");
                if (size == 2 && p[0] == '.' && p[1] == '.') {
                        if (depth == 0)
                                return false;
                        depth--;
                } else if (size > 0 && !(size == 1 && p[0] == '.'))
                        depth++;
                p += size;
                p += strspn(p, "/");
        }
        return true;
}

bool store_path_is_valid(const char *s)
{
        return tree_path_is_valid(s) && strspn(s, ALNUM "._-/") == strlen(s);
}

bool unit_name_is_valid(const char *s)
{
        static const char *const suffixes[] = { ".service", ".socket", ".timer", ".path",
                                                ".target" };
        size_t size = strlen(s);
        const char *dot = strrchr(s, '.');

        if (size == 0 || size > NAME_MAX || !dot || dot == s || s[0] == '@')
                return false;
        if (strspn(s, ALNUM ":-_.\\@") != size)
                return false;
        for (size_t i = 0; i < ELEMENTSOF(suffixes); i++)
                if (streq(dot, suffixes[i]))
                        return true;
        return false;
}
