/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>

#include "fuzz.h"
#include "mask.h"

static char *masked(char *text)
{
        char *result = NULL;
        size_t size;
        FILE *f = open_memstream(&result, &size);

        assert(f);
        mask_text(text, f);
        assert(fclose(f) == 0);
        return result;
}

/* What is secret must be gone however the text around it looks: it stands at the end of the input,
 * on a line of its own, by name and by form. What comes out is clean, and not endless. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        static const char planted[] = "\nx PASSWORD=hunter-planted\nsee "
                                      "https://me:hunter-planted@host/x?k=hunter-planted\n";
        _cleanup_free_ char *input = fuzz_text(data, size), *text = NULL, *result = NULL;

        if (strstr(input, "hunter"))
                return 0;
        assert(asprintf(&text, "%s%s", input, planted) > 0);
        result = masked(text);
        assert(!strstr(result, "hunter"));
        assert(strlen(result) <= 3 * (size + sizeof(planted)) + 1);
        for (const char *c = result; *c; c++)
                assert((unsigned char) *c >= ' ' || *c == '\n');
        return 0;
}
