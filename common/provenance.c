/* SPDX-License-Identifier: Apache-2.0 */
#include "provenance.h"

#include "err.h"
#include "json-read.h"

#define SUBJECTS_MAX 16
#define URI_SIZE_MAX (4 * JSON_STRING_SIZE_MAX) /* of a repository, its odd bytes as %XX */

Provenance *provenance_free(Provenance *p)
{
        if (!p)
                return NULL;
        free(p->app);
        free(p->release);
        free(p->ref);
        free(p->repository);
        free(p->commit);
        free(p->builder);
        free(p->invocation);
        free(p);
        return NULL;
}

static int parse_constant(const cJSON *v, const char *path, const char *expected, char **reterr)
{
        if (!cJSON_IsString(v) || !streq(v->valuestring, expected))
                return fail(reterr, -EBADMSG, "%s: must be \"%s\"", path, expected);
        return 0;
}

/* --- subjects --- */

typedef struct Subject {
        char *name;
        Sha256 sha256;
} Subject;

static const JsonField subject_digest_fields[] = {
        {"sha256",  json_parse_sha256, 0, true },
        {},
};

static int parse_subject_digest(const cJSON *v, const char *path, void *target, char **reterr)
{
        return json_dispatch_known(v, path, subject_digest_fields, target, reterr);
}

static const JsonField subject_fields[] = {
        {"name",            json_parse_string, offsetof(Subject, name), true },
        { "digest", parse_subject_digest, offsetof(Subject, sha256), true },
        {        },
};

static int keep_subject(Provenance *p, const Subject *s, const char *path, char **reterr)
{
        bool is_artifact = streq(s->name, SUBJECT_ARTIFACT);
        bool *has = is_artifact ? &p->has_artifact : &p->has_index;

        if (!is_artifact && !streq(s->name, SUBJECT_INDEX))
                return fail(reterr, -EBADMSG,
                            "%s.name: must be \"" SUBJECT_ARTIFACT "\" or \"" SUBJECT_INDEX "\"",
                            path);
        if (*has)
                return fail(reterr, -EBADMSG, "%s.name: stands there twice", path);
        *has = true;
        *(is_artifact ? &p->artifact : &p->index) = s->sha256;
        return 0;
}

static int parse_subject(const cJSON *v, const char *path, void *target, char **reterr)
{
        Subject s = {};
        int r = json_dispatch_known(v, path, subject_fields, &s, reterr);

        if (r >= 0)
                r = keep_subject(target, &s, path, reterr);
        free(s.name);
        return r;
}

static int parse_subjects(const cJSON *v, const char *path, void *target, char **reterr)
{
        Provenance *p = target;
        int r = json_each(v, path, SUBJECTS_MAX, parse_subject, p, reterr);

        if (r < 0)
                return r;
        if (!p->has_artifact || !p->has_index)
                return fail(reterr, -EBADMSG, "%s: must name \"%s\"", path,
                            p->has_artifact ? SUBJECT_INDEX : SUBJECT_ARTIFACT);
        return 0;
}

/* --- what was built, and from what --- */

static int parse_build_type(const cJSON *v, const char *path, _unused_ void *target, char **reterr)
{
        return parse_constant(v, path, BUILD_TYPE, reterr);
}

static const JsonField parameter_fields[] = {
        {"app",                json_parse_name, offsetof(Provenance, app), true },
        { "release", json_parse_name, offsetof(Provenance, release), true },
        { "ref",                json_parse_string, offsetof(Provenance, ref) },
        {},
};

/* What is not known here may change what the rest means, so that SLSA wants it refused. */
static int parse_parameters(const cJSON *v, const char *path, void *target, char **reterr)
{
        return json_dispatch(v, path, parameter_fields, target, reterr);
}

static int parse_uri(const cJSON *v, const char *path, void *target, char **reterr)
{
        static const char *const schemes[] = { GIT_HTTPS, GIT_FILE };
        char **ret = target;
        int r = json_check_text(v, path, 1, URI_SIZE_MAX, reterr);

        if (r < 0)
                return r;
        for (size_t i = 0; i < ELEMENTSOF(schemes); i++) {
                size_t size = strlen(schemes[i]);

                if (strncmp(v->valuestring, schemes[i], size) != 0 || !v->valuestring[size])
                        continue;
                *ret = strdup(v->valuestring + size);
                return *ret ? 0 : -ENOMEM;
        }
        return fail(reterr, -EBADMSG, "%s: must begin with \"" GIT_HTTPS "\" or \"" GIT_FILE "\"",
                    path);
}

static const JsonField source_digest_fields[] = {
        {"gitCommit",          json_parse_string, offsetof(Provenance, commit), true },
        {               },
};

static int parse_source_digest(const cJSON *v, const char *path, void *target, char **reterr)
{
        return json_dispatch_known(v, path, source_digest_fields, target, reterr);
}

static const JsonField source_fields[] = {
        {"uri",                parse_uri, offsetof(Provenance, repository) },
        { "digest", parse_source_digest, 0 },
        {},
};

