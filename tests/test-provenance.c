/* SPDX-License-Identifier: Apache-2.0 */
#include "provenance.h"

#include "test.h"

#define HEX_A  "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
#define HEX_B  "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"
#define COMMIT "0123456789abcdef0123456789abcdef01234567"

/* The parts of a statement, so that one can be another. */
typedef struct Parts {
        const char *type, *subject, *predicate_type, *build_type, *parameters, *dependencies,
                *builder, *metadata, *rest;
} Parts;

#define SUBJECT(name, hex) "{\"name\":\"" name "\",\"digest\":{\"sha256\":\"" hex "\"}}"
#define SUBJECTS           "[" SUBJECT("artifact.tar.zst", HEX_A) "," SUBJECT("index", HEX_B) "]"
#define SOURCE(uri)        "[{\"uri\":\"" uri "\",\"digest\":{\"gitCommit\":\"" COMMIT "\"}}]"

static const Parts good = {
        .type = "\"https://in-toto.io/Statement/v1\"",
        .subject = SUBJECTS,
        .predicate_type = "\"https://slsa.dev/provenance/v1\"",
        .build_type = "\"urn:slipway:release:1\"",
        .parameters = "{\"app\":\"web\",\"release\":\"r1\",\"ref\":\"refs/heads/main\"}",
        .dependencies = SOURCE("git+https://github.com/acme/web"),
        .builder = "{\"id\":\"https://ci.example/web\"}",
        .metadata = "{\"invocationId\":\"https://ci.example/web/1\","
                    "\"startedOn\":\"2026-11-22T13:59:12Z\"}",
        .rest = "",
};

static int parse(const Parts *p, Provenance **ret, char **reterr)
{
        _cleanup_free_ char *text = NULL;

        assert_true(asprintf(&text,
                             "{\"_type\":%s,\"subject\":%s,\"predicateType\":%s,\"predicate\":{"
                             "\"buildDefinition\":{\"buildType\":%s,\"externalParameters\":%s,"
                             "\"resolvedDependencies\":%s},\"runDetails\":{\"builder\":%s,"
                             "\"metadata\":%s}}%s}",
                             p->type, p->subject, p->predicate_type, p->build_type, p->parameters,
                             p->dependencies, p->builder, p->metadata, p->rest) > 0);
        return provenance_parse(text, strlen(text), ret, reterr);
}

static void a_whole_one(void **state)
{
        _cleanup_(provenance_freep) Provenance *p = NULL;

        (void) state;
        assert_return_code(parse(&good, &p, NULL), 0);
        assert_int_equal(p->artifact.bytes[0], 0xaa);
        assert_int_equal(p->index.bytes[31], 0xbb);
        assert_string_equal(p->app, "web");
        assert_string_equal(p->release, "r1");
        assert_string_equal(p->ref, "refs/heads/main");
        assert_string_equal(p->repository, "github.com/acme/web");
        assert_string_equal(p->commit, COMMIT);
        assert_string_equal(p->builder, "https://ci.example/web");
        assert_string_equal(p->invocation, "https://ci.example/web/1");
}

static void what_may_be_missing(void **state)
{
        static const char least[] =
                "{\"_type\":\"https://in-toto.io/Statement/v1\",\"subject\":" SUBJECTS
                ",\"predicateType\":\"https://slsa.dev/provenance/v1\",\"predicate\":{"
                "\"buildDefinition\":{\"buildType\":\"urn:slipway:release:1\","
                "\"externalParameters\":{\"app\":\"web\",\"release\":\"r1\"}},"
                "\"runDetails\":{\"builder\":{\"id\":\"urn:x\"}}}}";
        _cleanup_(provenance_freep) Provenance *p = NULL, *local = NULL, *more = NULL;
        Parts parts = good;

        (void) state;
        assert_return_code(provenance_parse(least, strlen(least), &p, NULL), 0);
        assert_null(p->ref);
        assert_null(p->repository);
        assert_null(p->commit);
        assert_null(p->invocation);
        parts.dependencies = SOURCE("git+file:///srv/git/web");
        assert_return_code(parse(&parts, &local, NULL), 0);
        assert_string_equal(local->repository, "/srv/git/web");
        /* Members of others. */
        parts.rest = ",\"later\":[{}]";
        parts.builder = "{\"id\":\"urn:x\",\"version\":{\"a\":\"1\"}}";
        assert_return_code(parse(&parts, &more, NULL), 0);
}

