/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <errno.h>

#include <cJSON.h>

#include "activate.h"
#include "digest.h"
#include "macro.h"
#include "window.h"

/*
 * The manifest: the signed order for one channel. The grammar is the table in manifest.c; every
 * member has a type, a limit and a check; unknown, duplicate and missing ones are errors that name
 * the JSON path. What this version cannot do is therefore refused, never skipped.
 *
 *   { "schema": "slipway/manifest/1", "app": "web", "channel": "prod",
 *     "serial": 57, "deployment": 42,
 *     "published": "2026-11-22T14:00:00Z", "expires": "2026-12-22T14:00:00Z",
 *     "release": { "id": "2026.11.22-1f3a9c2",
 *       "artifact": { "path": "web/releases/ID/artifact.tar.zst", "size": 90729236,
 *                     "sha256": "<64 hex>" },
 *       "index": { "path": "web/releases/ID/index", "size": 612034, "sha256": "<64 hex>" },
 *       "provenance": { "path": "web/releases/ID/provenance.json", "size": 1893,
 *                       "sha256": "<64 hex>" },
 *       "source": { "repository": "...", "commit": "...", "ref": "...", "build": "...",
 *                   "by": "..." } },
 *     "targets": { "any": [ { "Role": ["web", "api"], "Stage": ["prod"] } ] },
 *     "activate": { see activate.h },
 *     "rollout": { "window": [ "Mon-Thu 09:00-16:00", "Sat,Sun 22:00-04:00" ] } }
 *
 * Optional: release.provenance (provenance.h), release.source and each of its members, targets,
 * activate and rollout. Serial and deployment start at 1; expires is after published. Targets, sets
 * and lists of values are not empty: what would match every instance, or none, has to be said by
 * leaving targets out, or is a mistake. The same goes for the window (window.h). Durations:
 * time-text.h.
 */

#define MANIFEST_SIZE_MAX   (180 * 1024) /* of the payload; fits into ENVELOPE_SIZE_MAX as base64 */
#define ARTIFACT_SIZE_MAX   (UINT64_C(1) << 40)
#define INDEX_SIZE_MAX      (UINT64_C(64) << 20)
#define PROVENANCE_SIZE_MAX (64 * 1024)
#define SERIAL_MAX          ((UINT64_C(1) << 53) - 1) /* what JSON numbers hold exactly */
#define TARGET_SETS_MAX     64
#define TARGET_TAGS_MAX     50   /* of one set; EC2 allows an instance no more */
#define TARGET_VALUES_MAX   256  /* of one tag */
#define TAG_KEY_SIZE_MAX    512  /* EC2: 128 characters */
#define TAG_VALUE_SIZE_MAX  1024 /* EC2: 256 characters; may be empty */

typedef struct StoredObject {
        char *path; /* store_path_is_valid() */
        uint64_t size_bytes;
        Sha256 sha256;
} StoredObject;

typedef struct Source {
        char *repository, *commit, *ref, *build,
                *by; /* each may be NULL; at most 1024 bytes, no control characters */
} Source;

/* One tag set of targets.any: all keys must match, each with one of its values. */
typedef struct TargetTag {
        char *key;
        char **values;
        size_t n_values;
} TargetTag;

typedef struct TargetSet {
        TargetTag *tags;
        size_t n_tags;
} TargetSet;

typedef struct Targets {
        TargetSet *any;
        size_t n_any; /* 0: every instance that polls the channel */
} Targets;

typedef struct Manifest {
        char *app, *channel;
        uint64_t serial, deployment;
        uint64_t published_sec, expires_sec; /* since the epoch, UTC */
        char *release;                       /* the id */
        StoredObject artifact, index;
        StoredObject provenance; /* path NULL: there is none */
        Source source;
        Targets targets;
        Activate activate;
        Window window;        /* of rollout: no spans without it */
        unsigned n_more_refs; /* holders besides the first */
} Manifest;

/* Parses a payload whose signatures were verified (slipwayd), or that is to be signed or shown
 * (publisher). payload[size] must be NUL. More than MANIFEST_SIZE_MAX: -EFBIG. */
_must_check_ int manifest_parse(const char *payload, size_t size, Manifest **ret, char **reterr);

/* So near its end that somebody should know: in the last quarter of the time for which it was
 * signed, but not longer than MANIFEST_SOON_SEC_MAX before. True from then on, also when it has
 * expired. */
#define MANIFEST_SOON_SEC_MAX (UINT64_C(7) * 24 * 3600)
bool manifest_expires_soon(const Manifest *m, uint64_t now_sec);

/* One more holder: each calls manifest_free(). */
Manifest *manifest_ref(Manifest *m);

Manifest *manifest_free(Manifest *m);
DEFINE_CLEANUP_FUNC(Manifest *, manifest_free);

/* The payload text, to be freed: members in the order above, no blanks, so that equal manifests are
 * equal bytes. It is parsed once more before it is returned: what an agent would refuse is an error
 * here. */
_must_check_ int manifest_format(const Manifest *m, char **ret, size_t *ret_size, char **reterr);

/* "targets" as slipway.json holds it; NULL gives none. *ret is written on success only. */
_must_check_ int targets_parse(const cJSON *object, const char *path, Targets *ret, char **reterr);
void targets_done(Targets *t);

/* A tag of an instance. */
typedef struct Tag {
        char *key, *value;
} Tag;

/* True if one of the sets matches, or there is none. */
bool targets_match(const Targets *t, const Tag *tags, size_t n_tags);
