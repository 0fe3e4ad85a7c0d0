/* SPDX-License-Identifier: Apache-2.0 */
#include "fuzz.h"
#include "manifest.h"
#include "name.h"
#include "store-listing.h"

/* What comes out goes into paths, in order and each once; every key is one of these or another. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        _cleanup_free_ char *keys = fuzz_text(data, size);
        _cleanup_(store_listing_done) StoreListing l = {};

        assert(store_listing_parse(keys, &l) == 0);
        assert((l.n_others == 0) == !l.other);
        for (size_t i = 0; i < l.n_channels; i++) {
                const ListedChannel *c = &l.channels[i];
                assert(name_is_valid(c->app) && name_is_valid(c->name));
                assert(i == 0 || strcmp(c[-1].app, c->app) < 0 ||
                       (streq(c[-1].app, c->app) && strcmp(c[-1].name, c->name) < 0));
        }
        for (size_t i = 0; i < l.n_releases; i++) {
                const ListedRelease *r = &l.releases[i];
                assert(name_is_valid(r->app) && name_is_valid(r->id));
                assert(i == 0 || strcmp(r[-1].app, r->app) < 0 ||
                       (streq(r[-1].app, r->app) && strcmp(r[-1].id, r->id) < 0));
        }
        for (size_t i = 0; i < l.n_roots; i++)
                assert(l.roots[i] > 0 && l.roots[i] <= SERIAL_MAX);
        return 0;
}
