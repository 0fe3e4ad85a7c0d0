/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>

#include "credentials-answer.h"
#include "fuzz.h"

static void check(int r, Credentials *c, const char *err)
{
        assert(r == 0 || ((r == -EBADMSG || r == -ENOKEY) && err && !c->key_id));
        if (r == 0) {
                assert(credentials_value_is_valid(c->key_id));
                assert(credentials_value_is_valid(c->secret));
                assert(!c->session_token || credentials_value_is_valid(c->session_token));
        }
        credentials_done(c);
}

/* What is taken can be a header's value. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        _cleanup_free_ char *text = fuzz_text(data, size), *err = NULL, *err_sts = NULL;
        Credentials c = {};

        int r = credentials_parse_json(text, size, &c, &err);
        check(r, &c, err);
        r = credentials_parse_sts(text, size, &c, &err_sts);
        check(r, &c, err_sts);
        return 0;
}
