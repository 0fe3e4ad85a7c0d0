/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>

#include "dsse.h"
#include "fuzz.h"

/* There is one packed form of an envelope: what is taken is packed to the same bytes. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        _cleanup_(envelope_freep) Envelope *e = NULL;
        _cleanup_free_ uint8_t *packed = NULL;
        size_t packed_size;
        int r = envelope_unpack(data, size, &e);

        if (r < 0) {
                assert(r == -EBADMSG && !e);
                return 0;
        }
        assert(envelope_pack(e, &packed, &packed_size) == 0);
        assert(packed_size == size && memcmp(packed, data, size) == 0);
        return 0;
}
