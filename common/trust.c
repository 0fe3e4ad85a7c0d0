/* SPDX-License-Identifier: Apache-2.0 */
#include "trust.h"

#include <fcntl.h>
#include <stdio.h>

#include "base64.h"
#include "err.h"
#include "fd.h"
#include "json-read.h"

#define TRUST_SCHEMA "slipway/trust/1"

/* Who may sign one kind of document. */
typedef struct Role {
        uint64_t threshold;
        Sha256 ids[TRUST_KEYS_MAX];
        size_t n_ids;
} Role;

struct Trust {
        uint64_t version, expires_sec;
        Key *keys[TRUST_KEYS_MAX];
        size_t n_keys;
        Role manifest, root;
};

static void free_keys(Trust *t)
{
        for (size_t i = 0; i < t->n_keys; i++)
                key_free(t->keys[i]);
}

Trust *trust_free(Trust *t)
{
        if (!t)
                return NULL;
        free_keys(t);
        free(t);
        return NULL;
}

void trust_become(Trust *t, Trust *next)
{
        free_keys(t);
        *t = *next;
        free(next);
}

/* --- the payload --- */

/* One element of "keys". */
typedef struct KeyEntry {
        Sha256 id;
        KeyType type;
        Key *key;
} KeyEntry;

static void key_entry_done(KeyEntry *e)
{
        key_free(e->key);
}

static const Key *key_find(const Trust *t, const Sha256 *id)
{
        for (size_t i = 0; i < t->n_keys; i++)
                if (sha256_equal(key_id(t->keys[i]), id))
                        return t->keys[i];
        return NULL;
}

static bool role_has(const Role *role, const Sha256 *id)
{
        for (size_t i = 0; i < role->n_ids; i++)
                if (sha256_equal(&role->ids[i], id))
                        return true;
        return false;
}

static int parse_schema(const cJSON *v, const char *path, _unused_ void *target, char **reterr)
{
        if (!cJSON_IsString(v) || !streq(v->valuestring, TRUST_SCHEMA))
                return fail(reterr, -EBADMSG,
                            "%s: this version knows \"" TRUST_SCHEMA "\" only; what made "
                            "this trust root may be newer",
                            path);
        return 0;
}

static int parse_key_type(const cJSON *v, const char *path, void *target, char **reterr)
{
        KeyType type = cJSON_IsString(v) ? key_type_from_string(v->valuestring) : _KEY_TYPE_INVALID;

        if (type < 0)
                return fail(reterr, -EBADMSG, "%s: must be \"ed25519\" or \"ecdsa-p256\"", path);
        *(KeyType *) target = type;
        return 0;
}

static int parse_public(const cJSON *v, const char *path, void *target, char **reterr)
{
        _cleanup_free_ uint8_t *der = NULL;
        size_t size;
        int r;

        if (!cJSON_IsString(v))
                return json_fail_type(v, path, "a string", reterr);
        r = base64_decode(v->valuestring, &der, &size);
        if (r == -EBADMSG)
                return fail(reterr, r, "%s: is not base64", path);
        if (r < 0)
                return r;
        r = key_from_der(der, size, target, reterr);
        return r < 0 ? fail_prefix(reterr, r, "%s", path) : 0;
}

static const JsonField key_fields[] = {
        {"id",               json_parse_sha256, offsetof(KeyEntry, id), true },
        { "type", parse_key_type, offsetof(KeyEntry, type), true },
        { "public",              parse_public, offsetof(KeyEntry, key), true },
        {},
};

