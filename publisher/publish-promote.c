/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>

#include "err.h"
#include "publication.h"
#include "release-object.h"
#include "republish.h"
#include "result.h"
#include "spec.h"
#include "verbs.h"

static int use_spec(const char *path, Manifest *m, char **reterr)
{
        Spec spec = {};
        int r = spec_load(AT_FDCWD, path, &spec, reterr);

        if (r < 0)
                return r;
        targets_done(&m->targets);
        activate_done(&m->activate);
        m->targets = spec.targets;
        m->activate = spec.activate;
        return 0;
}

int verb_promote(const Arguments *a, cJSON *result, char **reterr)
{
        _cleanup_(publication_done) Publication p = {};
        _cleanup_(published_freep) Published *from = NULL;
        int r;

        if (streq(a->from, a->to))
                return fail(reterr, PUBLISH_USAGE, "--from and --to are the same channel");
        r = publication_begin(a, a->to, &p, reterr);
        if (r < 0)
                return r;
        const Channel source = { .store = p.store, .app = a->app, .name = a->from };
        r = channel_read(&source, &from, reterr);
        if (r == STORE_ABSENT)
                return fail(reterr, -ENOENT, "nothing was published in %s/%s yet", a->app, a->from);
        if (r >= 0 && a->spec)
                r = use_spec(a->spec, from->manifest, reterr);
        if (r >= 0)
                r = result_add_string(result, "from", a->from);
        return r < 0 ? r : republish(&p, from, a, result, reterr);
}
