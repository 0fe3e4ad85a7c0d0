/* SPDX-License-Identifier: Apache-2.0 */
#include "err.h"
#include "json-read.h"
#include "new-file.h"
#include "object.h"
#include "result.h"
#include "root-chain.h"
#include "trust-view.h"
#include "verbs.h"

/* The root after FILE that the store has last, or FILE's own. */
static int walk(const char *url, Trust *t, Envelope **e, char **ret_text, char **reterr)
{
        _cleanup_(store_freep) Store *s = NULL;
        Envelope *last = NULL;
        int r = object_store_open(url, &s, reterr);

        if (r >= 0)
                r = root_chain_walk(s, t, UINT64_MAX, ret_text, reterr);
        if (r < 0 || !*ret_text)
                return r;
        r = envelope_parse(*ret_text, strlen(*ret_text), TRUST_PAYLOAD_TYPE, &last, reterr);
        if (r < 0)
                return r;
        envelope_free(*e);
        *e = last;
        return 0;
}

static int write(const char *path, const Envelope *e, char *text, char **reterr)
{
        _cleanup_free_ char *own = NULL;
        size_t size = text ? strlen(text) : 0;
        int r = text ? 0 : envelope_format(e, TRUST_PAYLOAD_TYPE, &own, &size);

        return r < 0 ? r : new_file_write(path, text ? text : own, size, 0644, reterr);
}

int verb_trust_show(const Arguments *a, cJSON *result, char **reterr)
{
        _cleanup_(envelope_freep) Envelope *e = NULL;
        _cleanup_(trust_freep) Trust *t = NULL, *before = NULL;
        _cleanup_free_ char *text = NULL;
        int r = trust_load_signed(a->operands.items[0], &e, &t, reterr);

        if (r >= 0 && a->after)
                r = trust_load(a->after, &before, reterr);
        if (r >= 0 && a->store)
                r = walk(a->store, t, &e, &text, reterr);
        if (r >= 0)
                r = trust_view(t, e, before, !a->json, result);
        if (r >= 0 && a->output)
                r = write(a->output, e, text, reterr);
        return r;
}
