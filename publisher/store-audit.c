/* SPDX-License-Identifier: Apache-2.0 */
#include "store-audit.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

#include "audit.h"
#include "channel.h"
#include "err.h"
#include "json-read.h"
#include "name.h"
#include "object.h"
#include "progress.h"
#include "provenance-object.h"
#include "publication.h"
#include "release-object.h"
#include "store-listing.h"

#define PATH_TEXT_SIZE 256 /* names are at most NAME_SIZE_MAX bytes, serials 16 digits */

/* What became of a release. */
typedef enum ReleaseState {
        RELEASE_UNNAMED, /* no manifest that was trusted names it */
        RELEASE_HOLDS,
        RELEASE_BROKEN,
        RELEASE_GONE, /* neither artifact nor index are there */
} ReleaseState;

typedef struct AuditedRelease {
        char *app, *id; /* the listing's, unless `is_own` */
        bool is_own;
        bool is_listed; /* its artifact or its index is */
        ReleaseState state;
        Sha256 artifact_sha256, index_sha256; /* of the first manifest that names it */
        Sha256 provenance_sha256;             /* of the last one that was read; zeros: none was */
} AuditedRelease;

typedef struct StoreAudit {
        Store *store;
        const RootHistory *roots;
        AuditFindings *findings;
        StoreListing listing;
        AuditedRelease *releases; /* as in the listing; then those that are not there */
        size_t n_releases;
        StoreAuditCounts counts;
} StoreAudit;

/* Manifests of a channel, in a row, that the same older root accepts: one finding. */
typedef struct OlderRun {
        uint64_t first, last, version;
        char *why; /* NULL: there is none */
} OlderRun;

typedef struct ChannelAudit {
        StoreAudit *audit;
        Channel channel;
        uint64_t *serials;
        size_t n_serials;
        Published *current;      /* NULL: there is none, or it is none */
        bool current_is_unusual; /* a finding says so */
        OlderRun older;
        uint64_t deployment; /* of the last manifest that was trusted, and its release; 0: none */
        char release[NAME_SIZE_MAX + 1];
} ChannelAudit;

static void store_audit_done(StoreAudit *a)
{
        for (size_t i = 0; i < a->n_releases; i++)
                if (a->releases[i].is_own) {
                        free(a->releases[i].app);
                        free(a->releases[i].id);
                }
        free(a->releases);
        store_listing_done(&a->listing);
}

static void channel_audit_done(ChannelAudit *c)
{
        free(c->serials);
        free(c->older.why);
        published_free(c->current);
}

/* What makes a finding, as against what kept us from finding out. */
static bool does_not_hold(int r)
{
        return r == -EKEYREJECTED || r == -EBADMSG || r == -EFBIG || r == -EPROTO || r == -ENOENT;
}

static const char *channel_path(const ChannelAudit *c, uint64_t serial,
                                char buffer[static PATH_TEXT_SIZE])
{
        if (serial == 0)
                (void) snprintf(buffer, PATH_TEXT_SIZE, "%s/channels/%s/manifest.json",
                                c->channel.app, c->channel.name);
        else
                (void) snprintf(buffer, PATH_TEXT_SIZE, "%s/channels/%s/history/%" PRIu64 ".json",
                                c->channel.app, c->channel.name, serial);
        return buffer;
}

/* A finding about manifest.json (serial 0) or an entry of the history. */
#define found(c, weight, kind, serial, ...)                                                       \
        ({                                                                                        \
                char _path[PATH_TEXT_SIZE];                                                       \
                audit_finding((c)->audit->findings, weight, kind, channel_path(c, serial, _path), \
                              __VA_ARGS__);                                                       \
        })

/* A finding about a release, named by its manifest or by the listing. */
#define found_release(a, weight, kind, app, id, ...)                              \
        ({                                                                        \
                char _path[PATH_TEXT_SIZE];                                       \
                (void) snprintf(_path, sizeof(_path), "%s/releases/%s", app, id); \
                audit_finding((a)->findings, weight, kind, _path, __VA_ARGS__);   \
        })

