/* SPDX-License-Identifier: Apache-2.0 */
#include "test.h"

#include "yaml-tree.h"

static YamlNode *parse(const char *text)
{
        _cleanup_free_ char *err = NULL;
        YamlNode *root = NULL;

        assert_int_equal(yaml_tree_parse(text, strlen(text), &root, &err), 0);
        assert_non_null(root);
        return root;
}

static void refused(const char *text, const char *reason)
{
        _cleanup_free_ char *err = NULL;
        YamlNode *root = NULL;

        assert_int_equal(yaml_tree_parse(text, strlen(text), &root, &err), -EBADMSG);
        assert_null(root);
        assert_non_null(err);
        if (!strstr(err, reason))
                assert_string_equal(err, reason);
}

static void test_tree(void **state _unused_)
{
        _cleanup_(yaml_tree_freep) YamlNode *root = parse("# a comment\n"
                                                          "version: 0.0\n"
                                                          "hooks:\n"
                                                          "  AfterInstall:\n"
                                                          "    - location: run me\n"
                                                          "      timeout: \"180\"\n"
                                                          "    - null\n"
                                                          "files:\n"
                                                          "quoted: ''\n");
        const YamlNode *hooks, *list, *timeout, *quoted;

        assert_int_equal(root->kind, YAML_KIND_MAP);
        assert_int_equal(root->n_children, 4);
        assert_int_equal(root->line, 2);
        assert_string_equal(yaml_node_member(root, "version")->text, "0.0");
        hooks = yaml_node_member(root, "hooks");
        assert_int_equal(hooks->line, 3);
        list = yaml_node_member(hooks, "AfterInstall");
        assert_int_equal(list->kind, YAML_KIND_LIST);
        assert_int_equal(list->n_children, 2);
        assert_string_equal(yaml_node_member(list->child, "location")->text, "run me");
        timeout = yaml_node_member(list->child, "timeout");
        assert_string_equal(timeout->text, "180");
        assert_int_equal(timeout->line, 6);
        assert_int_equal(list->child->next->kind, YAML_KIND_NULL);
        assert_null(list->child->next->name);
        assert_null(yaml_node_member(list, "location")); /* no map */
        assert_null(yaml_node_member(root, "files"));    /* null */
        assert_null(yaml_node_member(root, "Version"));
        quoted = yaml_node_member(root, "quoted");
        assert_int_equal(quoted->kind, YAML_KIND_TEXT);
        assert_string_equal(quoted->text, "");
}

static void test_order(void **state _unused_)
{
        _cleanup_(yaml_tree_freep) YamlNode *root = parse("[a, {b: c, d: [e]}, f]");
        char seen[16] = "";

        for (const YamlNode *n = root; n; n = n->after)
                strcat(seen, n->text ? n->text : n->name ? n->name : "-");
        assert_string_equal(seen, "-a-cdef");
}

static void test_json(void **state _unused_)
{
        _cleanup_(yaml_tree_freep) YamlNode *root =
                parse("{\n\t\"a\": [1, true, null],\n\t\"b\": {\"c\": \"\\/\\u00e9\"}\n}\n");
        const YamlNode *a = yaml_node_member(root, "a");

        assert_int_equal(a->n_children, 3);
        assert_string_equal(a->child->text, "1");
        assert_string_equal(a->child->next->text, "true");
        assert_int_equal(a->child->next->next->kind, YAML_KIND_NULL);
        assert_string_equal(yaml_node_member(yaml_node_member(root, "b"), "c")->text, "/\u00e9");
}

static void test_refused(void **state _unused_)
{
        refused("", "line 1: there is nothing in it");
        refused("# only this\n", "there is nothing in it");
        refused("a: 1\nb: 2\na: 3\n", "line 3: a stands there twice, first on 1");
        refused("a: &x 1\nb: *x\n", "line 1: the anchor or alias x");
        refused("a:\n  <<: *base\n", "line 2: the anchor or alias base");
        refused("a: &l [x]\n", "the anchor or alias l");
        refused("a: &m {x: y}\n", "the anchor or alias m");
        refused("a:\n  - !Ref Bucket\n", "line 2: the tag !Ref");
        refused("a: !!binary aGk=\n", "the tag tag:yaml.org,2002:binary");
        refused("a: !x [b]\n", "the tag !x");
        refused("a: !x {b: c}\n", "the tag !x");
        refused("a: 1\n---\nb: 2\n", "line 2: a second document");
        refused("a: \"x\\0y\"\n", "line 1: a NUL character");
        refused("? [a, b]\n: c\n", "line 1: a name must be a text");
        refused("? {a: b}\n: c\n", "line 1: a name must be a text");
        refused("a: b\n  c: d\n", "line 2: not YAML");
        refused("a:\n\t- b\n", "line 2: not YAML");
        refused("a: [b\n", "not YAML");
        refused("a: \xff\n", "not YAML");
        refused("a: \"\\e[31m\"\na: *\"\n", "line 2: a stands there twice");
        refused("\"\\e[31m\": 1\n\"\\e[31m\": 2\n", "line 2:  [31m stands there twice");
}

static char *repeat(const char *part, size_t n)
{
        size_t size = strlen(part);
        char *text = malloc(n * size + 1);

        assert_non_null(text);
        for (size_t i = 0; i < n; i++)
                memcpy(text + i * size, part, size);
        text[n * size] = '\0';
        return text;
}

static void test_limits(void **state _unused_)
{
        _cleanup_free_ char *deep = repeat("[", YAML_TREE_DEPTH_MAX + 1),
                            *bottom = repeat("[", 100000),
                            *many = repeat("- x\n", YAML_TREE_MEMBERS_MAX + 1),
                            *large = repeat(" ", YAML_TREE_SIZE_MAX + 1), *err = NULL;
        YamlNode *root = NULL;

        refused(deep, "line 1: nested deeper than 16");
        refused(bottom, "line 1: nested deeper than 16");
        refused(many, "line 1025: more than 1024 of them");
        many[strlen(many) - strlen("- x\n")] = '\0';
        root = parse(many);
        assert_int_equal(root->n_children, YAML_TREE_MEMBERS_MAX);
        root = yaml_tree_free(root);
        assert_int_equal(yaml_tree_parse(large, strlen(large), &root, &err), -EFBIG);
        assert_string_equal(err, "262145 bytes, more than 262144");
}

static void test_check(void **state _unused_)
{
        _cleanup_(yaml_tree_freep) YamlNode *root = parse("a:\n  b: [c]\n");
        _cleanup_free_ char *err = NULL;
        const YamlNode *b = yaml_node_member(yaml_node_member(root, "a"), "b");

        assert_int_equal(yaml_node_check(b, YAML_KIND_LIST, &err), 0);
        assert_null(err);
        assert_int_equal(yaml_node_check(b, YAML_KIND_TEXT, &err), -EBADMSG);
        assert_string_equal(err, "line 2: b must be a text, is a list");
        assert_int_equal(yaml_node_check(root, YAML_KIND_LIST, &err), -EBADMSG);
        assert_string_equal(err, "line 1: this must be a list, is a map");
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_tree),   cmocka_unit_test(test_order),
                cmocka_unit_test(test_json),   cmocka_unit_test(test_refused),
                cmocka_unit_test(test_limits), cmocka_unit_test(test_check),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
