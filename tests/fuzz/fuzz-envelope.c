/* SPDX-License-Identifier: Apache-2.0 */
#include "dsse.h"
#include "fuzz.h"

/* What is taken passes through the packed form unchanged. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        _cleanup_free_ char *text = fuzz_text(data, size), *err = NULL;
        _cleanup_(envelope_freep) Envelope *e = NULL, *again = NULL;
        _cleanup_free_ uint8_t *packed = NULL;
        size_t packed_size;
        int r = envelope_parse(text, size, MANIFEST_PAYLOAD_TYPE, &e, &err);

        if (r < 0) {
                assert((r == -EBADMSG || r == -EFBIG) && err && !e);
                return 0;
        }
        assert(envelope_pack(e, &packed, &packed_size) == 0);
        assert(envelope_unpack(packed, packed_size, &again) == 0);
        assert(again->payload_size == e->payload_size && again->n_signatures == e->n_signatures);
        assert(memcmp(again->payload, e->payload, e->payload_size + 1) == 0);
        return 0;
}
