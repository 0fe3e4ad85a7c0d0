/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>

#include "err.h"
#include "name.h"
#include "publication.h"
#include "republish.h"
#include "verbs.h"

/* The newest manifest of the release `id`, or with NULL of any but the current one. */
static int find_earlier(const Publication *p, const char *id, Published **ret, char **reterr)
{
        const char *current = p->head.current ? p->head.current->manifest->release : NULL;
        _cleanup_free_ uint64_t *serials = NULL;
        size_t n = 0;
        int r = channel_head_serials(&p->head, &serials, &n);

        for (size_t i = 0; r >= 0 && i < n; i++) {
                _cleanup_(published_freep) Published *earlier = NULL;
                r = channel_head_read(&p->channel, &p->head, serials[i], &earlier, reterr);
                if (r < 0)
                        return r;
                const char *release = earlier->manifest->release;
                if (id ? streq(release, id) : !streq_ptr(release, current)) {
                        *ret = TAKE_PTR(earlier);
                        return 0;
                }
        }
        if (r < 0)
                return r;
        if (id)
                return fail(
                        reterr, -ENOENT,
                        "%s/%s never had a release %s: 'slipway-publish log' shows which it had",
                        p->channel.app, p->channel.name, id);
        return fail(reterr, -ENOENT, "%s/%s has no release to go back to", p->channel.app,
                    p->channel.name);
}

int verb_rollback(const Arguments *a, cJSON *result, char **reterr)
{
        const char *id = a->operands.n_items > 0 ? a->operands.items[0] : NULL;
        _cleanup_(publication_done) Publication p = {};
        _cleanup_(published_freep) Published *earlier = NULL;
        int r;

        if (id && !name_is_valid(id))
                return fail(reterr, PUBLISH_USAGE, "'%s' can't be the id of a release", id);
        r = publication_begin(a, a->channel, &p, reterr);
        if (r >= 0)
                r = find_earlier(&p, id, &earlier, reterr);
        return r < 0 ? r : republish(&p, earlier, a, result, reterr);
}