static int parse_key(const cJSON *v, const char *path, void *target, char **reterr)
{
        _cleanup_(key_entry_done) KeyEntry entry = {};
        Trust *t = target;
        int r = json_dispatch(v, path, key_fields, &entry, reterr);

        if (r < 0)
                return r;
        if (key_type(entry.key) != entry.type)
                return fail(reterr, -EBADMSG, "%s.type: the key is of type \"%s\"", path,
                            key_type_to_string(key_type(entry.key)));
        /* With ids that follow from the keys, one key cannot be counted under two ids. */
        if (!sha256_equal(key_id(entry.key), &entry.id))
                return fail(reterr, -EBADMSG, "%s.id: is not the SHA-256 of this public key", path);
        if (key_find(t, &entry.id))
                return fail(reterr, -EBADMSG, "%s: this key stands there twice", path);
        t->keys[t->n_keys++] = TAKE_PTR(entry.key);
        return 0;
}

static int parse_keys(const cJSON *v, const char *path, void *target, char **reterr)
{
        return json_each(v, path, TRUST_KEYS_MAX, parse_key, target, reterr);
}

static int parse_role_id(const cJSON *v, const char *path, void *target, char **reterr)
{
        Role *role = target;
        Sha256 id;
        int r = json_parse_sha256(v, path, &id, reterr);

        if (r < 0)
                return r;
        if (role_has(role, &id))
                return fail(reterr, -EBADMSG, "%s: this key id stands there twice", path);
        role->ids[role->n_ids++] = id;
        return 0;
}

static int parse_role_ids(const cJSON *v, const char *path, void *target, char **reterr)
{
        return json_each(v, path, TRUST_KEYS_MAX, parse_role_id, target, reterr);
}

static const JsonField role_fields[] = {
        {"threshold",    json_parse_uint, offsetof(Role, threshold), true },
        { "keys", parse_role_ids, 0, true },
        {       },
};

static int parse_role(const cJSON *v, const char *path, void *target, char **reterr)
{
        Role *role = target;
        int r = json_dispatch(v, path, role_fields, role, reterr);

        if (r < 0)
                return r;
        if (role->threshold < 1 || role->threshold > role->n_ids)
                return fail(reterr, -EBADMSG,
                            "%s.threshold: must be 1 to the number of keys, which is %zu", path,
                            role->n_ids);
        return 0;
}

static const JsonField trust_fields[] = {
        {"schema",            parse_schema, 0, true },
        { "version",                  json_parse_counter, offsetof(Trust, version), true },
        { "expires",                  json_parse_time, offsetof(Trust, expires_sec), true },
        { "keys",parse_keys, 0, true },
        { "manifest",           parse_role, offsetof(Trust, manifest), true },
        { "root",                  parse_role, offsetof(Trust, root), true },
        {      },
};

static int check_role(const Trust *t, const Role *role, const char *path, char **reterr)
{
        for (size_t i = 0; i < role->n_ids; i++)
                if (!key_find(t, &role->ids[i]))
                        return fail(reterr, -EBADMSG, "%s.keys[%zu]: this key is not in \"keys\"",
                                    path, i);
        return 0;
}

int trust_parse(const char *payload, size_t size, Trust **ret, char **reterr)
{
        _cleanup_(trust_freep) Trust *t = NULL;
        _cleanup_json_ cJSON *tree = NULL;
        int r;

        if (size > ENVELOPE_SIZE_MAX)
                return fail(reterr, -EFBIG, "the trust root has %zu bytes, more than %d", size,
                            ENVELOPE_SIZE_MAX);
        r = json_parse(payload, size, &tree, reterr);
        if (r < 0)
                return r;
        t = calloc(1, sizeof(Trust));
        if (!t)
                return -ENOMEM;
        r = json_dispatch(tree, "", trust_fields, t, reterr);
        if (r == 0)
                r = check_role(t, &t->manifest, "manifest", reterr);
        if (r == 0)
                r = check_role(t, &t->root, "root", reterr);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(t);
        return 0;
}

