/* SPDX-License-Identifier: Apache-2.0 */
#include "republish.h"

#include "err.h"
#include "release-object.h"
#include "source.h"

int republish(const Publication *p, Published *earlier, const Arguments *a, cJSON *result,
              char **reterr)
{
        Manifest *m = earlier->manifest;
        _cleanup_free_ char *who = NULL;
        int r = signers_accept(&p->signers, earlier->envelope, reterr);

        if (r < 0)
                return fail_prefix(
                        reterr, r,
                        "the manifest of %s/%s with serial %llu (%s) can't be built upon", m->app,
                        m->channel, (unsigned long long) m->serial, m->release);
        r = release_object_check(p->store, m, reterr);
        if (r < 0)
                return fail_prefix(reterr, r, "the release %s can't be deployed any more",
                                   m->release);
        r = source_who(getenv, &who);
        if (r < 0)
                return r;
        free(m->source.by);
        m->source.by = TAKE_PTR(who);
        return publication_finish(p, m, a, result, reterr);
}
