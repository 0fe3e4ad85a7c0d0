/* SPDX-License-Identifier: Apache-2.0 */
#include "json-print.h"
#include "json-read.h"

#include <errno.h>

#include "digest.h"
#include "json-scan.h"
#include "test.h"

static int parse(const char *text, char **reterr)
{
        _cleanup_json_ cJSON *tree = NULL;

        return json_parse(text, strlen(text), &tree, reterr);
}

static void assert_refused(const char *text, const char *reason)
{
        _cleanup_free_ char *err = NULL;

        assert_int_equal(parse(text, &err), -EBADMSG);
        assert_non_null(err);
        if (!strstr(err, reason))
                fail_msg("%s: \"%s\" does not hold \"%s\"", text, err, reason);
}

static void good_texts(void **state)
{
        static const char *const good[] = {
                "{}",
                " [ ] ",
                "0",
                "-0",
                "true",
                "\t\r\n null",
                "\"\"",
                "[1,-1,9007199254740991,-9007199254740991]",
                "{\"a\":{\"b\":[{},[],\"c\",false]},\"d\":1}",
                "\"\\\"\\\\\\/\\b\\f\\n\\r\\t\\u00e9\\ud83d\\ude00\"",
                "\"\xc3\xa9 \xe2\x82\xac \xf0\x9f\x98\x80 \xf4\x8f\xbf\xbf\"",
                "[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]",
        };

        (void) state;
        for (size_t i = 0; i < ELEMENTSOF(good); i++) {
                _cleanup_free_ char *err = NULL;
                if (parse(good[i], &err) != 0)
                        fail_msg("%s: %s", good[i], strempty(err));
        }
}

static void bad_structure(void **state)
{
        (void) state;
        assert_refused("", "line 1, column 1: the text ends");
        assert_refused("\xef\xbb\xbf{}", "a value is expected");
        assert_refused("{} x", "line 1, column 4: something follows");
        assert_refused("{}{}", "something follows");
        assert_refused("{\n  \"a\": 1,\n}", "line 3, column 1: a string in double quotes");
        assert_refused("[1,]", "a value is expected");
        assert_refused("[1 2]", "\",\" or \"]\"");
        assert_refused("{\"a\":1 \"b\":2}", "\",\" or \"}\"");
        assert_refused("{\"a\" 1}", "\":\" is expected");
        assert_refused("{a:1}", "double quotes");
        assert_refused("[1}", "\",\" or \"]\"");
        assert_refused("[", "the text ends");
        assert_refused("{\"a\":", "the text ends");
        assert_refused("[tru]", "a value is expected");
        assert_refused("[True]", "a value is expected");
        assert_refused("[\f1]", "a value is expected");
        assert_refused("[1] // comment", "something follows");
        assert_refused("[[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]]", "nested too deeply");
}

static void bad_strings(void **state)
{
        (void) state;
        assert_refused("\"a\nb\"", "control character");
        assert_refused("\"a\x7f\"", "control character");
        assert_refused("\"a", "ends inside a string");
        assert_refused("\"\\", "unknown escape");
        assert_refused("\"\\x41\"", "unknown escape");
        assert_refused("\"\\u12", "four hex digits");
        assert_refused("\"\\u12g4\"", "four hex digits");
        assert_refused("\"a\\u0000b\"", "\\u0000");
        assert_refused("{\"a\\u0000\":1}", "\\u0000");
        assert_refused("\"\\ud800\"", "surrogate");
        assert_refused("\"\\ud800\\n\"", "surrogate");
        assert_refused("\"\\ud800\\u0041\"", "surrogate");
        assert_refused("\"\\ude00\\ud83d\"", "surrogate");
        static const char *const not_utf8[] = {
                "\"\x80\"",
                "\"\xc3\"",
                "\"\xc0\xaf\"",
                "\"\xc1\xbf\"",
                "\"\xe0\x9f\xbf\"",
                "\"\xed\xa0\x80\"",
                "\"\xf0\x8f\xbf\xbf\"",
                "\"\xf4\x90\x80\x80\"",
                "\"\xf5\x80\x80\x80\"",
                "\"\xff\"",
                "\"\xe2\x82",
        };
        for (size_t i = 0; i < ELEMENTSOF(not_utf8); i++)
                assert_refused(not_utf8[i], "not UTF-8");
}