int trust_load_signed(const char *path, Envelope **ret_envelope, Trust **ret, char **reterr)
{
        _cleanup_(envelope_freep) Envelope *e = NULL;
        _cleanup_free_ char *data = NULL;
        size_t size;
        int r = file_read_at(AT_FDCWD, path, ENVELOPE_SIZE_MAX, &data, &size);

        if (r == -ENOENT)
                return fail(reterr, r,
                            "trust root %s does not exist: make one with `slipway-publish trust "
                            "init` and put it there",
                            path);
        if (r < 0)
                return fail_errno(reterr, r, "trust root %s", path);
        r = envelope_parse(data, size, TRUST_PAYLOAD_TYPE, &e, reterr);
        if (r == 0)
                r = trust_parse(e->payload, e->payload_size, ret, reterr);
        if (r < 0)
                return fail_prefix(reterr, r, "trust root %s", path);
        *ret_envelope = TAKE_PTR(e);
        return 0;
}

int trust_load(const char *path, Trust **ret, char **reterr)
{
        _cleanup_(envelope_freep) Envelope *e = NULL;

        return trust_load_signed(path, &e, ret, reterr);
}

uint64_t trust_version(const Trust *t)
{
        return t->version;
}

uint64_t trust_expires_sec(const Trust *t)
{
        return t->expires_sec;
}

size_t trust_n_manifest_keys(const Trust *t)
{
        return t->manifest.n_ids;
}

const Key *trust_manifest_key(const Trust *t, size_t i)
{
        return key_find(t, &t->manifest.ids[i]);
}

unsigned trust_manifest_threshold(const Trust *t)
{
        return (unsigned) t->manifest.threshold;
}

size_t trust_n_root_keys(const Trust *t)
{
        return t->root.n_ids;
}

const Key *trust_root_key(const Trust *t, size_t i)
{
        return key_find(t, &t->root.ids[i]);
}

unsigned trust_root_threshold(const Trust *t)
{
        return (unsigned) t->root.threshold;
}

/* --- verifying --- */

/* What is verified, and the words for its keys. */
typedef struct Check {
        const Trust *trust;
        const Role *role;
        const char *type;        /* of the payload */
        const char *by, *not_by; /* "signatures by ...", "keys that are not ..." */
} Check;

static bool envelope_hints(const Envelope *e, const Sha256 *id)
{
        for (size_t i = 0; i < e->n_signatures; i++)
                if (sha256_equal(&e->signatures[i].key_id, id))
                        return true;
        return false;
}

/* The key ids of all signatures, for a person: "1f3a…, 77c0…". */
static char *hints_text(const Envelope *e)
{
        const Sha256 none = {};
        char *text = NULL;
        size_t size;
        FILE *f = open_memstream(&text, &size);

        if (!f)
                return NULL;
        for (size_t i = 0; i < e->n_signatures; i++) {
                char hex[SHA256_HEX_SIZE];
                const Sha256 *id = &e->signatures[i].key_id;
                fprintf(f, "%s%s", i > 0 ? ", " : "",
                        sha256_equal(id, &none) ? "one without a key id" : sha256_to_hex(id, hex));
        }
        if (fclose(f) != 0) {
                free(text);
                return NULL;
        }
        return text;
}

/* Why there were too few good signatures. `bad` is a key of ours whose signature does not match. */
static int fail_signatures(const Check *c, const Envelope *e, size_t n_good, const Sha256 *bad,
                           char **reterr)
{
        _cleanup_free_ char *hints = NULL;
        char hex[SHA256_HEX_SIZE];

        if (e->n_signatures == 0)
                return fail(reterr, -EKEYREJECTED, "no signature");
        if (n_good > 0)
                return fail(reterr, -EKEYREJECTED,
                            "%zu of %" PRIu64 " needed signatures by %s%s%s%s", n_good,
                            c->role->threshold, c->by, bad ? "; the signature of key " : "",
                            bad ? sha256_to_hex(bad, hex) : "", bad ? " does not match" : "");
        if (bad)
                return fail(reterr, -EKEYREJECTED,
                            "signature of key %s does not match: changed after it was signed, or "
                            "signed as something else",
                            sha256_to_hex(bad, hex));
        hints = hints_text(e);
        return fail(reterr, -EKEYREJECTED, "signed only by keys that are not %s (key ids: %s)",
                    c->not_by, strempty(hints));
}

