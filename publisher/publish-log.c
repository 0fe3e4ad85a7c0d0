/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdio.h>

#include "channel.h"
#include "err.h"
#include "json-read.h"
#include "log.h"
#include "object.h"
#include "publication.h"
#include "result.h"
#include "verbs.h"

#define LINES_DEFAULT 20
#define LINES_MAX     1000000

/* What is printed comes from a store that is not trusted: names are checked by manifest_parse(),
 * source facts have no control characters. */
static void print_line(const Manifest *m)
{
        char when[TIME_TEXT_SIZE];

        printf("%-7llu %-28s %-21s %-24s %.12s\n", (unsigned long long) m->serial, m->release,
               time_format_utc(m->published_sec, when), m->source.by ? m->source.by : "-",
               m->source.commit ? m->source.commit : "-");
}

static int tell(const Arguments *a, const ChannelHead *h, const Manifest *m, cJSON *entries)
{
        cJSON *entry;
        int r;

        if (!a->json) {
                print_line(m);
                return 0;
        }
        r = result_append_object(entries, &entry);
        if (r >= 0)
                r = result_add_bool(entry, "current",
                                    h->current && h->current->manifest->serial == m->serial);
        return r < 0 ? r : manifest_to_result(m, entry);
}

static int tell_unreadable(const Arguments *a, uint64_t serial, const char *err, cJSON *entries)
{
        cJSON *entry;
        int r;

        log_warning("Serial %llu can't be shown: %s", (unsigned long long) serial, err);
        if (!a->json)
                return 0;
        r = result_append_object(entries, &entry);
        if (r >= 0)
                r = result_add_uint(entry, "serial", serial);
        return r < 0 ? r : result_add_string(entry, "problem", err);
}

static int tell_serial(const Arguments *a, const Channel *c, const ChannelHead *h, uint64_t serial,
                       cJSON *entries, char **reterr)
{
        _cleanup_(published_freep) Published *p = NULL;
        _cleanup_free_ char *err = NULL;
        int r = channel_head_read(c, h, serial, &p, &err);

        if (r == -EBADMSG || r == -ENOENT || r == -EFBIG)
                return tell_unreadable(a, serial, err_text(r, err), entries);
        if (r < 0)
                return fail(reterr, r, "%s", err_text(r, err));
        return tell(a, h, p->manifest, entries);
}

static int tell_all(const Arguments *a, const Channel *c, const ChannelHead *h, uint64_t n_max,
                    cJSON *entries, char **reterr)
{
        _cleanup_free_ uint64_t *serials = NULL;
        size_t n = 0;
        int r = channel_head_serials(h, &serials, &n);

        if (r >= 0 && n == 0)
                return fail(reterr, -ENOENT, "nothing was published in %s/%s of %s yet", c->app,
                            c->name, a->store);
        if (r >= 0 && !a->json)
                printf("%-7s %-28s %-21s %-24s %s\n", "SERIAL", "RELEASE", "WHEN", "WHO", "COMMIT");
        for (size_t i = 0; r >= 0 && i < MIN(n, n_max); i++)
                r = tell_serial(a, c, h, serials[i], entries, reterr);
        if (r >= 0 && h->was_set_back)
                log_warning("The history reaches serial %llu, but manifest.json is %s: someone put "
                            "an older one back.",
                            (unsigned long long) h->serial, h->current ? "older" : "missing");
        return r;
}

int verb_log(const Arguments *a, cJSON *result, char **reterr)
{
        _cleanup_(channel_head_done) ChannelHead h = {};
        _cleanup_(store_freep) Store *s = NULL;
        uint64_t n_max = LINES_DEFAULT;
        cJSON *entries = NULL;
        int r;

        if (a->number && arguments_number("number", a->number, LINES_MAX, &n_max, reterr) < 0)
                return PUBLISH_USAGE;
        r = object_store_open(a->store, &s, reterr);
        if (r < 0)
                return r;
        const Channel c = { .store = s, .app = a->app, .name = a->channel };
        r = channel_head(&c, &h, reterr);
        if (r >= 0)
                r = result_add_string(result, "app", a->app);
        if (r >= 0)
                r = result_add_string(result, "channel", a->channel);
        if (r >= 0)
                r = result_add_array(result, "manifests", &entries);
        return r < 0 ? r : tell_all(a, &c, &h, n_max, entries, reterr);
}
