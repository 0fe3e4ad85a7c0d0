/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdio.h>

#include "fuzz.h"
#include "http-recheck.h"

/* It is whole once, at its end, however it comes in; and nothing may follow. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        _cleanup_free_ char *text = fuzz_text(data, size);
        bool closes = false, ignored;
        int r = size <= HTTP_RECHECK_HEAD_MAX ? http_recheck_parse(text, size, &closes) : -EBADMSG;

        assert(r == 0 || r == 1 || r == -EBADMSG);
        if (r < 0)
                return 0;
        for (size_t n = 0; n < MIN(size, (size_t) 64); n++)
                assert(http_recheck_parse(text, size - 1 - n, &ignored) == 0);
        if (r == 0)
                return 0;
        assert(size >= 4 && memcmp(text + size - 4, "\r\n\r\n", 4) == 0);
        assert(!memchr(text, '\0', size));
        _cleanup_free_ char *more = NULL;
        assert(asprintf(&more, "%sx", text) > 0);
        assert(size == HTTP_RECHECK_HEAD_MAX || http_recheck_parse(more, size + 1, &ignored) < 0);
        return 0;
}
