/* SPDX-License-Identifier: Apache-2.0 */
#include "store-listing.h"

#include <inttypes.h>
#include <stdio.h>

#include "err.h"
#include "manifest.h"
#include "name.h"
#include "trust.h"

/* APP/channels/CHANNEL/history/SERIAL.json */
#define N_PARTS_MAX   5
#define ROOT_PATH_MAX 64

void store_listing_done(StoreListing *l)
{
        for (size_t i = 0; i < l->n_channels; i++) {
                free(l->channels[i].app);
                free(l->channels[i].name);
        }
        for (size_t i = 0; i < l->n_releases; i++) {
                free(l->releases[i].app);
                free(l->releases[i].id);
        }
        free(l->channels);
        free(l->releases);
        free(l->roots);
        free(l->other);
        *l = (StoreListing){};
}

/* One more, zeroed; lists grow by doubling at powers of two. */
static void *list_grow(void *list, size_t *n, size_t item_size)
{
        void **items = list;

        if ((*n & (*n - 1)) == 0) {
                void *larger = reallocarray(*items, *n > 0 ? 2 * *n : 1, item_size);
                if (!larger)
                        return NULL;
                *items = larger;
        }
        return memset((char *) *items + (*n)++ * item_size, 0, item_size);
}

static int compare_pairs(const char *a1, const char *a2, const char *b1, const char *b2)
{
        int c = strcmp(a1, b1);

        return c ? c : strcmp(a2, b2);
}

static int add_channel(StoreListing *l, char *const parts[], bool is_published)
{
        ListedChannel *c = l->n_channels > 0 ? &l->channels[l->n_channels - 1] : NULL;

        if (!c || compare_pairs(c->app, c->name, parts[0], parts[2]) != 0) {
                c = list_grow(&l->channels, &l->n_channels, sizeof(ListedChannel));
                if (!c)
                        return -ENOMEM;
                c->app = strdup(parts[0]);
                c->name = strdup(parts[2]);
                if (!c->app || !c->name)
                        return -ENOMEM;
        }
        c->is_published = c->is_published || is_published;
        return 0;
}

/* provenance.json, and such as have the first digits of their digest (provenance-object.h) */
static bool is_provenance(const char *name)
{
        const size_t n = STRLEN("provenance");

        if (strncmp(name, "provenance", n) != 0)
                return false;
        if (name[n] == '-' && strspn(name + n + 1, "0123456789abcdef") == 16)
                return streq(name + n + 1 + 16, ".json");
        return streq(name + n, ".json");
}

static int add_release(StoreListing *l, char *const parts[])
{
        ListedRelease *r = l->n_releases > 0 ? &l->releases[l->n_releases - 1] : NULL;

        if (!r || compare_pairs(r->app, r->id, parts[0], parts[2]) != 0) {
                r = list_grow(&l->releases, &l->n_releases, sizeof(ListedRelease));
                if (!r)
                        return -ENOMEM;
                r->app = strdup(parts[0]);
                r->id = strdup(parts[2]);
                if (!r->app || !r->id)
                        return -ENOMEM;
        }
        r->has_index = r->has_index || streq(parts[3], "index");
        r->has_artifact = r->has_artifact || streq(parts[3], "artifact.tar.zst");
        return 0;
}

static int add_root(StoreListing *l, uint64_t version)
{
        uint64_t *v = list_grow(&l->roots, &l->n_roots, sizeof(uint64_t));

        if (!v)
                return -ENOMEM;
        *v = version;
        return 0;
}

static int add_other(StoreListing *l, const char *key)
{
        l->n_others++;
        if (!l->other)
                l->other = strdup(key);
        return l->other ? 0 : -ENOMEM;
}

/* The number in NUMBER.json, 0 if it is none, or written in another way. */
static uint64_t number_of(const char *name)
{
        size_t n_digits = strspn(name, "0123456789");

        if (n_digits == 0 || n_digits > 16 || name[0] == '0' || !streq(name + n_digits, ".json"))
                return 0;
        uint64_t n = strtoull(name, NULL, 10);
        return n <= SERIAL_MAX ? n : 0;
}

/* Cuts at slashes. More parts than there is room for stay with the last one. */
static size_t split(char *key, char *ret_parts[static N_PARTS_MAX])
{
        char *part = key, *slash = strchr(part, '/');
        size_t n = 0;

        while (slash && n + 1 < N_PARTS_MAX) {
                *slash = '\0';
                ret_parts[n++] = part;
                part = slash + 1;
                slash = strchr(part, '/');
        }
        ret_parts[n] = part;
        return n + 1;
}

