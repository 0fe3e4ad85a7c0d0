/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>

#include "fuzz.h"
#include "ssm-frame.h"

/* What is unpacked lies within the input, and is the same when it was packed again. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        _cleanup_free_ char *err = NULL;
        _cleanup_free_ void *packed = NULL;
        SsmFrame f, again;
        size_t packed_size;
        int r = ssm_frame_unpack(data, size, &f, &err);

        if (r < 0) {
                assert(r == -EBADMSG && err);
                return 0;
        }
        assert((const uint8_t *) f.payload >= data + 120);
        assert((const uint8_t *) f.payload + f.payload_size == data + size);
        assert(ssm_frame_pack(&f, &packed, &packed_size) == 0);
        assert(ssm_frame_unpack(packed, packed_size, &again, NULL) == 0);
        assert(again.digest_holds && again.created_msec == f.created_msec);
        assert(strcmp(again.type, f.type) == 0 && strcmp(again.id, f.id) == 0);
        assert(again.payload_size == f.payload_size);
        assert(memcmp(again.payload, f.payload, f.payload_size) == 0);
        return 0;
}
