/* SPDX-License-Identifier: Apache-2.0 */
#include "placeholder.h"

#include <stdio.h>

#include "err.h"
#include "name.h"

static int value_of_tag(const Placeholders *p, const char *key, const char **ret, char **reterr)
{
        for (size_t i = 0; i < p->n_tags; i++)
                if (streq(p->tags[i].key, key)) {
                        *ret = p->tags[i].value;
                        return 0;
                }
        return fail(reterr, -ENODATA,
                    "{tag:%s} has no value: there is no such tag here; set it in \"tags\", or "
                    "tag the EC2 instance",
                    key);
}

static int value_of(const Placeholders *p, const char *name, const char **ret, char **reterr)
{
        const char *value = NULL;

        if (strncmp(name, "tag:", STRLEN("tag:")) == 0)
                return value_of_tag(p, name + STRLEN("tag:"), ret, reterr);
        if (streq(name, "app"))
                value = p->app;
        else if (streq(name, "channel") && p->channel)
                value = p->channel;
        else if (streq(name, "instance-id"))
                value = p->instance;
        else if (streq(name, "region") || streq(name, "zone"))
                value = streq(name, "region") ? p->region : p->zone;
        else
                return fail(reterr, -EBADMSG,
                            "{%s} is not known here (there are {app}, {channel}, {instance-id}, "
                            "{region}, {zone} and {tag:Key})",
                            name);
        if (!value)
                return fail(reterr, -ENODATA, "{%s} has no value: set \"%s\"", name, name);
        *ret = value;
        return 0;
}

/* Writes the value of the placeholder at `s`, a "{". Returns its length in the text. */
static ssize_t expand_one(const Placeholders *p, const char *s, FILE *out, char **reterr)
{
        size_t size = strcspn(s + 1, "{}");
        _cleanup_free_ char *name = strndup(s + 1, size);
        const char *value = NULL;
        int r;

        if (!name)
                return -ENOMEM;
        if (s[1 + size] != '}')
                return fail(reterr, -EBADMSG, "\"{\" without \"}\"");
        r = value_of(p, name, &value, reterr);
        if (r < 0)
                return r;
        if (!name_is_valid(value))
                return fail(reterr, -EBADMSG,
                            "{%s} is \"%s\" here, which is not a name (letters, digits, \".\", "
                            "\"_\" and \"-\", starting with a letter or digit, at most %d)",
                            name, value, NAME_SIZE_MAX);
        fputs(value, out);
        return (ssize_t) size + 2;
}

static int expand_to(const Placeholders *p, const char *s, FILE *out, char **reterr)
{
        while (*s) {
                size_t size = strcspn(s, "{}");
                fwrite(s, 1, size, out);
                s += size;
                if (*s == '}')
                        return fail(reterr, -EBADMSG, "\"}\" without \"{\"");
                if (*s == '{') {
                        ssize_t n = expand_one(p, s, out, reterr);
                        if (n < 0)
                                return (int) n;
                        s += n;
                }
        }
        /* A memory stream has one way to fail. */
        return ferror(out) ? -ENOMEM : 0;
}

int placeholders_expand(const Placeholders *p, char **text, char **reterr)
{
        char *expanded = NULL;
        size_t size;
        FILE *out = open_memstream(&expanded, &size);
        int r;

        if (!out)
                return -ENOMEM;
        r = expand_to(p, *text, out, reterr);
        if (fclose(out) != 0 && r == 0)
                r = -ENOMEM;
        if (r < 0) {
                free(expanded);
                return r;
        }
        free(*text);
        *text = expanded;
        return 0;
}