/* -- trust roots */

static int check_first_root(StoreAudit *a, const char *path, char **reterr)
{
        _cleanup_(envelope_freep) Envelope *e = NULL;
        _cleanup_free_ char *text = NULL, *err = NULL;
        size_t size = 0;
        int r = object_read(a->store, path, ENVELOPE_SIZE_MAX, &text, &size, NULL, &err);

        if (r == STORE_ABSENT)
                return 0;
        if (r == 0)
                r = envelope_parse(text, size, TRUST_PAYLOAD_TYPE, &e, &err);
        if (r == 0 && (e->payload_size != a->roots->first_payload_size ||
                       memcmp(e->payload, a->roots->first_payload, e->payload_size) != 0))
                return audit_finding(a->findings, FINDING_FAILED, "trust-root", path,
                                     "it says something else than the trust root of --trust, which "
                                     "has the same version");
        if (r == 0 || !does_not_hold(r))
                return r < 0 ? fail(reterr, r, "%s", err_text(r, err)) : 0;
        return audit_finding(a->findings, FINDING_FAILED, "trust-root", path, "%s",
                             err_text(r, err));
}

static int check_root(StoreAudit *a, uint64_t version, char **reterr)
{
        const uint64_t first = trust_version(a->roots->roots[0]),
                       last = trust_version(root_history_newest(a->roots));
        char path[64];

        (void) snprintf(path, sizeof(path), TRUST_PATH_FORMAT, version);
        if (version == first)
                return check_first_root(a, path, reterr);
        if (version < first)
                return audit_finding(a->findings, FINDING_NOTE, "trust-root", path,
                                     "older than the trust root of --trust (version %" PRIu64
                                     "), so that nobody vouches for it here",
                                     first);
        if (version <= last)
                return 0;
        if (version == last + 1) /* or it came meanwhile */
                return a->roots->broken ? audit_finding(a->findings, FINDING_FAILED, "trust-root",
                                                        path, "%s", a->roots->broken)
                                        : 0;
        return audit_finding(a->findings, FINDING_FAILED, "trust-root", path,
                             "nothing leads to it: the chain ends with version %" PRIu64, last);
}

static int check_roots(StoreAudit *a, char **reterr)
{
        const Trust *newest = root_history_newest(a->roots);
        char path[64], when[TIME_TEXT_SIZE];
        int r = 0;

        for (size_t i = 0; r >= 0 && i < a->listing.n_roots; i++)
                r = check_root(a, a->listing.roots[i], reterr);
        a->counts.n_roots = a->roots->n_roots;
        if (r < 0 || trust_expires_sec(newest) > now_sec())
                return r;
        (void) snprintf(path, sizeof(path), TRUST_PATH_FORMAT, trust_version(newest));
        return audit_finding(a->findings, FINDING_LOOK, "expired", path,
                             "the trust root that counts expired at %s: instances deploy nothing "
                             "before there is a next one ('slipway-publish trust edit')",
                             time_format_utc(trust_expires_sec(newest), when));
}

/* -- releases */

static int compare_release(const void *key, const void *item)
{
        const Manifest *m = key;
        const AuditedRelease *r = item;
        int c = strcmp(m->app, r->app);

        return c ? c : strcmp(m->release, r->id);
}

/* Not in the listing: removed, or newer than that. */
static AuditedRelease *add_release(StoreAudit *a, const Manifest *m)
{
        AuditedRelease *larger =
                reallocarray(a->releases, a->n_releases + 1, sizeof(AuditedRelease));

        if (!larger)
                return NULL;
        a->releases = larger;
        AuditedRelease *r = &a->releases[a->n_releases];
        *r = (AuditedRelease){ .app = strdup(m->app), .id = strdup(m->release), .is_own = true };
        a->n_releases++;
        return r->app && r->id ? r : NULL;
}

