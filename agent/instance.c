/* SPDX-License-Identifier: Apache-2.0 */
#include "instance.h"

#include <stdio.h>
#include <sys/stat.h>

#include "err.h"
#include "fd.h"
#include "name.h"
#include "utf8.h"

#define FILE_NAME "instance"

Instance *instance_free(Instance *i)
{
        if (!i)
                return NULL;
        for (size_t k = 0; k < i->n_tags; k++) {
                free(i->tags[k].key);
                free(i->tags[k].value);
        }
        free(i->tags);
        free(i->id);
        free(i->region);
        free(i->zone);
        free(i->account);
        free(i->tags_from);
        free(i->tags_error);
        free(i);
        return NULL;
}

int instance_add_tag(Instance *i, const char *key, const char *value)
{
        Tag *larger, *t;

        if (i->n_tags == INSTANCE_TAGS_MAX)
                return -E2BIG;
        larger = array_extend(i->tags, i->n_tags, sizeof(Tag));
        if (!larger)
                return -ENOMEM;
        i->tags = larger;
        t = &larger[i->n_tags++];
        *t = (Tag){ strdup(key), strdup(value) };
        return t->key && t->value ? 0 : -ENOMEM;
}

const char *instance_tag(const Instance *i, const char *key)
{
        for (size_t k = 0; k < i->n_tags; k++)
                if (streq(i->tags[k].key, key))
                        return i->tags[k].value;
        return NULL;
}

static int compare_tags(const void *a, const void *b)
{
        return strcmp(((const Tag *) a)->key, ((const Tag *) b)->key);
}

static void put(FILE *f, const char *text)
{
        fputs(strempty(text), f);
        fputc('\0', f);
}

int instance_pack(Instance *i, char **ret, size_t *ret_size)
{
        char *data = NULL;
        size_t size;
        FILE *f = open_memstream(&data, &size);
        bool bad;

        if (!f)
                return -ENOMEM;
        if (i->n_tags > 0)
                qsort(i->tags, i->n_tags, sizeof(Tag), compare_tags);
        put(f, i->id);
        put(f, i->region);
        put(f, i->zone);
        put(f, i->account);
        put(f, i->tags_from);
        put(f, i->tags_error);
        for (size_t k = 0; k < i->n_tags; k++) {
                put(f, i->tags[k].key);
                put(f, i->tags[k].value);
        }
        bad = ferror(f);
        if (fclose(f) != 0 || bad) {
                free(data);
                return -ENOMEM;
        }
        *ret = data;
        *ret_size = size;
        return 0;
}

/* --- unpacking --- */

typedef struct Texts {
        const char *at, *end;
} Texts;

/* UTF-8 without control characters. */
static bool text_is_clean(const char *s, size_t size)
{
        for (size_t n; size > 0; s += n, size -= n) {
                const unsigned char *p = (const unsigned char *) s;
                n = utf8_sequence_size(p, size);
                if (n == 0 || p[0] < 0x20 || p[0] == 0x7f || (p[0] == 0xc2 && p[1] < 0xa0))
                        return false;
        }
        return true;
}

static int take(Texts *t, size_t size_max, const char **ret)
{
        const char *nul = t->at < t->end ? memchr(t->at, '\0', t->end - t->at) : NULL;
        size_t size;

        if (!nul)
                return -EPROTO;
        size = nul - t->at;
        if (size > size_max || !text_is_clean(t->at, size))
                return -EPROTO;
        *ret = t->at;
        t->at = nul + 1;
        return 0;
}

static int keep(const char *text, char **ret)
{
        if (!*text)
                return 0;
        *ret = strdup(text);
        return *ret ? 0 : -ENOMEM;
}

static int take_name(Texts *t, bool required, char **ret)
{
        const char *text;
        int r = take(t, NAME_SIZE_MAX, &text);

        if (r < 0)
                return r;
        if (*text || required)
                r = name_is_valid(text) ? 0 : -EPROTO;
        return r < 0 ? r : keep(text, ret);
}

static int take_origin(Texts *t, Instance *i)
{
        const char *from, *error;
        int r = take(t, NAME_SIZE_MAX, &from);

        if (r >= 0)
                r = take(t, INSTANCE_REASON_MAX, &error);
        if (r < 0)
                return r;
        if (*from && !streq(from, INSTANCE_TAGS_METADATA) && !streq(from, INSTANCE_TAGS_API))
                return -EPROTO;
        r = keep(from, &i->tags_from);
        return r < 0 ? r : keep(error, &i->tags_error);
}