/* 1: it is nothing of Slipway's. */
static int add_of_channel(StoreListing *l, char *const parts[], size_t n)
{
        if (n == 4 && streq(parts[3], "manifest.json"))
                return add_channel(l, parts, true);
        if (n == 5 && streq(parts[3], "history") && number_of(parts[4]) > 0)
                return add_channel(l, parts, true);
        if ((n == 4 && streq(parts[3], "halt.json")) || (n == 5 && streq(parts[3], "instances")))
                return add_channel(l, parts, false);
        return 1;
}

static int add_key(StoreListing *l, char *const parts[], size_t n)
{
        if (n == 2 && streq(parts[0], "trust") && number_of(parts[1]) > 0)
                return add_root(l, number_of(parts[1]));
        if (n < 4 || !name_is_valid(parts[0]) || !name_is_valid(parts[2]))
                return 1;
        if (streq(parts[1], "channels"))
                return add_of_channel(l, parts, n);
        if (n == 4 && streq(parts[1], "releases") &&
            (streq(parts[3], "index") || streq(parts[3], "artifact.tar.zst") ||
             is_provenance(parts[3])))
                return add_release(l, parts);
        return 1;
}

static int compare_channels(const void *a, const void *b)
{
        const ListedChannel *x = a, *y = b;

        return compare_pairs(x->app, x->name, y->app, y->name);
}

static int compare_releases(const void *a, const void *b)
{
        const ListedRelease *x = a, *y = b;

        return compare_pairs(x->app, x->id, y->app, y->id);
}

static int compare_roots(const void *a, const void *b)
{
        uint64_t x = *(const uint64_t *) a, y = *(const uint64_t *) b;

        return x < y ? -1 : x > y;
}

/* Not every store lists in the order of bytes: then one thing came in several pieces. */
static void sort_all(StoreListing *l)
{
        size_t n = 0;

        if (l->n_roots > 0)
                qsort(l->roots, l->n_roots, sizeof(uint64_t), compare_roots);
        if (l->n_channels > 0)
                qsort(l->channels, l->n_channels, sizeof(ListedChannel), compare_channels);
        if (l->n_releases > 0)
                qsort(l->releases, l->n_releases, sizeof(ListedRelease), compare_releases);
        for (size_t i = 0; i < l->n_channels; i++) {
                ListedChannel *c = &l->channels[i];
                if (n > 0 && compare_channels(c, &l->channels[n - 1]) == 0) {
                        l->channels[n - 1].is_published |= c->is_published;
                        free(c->app);
                        free(c->name);
                } else
                        l->channels[n++] = *c;
        }
        l->n_channels = n;
        n = 0;
        for (size_t i = 0; i < l->n_releases; i++) {
                ListedRelease *r = &l->releases[i];
                if (n > 0 && compare_releases(r, &l->releases[n - 1]) == 0) {
                        l->releases[n - 1].has_index |= r->has_index;
                        l->releases[n - 1].has_artifact |= r->has_artifact;
                        free(r->app);
                        free(r->id);
                } else
                        l->releases[n++] = *r;
        }
        l->n_releases = n;
}

int store_listing_parse(char *keys, StoreListing *ret)
{
        _cleanup_(store_listing_done) StoreListing l = {};
        char *save = NULL;

        for (char *key = strtok_r(keys, "\n", &save); key; key = strtok_r(NULL, "\n", &save)) {
                char *parts[N_PARTS_MAX], *end = key + strlen(key);
                size_t n = split(key, parts);
                int r = add_key(&l, parts, n);
                for (char *p = key; r == 1 && p < end; p++)
                        if (!*p)
                                *p = '/';
                if (r == 1)
                        r = add_other(&l, key);
                if (r < 0)
                        return r;
        }
        sort_all(&l);
        *ret = l;
        l = (StoreListing){};
        return 0;
}

int store_listing_load(Store *s, StoreListing *ret, char **reterr)
{
        const StoreRequest list = { .method = STORE_LIST,
                                    .path = "",
                                    .size_max = STORE_LISTING_SIZE_MAX };
        _cleanup_(store_reply_done) StoreReply reply = {};
        int r = store_call(s, &list, &reply, reterr);

        if (r > 0)
                return fail(reterr, -EACCES,
                            "the store does not list all its objects: grant s3:ListBucket on its "
                            "whole prefix");
        if (r < 0)
                return r;
        if (reply.data)
                return store_listing_parse(reply.data, ret);
        *ret = (StoreListing){};
        return 0;
}
