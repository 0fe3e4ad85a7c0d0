/* SPDX-License-Identifier: Apache-2.0 */
#include "root-chain.h"

#include <stdio.h>

#include "err.h"
#include "log.h"
#include "object.h"
#include "publication.h"
#include "time-text.h"

static int follow(const Trust *t, const char *path, const char *text, size_t size, Trust **ret,
                  char **reterr)
{
        _cleanup_(envelope_freep) Envelope *e = NULL;
        int r = envelope_parse(text, size, TRUST_PAYLOAD_TYPE, &e, reterr);

        if (r >= 0)
                r = trust_follow(t, e, ret, reterr);
        if (r == -EBADMSG || r == -EFBIG)
                r = -EKEYREJECTED;
        if (r < 0)
                return fail_prefix(reterr, r,
                                   "%s in the store can't follow version %" PRIu64
                                   " of the trust root",
                                   path, trust_version(t));
        return 0;
}

int root_chain_next(Store *s, const Trust *t, Trust **ret, char **ret_text, char **reterr)
{
        _cleanup_free_ char *text = NULL;
        char path[64];
        size_t size;
        int r;

        (void) snprintf(path, sizeof(path), TRUST_PATH_FORMAT, trust_version(t) + 1);
        r = object_read(s, path, ENVELOPE_SIZE_MAX, &text, &size, NULL, reterr);
        if (r == -EFBIG)
                return fail(reterr, -EKEYREJECTED, "%s in the store has more than %d bytes", path,
                            ENVELOPE_SIZE_MAX);
        if (r == 0)
                r = follow(t, path, text, size, ret, reterr);
        if (r == 0 && ret_text)
                *ret_text = TAKE_PTR(text);
        return r;
}

int root_chain_walk(Store *s, Trust *t, uint64_t version_max, char **ret_text, char **reterr)
{
        _cleanup_free_ char *text = NULL;

        for (unsigned i = 0; trust_version(t) < version_max; i++) {
                Trust *next = NULL;
                char *next_text = NULL;
                int r = root_chain_next(s, t, &next, &next_text, reterr);
                if (r == STORE_ABSENT)
                        break;
                if (r < 0)
                        return r;
                trust_become(t, next);
                free(text);
                text = next_text;
                if (i == ROOT_CHAIN_MAX)
                        return fail(reterr, -EKEYREJECTED,
                                    "the store has more than %d trust roots in a row",
                                    ROOT_CHAIN_MAX);
        }
        if (ret_text)
                *ret_text = TAKE_PTR(text);
        return 0;
}

int root_chain_load(Store *s, const char *path, Trust **ret, char **reterr)
{
        _cleanup_(trust_freep) Trust *t = NULL;
        char when[TIME_TEXT_SIZE];
        int r = trust_load(path, &t, reterr);

        if (r >= 0)
                r = root_chain_walk(s, t, UINT64_MAX, NULL, reterr);
        if (r < 0)
                return r;
        if (trust_expires_sec(t) <= now_sec())
                log_warning("Version %" PRIu64 " of the trust root expired at %s: instances deploy "
                            "nothing before there is a next one ('slipway-publish trust edit').",
                            trust_version(t), time_format_utc(trust_expires_sec(t), when));
        *ret = TAKE_PTR(t);
        return 0;
}
