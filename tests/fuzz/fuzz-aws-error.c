/* SPDX-License-Identifier: Apache-2.0 */
#include <ctype.h>

#include "aws-error.h"
#include "fuzz.h"

static void check(const char *text)
{
        assert(text && strlen(text) <= 512);
        for (; *text; text++)
                assert(!iscntrl((unsigned char) *text));
}

/* Whatever a service answers, there are two texts that may be shown. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        _cleanup_free_ char *text = fuzz_text(data, size);
        _cleanup_(aws_error_done) AwsError in_body = {}, in_header = {};

        assert(aws_error_parse_parts(NULL, text, size, &in_body) == 0);
        check(in_body.code);
        check(in_body.message);
        assert(aws_error_parse_parts(text, "", 0, &in_header) == 0);
        check(in_header.code);
        (void) aws_error_judge(400, in_body.code);
        return 0;
}