static AuditedRelease *find_release(StoreAudit *a, const Manifest *m)
{
        AuditedRelease *r = a->listing.n_releases == 0
                                    ? NULL
                                    : bsearch(m, a->releases, a->listing.n_releases,
                                              sizeof(AuditedRelease), compare_release);

        for (size_t i = a->listing.n_releases; !r && i < a->n_releases; i++)
                if (compare_release(m, &a->releases[i]) == 0)
                        r = &a->releases[i];
        return r ? r : add_release(a, m);
}

static int read_release(StoreAudit *a, const Manifest *m, char **reterr)
{
        _cleanup_(progress_freep) Progress *progress = NULL;
        _cleanup_(index_freep) Index *index = NULL;
        int r = release_object_read_index(a->store, m, &index, reterr);

        if (r >= 0)
                r = progress_new(m->release, &progress);
        if (r >= 0)
                r = audit_artifact(a->store, m, index, progress_update, progress, reterr);
        if (r >= 0) {
                a->counts.n_releases++;
                a->counts.artifact_bytes += m->artifact.size_bytes;
        }
        return r;
}

static int audit_release(StoreAudit *a, const Manifest *m, AuditedRelease *release, char **reterr)
{
        _cleanup_free_ char *err = NULL;
        int r = read_release(a, m, &err);

        release->artifact_sha256 = m->artifact.sha256;
        release->index_sha256 = m->index.sha256;
        release->state = r >= 0                                ? RELEASE_HOLDS
                         : r == -ENOENT && !release->is_listed ? RELEASE_GONE
                                                               : RELEASE_BROKEN;
        if (r >= 0 || release->state == RELEASE_GONE)
                return 0;
        if (!does_not_hold(r))
                return fail(reterr, r, "%s", err_text(r, err));
        return found_release(a, FINDING_FAILED, "release", m->app, m->release, "%s",
                             err_text(r, err));
}

/* Its own signatures are only looked at: what it says is signed by the manifest as well. */
static int look_at_signers(StoreAudit *a, const Manifest *m, const Envelope *e, char **reterr)
{
        _cleanup_free_ char *why = NULL, *err = NULL;
        const Trust *accepts = NULL;
        int r = root_history_find(a->roots, e, STATEMENT_PAYLOAD_TYPE, &accepts, &why, &err);

        if (r == -EKEYREJECTED)
                return audit_finding(a->findings, FINDING_LOOK, "provenance", m->provenance.path,
                                     "a manifest that is trusted names it, but no version of the "
                                     "trust root ever accepted its own signatures: %s",
                                     err_text(r, err));
        return r < 0 ? fail(reterr, r, "%s", err_text(r, err)) : 0;
}

/* A release may have several, of which each manifest names one. */
static int check_provenance(StoreAudit *a, const Manifest *m, AuditedRelease *release,
                            char **reterr)
{
        _cleanup_(provenance_freep) Provenance *provenance = NULL;
        _cleanup_(envelope_freep) Envelope *e = NULL;
        _cleanup_free_ char *err = NULL;
        int r;

        if (!m->provenance.path || release->state == RELEASE_GONE ||
            sha256_equal(&release->provenance_sha256, &m->provenance.sha256))
                return 0;
        release->provenance_sha256 = m->provenance.sha256;
        r = provenance_object_read(a->store, m, &e, &provenance, &err);
        if (r >= 0)
                return look_at_signers(a, m, e, reterr);
        if (!does_not_hold(r))
                return fail(reterr, r, "%s", err_text(r, err));
        return audit_finding(a->findings, FINDING_FAILED, "provenance", m->provenance.path, "%s",
                             err_text(r, err));
}

