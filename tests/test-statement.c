/* SPDX-License-Identifier: Apache-2.0 */
#include "statement.h"

#include "provenance.h"
#include "test.h"

#define HEX_A  "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
#define HEX_B  "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"
#define COMMIT "0123456789abcdef0123456789abcdef01234567"

static Manifest manifest(void)
{
        Manifest m = { .app = (char *) "web", .release = (char *) "r1" };

        memset(&m.artifact.sha256, 0xaa, sizeof(Sha256));
        memset(&m.index.sha256, 0xbb, sizeof(Sha256));
        return m;
}

static void assert_written(const Manifest *m, const char *builder, const char *wanted)
{
        _cleanup_free_ char *text = NULL, *err = NULL;
        size_t size;

        assert_int_equal(statement_format(m, builder, 1795355952, &text, &size, &err), 0);
        assert_string_equal(text, wanted);
        assert_int_equal(size, strlen(wanted));
}

#define HEAD                                                                                       \
        "{\"_type\":\"https://in-toto.io/Statement/v1\",\"subject\":["                             \
        "{\"name\":\"artifact.tar.zst\",\"digest\":{\"sha256\":\"" HEX_A "\"}},"                   \
        "{\"name\":\"index\",\"digest\":{\"sha256\":\"" HEX_B "\"}}],"                             \
        "\"predicateType\":\"https://slsa.dev/provenance/v1\",\"predicate\":{\"buildDefinition\":" \
        "{\"buildType\":\"urn:slipway:release:1\",\"externalParameters\":{\"app\":\"web\","        \
        "\"release\":\"r1\""

static void everything(void **state)
{
        Manifest m = manifest();

        (void) state;
        m.source = (Source){ .repository = (char *) "github.com/acme/web",
                             .commit = (char *) COMMIT,
                             .ref = (char *) "refs/heads/main",
                             .build = (char *) "https://ci.example/1",
                             .by = (char *) "ada" };
        assert_written(&m, "https://ci.example/web",
                       HEAD ",\"ref\":\"refs/heads/main\"},\"resolvedDependencies\":[{\"uri\":"
                            "\"git+https://github.com/acme/web\",\"digest\":{\"gitCommit\":"
                            "\"" COMMIT "\"}}]},\"runDetails\":{\"builder\":{\"id\":"
                            "\"https://ci.example/web\"},\"metadata\":{\"invocationId\":"
                            "\"https://ci.example/1\",\"startedOn\":\"2026-11-22T13:59:12Z\"}}}}");
}

static void nothing_known(void **state)
{
        Manifest m = manifest();

        (void) state;
        assert_written(&m, BUILDER_LOCAL,
                       HEAD "},\"resolvedDependencies\":[]},\"runDetails\":{\"builder\":{\"id\":"
                            "\"urn:slipway:builder:local\"},\"metadata\":{\"startedOn\":"
                            "\"2026-11-22T13:59:12Z\"}}}}");
}

/* The repository of a statement that is made of this one; NULL: none. */
static void assert_repository(const char *repository, const char *wanted)
{
        _cleanup_(provenance_freep) Provenance *p = NULL;
        _cleanup_free_ char *text = NULL;
        Manifest m = manifest();
        size_t size;

        m.source = (Source){ .repository = (char *) repository, .commit = (char *) COMMIT };
        assert_int_equal(statement_format(&m, "urn:x", 0, &text, &size, NULL), 0);
        assert_int_equal(provenance_parse(text, size, &p, NULL), 0);
        assert_true(streq_ptr(p->repository, wanted));
        assert_string_equal(p->commit, COMMIT);
}

static void repositories(void **state)
{
        char longest[1025];

        (void) state;
        assert_repository(NULL, NULL);
        assert_repository("/srv/git/web", "/srv/git/web");
        assert_repository("../web", NULL);
        assert_repository("git.example/a web/\xc3\xbc", "git.example/a%20web/%C3%BC");
        memset(longest, ' ', sizeof(longest) - 1);
        longest[0] = 'a';
        longest[sizeof(longest) - 1] = '\0';
        _cleanup_free_ char *encoded = statement_uri(longest);
        assert_repository(longest, encoded);
}

static void uris(void **state)
{
        static const char *const good[] = { "https://ci.example/a?b=c#d", "urn:x", "a+b-c.1:x",
                                            "arn:aws:codebuild:x:1:project/web" };
        static const char *const bad[] = { "",     "ci.example/web", "https:",           ":x",
                                           "1a:x", "https://a b",    "https://\xc3\xbc", "urn:\n" };

        (void) state;
        for (size_t i = 0; i < ELEMENTSOF(good); i++)
                assert_true(statement_uri_is_valid(good[i]));
        for (size_t i = 0; i < ELEMENTSOF(bad); i++)
                assert_false(statement_uri_is_valid(bad[i]));
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(everything),
                cmocka_unit_test(nothing_known),
                cmocka_unit_test(repositories),
                cmocka_unit_test(uris),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