static void bad_numbers(void **state)
{
        (void) state;
        assert_refused("01", "leading zero");
        assert_refused("-01", "leading zero");
        assert_refused("-", "digit is expected");
        assert_refused("+1", "a value is expected");
        assert_refused("1.0", "whole numbers");
        assert_refused("1e3", "whole numbers");
        assert_refused("1E999", "whole numbers");
        assert_refused(".5", "a value is expected");
        assert_refused("9007199254740992", "out of range");
        assert_refused("-9007199254740992", "out of range");
        assert_refused("100000000000000000000000000000000000000", "out of range");
        assert_refused("NaN", "a value is expected");
        assert_refused("0x10", "something follows");
}

static void embedded_nul(void **state)
{
        _cleanup_json_ cJSON *tree = NULL;
        _cleanup_free_ char *err = NULL;

        (void) state;
        assert_int_equal(json_parse("{}\0{}", 5, &tree, &err), -EBADMSG);
        assert_int_equal(json_parse("\"a\0b\"", 5, &tree, &err), -EBADMSG);
        assert_null(tree);
}

typedef struct Thing {
        char *text, *name;
        uint64_t number, when_sec, length_usec;
        bool yes;
        Sha256 digest;
        uint64_t sum;
} Thing;

static void thing_done(Thing *t)
{
        free(t->text);
        free(t->name);
}

static int parse_element(const cJSON *v, const char *path, void *target, char **reterr)
{
        uint64_t n;
        int r = json_parse_uint(v, path, &n, reterr);

        if (r == 0)
                *(uint64_t *) target += n;
        return r;
}

static int parse_list(const cJSON *v, const char *path, void *target, char **reterr)
{
        return json_each(v, path, 3, parse_element, target, reterr);
}

static int parse_map(const cJSON *v, const char *path, void *target, char **reterr)
{
        return json_each_member(v, path, 3, parse_element, target, reterr);
}

static const JsonField thing_fields[] = {
        {"text",           json_parse_string, offsetof(Thing, text), true },
        { "name",  json_parse_name, offsetof(Thing, name) },
        { "number",            json_parse_uint, offsetof(Thing, number) },
        { "when",          json_parse_time, offsetof(Thing, when_sec) },
        { "length",  json_parse_duration, offsetof(Thing, length_usec) },
        { "yes",               json_parse_bool, offsetof(Thing, yes) },
        { "digest",json_parse_sha256, offsetof(Thing, digest) },
        { "list",         parse_list, offsetof(Thing, sum) },
        { "map",          parse_map, offsetof(Thing, sum) },
        {              },
};

static int parse_thing(const char *text, Thing *t, char **reterr)
{
        _cleanup_json_ cJSON *tree = NULL;

        assert_int_equal(json_parse(text, strlen(text), &tree, NULL), 0);
        return json_dispatch(tree, "", thing_fields, t, reterr);
}

static void assert_thing_refused(const char *text, const char *error)
{
        _cleanup_(thing_done) Thing t = {};
        _cleanup_free_ char *err = NULL;

        assert_int_equal(parse_thing(text, &t, &err), -EBADMSG);
        assert_non_null(err);
        if (strncmp(err, error, strlen(error)) != 0)
                fail_msg("%s: \"%s\" does not start with \"%s\"", text, err, error);
}

