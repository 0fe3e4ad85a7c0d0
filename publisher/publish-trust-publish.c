/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>

#include "err.h"
#include "json-read.h"
#include "object.h"
#include "publication.h"
#include "result.h"
#include "root-chain.h"
#include "verbs.h"

/* What agents would refuse is not published, where it would stand in the way of the right one. */
static int check(const Arguments *a, Store *s, const Envelope *e, const Trust *t, char **reterr)
{
        _cleanup_(trust_freep) Trust *before = NULL, *next = NULL;
        char when[TIME_TEXT_SIZE];
        int r = trust_load(a->trust, &before, reterr);

        if (r >= 0)
                r = root_chain_walk(s, before, trust_version(t) - 1, NULL, reterr);
        if (r >= 0)
                r = trust_follow(before, e, &next, reterr);
        if (r == -EKEYREJECTED)
                return fail_prefix(reterr, r, "no instance would take %s after version %" PRIu64,
                                   a->operands.items[0], trust_version(before));
        if (r >= 0 && trust_expires_sec(t) <= now_sec())
                return fail(reterr, -EKEYREJECTED, "%s expired at %s", a->operands.items[0],
                            time_format_utc(trust_expires_sec(t), when));
        return r;
}

static int upload(Store *s, const char *path, const Envelope *e, const Trust *t, char **reterr)
{
        _cleanup_free_ char *data = NULL;
        size_t size = 0;
        int r = envelope_format(e, TRUST_PAYLOAD_TYPE, &data, &size);

        if (r >= 0)
                r = object_create(s, path, data, size, reterr);
        if (r == STORE_CONFLICT)
                return fail(reterr, PUBLISH_LOST,
                            "the store has another version %" PRIu64 " (%s), and it stays: look at "
                            "it with 'slipway-publish trust show --store %s', and make yours anew "
                            "from it",
                            trust_version(t), path, store_url(s));
        return r;
}

static int report(const Arguments *a, const Store *s, const char *path, const Trust *t,
                  cJSON *result)
{
        char when[TIME_TEXT_SIZE];
        int r = result_add_uint(result, "version", trust_version(t));

        if (r >= 0)
                r = result_add_time(result, "expires", trust_expires_sec(t));
        if (r >= 0)
                r = result_add_string(result, "path", path);
        if (r >= 0 && !a->json)
                printf("Published version %" PRIu64 " of the trust root as %s in %s, expires %s\n",
                       trust_version(t), path, store_url(s),
                       time_format_utc(trust_expires_sec(t), when));
        return r;
}

int verb_trust_publish(const Arguments *a, cJSON *result, char **reterr)
{
        _cleanup_(envelope_freep) Envelope *e = NULL;
        _cleanup_(store_freep) Store *s = NULL;
        _cleanup_(trust_freep) Trust *t = NULL;
        char path[64];
        int r = trust_load_signed(a->operands.items[0], &e, &t, reterr);

        if (r >= 0)
                r = object_store_open(a->store, &s, reterr);
        if (r >= 0)
                r = check(a, s, e, t, reterr);
        if (r < 0)
                return r;
        (void) snprintf(path, sizeof(path), TRUST_PATH_FORMAT, trust_version(t));
        r = upload(s, path, e, t, reterr);
        return r == 0 ? report(a, s, path, t, result) : r;
}