/* What a manifest that was trusted names. */
static int check_release(ChannelAudit *c, const Manifest *m, uint64_t serial, char **reterr)
{
        AuditedRelease *release = find_release(c->audit, m);
        bool is_new = release && release->state == RELEASE_UNNAMED;
        int r = release ? 0 : -ENOMEM;

        if (r >= 0 && is_new)
                r = audit_release(c->audit, m, release, reterr);
        if (r >= 0)
                r = check_provenance(c->audit, m, release, reterr);
        if (r < 0)
                return r;
        if (release->state == RELEASE_GONE && serial == 0)
                return found_release(c->audit, FINDING_FAILED, "release", m->app, m->release,
                                     "artifact and index are missing in the store, and channel %s "
                                     "is to deploy it",
                                     c->channel.name);
        if (release->state == RELEASE_GONE && is_new)
                return found_release(c->audit, FINDING_LOOK, "release", m->app, m->release,
                                     "artifact and index are missing in the store: nothing can go "
                                     "back to it");
        if (!is_new && (!sha256_equal(&release->artifact_sha256, &m->artifact.sha256) ||
                        !sha256_equal(&release->index_sha256, &m->index.sha256)))
                return found(c, FINDING_FAILED, "release", serial,
                             "another manifest names other content for the release %s, which never "
                             "changes",
                             m->release);
        return 0;
}

static int tell_unnamed(StoreAudit *a)
{
        int r = 0;

        for (size_t i = 0; r >= 0 && i < a->listing.n_releases; i++) {
                const ListedRelease *l = &a->listing.releases[i];
                if (a->releases[i].state != RELEASE_UNNAMED)
                        continue;
                r = found_release(a, FINDING_NOTE, "unnamed-release", l->app, l->id,
                                  "no manifest that is trusted names it%s, and it was not checked",
                                  l->has_index && l->has_artifact ? ""
                                  : l->has_index                  ? "; it has no artifact"
                                  : l->has_artifact               ? "; it has no index"
                                                    : "; it has neither artifact nor index");
        }
        return r;
}

/* -- manifests */

static int flush_older(ChannelAudit *c)
{
        OlderRun *o = &c->older;
        char serials[64] = "";
        int r = 0;

        if (!o->why)
                return 0;
        if (o->last > o->first)
                (void) snprintf(serials, sizeof(serials), " (and so to %" PRIu64 ".json)", o->last);
        r = found(c, FINDING_LOOK, "older-trust", o->first,
                  "signed as version %" PRIu64
                  " of the trust root asked%s; now it is refused: %s. Were the keys replaced, or "
                  "stolen?",
                  o->version, serials, o->why);
        free(TAKE_PTR(o->why));
        return r;
}

/* The serials before that one have the same finding, or none. */
static int tell_older(ChannelAudit *c, uint64_t serial, uint64_t version, char **why)
{
        OlderRun *o = &c->older;
        int r = 0;

        if (o->why && (o->version != version || o->last + 1 != serial))
                r = flush_older(c);
        if (!o->why)
                *o = (OlderRun){ .first = serial, .version = version, .why = TAKE_PTR(*why) };
        o->last = serial;
        return r;
}

/* Serial 0: manifest.json. 1: it may be looked into further. */
static int check_signatures(ChannelAudit *c, const Published *p, uint64_t serial, char **reterr)
{
        _cleanup_free_ char *why = NULL, *err = NULL;
        const Trust *accepts = NULL;
        int r = root_history_find(c->audit->roots, p->envelope, MANIFEST_PAYLOAD_TYPE, &accepts,
                                  &why, &err);

        if (r == -EKEYREJECTED)
                return found(c, FINDING_FAILED, "untrusted", serial,
                             "no version of the trust root ever accepted it: %s", err_text(r, err));
        if (r < 0)
                return fail(reterr, r, "%s", err_text(r, err));
        if (why && serial == 0)
                r = found(c, FINDING_FAILED, "older-trust", serial,
                          "signed as version %" PRIu64
                          " of the trust root asked; instances refuse it now: %s",
                          trust_version(accepts), why);
        else if (why)
                r = tell_older(c, serial, trust_version(accepts), &why);
        return r < 0 ? r : 1;
}

