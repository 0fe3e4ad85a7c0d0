/* SPDX-License-Identifier: Apache-2.0 */
#include "fuzz.h"
#include "manifest.h"

/* What is taken is written in one form, which is taken again and written the same. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        _cleanup_free_ char *text = fuzz_text(data, size), *err = NULL, *first = NULL,
                            *second = NULL;
        _cleanup_(manifest_freep) Manifest *m = NULL, *again = NULL;
        size_t first_size, second_size;
        int r = manifest_parse(text, size, &m, &err);

        if (r < 0) {
                assert((r == -EBADMSG || r == -EFBIG) && err && !m);
                return 0;
        }
        r = manifest_format(m, &first, &first_size, &err);
        /* Written out, with every member, it may be longer than was read. */
        if (r == -EFBIG)
                return 0;
        assert(r == 0);
        assert(manifest_parse(first, first_size, &again, &err) == 0);
        assert(manifest_format(again, &second, &second_size, &err) == 0);
        assert(first_size == second_size && memcmp(first, second, first_size) == 0);
        return 0;
}
