/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdio.h>

#include "err.h"
#include "expiry.h"
#include "json-read.h"
#include "publication.h"
#include "republish.h"
#include "result.h"
#include "verbs.h"

/* What stands in the channel, and may be signed anew: not just any manifest that is signed, or who
 * can only write to the store would have the one of their choice kept alive. */
static int check_present(const Publication *p, char **reterr)
{
        const ChannelHead *h = &p->head;

        if (h->was_set_back)
                return fail(reterr, -EKEYREJECTED,
                            "the history of %s/%s reaches serial %llu, but manifest.json is %s: "
                            "nothing is signed anew. Find out who did that; release, promote and "
                            "rollback publish what is to run",
                            p->channel.app, p->channel.name, (unsigned long long) h->serial,
                            h->current ? "older" : "missing");
        if (!h->current)
                return fail(reterr, -ENOENT, "nothing was published in %s/%s yet", p->channel.app,
                            p->channel.name);
        return republish_accept(p, h->current, reterr);
}

static int report(const Arguments *a, const Manifest *m, const Manifest *before, cJSON *result)
{
        char expires[TIME_TEXT_SIZE], expired[TIME_TEXT_SIZE];
        int r = result_add_string(result, "app", m->app);

        if (r >= 0)
                r = result_add_string(result, "channel", m->channel);
        if (r >= 0)
                r = result_add_bool(result, "refreshed", before != NULL);
        if (r >= 0 && before)
                r = result_add_time(result, "expires_before", before->expires_sec);
        if (r >= 0)
                r = manifest_to_result(m, result);
        if (r < 0 || a->json)
                return r;
        (void) time_format_utc(m->expires_sec, expires);
        if (before)
                printf("Refreshed %s/%s: serial %llu, deployment %llu as before (%s), expires %s; "
                       "before: %s\n",
                       m->app, m->channel, (unsigned long long) m->serial,
                       (unsigned long long) m->deployment, m->release, expires,
                       time_format_utc(before->expires_sec, expired));
        else
                printf("Nothing to do: serial %llu of %s/%s (%s) expires %s, which is not within "
                       "%s\n",
                       (unsigned long long) m->serial, m->app, m->channel, m->release, expires,
                       a->within);
        return 0;
}

static int renew(const Publication *p, const Arguments *a, cJSON *result, char **reterr)
{
        const Published *current = p->head.current;
        _cleanup_(manifest_freep) Manifest *m = NULL;
        int r = manifest_parse(current->envelope->payload, current->envelope->payload_size, &m,
                               reterr);

        if (r >= 0)
                r = republish_prepare(p, m, reterr);
        if (r >= 0)
                r = publication_renew(p, m, a->expires, result, reterr);
        return r == PUBLISH_OK ? report(a, m, current->manifest, result) : r;
}

int verb_refresh(const Arguments *a, cJSON *result, char **reterr)
{
        _cleanup_(publication_done) Publication p = {};
        uint64_t within_sec = 0;
        int r = a->within ? expiry_parse_span("within", a->within, &within_sec, reterr) : 0;

        if (r < 0)
                return PUBLISH_USAGE;
        r = publication_begin(a, a->channel, &p, reterr);
        if (r >= 0)
                r = check_present(&p, reterr);
        if (r < 0)
                return r;
        if (a->within && p.head.current->manifest->expires_sec > now_sec() + within_sec)
                return report(a, p.head.current->manifest, NULL, result);
        return renew(&p, a, result, reterr);
}
