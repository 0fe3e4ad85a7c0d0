/* SPDX-License-Identifier: Apache-2.0 */
#include "s3-list.h"

#include <errno.h>

#include "name.h"
#include "xml-scan.h"

typedef struct Page {
        const char *prefix;
        uint64_t size_max;
        Sink *keys;
        char *token;
        bool truncated, is_list;
} Page;

static int hex_value(char c)
{
        if (c >= '0' && c <= '9')
                return c - '0';
        c |= 0x20;
        return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Decodes in place; S3 writes a blank as "+" here. */
static int url_decode(char *s)
{
        char *out = s;

        for (; *s; s++)
                if (*s == '%') {
                        int high = hex_value(s[1]), low = high < 0 ? -1 : hex_value(s[2]);
                        if (low < 0 || (high == 0 && low == 0))
                                return -EBADMSG;
                        *out++ = (char) (high << 4 | low);
                        s += 2;
                } else
                        *out++ = *s == '+' ? ' ' : *s;
        *out = '\0';
        return 0;
}

static int take_key(Page *page, const char *text)
{
        _cleanup_free_ char *key = strdup(text);
        size_t n = strlen(page->prefix);
        int r;

        if (!key)
                return -ENOMEM;
        r = url_decode(key);
        if (r < 0)
                return r;
        if (strncmp(key, page->prefix, n) != 0)
                return -EBADMSG;
        if (!store_path_is_valid(key + n))
                return 0;
        if (page->keys->size + strlen(key + n) + 1 > page->size_max)
                return -EFBIG;
        r = sink_write(page->keys, key + n, strlen(key + n));
        return r < 0 ? r : sink_write(page->keys, "\n", 1);
}

static int take_leaf(const char *path, const char *text, void *userdata)
{
        Page *page = userdata;

        if (strncmp(path, "ListBucketResult/", STRLEN("ListBucketResult/")) != 0)
                return 0;
        page->is_list = true;
        path += STRLEN("ListBucketResult/");
        if (streq(path, "Contents/Key"))
                return take_key(page, text);
        if (streq(path, "IsTruncated"))
                page->truncated = streq(text, "true");
        else if (streq(path, "NextContinuationToken")) {
                free(page->token);
                page->token = strdup(text);
                return page->token ? 0 : -ENOMEM;
        }
        return 0;
}

int s3_list_take_page(const char *xml, size_t size, const char *prefix, uint64_t size_max,
                      Sink *keys, char **ret_token)
{
        Page page = { .prefix = prefix, .size_max = size_max, .keys = keys };
        int r = xml_scan(xml, size, take_leaf, &page);

        /* Without a token, a truncated list would look like a whole one. */
        if (r >= 0 && (!page.is_list || (page.truncated && (!page.token || !*page.token))))
                r = -EBADMSG;
        if (r < 0 || !page.truncated) {
                free(page.token);
                page.token = NULL;
        }
        if (r >= 0)
                *ret_token = page.token;
        return r;
}