static int parse_source(const cJSON *v, const char *path, void *target, char **reterr)
{
        return json_dispatch_known(v, path, source_fields, target, reterr);
}

static int parse_dependencies(const cJSON *v, const char *path, void *target, char **reterr)
{
        return json_each(v, path, 1, parse_source, target, reterr);
}

static const JsonField definition_fields[] = {
        {"buildType",       parse_build_type, 0, true },
        { "externalParameters",                parse_parameters, 0, true },
        { "resolvedDependencies",                parse_dependencies, 0 },
        {            },
};

static int parse_definition(const cJSON *v, const char *path, void *target, char **reterr)
{
        return json_dispatch_known(v, path, definition_fields, target, reterr);
}

/* --- by whom --- */

static const JsonField builder_fields[] = {
        {"id",                 json_parse_string, offsetof(Provenance, builder), true },
        {               },
};

static int parse_builder(const cJSON *v, const char *path, void *target, char **reterr)
{
        return json_dispatch_known(v, path, builder_fields, target, reterr);
}

static const JsonField metadata_fields[] = {
        {"invocationId",       json_parse_string, offsetof(Provenance, invocation) },
        {           },
};

static int parse_metadata(const cJSON *v, const char *path, void *target, char **reterr)
{
        return json_dispatch_known(v, path, metadata_fields, target, reterr);
}

static const JsonField run_fields[] = {
        {"builder",       parse_builder, 0, true },
        { "metadata",              parse_metadata, 0 },
        {},
};

static int parse_run(const cJSON *v, const char *path, void *target, char **reterr)
{
        return json_dispatch_known(v, path, run_fields, target, reterr);
}

/* --- the statement --- */

static const JsonField predicate_fields[] = {
        {"buildDefinition", parse_definition, 0, true },
        { "runDetails",                parse_run, 0, true },
        {},
};

static int parse_predicate(const cJSON *v, const char *path, void *target, char **reterr)
{
        return json_dispatch_known(v, path, predicate_fields, target, reterr);
}

static int parse_type(const cJSON *v, const char *path, _unused_ void *target, char **reterr)
{
        return parse_constant(v, path, STATEMENT_TYPE, reterr);
}

static int parse_predicate_type(const cJSON *v, const char *path, _unused_ void *target,
                                char **reterr)
{
        return parse_constant(v, path, PREDICATE_TYPE, reterr);
}

static const JsonField statement_fields[] = {
        {"_type",          parse_type, 0, true },
        { "subject",               parse_subjects, 0, true },
        { "predicateType",               parse_predicate_type, 0, true },
        { "predicate",parse_predicate, 0, true },
        {},
};

int provenance_parse(const char *payload, size_t size, Provenance **ret, char **reterr)
{
        _cleanup_(provenance_freep) Provenance *p = NULL;
        _cleanup_json_ cJSON *tree = NULL;
        int r = json_parse(payload, size, &tree, reterr);

        if (r < 0)
                return r;
        p = calloc(1, sizeof(Provenance));
        if (!p)
                return -ENOMEM;
        r = json_dispatch_known(tree, "", statement_fields, p, reterr);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(p);
        return 0;
}

int provenance_open(const char *data, size_t size, Envelope **ret_envelope, Provenance **ret,
                    char **reterr)
{
        _cleanup_(envelope_freep) Envelope *e = NULL;
        int r;

        if (size > PROVENANCE_SIZE_MAX)
                return fail(reterr, -EFBIG, "it has %zu bytes, more than %d", size,
                            PROVENANCE_SIZE_MAX);
        r = envelope_parse(data, size, STATEMENT_PAYLOAD_TYPE, &e, reterr);
        if (r >= 0)
                r = provenance_parse(e->payload, e->payload_size, ret, reterr);
        if (r >= 0 && ret_envelope)
                *ret_envelope = TAKE_PTR(e);
        return r;
}

static int check_subject(const Sha256 *said, const StoredObject *o, const char *what, char **reterr)
{
        if (sha256_equal(said, &o->sha256))
                return 0;
        return fail(reterr, -EBADMSG, "it is about another %s", what);
}

static int check_text(const char *said, const char *wanted, const char *what, char **reterr)
{
        if (streq_ptr(said, wanted))
                return 0;
        return fail(reterr, -EBADMSG, "its %s is %s, not %s", what, said ? said : "not said",
                    wanted);
}

int provenance_check(const Provenance *p, const Manifest *m, char **reterr)
{
        int r = check_subject(&p->artifact, &m->artifact, "artifact", reterr);

        if (r >= 0)
                r = check_subject(&p->index, &m->index, "index", reterr);
        if (r >= 0)
                r = check_text(p->app, m->app, "app", reterr);
        if (r >= 0)
                r = check_text(p->release, m->release, "release", reterr);
        if (r >= 0 && m->source.commit)
                r = check_text(p->commit, m->source.commit, "commit", reterr);
        return r;
}