static int take_tag(Texts *t, Instance *i)
{
        const char *key, *value;
        int r = take(t, TAG_KEY_SIZE_MAX, &key);

        if (r >= 0)
                r = take(t, TAG_VALUE_SIZE_MAX, &value);
        if (r < 0)
                return r;
        if (!*key || !i->tags_from || i->tags_error ||
            (i->n_tags > 0 && strcmp(i->tags[i->n_tags - 1].key, key) >= 0))
                return -EPROTO;
        r = instance_add_tag(i, key, value);
        return r == -E2BIG ? -EPROTO : r;
}

int instance_unpack(const char *data, size_t size, Instance **ret)
{
        _cleanup_(instance_freep) Instance *i = calloc(1, sizeof(Instance));
        Texts t = { data, data + size };
        int r;

        if (!i)
                return -ENOMEM;
        r = take_name(&t, true, &i->id);
        if (r >= 0)
                r = take_name(&t, false, &i->region);
        if (r >= 0)
                r = take_name(&t, false, &i->zone);
        if (r >= 0)
                r = take_name(&t, false, &i->account);
        if (r >= 0)
                r = take_origin(&t, i);
        while (r >= 0 && t.at < t.end)
                r = take_tag(&t, i);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(i);
        return 0;
}

int instance_unpack_fd(int fd, Instance **ret)
{
        _cleanup_free_ char *data = NULL;
        struct stat st;
        int r;

        /* Only a regular file (a memfd is one) can be read without waiting for somebody. */
        if (fstat(fd, &st) < 0)
                return -errno;
        if (!S_ISREG(st.st_mode))
                return -EPROTO;
        if (st.st_size < 0 || st.st_size > INSTANCE_PACKED_MAX)
                return -EFBIG;
        data = malloc(st.st_size + 1);
        if (!data)
                return -ENOMEM;
        r = fd_pread_exactly(fd, data, st.st_size, 0);
        return r < 0 ? r : instance_unpack(data, st.st_size, ret);
}

/* --- remembering --- */

int instance_save(Instance *i, int dir_fd)
{
        _cleanup_free_ char *data = NULL;
        size_t size;
        int r = replace_leftovers_remove_at(dir_fd, FILE_NAME);

        if (r >= 0)
                r = instance_pack(i, &data, &size);
        return r < 0 ? r : file_write_atomic_at(dir_fd, FILE_NAME, data, size, 0600);
}

int instance_load(int dir_fd, Instance **ret)
{
        _cleanup_free_ char *data = NULL;
        size_t size;
        int r = file_read_at(dir_fd, FILE_NAME, INSTANCE_PACKED_MAX, &data, &size);

        return r < 0 ? r : instance_unpack(data, size, ret);
}

bool instance_lacks_tags(const Instance *i)
{
        return i->tags_from && i->tags_error;
}

int instance_keep_tags(Instance *i, const Instance *before)
{
        int r = 0;

        free(TAKE_PTR(i->tags_from));
        free(TAKE_PTR(i->tags_error));
        if (before->tags_from)
                r = keep(before->tags_from, &i->tags_from);
        if (r >= 0 && before->tags_error)
                r = keep(before->tags_error, &i->tags_error);
        for (size_t k = 0; r >= 0 && k < before->n_tags; k++)
                r = instance_add_tag(i, before->tags[k].key, before->tags[k].value);
        return r;
}

bool instance_equal(const Instance *a, const Instance *b)
{
        if (!streq(a->id, b->id) || !streq_ptr(a->region, b->region) ||
            !streq_ptr(a->zone, b->zone) || !streq_ptr(a->account, b->account) ||
            !streq_ptr(a->tags_from, b->tags_from) ||
            !err_text_equal(strempty(a->tags_error), strempty(b->tags_error)) ||
            a->n_tags != b->n_tags)
                return false;
        for (size_t k = 0; k < a->n_tags; k++)
                if (!streq(a->tags[k].key, b->tags[k].key) ||
                    !streq(a->tags[k].value, b->tags[k].value))
                        return false;
        return true;
}
