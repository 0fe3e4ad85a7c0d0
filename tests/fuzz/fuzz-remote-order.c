/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>

#include "fuzz.h"
#include "remote-order.h"
#include "utf8.h"

/* What is taken is packed as it came, and may be shown on a terminal. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        _cleanup_free_ char *line = fuzz_text(data, size), *packed = NULL, *err = NULL;
        _cleanup_(remote_order_done) RemoteOrder o = {};
        int r = remote_order_unpack(line, &o, &err);

        if (r < 0) {
                assert(r == -EINVAL && err && !o.command);
                return 0;
        }
        assert(remote_order_pack(&o, &packed) == 0);
        assert(streq(packed, line));
        utf8_clean(packed);
        assert(streq(packed, line));
        return 0;
}
