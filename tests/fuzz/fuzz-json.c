/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>

#include "fuzz.h"
#include "json-read.h"

/* The scan lets nothing pass that cJSON does not take, and what it lets pass survives being written
 * and read again. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        _cleanup_free_ char *text = fuzz_text(data, size), *err = NULL, *written = NULL;
        _cleanup_json_ cJSON *tree = NULL, *again = NULL;
        int r = json_parse(text, size, &tree, &err);

        (void) json_line_of(text, size, "a.b[1][\"c d\"].e: missing");
        if (r < 0) {
                assert(r == -EBADMSG && err && !tree);
                return 0;
        }
        written = cJSON_PrintUnformatted(tree);
        assert(written);
        assert(json_line_of(text, size, "") > 0);
        again = cJSON_Parse(written);
        assert(again);
        return 0;
}
