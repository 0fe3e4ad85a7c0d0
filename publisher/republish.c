/* SPDX-License-Identifier: Apache-2.0 */
#include "republish.h"

#include "err.h"
#include "log.h"
#include "provenance-object.h"
#include "release-object.h"
#include "source.h"

/* Instances that don't ask for it can still have the release: no reason to keep a rollback from
 * them.
 */
static void check_provenance(const Publication *p, const Manifest *m)
{
        _cleanup_(provenance_freep) Provenance *provenance = NULL;
        _cleanup_free_ char *err = NULL;
        int r;

        if (!m->provenance.path) {
                log_warning("Release %s has no provenance, so that instances whose configuration "
                            "asks for it will not deploy it; released again under the same --id "
                            "it gets one",
                            m->release);
                return;
        }
        r = provenance_object_read(p->store, m, NULL, &provenance, &err);
        if (r < 0)
                log_warning("The provenance of release %s does not hold, so that instances whose "
                            "configuration asks for it will not deploy it: %s",
                            m->release, err_text(r, err));
}

int republish_accept(const Publication *p, const Published *earlier, char **reterr)
{
        const Manifest *m = earlier->manifest;
        int r = signers_accept(&p->signers, earlier->envelope, reterr);

        return r < 0 ? fail_prefix(
                               reterr, r,
                               "the manifest of %s/%s with serial %llu (%s) can't be built upon",
                               m->app, m->channel, (unsigned long long) m->serial, m->release)
                     : 0;
}

int republish_prepare(const Publication *p, Manifest *m, char **reterr)
{
        _cleanup_free_ char *who = NULL;
        int r = release_object_check(p->store, m, reterr);

        if (r < 0)
                return fail_prefix(reterr, r, "the release %s can't be deployed any more",
                                   m->release);
        check_provenance(p, m);
        r = source_who(getenv, &who);
        if (r < 0)
                return r;
        free(m->source.by);
        m->source.by = TAKE_PTR(who);
        return 0;
}

int republish(Publication *p, Published *earlier, const Arguments *a, cJSON *result, char **reterr)
{
        int r = republish_accept(p, earlier, reterr);

        if (r >= 0)
                r = republish_prepare(p, earlier->manifest, reterr);
        return r < 0 ? r : publication_finish(p, earlier->manifest, a, result, reterr);
}
