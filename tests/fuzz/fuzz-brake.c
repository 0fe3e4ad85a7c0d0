/* SPDX-License-Identifier: Apache-2.0 */
#include "brake.h"
#include "fuzz.h"
#include "utf8.h"

/* What is taken has a text that a terminal may get; what is refused has a reason and nothing else.
 */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        _cleanup_free_ char *copy = fuzz_text(data, size), *text = NULL, *err = NULL;
        _cleanup_free_ char *cleaned = NULL;
        bool halted;

        if (brake_parse(copy, size, &halted, &text, &err) < 0) {
                assert(err && !text);
                return 0;
        }
        cleaned = strdup(text);
        assert(cleaned);
        utf8_clean(cleaned);
        assert(streq(cleaned, text));
        return 0;
}
