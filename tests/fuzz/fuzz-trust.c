/* SPDX-License-Identifier: Apache-2.0 */
#include "fuzz.h"
#include "trust.h"

/* A trust root that is taken has keys enough, and takes nothing that is not signed. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        _cleanup_free_ char *text = fuzz_text(data, size), *err = NULL;
        _cleanup_(envelope_freep) Envelope *e = NULL;
        _cleanup_(trust_freep) Trust *t = NULL, *next = NULL;
        int r = trust_parse(text, size, &t, &err);

        if (r < 0) {
                assert(err && !t);
                return 0;
        }
        assert(trust_manifest_threshold(t) >= 1);
        assert(trust_manifest_threshold(t) <= trust_n_manifest_keys(t));
        for (size_t i = 0; i < trust_n_manifest_keys(t); i++)
                assert(trust_manifest_key(t, i));
        assert(envelope_new(data, size, &e) == 0);
        e->n_signatures = 1;
        e->signatures[0].size = MIN(size, (size_t) SIGNATURE_SIZE_MAX);
        memcpy(e->signatures[0].bytes, data, e->signatures[0].size);
        assert(trust_verify_manifest(t, e, &err) < 0);
        assert(trust_follow(t, e, &next, NULL) < 0);
        return 0;
}
