/* SPDX-License-Identifier: Apache-2.0 */
#include "spooled.h"

void spooled_remember(Spooled *s, const Manifest *m)
{
        s->deployment = m->deployment;
        s->index = m->index.sha256;
        s->artifact = m->artifact.sha256;
}

void spooled_drop_others(Spooled *s, Fetcher *fetcher, const Manifest *wanted)
{
        if (s->deployment == 0 || s->deployment == wanted->deployment)
                return;
        if (!sha256_equal(&s->index, &wanted->index.sha256))
                fetcher_drop(fetcher, &s->index);
        if (!sha256_equal(&s->artifact, &wanted->artifact.sha256))
                fetcher_drop(fetcher, &s->artifact);
        s->deployment = 0;
}

void spooled_drop_forgotten(Spooled *s, Fetcher *fetcher, const Manifest *wanted,
                            const State *state)
{
        if (s->is_known)
                return;
        s->is_known = true;
        if (state->deployment < wanted->deployment &&
            state->staged.deployment != wanted->deployment)
                return;
        fetcher_drop(fetcher, &wanted->index.sha256);
        fetcher_drop(fetcher, &wanted->artifact.sha256);
        if (wanted->provenance.path)
                fetcher_drop(fetcher, &wanted->provenance.sha256);
}

void spooled_drop(const Spooled *s, Fetcher *fetcher)
{
        if (s->deployment == 0)
                return;
        fetcher_drop(fetcher, &s->index);
        fetcher_drop(fetcher, &s->artifact);
}
