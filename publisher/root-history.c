/* SPDX-License-Identifier: Apache-2.0 */
#include "root-history.h"

#include <errno.h>

#include "err.h"
#include "root-chain.h"

void root_history_done(RootHistory *h)
{
        for (size_t i = 0; i < h->n_roots; i++)
                trust_free(h->roots[i]);
        free(h->roots);
        free(h->first_payload);
        free(h->broken);
        *h = (RootHistory){};
}

const Trust *root_history_newest(const RootHistory *h)
{
        return h->roots[h->n_roots - 1];
}

static int load_first(const char *path, RootHistory *h, char **reterr)
{
        _cleanup_(envelope_freep) Envelope *e = NULL;
        int r = trust_load_signed(path, &e, &h->roots[0], reterr);

        if (r < 0)
                return r;
        h->n_roots = 1;
        h->first_payload = TAKE_PTR(e->payload);
        h->first_payload_size = e->payload_size;
        return 0;
}

int root_history_load(Store *s, const char *path, RootHistory *ret, char **reterr)
{
        _cleanup_(root_history_done) RootHistory h = {
                /* one more than there may be: nothing follows the last */
                .roots = calloc(2 + ROOT_CHAIN_MAX, sizeof(Trust *)),
        };
        _cleanup_free_ char *err = NULL;
        int r = h.roots ? load_first(path, &h, reterr) : -ENOMEM;

        if (r < 0)
                return r;
        while (r == 0 && h.n_roots <= 1 + ROOT_CHAIN_MAX) {
                r = root_chain_next(s, root_history_newest(&h), &h.roots[h.n_roots], NULL, &err);
                h.n_roots += r == 0;
        }
        if (r == 0)
                return fail(reterr, -EKEYREJECTED,
                            "the store has more than %d trust roots in a row", ROOT_CHAIN_MAX);
        if (r == -EKEYREJECTED)
                h.broken = TAKE_PTR(err);
        else if (r < 0)
                return fail(reterr, r, "%s", err_text(r, err));
        *ret = h;
        h = (RootHistory){};
        return 0;
}

int root_history_find(const RootHistory *h, const Envelope *e, const char *type, const Trust **ret,
                      char **ret_why, char **reterr)
{
        _cleanup_free_ char *why = NULL;
        int r = trust_verify(root_history_newest(h), e, type, &why);

        for (size_t i = h->n_roots - 1; r == -EKEYREJECTED && i-- > 0;) {
                r = trust_verify(h->roots[i], e, type, NULL);
                if (r == 0)
                        *ret = h->roots[i];
        }
        if (r < 0)
                return fail(reterr, r, "%s", err_text(r, why));
        if (!why)
                *ret = root_history_newest(h);
        *ret_why = TAKE_PTR(why);
        return 0;
}