static void the_rest_is_refused(void **state)
{
        static const struct {
                size_t part;
                const char *text, *reason;
        } cases[] = {
#define P(part) offsetof(Parts, part)
                {P(type),              "\"https://in-toto.io/Statement/v0.1\"", "_type: must be"                         },
                { P(type),             "{}",                                    "_type: must be"                         },
                { P(subject),          "[]",                                    "subject: must name \"artifact.tar.zst\""},
                { P(subject),          "[" SUBJECT("artifact.tar.zst",          HEX_A) "]",
                                                     "subject: must name \"index\"" },
                { P(subject),                   "[" SUBJECT("index",                                                HEX_A) "," SUBJECT("index",                                                    HEX_B) "]",
                                                     "subject[1].name: stands there twice" },
                { P(subject),          "[" SUBJECT("other",                         HEX_A) "]",                                                                 "subject[0].name: must be" },
                { P(subject),"[" SUBJECT("index","abc") "]","subject[0].digest.sha256: " },
                { P(subject),          "[{\"name\":\"index\",\"digest\":{\"sha512\":\"" HEX_A "\"}}]",
                                                     "subject[0].digest.sha256: missing"                                                                         },
                { P(predicate_type),                   "\"https://slsa.dev/provenance/v0.2\"",
                                                     "predicateType: must be"                 },
                { P(build_type),                   "\"urn:slipway:release:2\"",
                                                     "predicate.buildDefinition.buildType: must be"},
                { P(parameters),                   "{\"app\":\"web\"}",
                                                     "predicate.buildDefinition.externalParameters.release: missing"                        },
                { P(parameters),                   "{\"app\":\"../web\",\"release\":\"r1\"}",
                                                     "predicate.buildDefinition.externalParameters.app: "                                                                                                },
 /* It may change what the rest means. */
                { P(parameters),                   "{\"app\":\"web\",\"release\":\"r1\",\"dirty\":\"yes\"}",
                                                     "predicate.buildDefinition.externalParameters.dirty: "   },
                { P(dependencies),                   "[{},{}]",                                             "predicate.buildDefinition.resolvedDependencies: "},
                { P(dependencies),                   SOURCE("https://github.com/acme/web"),
                                                     "predicate.buildDefinition.resolvedDependencies[0].uri: must begin with"                                                      },
                { P(dependencies),                   SOURCE("git+https://"),
                                                     "predicate.buildDefinition.resolvedDependencies[0].uri: must begin with"                                                                                                                 },
                { P(dependencies),                   "[{\"uri\":\"git+https://a\",\"uri\":\"git+https://b\"}]",
                                                     "predicate.buildDefinition.resolvedDependencies[0].uri: stands there twice"},
                { P(builder),                   "{}",                                           "predicate.runDetails.builder.id: missing"},
                { P(builder),                   "{\"id\":\"\"}",                                                "predicate.runDetails.builder.id: "                                                                             },
                { P(builder),                   "{\"id\":\"a\",\"id\":\"b\"}",
                                                     "predicate.runDetails.builder.id: stands there twice"                                                                                                                                                                },
                { P(builder),                   "{\"id\":\"a\\u000ab\"}",                                                "predicate.runDetails.builder.id: "},
                { P(metadata),                   "{\"invocationId\":1}",                                                "predicate.runDetails.metadata.inv"},
                { P(rest),                   ",\"_type\":\"https://in-toto.io/Statement/v1\"",
                                                     "_type: stands there twice"                                                                                   },
                { P(rest),                   "}",                                                   "line 1"                                                                                                                                           },
        };

        (void) state;
        for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
                _cleanup_free_ char *err = NULL;
                Provenance *p = NULL;
                Parts parts = good;

                *(const char **) ((char *) &parts + cases[i].part) = cases[i].text;
                assert_int_equal(parse(&parts, &p, &err), -EBADMSG);
                if (!err || strncmp(err, cases[i].reason, strlen(cases[i].reason)) != 0)
                        fail_msg("case %zu says: %s", i, strempty(err));
        }
}

