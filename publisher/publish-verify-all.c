/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>

#include "err.h"
#include "log.h"
#include "object.h"
#include "progress.h"
#include "result.h"
#include "root-history.h"
#include "store-audit.h"
#include "verbs.h"

static int describe(const StoreAuditCounts *c, const AuditFindings *f, cJSON *result)
{
        const struct {
                const char *name;
                uint64_t n;
        } numbers[] = {
                {"trust_roots",     c->n_roots          },
                { "apps",           c->n_apps           },
                { "channels",       c->n_channels       },
                { "manifests",      c->n_manifests      },
                { "releases",       c->n_releases       },
                { "artifact_bytes", c->artifact_bytes   },
                { "failed",         f->n[FINDING_FAILED]},
                { "look",           f->n[FINDING_LOOK]  },
                { "notes",          f->n[FINDING_NOTE]  },
        };
        int r = 0;

        for (size_t i = 0; r >= 0 && i < ELEMENTSOF(numbers); i++)
                r = result_add_uint(result, numbers[i].name, numbers[i].n);
        return r < 0 ? r : result_add_bool(result, "verified", f->n[FINDING_FAILED] == 0);
}

static void print_summary(const Store *s, const StoreAuditCounts *c, const AuditFindings *f)
{
        char bytes[BYTES_TEXT_SIZE];

        printf("%s: trust roots: %zu, apps: %zu, channels: %zu, manifests: %zu, releases that hold: "
               "%zu (%s)\n",
               store_url(s), c->n_roots, c->n_apps, c->n_channels, c->n_manifests, c->n_releases,
               bytes_format(c->artifact_bytes, bytes));
        if (f->n[FINDING_FAILED] == 0)
                printf("Everything holds; to be looked at: %zu, notes: %zu.\n", f->n[FINDING_LOOK],
                       f->n[FINDING_NOTE]);
        else
                printf("Failed: %zu; to be looked at: %zu, notes: %zu.\n", f->n[FINDING_FAILED],
                       f->n[FINDING_LOOK], f->n[FINDING_NOTE]);
}

int verb_verify_all(const Arguments *a, cJSON *result, char **reterr)
{
        _cleanup_(root_history_done) RootHistory roots = {};
        _cleanup_(store_freep) Store *s = NULL;
        AuditFindings findings = { .print = !a->json };
        StoreAuditCounts counts = {};
        int r;

        if (a->app || a->channel)
                return fail(reterr, PUBLISH_USAGE,
                            "verify --all takes neither --app nor --channel");
        r = object_store_open(a->store, &s, reterr);
        if (r < 0)
                return r == -EKEYREJECTED ? PUBLISH_FAILED : r;
        r = root_history_load(s, a->trust, &roots, reterr);
        if (r >= 0)
                r = result_add_string(result, "store", store_url(s));
        if (r >= 0)
                r = result_add_array(result, "findings", &findings.array);
        if (r >= 0)
                r = store_audit(s, &roots, &findings, &counts, reterr);
        if (r >= 0)
                r = describe(&counts, &findings, result);
        if (r < 0)
                return r;
        if (!a->json)
                print_summary(s, &counts, &findings);
        return findings.n[FINDING_FAILED] == 0
                       ? PUBLISH_OK
                       : fail(reterr, PUBLISH_UNVERIFIED, "%zu of what was checked does not hold",
                              findings.n[FINDING_FAILED]);
}
