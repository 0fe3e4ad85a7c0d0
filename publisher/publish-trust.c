/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdio.h>

#include "err.h"
#include "expiry.h"
#include "json-read.h"
#include "key-list.h"
#include "key-source.h"
#include "log.h"
#include "new-file.h"
#include "object.h"
#include "publication.h"
#include "result.h"
#include "trust.h"
#include "verbs.h"

#define FIRST_PATH "trust/1.json"

static int format(const Arguments *a, char **ret, size_t *ret_size, uint64_t *ret_expires_sec,
                  char **reterr)
{
        const Strings *root_paths = a->root_keys.n_items > 0 ? &a->root_keys : &a->keys;
        _cleanup_(key_list_done) KeyList keys = {}, root_keys = {}, signers = {};
        unsigned threshold = 0, root_threshold = 0;
        uint64_t expires_sec;
        int r = expiry_parse(a->expires ? a->expires : TRUST_EXPIRES_DEFAULT, now_sec(),
                             &expires_sec, reterr);

        if (r >= 0)
                r = key_list_threshold("threshold", a->threshold, a->keys.n_items, 1, &threshold,
                                       reterr);
        if (r == 0)
                r = key_list_threshold("root-threshold", a->root_threshold, root_paths->n_items, 1,
                                       &root_threshold, reterr);
        if (r != 0)
                return r;
        r = key_list_load(&a->keys, key_source_public, &keys, reterr);
        if (r >= 0)
                r = key_list_load(root_paths, key_source_public, &root_keys, reterr);
        if (r >= 0)
                r = key_list_load(&a->signers, key_source_signer, &signers, reterr);
        if (r >= 0)
                r = trust_format_first(keys.keys, keys.n_keys, threshold, root_keys.keys,
                                       root_keys.n_keys, root_threshold, expires_sec, signers.keys,
                                       signers.n_keys, ret, ret_size, reterr);
        if (r < 0)
                return r;
        *ret_expires_sec = expires_sec;
        return 0;
}

static int upload(const char *url, const char *data, size_t size, char **reterr)
{
        _cleanup_(store_freep) Store *s = NULL;
        int r = object_store_open(url, &s, reterr);

        if (r >= 0)
                r = object_create(s, FIRST_PATH, data, size, reterr);
        if (r == STORE_CONFLICT)
                return fail(reterr, -EEXIST,
                            "the store has another first trust root (%s), and a store has one "
                            "only; it was left as it is",
                            FIRST_PATH);
        return r;
}

int verb_trust_init(const Arguments *a, cJSON *result, char **reterr)
{
        _cleanup_free_ char *data = NULL;
        char when[TIME_TEXT_SIZE];
        uint64_t expires_sec = 0;
        size_t size = 0;
        int r = format(a, &data, &size, &expires_sec, reterr);

        if (r == 0)
                r = new_file_write(a->output, data, size, 0644, reterr);
        if (r == 0 && a->store) {
                r = upload(a->store, data, size, reterr);
                if (r < 0)
                        log_info("%s was written all the same.", a->output);
        }
        if (r == 0)
                r = result_add_string(result, "file", a->output);
        if (r == 0)
                r = result_add_uint(result, "version", 1);
        if (r == 0)
                r = result_add_uint(result, "keys", a->keys.n_items);
        if (r == 0)
                r = result_add_time(result, "expires", expires_sec);
        if (r != 0)
                return r;
        if (!a->json)
                printf("%s: %zu %s may sign manifests, until %s. Put it on every instance as "
                       "/etc/slipway/trust/root.json\n",
                       a->output, a->keys.n_items, a->keys.n_items == 1 ? "key" : "keys",
                       time_format_utc(expires_sec, when));
        return 0;
}
