/* SPDX-License-Identifier: Apache-2.0 */
#include "name.h"
#include "test.h"

static void names(void **state)
{
        (void) state;
        assert_true(name_is_valid("web"));
        assert_true(name_is_valid("2026.11.22-1f3a9c2"));
        assert_true(
                name_is_valid("0123456789012345678901234567890123456789012345678901234567890123"));
        assert_false(
                name_is_valid("01234567890123456789012345678901234567890123456789012345678901234"));
        static const char *const bad[] = { "",    ".",   "..",  ".a", "-a",
                                           "a/b", "a b", "a\n", "é",  "a%s" };
        for (size_t i = 0; i < ELEMENTSOF(bad); i++)
                assert_false(name_is_valid(bad[i]));
}

static void tree_paths(void **state)
{
        (void) state;
        static const char *const good[] = { "a", "a/b", ".hidden/x", "a b/ü", "..a", "a.." };
        static const char *const bad[] = { "",  "/",     "/a", "a/",   "a//b",
                                           ".", "a/./b", "..", "a/..", "a\nb" };
        for (size_t i = 0; i < ELEMENTSOF(good); i++)
                assert_true(tree_path_is_valid(good[i]));
        for (size_t i = 0; i < ELEMENTSOF(bad); i++)
                assert_false(tree_path_is_valid(bad[i]));

        char deep[2 * TREE_DEPTH_MAX + 4] = "a";
        for (size_t i = 1; i < TREE_DEPTH_MAX; i++)
                memcpy(deep + 2 * i - 1, "/a", 3);
        assert_true(tree_path_is_valid(deep));
        memcpy(deep + 2 * TREE_DEPTH_MAX - 1, "/a", 3);
        assert_false(tree_path_is_valid(deep));
}

static void links(void **state)
{
        (void) state;
        assert_true(tree_link_is_inside("bin/x", "../lib/y"));
        assert_true(tree_link_is_inside("x", "y/../z"));
        assert_true(tree_link_is_inside("a/b/c", "../../d"));
        assert_false(tree_link_is_inside("x", "../y"));
        assert_false(tree_link_is_inside("a/x", "../../y"));
        assert_false(tree_link_is_inside("a/x", "b/../../../y"));
        assert_false(tree_link_is_inside("x", "/etc/passwd"));
        assert_false(tree_link_is_inside("x", ""));
}

static void units(void **state)
{
        (void) state;
        assert_true(unit_name_is_valid("web.service"));
        assert_true(unit_name_is_valid("web@1.service"));
        assert_true(unit_name_is_valid("a\\x2db.socket"));
        static const char *const bad[] = { "",          "web",          ".service",
                                           "web.mount", "a/b.service",  "w b.service",
                                           "@.service", "web.service\n" };
        for (size_t i = 0; i < ELEMENTSOF(bad); i++)
                assert_false(unit_name_is_valid(bad[i]));
}

static void store_paths(void **state)
{
        (void) state;
        assert_true(store_path_is_valid("web/releases/1/artifact.tar.zst"));
        assert_false(store_path_is_valid("web/../x"));
        assert_false(store_path_is_valid("web/a b"));
        assert_false(store_path_is_valid("/web"));
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(names), cmocka_unit_test(tree_paths),  cmocka_unit_test(links),
                cmocka_unit_test(units), cmocka_unit_test(store_paths),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
