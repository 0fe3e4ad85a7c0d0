/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "dsse.h"
#include "macro.h"
#include "manifest.h"

/*
 * Where a release comes from, for whoever wants to know it of the bytes themselves: the object
 * APP/releases/ID/provenance.json, a DSSE envelope of type STATEMENT_PAYLOAD_TYPE around an in-toto
 * Statement v1 with SLSA's predicate Provenance v1 (in-toto/attestation: spec/v1/statement.md,
 * envelope.md, resource_descriptor.md, digest_set.md; slsa.dev/spec/v1.0/provenance):
 *
 *   { "_type": "https://in-toto.io/Statement/v1",
 *     "subject": [ { "name": "artifact.tar.zst", "digest": { "sha256": "<64 hex>" } },
 *                  { "name": "index", "digest": { "sha256": "<64 hex>" } } ],
 *     "predicateType": "https://slsa.dev/provenance/v1",
 *     "predicate": {
 *       "buildDefinition": {
 *         "buildType": "urn:slipway:release:1",
 *         "externalParameters": { "app": "web", "release": "2026.11.22-1f3a9c2",
 *                                 "ref": "refs/heads/main" },
 *         "resolvedDependencies": [ { "uri": "git+https://github.com/acme/web",
 *                                     "digest": { "gitCommit": "<40 or 64 hex>" } } ] },
 *       "runDetails": {
 *         "builder": { "id": "https://github.com/acme/web/.github/workflows/ci.yml@refs/heads/main"
 * }, "metadata": { "invocationId": "https://github.com/acme/web/actions/runs/77", "startedOn":
 * "2026-11-22T13:59:12Z" } } } }
 *
 * Optional: ref; resolvedDependencies (empty, or the one source repository), its uri and its
 * digest; metadata and its members. Members that are not named here are passed over (but below
 * externalParameters, where they may change what the rest means), as the specifications ask.
 * Duplicates are refused, and another type of statement, predicate or build: what it says is not
 * known.
 *
 * The manifest has the object's size and digest, so whoever verified the manifest has the statement
 * verified, once the digest holds: the envelope's signatures are for others, who find the object
 * without a manifest. The statement itself is what the publisher says of where it ran. So it keeps
 * a release out that was signed in the wrong place (at somebody's desk, by another repository's
 * pipeline that may use the same key) by those who mean well, and it can't help against whoever has
 * the key and lies: against them there is only the key's own policy (who may sign by it, and from
 * where). What provenance_check() compares is for what neither of both says: that the statement is
 * about these bytes and no others (subjects), under this name (app and release), and that manifest
 * and statement don't tell two stories of the source (commit).
 */

#define STATEMENT_PAYLOAD_TYPE "application/vnd.in-toto+json"
#define STATEMENT_TYPE         "https://in-toto.io/Statement/v1"
#define PREDICATE_TYPE         "https://slsa.dev/provenance/v1"
#define BUILD_TYPE             "urn:slipway:release:1"
#define BUILDER_LOCAL          "urn:slipway:builder:local" /* a person's machine */
#define SUBJECT_ARTIFACT       "artifact.tar.zst"
#define SUBJECT_INDEX          "index"
#define GIT_HTTPS              "git+https://" /* before the uri of a repository */
#define GIT_FILE               "git+file://"  /* of one that lies in the file system */

typedef struct Provenance {
        Sha256 artifact, index; /* the subjects */
        bool has_artifact, has_index;
        char *app, *release, *ref; /* ref may be NULL */
        char *repository;          /* without GIT_HTTPS or GIT_FILE; NULL: not said */
        char *commit;              /* NULL: not said */
        char *builder;             /* its id, a URI */
        char *invocation;          /* NULL: not said */
} Provenance;

Provenance *provenance_free(Provenance *p);
DEFINE_CLEANUP_FUNC(Provenance *, provenance_free);

/* Parses the statement, the envelope's payload; payload[size] must be NUL. -EBADMSG: *reterr names
 * the member. */
_must_check_ int provenance_parse(const char *payload, size_t size, Provenance **ret,
                                  char **reterr);

/* The same for the whole object: data[size] must be NUL, at most PROVENANCE_SIZE_MAX bytes (more:
 * -EFBIG). Its signatures are not looked at; *ret_envelope (may be a NULL pointer) has them. */
_must_check_ int provenance_open(const char *data, size_t size, Envelope **ret_envelope,
                                 Provenance **ret, char **reterr);

/* Whether the statement is about what the manifest names (see above). -EBADMSG: *reterr has the
 * difference. */
_must_check_ int provenance_check(const Provenance *p, const Manifest *m, char **reterr);
