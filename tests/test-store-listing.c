/* SPDX-License-Identifier: Apache-2.0 */
#include "store-listing.h"
#include "test.h"

static void parsed(const char *const *keys, size_t n, StoreListing *ret)
{
        char *text = NULL;
        size_t size = 0;
        FILE *f = open_memstream(&text, &size);

        assert_non_null(f);
        for (size_t i = 0; i < n; i++)
                fprintf(f, "%s\n", keys[i]);
        assert_int_equal(fclose(f), 0);
        assert_int_equal(store_listing_parse(text, ret), 0);
        free(text);
}

static void everything(void **state)
{
        static const char *const keys[] = {
                "api/channels/prod/manifest.json",
                "trust/10.json",
                "trust/2.json",
                "web/channels/eu-1/halt.json",
                "web/channels/eu-1/instances/i-1.json",
                "web/channels/eu/history/1.json",
                "web/channels/eu/history/10.json",
                "web/channels/eu/history/9.json",
                "web/releases/r1/artifact.tar.zst",
                "web/releases/r1/index",
                "web/releases/r2/index",
        };
        _cleanup_(store_listing_done) StoreListing l = {};

        (void) state;
        parsed(keys, ELEMENTSOF(keys), &l);
        assert_int_equal(l.n_channels, 3);
        assert_string_equal(l.channels[0].app, "api");
        assert_string_equal(l.channels[1].name, "eu");
        assert_true(l.channels[1].is_published);
        assert_string_equal(l.channels[2].name, "eu-1");
        assert_false(l.channels[2].is_published);
        assert_int_equal(l.n_releases, 2);
        assert_true(l.releases[0].has_index && l.releases[0].has_artifact);
        assert_true(l.releases[1].has_index && !l.releases[1].has_artifact);
        assert_int_equal(l.n_roots, 2);
        assert_int_equal(l.roots[0], 2);
        assert_int_equal(l.roots[1], 10);
        assert_int_equal(l.n_others, 0);
}

/* In whatever order a store lists: each thing once. */
static void no_order(void **state)
{
        static const char *const keys[] = {
                "web/releases/r1/index",       "web/channels/prod/history/2.json",
                "web/releases/r2/index",       "web/channels/a/manifest.json",
                "web/channels/prod/halt.json", "web/releases/r1/artifact.tar.zst",
        };
        _cleanup_(store_listing_done) StoreListing l = {};

        (void) state;
        parsed(keys, ELEMENTSOF(keys), &l);
        assert_int_equal(l.n_channels, 2);
        assert_string_equal(l.channels[1].name, "prod");
        assert_true(l.channels[1].is_published);
        assert_int_equal(l.n_releases, 2);
        assert_true(l.releases[0].has_index && l.releases[0].has_artifact);
}

/* By themselves they are no release: neither index nor artifact is there. */
static void provenances(void **state)
{
        static const char *const keys[] = {
                "web/releases/r1/provenance.json",
                "web/releases/r1/provenance-0123456789abcdef.json",
                "web/releases/r1/provenance-0123456789abcde.json",
                "web/releases/r1/provenance-0123456789abcdeg.json",
                "web/releases/r1/provenance-0123456789abcdef0.json",
                "web/releases/r1/provenance",
                "web/releases/r1/provenance.json/x",
        };
        _cleanup_(store_listing_done) StoreListing l = {};

        (void) state;
        parsed(keys, ELEMENTSOF(keys), &l);
        assert_int_equal(l.n_releases, 1);
        assert_false(l.releases[0].has_index || l.releases[0].has_artifact);
        assert_int_equal(l.n_others, 5);
}

static void others(void **state)
{
        static const char *const keys[] = {
                "notes",
                "trust",
                "trust/0.json",
                "trust/01.json",
                "trust/x.json",
                "trust/99999999999999999.json",
                "trust/1.json/2.json",
                "web/channels",
                "web/channels/prod",
                "web/channels/prod/history",
                "web/channels/prod/history/07.json",
                "web/channels/prod/history/7",
                "web/channels/prod/history/7.json/x",
                "web/channels/prod/manifest.json/x",
                "web/channels/-prod/manifest.json",
                "web/releases/r1",
                "web/releases/r1/index/x",
                "web/releases/r1/notes",
                "web/releases/-r/index",
                ".web/releases/r1/index",
        };
        _cleanup_(store_listing_done) StoreListing l = {}, empty = {};

        (void) state;
        parsed(keys, ELEMENTSOF(keys), &l);
        assert_int_equal(l.n_others, ELEMENTSOF(keys));
        assert_string_equal(l.other, "notes");
        assert_int_equal(l.n_channels + l.n_releases + l.n_roots, 0);
        parsed(NULL, 0, &empty);
        assert_int_equal(empty.n_others + empty.n_channels + empty.n_releases + empty.n_roots, 0);
        /* What is cut into parts is whole again in the finding. */
        store_listing_done(&l);
        parsed(&keys[12], 1, &l);
        assert_string_equal(l.other, keys[12]);
}

/* An application may have the name of the folder of trust roots. */
static void trust_as_app(void **state)
{
        static const char *const keys[] = { "trust/1.json", "trust/channels/prod/manifest.json",
                                            "trust/releases/r1/index" };
        _cleanup_(store_listing_done) StoreListing l = {};

        (void) state;
        parsed(keys, ELEMENTSOF(keys), &l);
        assert_int_equal(l.n_roots, 1);
        assert_int_equal(l.n_channels, 1);
        assert_int_equal(l.n_releases, 1);
}

int main(void)
{
        static const struct CMUnitTest tests[] = {
                cmocka_unit_test(everything),   cmocka_unit_test(no_order),
                cmocka_unit_test(provenances),  cmocka_unit_test(others),
                cmocka_unit_test(trust_as_app),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
