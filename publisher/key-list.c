/* SPDX-License-Identifier: Apache-2.0 */
#include "key-list.h"

#include "err.h"
#include "key-source.h"
#include "verbs.h"

/* Fewer digits are no id, and may be the name of a file. */
#define ID_DIGITS_MIN 8

void key_list_done(KeyList *l)
{
        for (size_t i = 0; i < l->n_keys; i++)
                key_free(l->keys[i]);
        free(l->keys);
        *l = (KeyList){};
}

/* Takes the key. */
static int append(KeyList *l, Key *k)
{
        Key **larger = reallocarray(l->keys, l->n_keys + 1, sizeof(Key *));

        if (!larger) {
                key_free(k);
                return -ENOMEM;
        }
        l->keys = larger;
        l->keys[l->n_keys++] = k;
        return 0;
}

int key_list_load(const Strings *names, int (*load)(const char *name, Key **ret, char **reterr),
                  KeyList *ret, char **reterr)
{
        _cleanup_(key_list_done) KeyList l = {};

        for (size_t i = 0; i < names->n_items; i++) {
                Key *k = NULL;
                int r = load(names->items[i], &k, reterr);
                if (r >= 0)
                        r = append(&l, k);
                if (r < 0)
                        return r;
        }
        *ret = l;
        l = (KeyList){};
        return 0;
}

int key_list_copy(KeyList *l, const Key *k)
{
        size_t size;
        const uint8_t *der = key_public_der(k, &size);
        Key *copy = NULL;
        int r = key_from_der(der, size, &copy, NULL);

        return r < 0 ? r : append(l, copy);
}

static bool has(const KeyList *l, const Sha256 *id)
{
        for (size_t i = 0; i < l->n_keys; i++)
                if (sha256_equal(key_id(l->keys[i]), id))
                        return true;
        return false;
}

int key_list_add(KeyList *l, const char *name, char **reterr)
{
        _cleanup_(key_freep) Key *k = NULL;
        int r = key_source_public(name, &k, reterr);

        if (r < 0)
                return r;
        if (has(l, key_id(k)))
                return fail(reterr, -EEXIST, "the key %s is among them already", name);
        return append(l, TAKE_PTR(k));
}

static bool is_id(const char *name)
{
        size_t size = strlen(name);

        return size >= ID_DIGITS_MIN && size < SHA256_HEX_SIZE &&
               strspn(name, "0123456789abcdef") == size;
}

static void remove_at(KeyList *l, size_t at)
{
        key_free(l->keys[at]);
        l->n_keys--;
        memmove(l->keys + at, l->keys + at + 1, (l->n_keys - at) * sizeof(Key *));
}

static int remove_by_id(KeyList *l, const char *digits, char **reterr)
{
        size_t at = SIZE_MAX;

        for (size_t i = 0; i < l->n_keys; i++) {
                char hex[SHA256_HEX_SIZE];
                if (strncmp(sha256_to_hex(key_id(l->keys[i]), hex), digits, strlen(digits)) != 0)
                        continue;
                if (at != SIZE_MAX)
                        return fail(reterr, -EINVAL, "several keys have ids that begin with %s",
                                    digits);
                at = i;
        }
        if (at == SIZE_MAX)
                return fail(reterr, -ENOENT, "no key has an id that begins with %s", digits);
        remove_at(l, at);
        return 0;
}

int key_list_remove(KeyList *l, const char *name, char **reterr)
{
        _cleanup_(key_freep) Key *k = NULL;
        int r;

        if (is_id(name))
                return remove_by_id(l, name, reterr);
        r = key_source_public(name, &k, reterr);
        if (r < 0)
                return r;
        for (size_t i = 0; i < l->n_keys; i++)
                if (sha256_equal(key_id(l->keys[i]), key_id(k))) {
                        remove_at(l, i);
                        return 0;
                }
        return fail(reterr, -ENOENT, "the key %s is not among them", name);
}

int key_list_threshold(const char *option, const char *text, size_t n_keys, unsigned otherwise,
                       unsigned *ret, char **reterr)
{
        uint64_t n = otherwise;
        int r = text ? arguments_number(option, text, n_keys, &n, reterr) : 0;

        if (r < 0)
                return fail_prefix(reterr, PUBLISH_USAGE, "with %zu %s", n_keys,
                                   n_keys == 1 ? "key" : "keys");
        *ret = (unsigned) n;
        return 0;
}
