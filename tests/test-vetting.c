/* SPDX-License-Identifier: Apache-2.0 */
#include "vetting.h"

#include <signal.h>

#include "provenance.h"
#include "test.h"

/* What comes of the statement, and of one that does not come; that it comes, and is the one that
 * was signed, is for e2e/test_provenance.py. */

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

typedef struct Outcome {
        int result;
        char reason[200];
} Outcome;

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

static void on_vetted(int result, const char *reason, void *userdata)
{
        Outcome *o = userdata;

        assert_int_equal(o->result, 0);
        o->result = result;
        assert_true(strlen(reason) < sizeof(o->reason));
        (void) stpcpy(o->reason, reason);
}

static void what_is_not_named(void **state)
{
        _cleanup_free_ char *err = NULL, *of_file = NULL;
        AppConfig app = { .app = (char *) "web", .provenance.required = true };
        Manifest m = { .release = (char *) "r1" };
        Vetting *v = NULL;

        (void) state;
        assert_int_equal(vetting_start(NULL, NULL, &app, &m, 1, on_vetted, NULL, &v, &err),
                         -EBADMSG);
        assert_string_equal(err,
                            "the manifest names no provenance, which \"provenance\" of app web "
                            "in the agent's configuration asks for");
        assert_int_equal(vetting_judge_file(&app, &m, -EBADF, &of_file), -EBADMSG);
        assert_string_equal(of_file, err);
}

/* The child is tests/child-actor.c. */
static void what_does_not_come_to_its_end(void **state)
{
        _cleanup_(sd_event_unrefp) sd_event *event = NULL;
        _cleanup_(fetcher_freep) Fetcher *f = NULL;
        _cleanup_(vetting_freep) Vetting *v = NULL;
        const Identity same = {};
        AppConfig app = { .app = (char *) "web", .provenance.required = true };
        Manifest m = {
                .release = (char *) "r1",
                .provenance = {.path = (char *) "p", .size_bytes = 9},
        };
        Outcome o = {};

        assert_return_code(sd_event_new(&event), 0);
        assert_return_code(fetcher_new(event, "trickle", *state, NULL, &same, &f), 0);
        assert_return_code(vetting_start(event, f, &app, &m, 100000, on_vetted, &o, &v, NULL), 0);
        while (o.result == 0)
                assert_true(sd_event_run(event, 20 * 1000000) > 0);
        assert_int_equal(o.result, -ETIMEDOUT);
        assert_string_equal(o.reason,
                            "can't fetch the provenance of release r1: it did not come in time");
}

int main(void)
{
        sigset_t child;

        if (sigemptyset(&child) < 0 || sigaddset(&child, SIGCHLD) < 0 ||
            sigprocmask(SIG_BLOCK, &child, NULL) < 0)
                return EXIT_FAILURE;
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(what_fits),
                cmocka_unit_test(what_does_not),
                cmocka_unit_test(what_is_no_envelope),
                cmocka_unit_test(what_is_not_named),
                test_in_dir(what_does_not_come_to_its_end),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
