/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdio.h>

#include "audit.h"
#include "channel.h"
#include "err.h"
#include "json-read.h"
#include "log.h"
#include "object.h"
#include "progress.h"
#include "provenance-object.h"
#include "publication.h"
#include "release-object.h"
#include "result.h"
#include "root-chain.h"
#include "trust.h"
#include "verbs.h"

/* What is checked, and what was found. */
typedef struct Verification {
        Store *store;
        Channel channel;
        Trust *trust;
        ChannelHead head;
        Index *index;
        Provenance *provenance; /* NULL: the manifest has none */
        bool provenance_is_signed;
        bool in_history;
} Verification;

static void verification_done(Verification *v)
{
        index_free(v->index);
        provenance_free(v->provenance);
        channel_head_done(&v->head);
        trust_free(v->trust);
        store_free(v->store);
}

static const Manifest *manifest_of(const Verification *v)
{
        return v->head.current->manifest;
}

static int open_all(const Arguments *a, Verification *v, char **reterr)
{
        int r = object_store_open(a->store, &v->store, reterr);

        v->channel = (Channel){ .store = v->store, .app = a->app, .name = a->channel };
        return r;
}

static int check_manifest(Verification *v, char **reterr)
{
        char when[TIME_TEXT_SIZE];
        int r = channel_head(&v->channel, &v->head, reterr);

        if (r < 0)
                return r;
        if (v->head.was_set_back)
                return fail(reterr, -EKEYREJECTED,
                            "the history reaches serial %llu, but manifest.json is %s: someone put "
                            "an older one back",
                            (unsigned long long) v->head.serial,
                            v->head.current ? "older" : "missing");
        if (!v->head.current)
                return fail(reterr, PUBLISH_FAILED, "nothing was published in %s/%s of %s yet",
                            v->channel.app, v->channel.name, store_url(v->store));
        r = trust_verify_manifest(v->trust, v->head.current->envelope, reterr);
        if (r < 0)
                return fail_prefix(reterr, r, "manifest.json with serial %llu",
                                   (unsigned long long) v->head.serial);
        if (manifest_of(v)->expires_sec <= now_sec())
                return fail(
                        reterr, -EKEYREJECTED,
                        "the manifest with serial %llu expired at %s: instances don't deploy it "
                        "before it is signed anew ('slipway-publish refresh')",
                        (unsigned long long) v->head.serial,
                        time_format_utc(manifest_of(v)->expires_sec, when));
        return 0;
}

/* The history's newest entry is what stands in manifest.json; it may be missing for a while. */
static int check_history(Verification *v, char **reterr)
{
        _cleanup_(published_freep) Published *entry = NULL;
        int r = channel_read_serial(&v->channel, v->head.serial, &entry, reterr);

        if (r < 0)
                return r;
        if (r == STORE_ABSENT) {
                log_warning("The history lacks serial %llu, whose publisher was stopped before it "
                            "wrote the entry. The next one will.",
                            (unsigned long long) v->head.serial);
                return 0;
        }
        if (entry->size != v->head.current->size ||
            memcmp(entry->data, v->head.current->data, entry->size) != 0)
                return fail(reterr, -EKEYREJECTED,
                            "the history's entry %llu differs from manifest.json",
                            (unsigned long long) v->head.serial);
        v->in_history = true;
        return 0;
}

static int check_release(Verification *v, char **reterr)
{
        _cleanup_(progress_freep) Progress *progress = NULL;
        int r = release_object_read_index(v->store, manifest_of(v), &v->index, reterr);

        if (r >= 0)
                r = progress_new("verifying the artifact", &progress);
        return r < 0 ? r
                     : audit_artifact(v->store, manifest_of(v), v->index, progress_update, progress,
                                      reterr);
}

/* It stays as it was signed when keys are replaced and the release is published again, and the
 * manifest vouches for its bytes: so that other keys made it is not an instance's reason to refuse.
 */
static int check_provenance(Verification *v, char **reterr)
{
        _cleanup_(envelope_freep) Envelope *e = NULL;
        _cleanup_free_ char *err = NULL;
        int r;

        if (!manifest_of(v)->provenance.path)
                return 0;
        r = provenance_object_read(v->store, manifest_of(v), &e, &v->provenance, reterr);
        if (r < 0)
                return r;
        r = trust_verify(v->trust, e, STATEMENT_PAYLOAD_TYPE, &err);
        if (r == -EKEYREJECTED)
                log_warning(
                        "The provenance's own signature is not by the trust root's present keys: "
                        "%s. The manifest vouches for it; others can't check it.",
                        err_text(r, err));
        v->provenance_is_signed = r >= 0;
        return r == -EKEYREJECTED ? 0 : r;
}

/* Calls for each key of the trust root that signed; *ret_n counts them. */
static int list_signers(const Verification *v, bool print, cJSON *array, char **reterr)
{
        const Envelope *e = v->head.current->envelope;

        for (size_t i = 0; i < trust_n_manifest_keys(v->trust); i++) {
                const Key *k = trust_manifest_key(v->trust, i);
                char id[SHA256_HEX_SIZE];
                cJSON *entry;
                int r = envelope_verify(e, MANIFEST_PAYLOAD_TYPE, k);
                if (r == -EKEYREJECTED)
                        continue;
                if (r < 0)
                        return fail_errno(reterr, r, "can't list the signers");
                if (print)
                        printf("signed by  %s %s\n", key_type_to_string(key_type(k)),
                               sha256_to_hex(key_id(k), id));
                r = result_append_object(array, &entry);
                if (r >= 0)
                        r = result_add_string(entry, "type", key_type_to_string(key_type(k)));
                if (r >= 0)
                        r = result_add_sha256(entry, "id", key_id(k));
                if (r < 0)
                        return r;
        }
        return 0;
}