static Manifest manifest(void)
{
        Manifest m = { .app = (char *) "web",
                       .release = (char *) "r1",
                       .source = { .commit = (char *) COMMIT } };

        memset(&m.artifact.sha256, 0xaa, sizeof(Sha256));
        memset(&m.index.sha256, 0xbb, sizeof(Sha256));
        return m;
}

static void refuses(const Manifest *m, const char *reason)
{
        _cleanup_(provenance_freep) Provenance *p = NULL;
        _cleanup_free_ char *err = NULL;

        assert_return_code(parse(&good, &p, NULL), 0);
        assert_int_equal(provenance_check(p, m, &err), -EBADMSG);
        assert_string_equal(err, reason);
}

static void is_about_this_release(void **state)
{
        _cleanup_(provenance_freep) Provenance *p = NULL, *unknown = NULL;
        _cleanup_free_ char *err = NULL;
        Manifest m = manifest();
        Parts parts = good;

        (void) state;
        assert_return_code(parse(&good, &p, NULL), 0);
        assert_return_code(provenance_check(p, &m, NULL), 0);
        m.source.commit = NULL;
        assert_return_code(provenance_check(p, &m, NULL), 0);

        m = manifest();
        m.artifact.sha256.bytes[31] = 0;
        refuses(&m, "it is about another artifact");
        m = manifest();
        m.index.sha256.bytes[0] = 0;
        refuses(&m, "it is about another index");
        m = manifest();
        m.app = (char *) "api";
        refuses(&m, "its app is web, not api");
        m = manifest();
        m.release = (char *) "r2";
        refuses(&m, "its release is r1, not r2");
        m = manifest();
        m.source.commit = (char *) "c0ffee";
        refuses(&m, "its commit is " COMMIT ", not c0ffee");

        m = manifest();
        parts.dependencies = "[]";
        assert_return_code(parse(&parts, &unknown, NULL), 0);
        assert_int_equal(provenance_check(unknown, &m, &err), -EBADMSG);
        assert_string_equal(err, "its commit is not said, not " COMMIT);
}

static void the_whole_object(void **state)
{
        static const char other[] =
                "{\"payload\":\"e30=\",\"payloadType\":\"application/vnd.slipway.manifest+json\","
                "\"signatures\":[]}";
        _cleanup_free_ char *large = calloc(1, PROVENANCE_SIZE_MAX + 2), *err = NULL, *why = NULL;
        Provenance *p = NULL;

        (void) state;
        assert_non_null(large);
        assert_int_equal(provenance_open(other, strlen(other), NULL, &p, &err), -EBADMSG);
        assert_non_null(strstr(err, "payloadType: must be \"application/vnd.in-toto+json\""));
        memset(large, ' ', PROVENANCE_SIZE_MAX + 1);
        assert_int_equal(provenance_open(large, PROVENANCE_SIZE_MAX + 1, NULL, &p, &why), -EFBIG);
        assert_string_equal(why, "it has 65537 bytes, more than 65536");
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(a_whole_one),         cmocka_unit_test(what_may_be_missing),
                cmocka_unit_test(the_rest_is_refused), cmocka_unit_test(is_about_this_release),
                cmocka_unit_test(the_whole_object),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
