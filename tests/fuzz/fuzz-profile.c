/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>

#include "fuzz.h"
#include "profile.h"

/* Whatever a value is, it can be said in a message or sent: no control characters, no blanks around
 * it. */
static void check_value(const char *s)
{
        if (!s)
                return;
        assert(*s && strlen(s) <= PROFILE_VALUE_SIZE_MAX);
        assert(*s != ' ' && *s != '\t' && s[strlen(s) - 1] != ' ');
        for (; *s; s++)
                assert((unsigned char) *s >= ' ' && *s != 0x7f);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        _cleanup_free_ char *text = fuzz_text(data, size);

        for (int file = PROFILE_CREDENTIALS; file <= PROFILE_SERVICES; file++) {
                _cleanup_(profile_freep) Profile *p = calloc(1, sizeof(Profile));
                _cleanup_free_ char *err = NULL;

                assert(p);
                p->name = strdup("ci");
                p->services = strdup("ci");
                int r = profile_parse(text, size, (ProfileFile) file, "file", p, &err);
                assert(r == 0 || r == 1 || (r == -EBADMSG && err));
                check_value(p->key_id);
                check_value(p->secret);
                check_value(p->role_arn);
                check_value(p->region);
                check_value(p->endpoint_url);
                for (size_t i = 0; i < PROFILE_N_SERVICES; i++)
                        check_value(p->service_urls[i]);
        }
        return 0;
}