static int check_current(ChannelAudit *c, char **reterr)
{
        _cleanup_free_ char *err = NULL;
        char when[TIME_TEXT_SIZE];
        int r = channel_read(&c->channel, &c->current, &err);

        c->current_is_unusual = r < 0;
        if (r < 0 && !does_not_hold(r))
                return fail(reterr, r, "%s", err_text(r, err));
        if (r < 0)
                return found(c, FINDING_FAILED, "manifest", 0, "%s", err_text(r, err));
        if (r == STORE_ABSENT)
                return 0;
        const Manifest *m = c->current->manifest;
        r = check_signatures(c, c->current, 0, reterr);
        c->current_is_unusual = r == 0;
        if (r > 0)
                r = check_release(c, m, 0, reterr);
        if (r < 0 || m->expires_sec > now_sec())
                return r;
        return found(c, FINDING_LOOK, "expired", 0,
                     "it expired at %s: instances don't deploy it before it is signed anew "
                     "('slipway-publish refresh')",
                     time_format_utc(m->expires_sec, when));
}

/* Deployments only go up; whoever deploys one twice gets the same. */
static int check_order(ChannelAudit *c, const Manifest *m, uint64_t serial)
{
        int r = 0;

        if (m->deployment < c->deployment)
                r = found(c, FINDING_FAILED, "order", serial,
                          "its deployment is %" PRIu64 ", and before it was %" PRIu64,
                          m->deployment, c->deployment);
        else if (m->deployment == c->deployment && !streq(m->release, c->release))
                r = found(c, FINDING_FAILED, "order", serial,
                          "its deployment %" PRIu64
                          " is of the release %s, and before it was of %s",
                          m->deployment, m->release, c->release);
        c->deployment = m->deployment;
        (void) snprintf(c->release, sizeof(c->release), "%s", m->release);
        return r;
}

static int check_entry(ChannelAudit *c, uint64_t serial, char **reterr)
{
        _cleanup_(published_freep) Published *p = NULL;
        _cleanup_free_ char *err = NULL;
        int r = channel_read_serial(&c->channel, serial, &p, &err);

        if (r < 0 && !does_not_hold(r))
                return fail(reterr, r, "%s", err_text(r, err));
        if (r < 0)
                return found(c, FINDING_FAILED, "manifest", serial, "%s", err_text(r, err));
        if (r == STORE_ABSENT)
                return found(c, FINDING_FAILED, "history", serial,
                             "it went away while the store was read");
        r = check_signatures(c, p, serial, reterr);
        if (r > 0)
                r = check_order(c, p->manifest, serial);
        else if (r == 0)
                return 0;
        return r < 0 ? r : check_release(c, p->manifest, serial, reterr);
}

/* The entries of the history from `first` on that are not there before `next`. */
static int check_gap(ChannelAudit *c, uint64_t first, uint64_t next)
{
        if (first >= next)
                return 0;
        if (next - first == 1)
                return found(c, FINDING_FAILED, "history", first, "it is missing");
        return found(c, FINDING_FAILED, "history", first,
                     "it is missing, and so are the others to %" PRIu64 ".json", next - 1);
}

/* What stands in manifest.json against the history's end. */
static int check_end(ChannelAudit *c, char **reterr)
{
        const uint64_t newest = c->n_serials > 0 ? c->serials[c->n_serials - 1] : 0;
        _cleanup_(published_freep) Published *entry = NULL;
        _cleanup_free_ char *err = NULL;
        uint64_t serial = c->current ? c->current->manifest->serial : 0;
        int r;

        if (c->current_is_unusual)
                return 0;
        if (serial < newest)
                return found(c, FINDING_FAILED, "history", 0,
                             "the history reaches serial %" PRIu64
                             ", but manifest.json is %s: someone put an older one back",
                             newest, c->current ? "older" : "missing");
        if (!c->current)
                return 0;
        r = check_gap(c, newest + 1, serial);
        if (r >= 0)
                r = channel_read_serial(&c->channel, serial, &entry, &err);
        if (r == STORE_ABSENT) {
                c->audit->counts.n_manifests++;
                return found(c, FINDING_NOTE, "history", serial,
                             "it is missing: the publisher was stopped before it wrote the entry. "
                             "The next one will");
        }
        if (r < 0) /* said of the entry, or it is no finding */
                return does_not_hold(r) ? 0 : fail(reterr, r, "%s", err_text(r, err));
        if (entry->size == c->current->size &&
            memcmp(entry->data, c->current->data, entry->size) == 0)
                return 0;
        return found(c, FINDING_FAILED, "history", serial, "it differs from manifest.json");
}