static void dispatch_good(void **state)
{
        _cleanup_(thing_done) Thing t = { .text = strdup("earlier") };
        static const char text[] =
                "{\"text\":\"\xc3\xa9\",\"name\":\"web\",\"number\":9007199254740991,"
                "\"when\":\"2026-11-22T14:00:00Z\",\"length\":\"2min\",\"yes\":true,\"digest\":"
                "\"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855\","
                "\"list\":[1,2,3],\"map\":{\"a\":10,\"b c\":20}}";
        Sha256 empty;

        (void) state;
        assert_int_equal(parse_thing(text, &t, NULL), 0);
        assert_string_equal(t.text, "\xc3\xa9");
        assert_string_equal(t.name, "web");
        assert_int_equal(t.number, 9007199254740991);
        assert_int_equal(t.when_sec, 1795356000);
        assert_int_equal(t.length_usec, 120000000);
        assert_true(t.yes);
        assert_int_equal(sha256("", 0, &empty), 0);
        assert_true(sha256_equal(&t.digest, &empty));
        assert_int_equal(t.sum, 36);
}

static void dispatch_bad(void **state)
{
        (void) state;
        assert_thing_refused("[]", "the document: must be an object, is an array");
        assert_thing_refused("{}", "text: missing");
        assert_thing_refused("{\"text\":\"a\",\"Text\":\"b\"}", "Text: this version knows no such");
        assert_thing_refused("{\"text\":\"a\",\"\":1}", "[\"\"]: this version");
        assert_thing_refused("{\"text\":\"a\",\"a\\u001b: b\\\"\":1}",
                             "[\"a?: b?\"]: this version");
        assert_thing_refused("{\"text\":\"a\",\"text\":\"b\"}", "text: stands there twice");
        assert_thing_refused("{\"text\":\"a\",\"te\\u0078t\":\"b\"}", "text: stands there twice");
        assert_thing_refused("{\"text\":1}", "text: must be a string, is a number");
        assert_thing_refused("{\"text\":\"\"}", "text: must not be empty");
        assert_thing_refused("{\"text\":\"a\\nb\"}", "text: holds a control character");
        assert_thing_refused("{\"text\":\"a\\u0085b\"}", "text: holds a control character");
        assert_thing_refused("{\"name\":\"..\"}", "name: \"..\" is not a name");
        assert_thing_refused("{\"number\":-1}", "number: must not be negative");
        assert_thing_refused("{\"number\":\"1\"}", "number: must be a whole number, is a string");
        assert_thing_refused("{\"yes\":null}", "yes: must be true or false, is null");
        assert_thing_refused("{\"yes\":1}", "yes: must be true or false");
        assert_thing_refused("{\"when\":\"tomorrow\"}", "when: must be a time");
        assert_thing_refused("{\"when\":true}", "when: must be a string, is true or false");
        assert_thing_refused("{\"length\":10}", "length: must be a string such as \"10s\"");
        assert_thing_refused("{\"length\":\"10\"}", "length: must be a whole number with");
        assert_thing_refused("{\"digest\":\"E3\"}", "digest: must be a SHA-256");
        assert_thing_refused("{\"digest\":{}}", "digest: must be a string, is an object");
        assert_thing_refused("{\"list\":{}}", "list: must be an array, is an object");
        assert_thing_refused("{\"list\":[1,2,true]}", "list[2]: must be a whole number");
        assert_thing_refused("{\"list\":[1,2,3,4]}", "list: has more than 3 elements");
        assert_thing_refused("{\"map\":[]}", "map: must be an object");
        assert_thing_refused("{\"map\":{\"a\":1,\"b.c\":2,\"b.c\":2}}",
                             "map[\"b.c\"]: stands there twice");
        assert_thing_refused("{\"map\":{\"a\":1,\"b\":2,\"c\":3,\"d\":4}}",
                             "map: has more than 3 members");
}

static void string_limit(void **state)
{
        char text[JSON_STRING_SIZE_MAX + 32];
        int size = snprintf(text, sizeof(text), "{\"text\":\"%0*d\"}", JSON_STRING_SIZE_MAX, 0);

        (void) state;
        assert_true(size > JSON_STRING_SIZE_MAX);
        _cleanup_(thing_done) Thing t = {};
        assert_int_equal(parse_thing(text, &t, NULL), 0);
        snprintf(text, sizeof(text), "{\"text\":\"%0*d\"}", JSON_STRING_SIZE_MAX + 1, 0);
        assert_thing_refused(text, "text: is longer than 1024 bytes");
}