static void print_source(const Source *s)
{
        const char *const lines[][2] = {
                {"repository", s->repository},
                { "commit",    s->commit    },
                { "ref",       s->ref       },
                { "build",     s->build     },
                { "by",        s->by        },
        };

        for (size_t i = 0; i < ELEMENTSOF(lines); i++)
                if (lines[i][1])
                        printf("%-10s %s\n", lines[i][0], lines[i][1]);
}

static void print_provenance(const Provenance *p)
{
        if (!p) {
                printf("%-10s none\n", "provenance");
                return;
        }
        printf("%-10s by %s\n", "provenance", p->builder);
        printf("%-10s of %s, commit %s\n", "",
               p->repository ? p->repository : "an unknown repository",
               p->commit ? p->commit : "unknown");
}

static int report_provenance(const Verification *v, cJSON *result)
{
        cJSON *object = cJSON_GetObjectItemCaseSensitive(result, "provenance");
        const Provenance *p = v->provenance;
        int r;

        if (!p)
                return 0;
        r = result_add_string(object, "builder", p->builder);
        if (r >= 0)
                r = result_add_string(object, "repository", p->repository);
        if (r >= 0)
                r = result_add_string(object, "commit", p->commit);
        return r < 0 ? r : result_add_bool(object, "signed", v->provenance_is_signed);
}

static void print_found(const Verification *v)
{
        const Manifest *m = manifest_of(v);
        _cleanup_free_ char *window =
                m->window.n_spans > 0 ? window_to_text(&m->window, now_sec()) : NULL;
        char published[TIME_TEXT_SIZE], expires[TIME_TEXT_SIZE], artifact[BYTES_TEXT_SIZE],
                content[BYTES_TEXT_SIZE];

        printf("%-10s %s/%s in %s\n", "channel", m->app, m->channel, store_url(v->store));
        printf("%-10s serial %llu, deployment %llu\n", "manifest", (unsigned long long) m->serial,
               (unsigned long long) m->deployment);
        printf("%-10s %s, expires %s\n", "published", time_format_utc(m->published_sec, published),
               time_format_utc(m->expires_sec, expires));
        if (window)
                printf("%-10s %s\n", "window", window);
        printf("%-10s %s\n", "release", m->release);
        print_source(&m->source);
        printf("%-10s %s in %zu frames, %s of content, %zu entries\n", "artifact",
               bytes_format(m->artifact.size_bytes, artifact), index_n_frames(v->index),
               bytes_format(index_content_size(v->index), content), index_n_files(v->index));
        print_provenance(v->provenance);
        printf("%-10s %zu %s%s\n", "history", v->head.n_serials,
               v->head.n_serials == 1 ? "manifest" : "manifests",
               v->in_history ? "" : ", the newest not among them yet");
}

static int report(const Arguments *a, const Verification *v, cJSON *result, char **reterr)
{
        cJSON *signers;
        int r = result_add_string(result, "app", a->app);

        if (r >= 0)
                r = result_add_string(result, "channel", a->channel);
        if (r >= 0)
                r = manifest_to_result(manifest_of(v), result);
        if (r >= 0)
                r = report_provenance(v, result);
        if (r >= 0)
                r = result_add_uint(result, "frames", index_n_frames(v->index));
        if (r >= 0)
                r = result_add_uint(result, "entries", index_n_files(v->index));
        if (r >= 0)
                r = result_add_uint(result, "history", v->head.n_serials);
        if (r >= 0)
                r = result_add_array(result, "signed_by", &signers);
        if (r < 0)
                return r;
        if (!a->json)
                print_found(v);
        r = list_signers(v, !a->json, signers, reterr);
        if (r >= 0 && !a->json)
                printf("Everything holds.\n");
        return r;
}

/* What an instance would refuse, as against what kept us from finding out. */
static int judge(int r)
{
        switch (r) {
        case -EKEYREJECTED:
        case -EBADMSG:
        case -EFBIG:
        case -EPROTO:
        case -ENOENT:
                return PUBLISH_UNVERIFIED;
        default:
                return r;
        }
}

int verb_verify(const Arguments *a, cJSON *result, char **reterr)
{
        _cleanup_(verification_done) Verification v = {};
        int r;

        if (a->all)
                return verb_verify_all(a, result, reterr);
        if (!a->app || !a->channel)
                return fail(reterr, PUBLISH_USAGE, "verify needs --app and --channel, or --all");
        r = open_all(a, &v, reterr);
        if (r < 0)
                return r == -EKEYREJECTED ? PUBLISH_FAILED : r;
        r = root_chain_load(v.store, a->trust, &v.trust, reterr);
        if (r < 0 && r != -EKEYREJECTED)
                return r;
        if (r == 0)
                r = check_manifest(&v, reterr);
        if (r == 0)
                r = check_history(&v, reterr);
        if (r == 0)
                r = check_release(&v, reterr);
        if (r == 0)
                r = check_provenance(&v, reterr);
        if (r == 0)
                r = report(a, &v, result, reterr);
        if (r == 0)
                return result_add_bool(result, "verified", true);
        r = judge(r);
        return r == PUBLISH_UNVERIFIED && result_add_bool(result, "verified", false) < 0 ? -ENOMEM
                                                                                         : r;
}