/* manifest.json is newer than the listing. */
static int check_channel(ChannelAudit *c, char **reterr)
{
        uint64_t next = 1;
        int r = channel_list_history(&c->channel, &c->serials, &c->n_serials, reterr);

        if (r >= 0)
                r = check_current(c, reterr);
        for (size_t i = 0; r >= 0 && i < c->n_serials; i++) {
                r = check_gap(c, next, c->serials[i]);
                if (r >= 0)
                        r = check_entry(c, c->serials[i], reterr);
                next = c->serials[i] + 1;
                c->audit->counts.n_manifests++;
        }
        if (r >= 0)
                r = flush_older(c);
        if (r >= 0)
                r = check_end(c, reterr);
        if (r >= 0 && c->current && !c->current_is_unusual && c->current->manifest->serial >= next)
                r = check_order(c, c->current->manifest, 0);
        return r;
}

static int check_channels(StoreAudit *a, char **reterr)
{
        int r = 0;

        for (size_t i = 0; r >= 0 && i < a->listing.n_channels; i++) {
                const ListedChannel *l = &a->listing.channels[i];
                _cleanup_(channel_audit_done) ChannelAudit c = {
                        .audit = a,
                        .channel = {.store = a->store, .app = l->app, .name = l->name},
                };
                char path[PATH_TEXT_SIZE];
                a->counts.n_apps += i == 0 || !streq(l->app, a->listing.channels[i - 1].app);
                a->counts.n_channels++;
                if (l->is_published) {
                        r = check_channel(&c, reterr);
                        continue;
                }
                (void) snprintf(path, sizeof(path), "%s/channels/%s", l->app, l->name);
                r = audit_finding(a->findings, FINDING_NOTE, "empty-channel", path,
                                  "nothing is published in it");
        }
        return r;
}

static int begin(StoreAudit *a, char **reterr)
{
        int r = store_listing_load(a->store, &a->listing, reterr);

        if (r < 0)
                return r == -EKEYREJECTED ? -EIO : r; /* it is the store's certificate */
        a->n_releases = a->listing.n_releases;
        a->releases = calloc(a->n_releases + 1, sizeof(AuditedRelease));
        if (!a->releases) {
                a->n_releases = 0;
                return -ENOMEM;
        }
        for (size_t i = 0; i < a->n_releases; i++) {
                a->releases[i].app = a->listing.releases[i].app;
                a->releases[i].id = a->listing.releases[i].id;
                a->releases[i].is_listed =
                        a->listing.releases[i].has_index || a->listing.releases[i].has_artifact;
        }
        return 0;
}

int store_audit(Store *s, const RootHistory *roots, AuditFindings *findings, StoreAuditCounts *ret,
                char **reterr)
{
        _cleanup_(store_audit_done) StoreAudit a = {
                .store = s,
                .roots = roots,
                .findings = findings,
        };
        int r = begin(&a, reterr);

        if (r >= 0)
                r = check_roots(&a, reterr);
        if (r >= 0)
                r = check_channels(&a, reterr);
        if (r >= 0)
                r = tell_unnamed(&a);
        if (r >= 0 && a.listing.n_others > 0)
                r = audit_finding(findings, FINDING_NOTE, "other", a.listing.other,
                                  "nothing of Slipway's; such objects: %zu", a.listing.n_others);
        if (r < 0)
                return r;
        *ret = a.counts;
        return 0;
}
