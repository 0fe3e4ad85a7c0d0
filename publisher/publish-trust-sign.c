/* SPDX-License-Identifier: Apache-2.0 */
#include <fcntl.h>
#include <libgen.h>

#include "err.h"
#include "fd.h"
#include "json-read.h"
#include "key-list.h"
#include "key-source.h"
#include "log.h"
#include "trust-view.h"
#include "verbs.h"

static bool is_root_key(const Trust *t, const Key *k)
{
        for (size_t i = 0; i < trust_n_root_keys(t); i++)
                if (sha256_equal(key_id(trust_root_key(t, i)), key_id(k)))
                        return true;
        return false;
}

static int sign(Envelope *e, const Trust *t, const Trust *before, const Key *k, const char *name,
                char **reterr)
{
        int r;

        if (!is_root_key(t, k) && !is_root_key(before, k))
                return fail(reterr, -EKEYREJECTED,
                            "%s is a root key neither of version %" PRIu64 " nor of %" PRIu64
                            ": its signature counts for nothing",
                            name, trust_version(before), trust_version(t));
        r = envelope_verify(e, TRUST_PAYLOAD_TYPE, k);
        if (r == 0)
                log_info("%s has signed it already.", name);
        return r == -EKEYREJECTED ? envelope_sign(e, TRUST_PAYLOAD_TYPE, k, reterr) : r;
}

static int sign_all(const Arguments *a, Envelope *e, const Trust *t, const Trust *before,
                    char **reterr)
{
        _cleanup_(key_list_done) KeyList keys = {};
        int r = key_list_load(&a->keys, key_source_signer, &keys, reterr);

        for (size_t i = 0; r >= 0 && i < keys.n_keys; i++)
                r = sign(e, t, before, keys.keys[i], a->keys.items[i], reterr);
        return r;
}

/* In place: whoever comes next finds the file with one signature more, or as it was. */
static int write_back(const char *path, const Envelope *e, char **reterr)
{
        _cleanup_free_ char *data = NULL, *dir_part = strdup(path), *name_part = strdup(path);
        _cleanup_close_ int dir_fd = -EBADF;
        size_t size;
        int r = dir_part && name_part ? envelope_format(e, TRUST_PAYLOAD_TYPE, &data, &size)
                                      : -ENOMEM;

        if (r >= 0)
                r = dir_fd = dir_open_at(AT_FDCWD, dirname(dir_part));
        if (r >= 0)
                r = file_write_atomic_at(dir_fd, basename(name_part), data, size, 0644);
        return r < 0 ? fail_errno(reterr, r, "can't write %s", path) : 0;
}

int verb_trust_sign(const Arguments *a, cJSON *result, char **reterr)
{
        const char *path = a->operands.items[0];
        _cleanup_(envelope_freep) Envelope *e = NULL;
        _cleanup_(trust_freep) Trust *t = NULL, *before = NULL;
        int r = trust_load_signed(path, &e, &t, reterr);

        if (r >= 0)
                r = trust_load(a->after, &before, reterr);
        if (r < 0)
                return r;
        if (trust_version(t) != trust_version(before) + 1)
                return fail(reterr, -EKEYREJECTED,
                            "%s is version %" PRIu64 ", which can't follow version %" PRIu64
                            " in %s: make it anew with 'slipway-publish trust edit'",
                            path, trust_version(t), trust_version(before), a->after);
        r = sign_all(a, e, t, before, reterr);
        if (r >= 0)
                r = write_back(path, e, reterr);
        return r < 0 ? r : trust_view(t, e, before, !a->json, result);
}
