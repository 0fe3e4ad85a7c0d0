/* SPDX-License-Identifier: Apache-2.0 */
#include "fuzz.h"
#include "provenance.h"

/* The input is a statement, and if it is not one, a whole object. What is taken says all that
 * others rely on. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        _cleanup_free_ char *text = fuzz_text(data, size), *err = NULL, *why = NULL;
        _cleanup_(provenance_freep) Provenance *p = NULL;
        _cleanup_(envelope_freep) Envelope *e = NULL;
        int r = provenance_parse(text, size, &p, &err);

        if (r < 0) {
                assert(r == -EBADMSG && err && !p);
                r = provenance_open(text, size, &e, &p, &why);
                assert(r == 0 ? e && !why : (r == -EBADMSG || r == -EFBIG) && why && !p && !e);
        }
        if (p)
                assert(p->has_artifact && p->has_index && p->app && p->release && p->builder);
        return 0;
}
