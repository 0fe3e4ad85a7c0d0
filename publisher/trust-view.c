/* SPDX-License-Identifier: Apache-2.0 */
#include "trust-view.h"

#include <errno.h>
#include <stdio.h>

#include "json-read.h"
#include "result.h"

/* Keys for one kind of document. */
typedef struct RoleView {
        const char *name, *title;
        size_t (*n_keys)(const Trust *t);
        const Key *(*key)(const Trust *t, size_t i);
        unsigned (*threshold)(const Trust *t);
} RoleView;

static const RoleView roles[] = {
        {"manifest", "manifests",   trust_n_manifest_keys, trust_manifest_key,
         trust_manifest_threshold                                                                  },
        { "root",    "trust roots", trust_n_root_keys,     trust_root_key,     trust_root_threshold},
};

#define ROOT_ROLE (&roles[1])

static bool has(const RoleView *role, const Trust *t, const Key *k)
{
        for (size_t i = 0; i < role->n_keys(t); i++)
                if (sha256_equal(key_id(role->key(t, i)), key_id(k)))
                        return true;
        return false;
}

static int add_key(const RoleView *role, const Key *k, const Envelope *e, const char *change,
                   bool print, cJSON *array)
{
        int r = role == ROOT_ROLE ? envelope_verify(e, TRUST_PAYLOAD_TYPE, k) : -EKEYREJECTED;
        bool signed_it = r == 0;
        char id[SHA256_HEX_SIZE];
        cJSON *entry;

        if (r < 0 && r != -EKEYREJECTED)
                return r;
        if (print)
                printf("  %-10s %s%s%s%s\n", key_type_to_string(key_type(k)),
                       sha256_to_hex(key_id(k), id), change ? "  " : "", change ? change : "",
                       signed_it ? "  has signed" : "");
        r = result_append_object(array, &entry);
        if (r >= 0)
                r = result_add_string(entry, "type", key_type_to_string(key_type(k)));
        if (r >= 0)
                r = result_add_sha256(entry, "id", key_id(k));
        if (r >= 0)
                r = result_add_string(entry, "change", change);
        if (r >= 0 && role == ROOT_ROLE)
                r = result_add_bool(entry, "signed", signed_it);
        return r;
}

static int view_role(const RoleView *role, const Trust *t, const Envelope *e, const Trust *before,
                     bool print, cJSON *result)
{
        bool changed = before && role->threshold(before) != role->threshold(t);
        cJSON *object, *array;
        int r = result_add_object(result, role->name, &object);

        if (r >= 0)
                r = result_add_uint(object, "threshold", role->threshold(t));
        if (r >= 0)
                r = result_add_array(object, "keys", &array);
        if (r < 0)
                return r;
        if (print)
                printf("%s: %u of %zu keys must sign%s\n", role->title, role->threshold(t),
                       role->n_keys(t), changed ? ", which is new" : "");
        for (size_t i = 0; r >= 0 && i < role->n_keys(t); i++) {
                const Key *k = role->key(t, i);
                r = add_key(role, k, e, before && !has(role, before, k) ? "added" : NULL, print,
                            array);
        }
        for (size_t i = 0; r >= 0 && before && i < role->n_keys(before); i++) {
                const Key *k = role->key(before, i);
                if (!has(role, t, k))
                        r = add_key(role, k, e, "removed", print, array);
        }
        return r;
}

/* How many of t's root keys signed: of those of `of` what it still needs. */
static int view_signatures(const Trust *t, const Envelope *e, bool print, cJSON *array,
                           bool *ret_enough)
{
        size_t n = 0;
        cJSON *entry;
        int r;

        for (size_t i = 0; i < trust_n_root_keys(t); i++) {
                r = envelope_verify(e, TRUST_PAYLOAD_TYPE, trust_root_key(t, i));
                if (r < 0 && r != -EKEYREJECTED)
                        return r;
                n += r == 0;
        }
        *ret_enough = n >= trust_root_threshold(t);
        if (print)
                printf("signatures: %zu of %u needed by root keys of version %" PRIu64 "\n", n,
                       trust_root_threshold(t), trust_version(t));
        r = result_append_object(array, &entry);
        if (r >= 0)
                r = result_add_uint(entry, "version", trust_version(t));
        if (r >= 0)
                r = result_add_uint(entry, "have", n);
        return r < 0 ? r : result_add_uint(entry, "need", trust_root_threshold(t));
}

int trust_view(const Trust *t, const Envelope *e, const Trust *before, bool print, cJSON *result)
{
        bool enough = false, enough_before = false;
        char when[TIME_TEXT_SIZE];
        cJSON *array;
        int r = result_add_uint(result, "version", trust_version(t));

        if (r >= 0)
                r = result_add_time(result, "expires", trust_expires_sec(t));
        if (r >= 0 && print)
                printf("trust root: version %" PRIu64 ", expires %s\n", trust_version(t),
                       time_format_utc(trust_expires_sec(t), when));
        for (size_t i = 0; r >= 0 && i < ELEMENTSOF(roles); i++)
                r = view_role(&roles[i], t, e, before, print, result);
        if (r >= 0)
                r = result_add_array(result, "signatures", &array);
        if (r >= 0 && before)
                r = view_signatures(before, e, print, array, &enough_before);
        if (r >= 0)
                r = view_signatures(t, e, print, array, &enough);
        return r < 0 || !before ? r : result_add_bool(result, "complete", enough && enough_before);
}
