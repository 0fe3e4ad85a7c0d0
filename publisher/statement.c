/* SPDX-License-Identifier: Apache-2.0 */
#include "statement.h"

#include <stdio.h>

#include <cJSON.h>

#include "err.h"
#include "json-print.h"
#include "json-read.h"
#include "provenance.h"
#include "result.h"

/* RFC 3986, 2.2 and 2.3, and '%' itself. */
static bool is_uri_character(char c)
{
        return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
               (c && strchr("-._~:/?#[]@!$&'()*+,;=%", c));
}

bool statement_uri_is_valid(const char *text)
{
        size_t scheme = strspn(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
                                     "0123456789+-.");

        if (scheme == 0 || text[scheme] != ':' || !text[scheme + 1] ||
            strchr("0123456789+-.", *text))
                return false;
        for (const char *p = text; *p; p++)
                if (!is_uri_character(*p))
                        return false;
        return true;
}

char *statement_uri(const char *text)
{
        static const char digits[] = "0123456789ABCDEF";
        char *uri = malloc(3 * strlen(text) + 1), *p = uri;

        if (!uri)
                return NULL;
        for (; *text; text++) {
                unsigned char c = (unsigned char) *text;
                if (is_uri_character(*text))
                        *p++ = *text;
                else {
                        *p++ = '%';
                        *p++ = digits[c >> 4];
                        *p++ = digits[c & 15];
                }
        }
        *p = '\0';
        return uri;
}

static int add_subject(cJSON *subjects, const char *name, const Sha256 *sha256)
{
        cJSON *subject, *digest;
        int r = result_append_object(subjects, &subject);

        if (r >= 0)
                r = result_add_string(subject, "name", name);
        if (r >= 0)
                r = result_add_object(subject, "digest", &digest);
        return r < 0 ? r : result_add_sha256(digest, "sha256", sha256);
}

static int add_parameters(cJSON *definition, const Manifest *m)
{
        cJSON *parameters;
        int r = result_add_object(definition, "externalParameters", &parameters);

        if (r >= 0)
                r = result_add_string(parameters, "app", m->app);
        if (r >= 0)
                r = result_add_string(parameters, "release", m->release);
        return r < 0 ? r : result_add_string(parameters, "ref", m->source.ref);
}

static int add_uri(cJSON *source, const char *repository)
{
        _cleanup_free_ char *encoded = NULL, *uri = NULL;

        if (!repository || repository[0] == '.')
                return 0;
        encoded = statement_uri(repository);
        if (!encoded ||
            asprintf(&uri, "%s%s", repository[0] == '/' ? GIT_FILE : GIT_HTTPS, encoded) < 0)
                return -ENOMEM;
        return result_add_string(source, "uri", uri);
}

static int add_source(cJSON *definition, const Source *s)
{
        cJSON *dependencies, *source, *digest;
        int r = result_add_array(definition, "resolvedDependencies", &dependencies);

        if (r < 0 || (!s->repository && !s->commit))
                return r;
        r = result_append_object(dependencies, &source);
        if (r >= 0)
                r = add_uri(source, s->repository);
        if (r < 0 || !s->commit)
                return r;
        r = result_add_object(source, "digest", &digest);
        return r < 0 ? r : result_add_string(digest, "gitCommit", s->commit);
}

static int add_definition(cJSON *predicate, const Manifest *m)
{
        cJSON *definition;
        int r = result_add_object(predicate, "buildDefinition", &definition);

        if (r >= 0)
                r = result_add_string(definition, "buildType", BUILD_TYPE);
        if (r >= 0)
                r = add_parameters(definition, m);
        return r < 0 ? r : add_source(definition, &m->source);
}

static int add_run(cJSON *predicate, const Manifest *m, const char *builder, uint64_t started_sec)
{
        cJSON *run, *object;
        int r = result_add_object(predicate, "runDetails", &run);

        if (r >= 0)
                r = result_add_object(run, "builder", &object);
        if (r >= 0)
                r = result_add_string(object, "id", builder);
        if (r >= 0)
                r = result_add_object(run, "metadata", &object);
        if (r >= 0)
                r = result_add_string(object, "invocationId", m->source.build);
        return r < 0 ? r : result_add_time(object, "startedOn", started_sec);
}

static int build(cJSON *statement, const Manifest *m, const char *builder, uint64_t started_sec)
{
        cJSON *subjects, *predicate = NULL;
        int r = result_add_string(statement, "_type", STATEMENT_TYPE);

        if (r >= 0)
                r = result_add_array(statement, "subject", &subjects);
        if (r >= 0)
                r = add_subject(subjects, SUBJECT_ARTIFACT, &m->artifact.sha256);
        if (r >= 0)
                r = add_subject(subjects, SUBJECT_INDEX, &m->index.sha256);
        if (r >= 0)
                r = result_add_string(statement, "predicateType", PREDICATE_TYPE);
        if (r >= 0)
                r = result_add_object(statement, "predicate", &predicate);
        if (r >= 0)
                r = add_definition(predicate, m);
        return r < 0 ? r : add_run(predicate, m, builder, started_sec);
}

int statement_format(const Manifest *m, const char *builder, uint64_t started_sec, char **ret,
                     size_t *ret_size, char **reterr)
{
        _cleanup_(provenance_freep) Provenance *again = NULL;
        _cleanup_json_ cJSON *statement = cJSON_CreateObject();
        _cleanup_free_ char *text = NULL;
        int r = statement ? build(statement, m, builder, started_sec) : -ENOMEM;

        if (r < 0)
                return r;
        text = json_print(statement, false);
        if (!text)
                return -ENOMEM;
        r = provenance_parse(text, strlen(text), &again, reterr);
        if (r >= 0)
                r = provenance_check(again, m, reterr);
        if (r < 0)
                return fail_prefix(reterr, r, "can't write the provenance of this release");
        *ret_size = strlen(text);
        *ret = TAKE_PTR(text);
        return 0;
}
