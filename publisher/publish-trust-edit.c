/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>

#include "err.h"
#include "expiry.h"
#include "json-read.h"
#include "key-list.h"
#include "new-file.h"
#include "publication.h"
#include "result.h"
#include "trust-view.h"
#include "verbs.h"

static int change_keys(KeyList *l, const Strings *add, const Strings *remove, char **reterr)
{
        int r = 0;

        for (size_t i = 0; r >= 0 && i < remove->n_items; i++)
                r = key_list_remove(l, remove->items[i], reterr);
        for (size_t i = 0; r >= 0 && i < add->n_items; i++)
                r = key_list_add(l, add->items[i], reterr);
        return r;
}

static int copy_keys(const Trust *t, KeyList *ret_keys, KeyList *ret_root_keys)
{
        int r = 0;

        for (size_t i = 0; r >= 0 && i < trust_n_manifest_keys(t); i++)
                r = key_list_copy(ret_keys, trust_manifest_key(t, i));
        for (size_t i = 0; r >= 0 && i < trust_n_root_keys(t); i++)
                r = key_list_copy(ret_root_keys, trust_root_key(t, i));
        return r;
}

static int parse_expires(const Arguments *a, const Trust *t, uint64_t *ret_sec, char **reterr)
{
        char when[TIME_TEXT_SIZE];

        if (a->expires)
                return expiry_parse(a->expires, now_sec(), ret_sec, reterr);
        *ret_sec = trust_expires_sec(t);
        if (*ret_sec <= now_sec())
                return fail(reterr, PUBLISH_USAGE,
                            "it expired at %s: say with --expires when the next one does",
                            time_format_utc(*ret_sec, when));
        return 0;
}

static int format(const Arguments *a, const Trust *t, char **ret, size_t *ret_size, char **reterr)
{
        _cleanup_(key_list_done) KeyList keys = {}, root_keys = {};
        unsigned threshold = 0, root_threshold = 0;
        uint64_t expires_sec = 0;
        int r = copy_keys(t, &keys, &root_keys);

        if (r >= 0)
                r = change_keys(&keys, &a->add_keys, &a->remove_keys, reterr);
        if (r < 0)
                return fail_prefix(reterr, r, "keys for manifests");
        r = change_keys(&root_keys, &a->add_root_keys, &a->remove_root_keys, reterr);
        if (r < 0)
                return fail_prefix(reterr, r, "keys for trust roots");
        r = key_list_threshold("threshold", a->threshold, keys.n_keys, trust_manifest_threshold(t),
                               &threshold, reterr);
        if (r == 0)
                r = key_list_threshold("root-threshold", a->root_threshold, root_keys.n_keys,
                                       trust_root_threshold(t), &root_threshold, reterr);
        if (r == 0)
                r = parse_expires(a, t, &expires_sec, reterr);
        return r != 0 ? r
                      : trust_format_next(t, keys.keys, keys.n_keys, threshold, root_keys.keys,
                                          root_keys.n_keys, root_threshold, expires_sec, ret,
                                          ret_size, reterr);
}

static int report(const Arguments *a, const Trust *before, cJSON *result, char **reterr)
{
        _cleanup_(envelope_freep) Envelope *e = NULL;
        _cleanup_(trust_freep) Trust *t = NULL;
        int r = trust_load_signed(a->output, &e, &t, reterr);

        if (r >= 0)
                r = result_add_string(result, "file", a->output);
        if (r >= 0)
                r = trust_view(t, e, before, !a->json, result);
        if (r >= 0 && !a->json)
                printf("%s: to be signed by 'slipway-publish trust sign --after %s --key KEY %s'\n",
                       a->output, a->operands.items[0], a->output);
        return r;
}

int verb_trust_edit(const Arguments *a, cJSON *result, char **reterr)
{
        _cleanup_(trust_freep) Trust *t = NULL;
        _cleanup_free_ char *data = NULL;
        size_t size = 0;
        int r;

        if (a->add_keys.n_items + a->remove_keys.n_items + a->add_root_keys.n_items +
                            a->remove_root_keys.n_items ==
                    0 &&
            !a->threshold && !a->root_threshold && !a->expires)
                return fail(reterr, PUBLISH_USAGE,
                            "nothing is to be changed: 'slipway-publish trust edit --help'");
        r = trust_load(a->operands.items[0], &t, reterr);
        if (r == 0)
                r = format(a, t, &data, &size, reterr);
        if (r == 0)
                r = new_file_write(a->output, data, size, 0644, reterr);
        return r == 0 ? report(a, t, result, reterr) : r;
}