static int verify(const Check *c, const Envelope *e, char **reterr)
{
        const Sha256 *bad = NULL;
        size_t n_good = 0;

        /* Keys are counted, not signatures: each key is asked once. */
        for (size_t i = 0; i < c->role->n_ids && n_good < c->role->threshold; i++) {
                const Sha256 *id = &c->role->ids[i];
                int r = envelope_verify(e, c->type, key_find(c->trust, id));
                if (r == 0)
                        n_good++;
                else if (r != -EKEYREJECTED)
                        return r;
                else if (!bad && envelope_hints(e, id))
                        bad = id;
        }
        return n_good < c->role->threshold ? fail_signatures(c, e, n_good, bad, reterr) : 0;
}

int trust_verify(const Trust *t, const Envelope *e, const char *type, char **reterr)
{
        const Check check = {
                .trust = t,
                .role = &t->manifest,
                .type = type,
                .by = "keys of the trust root",
                .not_by = "in the trust root",
        };

        return verify(&check, e, reterr);
}

int trust_verify_manifest(const Trust *t, const Envelope *e, char **reterr)
{
        return trust_verify(t, e, MANIFEST_PAYLOAD_TYPE, reterr);
}

/* Whether t's root keys signed a trust root. */
static int verify_root(const Trust *t, const Envelope *e, char **reterr)
{
        char words[64];
        const Check check = {
                .trust = t,
                .role = &t->root,
                .type = TRUST_PAYLOAD_TYPE,
                .by = words,
                .not_by = words,
        };

        (void) snprintf(words, sizeof(words), "root keys of version %" PRIu64, t->version);
        return verify(&check, e, reterr);
}

int trust_follow(const Trust *t, const Envelope *e, Trust **ret, char **reterr)
{
        _cleanup_(trust_freep) Trust *next = NULL;
        int r = verify_root(t, e, reterr);

        if (r >= 0)
                r = trust_parse(e->payload, e->payload_size, &next, reterr);
        if (r < 0)
                return r;
        if (next->version != t->version + 1)
                return fail(reterr, -EKEYREJECTED,
                            "its version is %" PRIu64 ", and only %" PRIu64 " can follow %" PRIu64,
                            next->version, t->version + 1, t->version);
        r = verify_root(next, e, reterr);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(next);
        return 0;
}

/* --- writing --- */

static bool key_format(const Key *k, cJSON *keys)
{
        _cleanup_free_ char *public = NULL;
        cJSON *object = cJSON_CreateObject();
        char hex[SHA256_HEX_SIZE];
        size_t size;
        const uint8_t *der = key_public_der(k, &size);

        return object && cJSON_AddItemToArray(keys, object) &&
               base64_encode(der, size, &public) == 0 &&
               cJSON_AddStringToObject(object, "id", sha256_to_hex(key_id(k), hex)) &&
               cJSON_AddStringToObject(object, "type", key_type_to_string(key_type(k))) &&
               cJSON_AddStringToObject(object, "public", public);
}

static bool came_before(Key *const *keys, size_t n, const Key *k)
{
        for (size_t i = 0; i < n; i++)
                if (sha256_equal(key_id(keys[i]), key_id(k)))
                        return true;
        return false;
}

/* The keys of both roles, each once. */
static bool keys_format(Key *const *keys, size_t n_keys, Key *const *root_keys, size_t n_root_keys,
                        cJSON *tree)
{
        cJSON *array = cJSON_AddArrayToObject(tree, "keys");

        if (!array)
                return false;
        for (size_t i = 0; i < n_keys; i++)
                if (!came_before(keys, i, keys[i]) && !key_format(keys[i], array))
                        return false;
        for (size_t i = 0; i < n_root_keys; i++)
                if (!came_before(keys, n_keys, root_keys[i]) &&
                    !came_before(root_keys, i, root_keys[i]) && !key_format(root_keys[i], array))
                        return false;
        return true;
}