static void dispatch_known(void **state)
{
        _cleanup_json_ cJSON *tree = NULL;
        _cleanup_(thing_done) Thing t = {};
        static const char text[] = "{\"x\":{\"x\":1},\"text\":\"a\",\"x\":2,\"number\":7}";

        (void) state;
        assert_int_equal(json_parse(text, strlen(text), &tree, NULL), 0);
        assert_int_equal(json_dispatch_known(tree, "", thing_fields, &t, NULL), 0);
        assert_string_equal(t.text, "a");
        assert_int_equal(t.number, 7);
}

static void lines(void **state)
{
        static const char text[] = "{\n"
                                   "  \"a\": {\n"
                                   "    \"b\":\n"
                                   "      [ 1,\n"
                                   "        { \"c d\": 2 } ],\n"
                                   "    \"bb\": 3\n"
                                   "  },\n"
                                   "  \"t\\u0065xt\": 4,\n"
                                   "  \"a\": 5\n"
                                   "}\n";

        (void) state;
        assert_int_equal(json_line_of(text, strlen(text), "a.b"), 3);
        assert_int_equal(json_line_of(text, strlen(text), "a.b[0]"), 4);
        assert_int_equal(json_line_of(text, strlen(text), "a.b[1][\"c d\"]: must be: odd"), 5);
        assert_int_equal(json_line_of(text, strlen(text), "a.bb: must not"), 6);
        assert_int_equal(json_line_of(text, strlen(text), "text"), 8);
        assert_int_equal(json_line_of(text, strlen(text), "a: stands there twice"), 9);
        assert_int_equal(json_line_of(text, strlen(text), "a.b[1].missing: missing"), 5);
        assert_int_equal(json_line_of(text, strlen(text), "missing: missing"), 1);
        assert_int_equal(json_line_of("", 0, "a"), 1);
        assert_int_equal(json_line_of("\n{\"a\" 1}", 8, "a"), 2);
}

static void add_uint(void **state)
{
        _cleanup_json_ cJSON *object = cJSON_CreateObject();
        _cleanup_free_ char *text = NULL;

        (void) state;
        assert_int_equal(json_add_uint(object, "a", JSON_UINT_MAX), 0);
        assert_int_equal(json_add_uint(object, "b", 1000000000000000), 0);
        assert_int_equal(json_add_uint(object, "c", JSON_UINT_MAX + 1), -ERANGE);
        text = cJSON_PrintUnformatted(object);
        assert_string_equal(text, "{\"a\":9007199254740991,\"b\":1000000000000000}");
}

static void print(void **state)
{
        static const char text[] =
                "{\"a\":[0,999999999999999,1000000000000000,{\"b\":9007199254740991}],"
                "\"c\":9007199254740990,\"d\":\"9007199254740991\"}";
        _cleanup_json_ cJSON *tree = NULL;

        (void) state;
        assert_int_equal(json_parse(text, strlen(text), &tree, NULL), 0);
        for (int i = 0; i < 2; i++) { /* it stays what it is */
                _cleanup_free_ char *printed = json_print(tree, false);

                assert_string_equal(printed, text);
        }
        assert_true(cJSON_GetObjectItem(tree, "c")->valuedouble == 9007199254740990.0);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(good_texts),     cmocka_unit_test(bad_structure),
                cmocka_unit_test(bad_strings),    cmocka_unit_test(bad_numbers),
                cmocka_unit_test(embedded_nul),   cmocka_unit_test(dispatch_good),
                cmocka_unit_test(dispatch_bad),   cmocka_unit_test(string_limit),
                cmocka_unit_test(dispatch_known), cmocka_unit_test(lines),
                cmocka_unit_test(add_uint),       cmocka_unit_test(print),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
