/* SPDX-License-Identifier: Apache-2.0 */
#include "vetting.h"

#include "provenance.h"
#include "test.h"

/* What comes of the statement; that it comes, and is the one that was signed, is for
 * e2e/test_provenance.py. */

#define HEX_A "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
#define HEX_B "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"

#define STATEMENT(source, builder)                                                              \
        "{\"_type\":\"https://in-toto.io/Statement/v1\",\"subject\":["                          \
        "{\"name\":\"artifact.tar.zst\",\"digest\":{\"sha256\":\"" HEX_A "\"}},"                \
        "{\"name\":\"index\",\"digest\":{\"sha256\":\"" HEX_B "\"}}],"                          \
        "\"predicateType\":\"https://slsa.dev/provenance/v1\",\"predicate\":{"                  \
        "\"buildDefinition\":{\"buildType\":\"urn:slipway:release:1\",\"externalParameters\":{" \
        "\"app\":\"web\",\"release\":\"r1\"},\"resolvedDependencies\":[" source "]},"           \
        "\"runDetails\":{\"builder\":{\"id\":\"" builder "\"}}}}"
#define WEB     "{\"uri\":\"git+https://github.com/acme/web\"}"
#define BUILDER "https://ci.example/web"

static char *builders[] = { (char *) "https://ci.example/*" };
static char *repositories[] = { (char *) "github.com/acme/*" };

static int judge(const char *statement, bool bound, char **reterr)
{
        AppConfig app = { .app = (char *) "web", .provenance.required = true };
        Manifest m = { .app = (char *) "web", .release = (char *) "r1" };
        _cleanup_(envelope_freep) Envelope *e = NULL;
        _cleanup_free_ char *object = NULL;
        size_t size;

        memset(&m.artifact.sha256, 0xaa, sizeof(Sha256));
        memset(&m.index.sha256, 0xbb, sizeof(Sha256));
        if (bound)
                app.provenance = (ProvenancePolicy){ true, builders, repositories, 1, 1 };
        assert_return_code(envelope_new(statement, strlen(statement), &e), 0);
        assert_return_code(envelope_format(e, STATEMENT_PAYLOAD_TYPE, &object, &size), 0);
        return vetting_judge(&app, &m, object, size, reterr);
}

static void refuses(const char *statement, bool bound, const char *reason)
{
        _cleanup_free_ char *err = NULL;

        assert_int_equal(judge(statement, bound, &err), -EBADMSG);
        if (!err || !strstr(err, reason))
                fail_msg("says: %s", strempty(err));
}

static void what_fits(void **state)
{
        (void) state;
        assert_return_code(judge(STATEMENT(WEB, BUILDER), true, NULL), 0);
        /* Nothing but that there is one. */
        assert_return_code(judge(STATEMENT("", "urn:x"), false, NULL), 0);
}

static void what_does_not(void **state)
{
        (void) state;
        refuses(STATEMENT(WEB, "https://evil.example/web"), true,
                "it was built by https://evil.example/web, which \"provenance\" of app web");
        refuses(STATEMENT("{\"uri\":\"git+https://github.com/evil/web\"}", BUILDER), true,
                "it was built of github.com/evil/web, which");
        refuses(STATEMENT("", BUILDER), true, "it was built of an unknown repository, which");
        refuses("{}", false, "missing");
        refuses(STATEMENT(WEB, BUILDER) "}", false, "line 1");
}

static void what_is_no_envelope(void **state)
{
        AppConfig app = { .app = (char *) "web" };
        Manifest m = {};
        _cleanup_free_ char *err = NULL, *large = calloc(1, PROVENANCE_SIZE_MAX + 2);

        (void) state;
        assert_non_null(large);
        assert_int_equal(vetting_judge(&app, &m, "<html>", 6, &err), -EBADMSG);
        assert_int_equal(vetting_judge(&app, &m, large, PROVENANCE_SIZE_MAX + 1, NULL), -EBADMSG);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(what_fits),
                cmocka_unit_test(what_does_not),
                cmocka_unit_test(what_is_no_envelope),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
