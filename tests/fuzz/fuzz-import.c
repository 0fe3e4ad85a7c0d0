/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>

#include "fuzz.h"
#include "import.h"
#include "json-read.h"
#include "utf8.h"

/* Fit to be shown on a terminal. */
static void check_text(const char *text)
{
        _cleanup_free_ char *clean = strdup(text);

        assert(clean);
        utf8_clean(clean);
        assert(streq(clean, text));
}

/* Any YAML makes a slipway.json that an agent takes, or one clean line that says why not. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        const char *unit = "web.service";
        const Strings units = { &unit, size % 2 };
        _cleanup_free_ char *text = fuzz_text(data, size), *err = NULL;
        _cleanup_(import_done) Import m = {};
        _cleanup_json_ cJSON *spec = NULL;
        int r = import_parse(text, size, &units, &m, &spec, &err);

        if (r < 0) {
                assert((r == -EBADMSG || r == -EFBIG) && err && !spec && m.n_notes == 0);
                check_text(err);
                return 0;
        }
        assert(cJSON_IsObject(spec));
        for (size_t i = 0; i < m.n_notes; i++) {
                assert(m.notes[i].line > 0 && *m.notes[i].setting && *m.notes[i].advice);
                check_text(m.notes[i].setting);
                check_text(m.notes[i].advice);
        }
        return 0;
}
