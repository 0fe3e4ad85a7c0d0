/* SPDX-License-Identifier: Apache-2.0 */
#include "signers.h"

#include "err.h"
#include "key-source.h"
#include "root-chain.h"

void signers_done(Signers *s)
{
        for (size_t i = 0; i < s->n_keys; i++)
                key_free(s->keys[i]);
        free(s->keys);
        trust_free(s->trust);
        *s = (Signers){};
}

static int sign_payload(const Signers *s, const char *type, const char *payload, size_t size,
                        Envelope **ret, char **reterr)
{
        _cleanup_(envelope_freep) Envelope *e = NULL;
        int r = envelope_new(payload, size, &e);

        for (size_t i = 0; r >= 0 && i < s->n_keys; i++)
                r = envelope_sign(e, type, s->keys[i], reterr);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(e);
        return 0;
}

/* Whether the keys sign, and what the trust root says of it, is found out before hours of packing
 * and uploading, with a payload that is no manifest and is thrown away. */
static int try_keys(const Signers *s, const char *trust_path, char **reterr)
{
        _cleanup_(envelope_freep) Envelope *e = NULL;
        int r = sign_payload(s, MANIFEST_PAYLOAD_TYPE, "{}", 2, &e, reterr);

        if (r < 0 || !s->trust)
                return r;
        r = trust_verify_manifest(s->trust, e, reterr);
        return r < 0 ? fail_prefix(
                               reterr, r,
                               "the given keys do not satisfy the trust root %s, version %" PRIu64,
                               trust_path, trust_version(s->trust))
                     : 0;
}

int signers_load(const Strings *key_paths, const char *trust_path, Store *store, Signers *ret,
                 char **reterr)
{
        _cleanup_(signers_done) Signers s = { .keys = calloc(key_paths->n_items, sizeof(Key *)) };
        int r;

        if (!s.keys)
                return -ENOMEM;
        for (; s.n_keys < key_paths->n_items; s.n_keys++) {
                r = key_source_signer(key_paths->items[s.n_keys], &s.keys[s.n_keys], reterr);
                if (r < 0)
                        return r;
        }
        r = trust_path ? root_chain_load(store, trust_path, &s.trust, reterr) : 0;
        if (r >= 0)
                r = try_keys(&s, trust_path, reterr);
        if (r < 0)
                return r;
        *ret = s;
        s = (Signers){};
        return 0;
}

int signers_check(const Signers *s, const Manifest *m, char **reterr)
{
        _cleanup_free_ char *payload = NULL;
        _cleanup_free_ uint8_t *pae = NULL;
        size_t size;
        int r = manifest_format(m, &payload, &size, reterr);

        if (r >= 0)
                r = dsse_pae(MANIFEST_PAYLOAD_TYPE, payload, size, &pae, &size);
        for (size_t i = 0; r >= 0 && i < s->n_keys; i++)
                r = key_check_size(s->keys[i], size, reterr);
        return r;
}

int signers_sign(const Signers *s, const Manifest *m, char **ret, size_t *ret_size, char **reterr)
{
        _cleanup_free_ char *payload = NULL;
        size_t size;
        int r = manifest_format(m, &payload, &size, reterr);

        return r < 0 ? r
                     : signers_sign_as(s, MANIFEST_PAYLOAD_TYPE, payload, size, ret, ret_size,
                                       reterr);
}

int signers_sign_as(const Signers *s, const char *type, const char *payload, size_t size,
                    char **ret, size_t *ret_size, char **reterr)
{
        _cleanup_(envelope_freep) Envelope *e = NULL;
        int r = sign_payload(s, type, payload, size, &e, reterr);

        return r < 0 ? r : envelope_format(e, type, ret, ret_size);
}

int signers_accept(const Signers *s, const Envelope *e, char **reterr)
{
        return signers_accept_as(s, MANIFEST_PAYLOAD_TYPE, e, reterr);
}

int signers_accept_as(const Signers *s, const char *type, const Envelope *e, char **reterr)
{
        if (s->trust)
                return trust_verify(s->trust, e, type, reterr);
        for (size_t i = 0; i < s->n_keys; i++) {
                int r = envelope_verify(e, type, s->keys[i]);
                if (r != -EKEYREJECTED)
                        return r;
        }
        return fail(reterr, -EKEYREJECTED,
                    "it is signed by none of the given keys; --trust FILE names a trust root that "
                    "tells whose signatures count");
}