static bool role_format(const char *name, Key *const *keys, size_t n_keys, unsigned threshold,
                        cJSON *tree)
{
        cJSON *role = cJSON_AddObjectToObject(tree, name);
        cJSON *ids;

        if (!role || json_add_uint(role, "threshold", threshold) < 0)
                return false;
        ids = cJSON_AddArrayToObject(role, "keys");
        for (size_t i = 0; ids && i < n_keys; i++) {
                char hex[SHA256_HEX_SIZE];
                cJSON *id = cJSON_CreateString(sha256_to_hex(key_id(keys[i]), hex));
                if (!id || !cJSON_AddItemToArray(ids, id))
                        return false;
        }
        return ids;
}

static int sign_and_format(const char *payload, Key *const *signers, size_t n_signers, char **ret,
                           size_t *ret_size, char **reterr)
{
        _cleanup_(envelope_freep) Envelope *e = NULL;
        int r = envelope_new(payload, strlen(payload), &e);

        if (r < 0)
                return r;
        for (size_t i = 0; i < n_signers; i++) {
                r = envelope_sign(e, TRUST_PAYLOAD_TYPE, signers[i], reterr);
                if (r < 0)
                        return fail_prefix(reterr, r, "the trust root");
        }
        r = envelope_format(e, TRUST_PAYLOAD_TYPE, ret, ret_size);
        return r < 0 ? fail_errno(reterr, r, "writing the trust root") : 0;
}

static int format(uint64_t version, Key *const *keys, size_t n_keys, unsigned threshold,
                  Key *const *root_keys, size_t n_root_keys, unsigned root_threshold,
                  uint64_t expires_sec, char **ret_payload, char **reterr)
{
        _cleanup_json_ cJSON *tree = cJSON_CreateObject();
        _cleanup_(trust_freep) Trust *again = NULL;
        _cleanup_free_ char *payload = NULL;
        char expires[TIME_TEXT_SIZE];
        int r;

        if (!tree || !cJSON_AddStringToObject(tree, "schema", TRUST_SCHEMA) ||
            json_add_uint(tree, "version", version) < 0 ||
            !cJSON_AddStringToObject(tree, "expires", time_format_utc(expires_sec, expires)) ||
            !keys_format(keys, n_keys, root_keys, n_root_keys, tree) ||
            !role_format("manifest", keys, n_keys, threshold, tree) ||
            !role_format("root", root_keys, n_root_keys, root_threshold, tree))
                return -ENOMEM;
        payload = cJSON_PrintUnformatted(tree);
        if (!payload)
                return -ENOMEM;
        /* What an agent would refuse is not written: the parser has all the checks. */
        r = trust_parse(payload, strlen(payload), &again, reterr);
        if (r < 0)
                return r;
        *ret_payload = TAKE_PTR(payload);
        return 0;
}

int trust_format_first(Key *const *keys, size_t n_keys, unsigned threshold, Key *const *root_keys,
                       size_t n_root_keys, unsigned root_threshold, uint64_t expires_sec,
                       Key *const *signers, size_t n_signers, char **ret, size_t *ret_size,
                       char **reterr)
{
        _cleanup_free_ char *payload = NULL;
        int r = format(1, keys, n_keys, threshold, root_keys, n_root_keys, root_threshold,
                       expires_sec, &payload, reterr);

        return r < 0 ? r : sign_and_format(payload, signers, n_signers, ret, ret_size, reterr);
}

int trust_format_next(const Trust *t, Key *const *keys, size_t n_keys, unsigned threshold,
                      Key *const *root_keys, size_t n_root_keys, unsigned root_threshold,
                      uint64_t expires_sec, char **ret, size_t *ret_size, char **reterr)
{
        _cleanup_free_ char *payload = NULL;
        int r = format(t->version + 1, keys, n_keys, threshold, root_keys, n_root_keys,
                       root_threshold, expires_sec, &payload, reterr);

        return r < 0 ? r : sign_and_format(payload, NULL, 0, ret, ret_size, reterr);
}
