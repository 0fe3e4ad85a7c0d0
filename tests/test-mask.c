/* SPDX-License-Identifier: Apache-2.0 */
#include "mask.h"

#include <stdio.h>

#include "json-read.h"
#include "test.h"

static char *masked(const char *text)
{
        char *copy = strdup(text), *result = NULL;
        size_t size;
        FILE *f = open_memstream(&result, &size);

        assert_non_null(f);
        mask_text(copy, f);
        assert_int_equal(fclose(f), 0);
        free(copy);
        return result;
}

static void assert_masked(const char *text, const char *wanted)
{
        _cleanup_free_ char *result = masked(text), *line = NULL;

        assert_true(asprintf(&line, "%s\n", wanted) > 0);
        assert_string_equal(result, line);
}

static void assert_stays(const char *text)
{
        assert_masked(text, text);
}

static void test_names(void **state)
{
        (void) state;
        assert_masked("AWS_SECRET_ACCESS_KEY=abc", "AWS_SECRET_ACCESS_KEY=***");
        assert_masked("Environment=\"DB_PASSWORD=a b\" \"X=1\"",
                      "Environment=\"DB_PASSWORD=***\" \"X=1\"");
        assert_masked("\"password\": \"a \\\" b\", \"x\": 1", "\"password\": ***, \"x\": 1");
        assert_masked("\"token\": 12345", "\"token\": ***");
        assert_masked("\"text\": \"the token: abc was bad\", 1", "\"text\": \"the token: ***\", 1");
        assert_masked("\"text\": \"{\\\"token\\\": \\\"abc\\\"}\", 1",
                      "\"text\": \"{\\\"token\\\": ***\", 1");
        assert_masked("Authorization: Bearer abc def", "Authorization: ***");
        assert_masked("db password: correct horse", "db password: ***");
        assert_masked("PASSWORD='a b'cd e", "PASSWORD=*** e");
        assert_masked("a 5\" disk password=\"abc\"", "a 5\" disk password=***");
        assert_masked("mysql --password hunter2 -u x", "mysql --password ***");
        assert_masked("/x?X-Amz-Signature=00ff&a=b", "/x?X-Amz-Signature=***");
        assert_masked("lines: PASSWORD=a b | c | TOKEN='d' | e",
                      "lines: PASSWORD=*** | c | TOKEN=*** | e");
        assert_masked("\"reason\": \"PASSWORD=a b | c\",", "\"reason\": \"PASSWORD=*** | c\",");
        assert_masked("GITHUB-TOKEN:x", "GITHUB-TOKEN:***");
        assert_masked("DB_PASS=x", "DB_PASS=***");
        assert_masked("\"auth\": \"bWU6eA==\", 1", "\"auth\": ***, 1");
        assert_masked("RAILS_MASTER_KEY=00ff", "RAILS_MASTER_KEY=***");
        assert_masked("AccountKey=ab==;x", "AccountKey=***");
        assert_masked("sent Bearer abc", "sent Bearer ***");
        assert_masked("<password>abc</password>", "<password>***");
        assert_masked("mysql '--password' 'a b' -u", "mysql '--password' *** -u");
        assert_stays("\"credentials\": \"environment\"");
        assert_stays("the metadata service gives no token: it can't be reached");
        assert_stays("a token was refused");
        assert_stays("unknown key: abc");
        assert_stays("password=");
}

/* As Python and JSON write commands and variables. */
static void test_lists(void **state)
{
        (void) state;
        assert_masked("'['mysql', '--password', 'abc', '-u', 'x']' failed",
                      "'['mysql', '--password', ***, '-u', 'x']' failed");
        assert_masked("{\"args\": [\"--password\", \"a b\"], \"x\": 1}",
                      "{\"args\": [\"--password\", ***], \"x\": 1}");
        assert_masked("\"text\": \"[\\\"--password\\\", \\\"abc\\\"]\", 1",
                      "\"text\": \"[\\\"--password\\\", ***\", 1");
        assert_masked("('Authorization', 'Basic abc')", "('Authorization', ***)");
        assert_masked("{\"name\": \"DB_PASSWORD\", \"value\": \"abc\"}",
                      "{\"name\": \"DB_PASSWORD\", \"value\": ***}");
        assert_stays("no password, \"abc\"");
        assert_stays("[\"a\", \"password\"], 5");
}

static void test_urls(void **state)
{
        (void) state;
        assert_masked("see https://me:pw@host/x, now", "see https://***@host/x, now");
        assert_masked("see https://me:p@w/d@host/x", "see https://***@host/x");
        assert_masked("proxy=me:pw@host:8080", "***@host:8080");
        assert_masked("https_proxy=http://me:pw@host", "https_proxy=http://***@host");
        assert_masked("\"https://host/x?a=b&c=d\",", "\"https://host/x?***\",");
        assert_masked("https://me:pw@host/x?a=b c", "https://***@host/x?*** c");
        assert_masked("https://me:pw@host/#access_token=x", "https://***@host/#access_token=***");
        assert_masked("https://me:pw@host/AKIAIOSFODNN7EXAMPLE", "https://***@host/***");
        assert_stays("https://host:8080/x and s3://bucket/prefix");
        assert_stays("root@host:22 at 12:30:01");
}

static void test_forms(void **state)
{
        (void) state;
        assert_masked("key AKIAIOSFODNN7EXAMPLE is", "key *** is");
        assert_masked("(wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY)", "(***)");
        assert_masked("got eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.abc-_x", "got ***");
        assert_masked("(abc-DEF0_abcDEF1-abcDEF2_abcDEF3-abcDEF4_abcDEF5=)", "(***)");
        assert_masked("sk_live_0123456789abcdefghij", "***");
        assert_masked("x-ghp_0123456789abcdefghij", "x-ghp_0123456789abcdefghij");
        assert_masked("ghp_0123456789abcdefghij", "***");
        assert_stays("e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
        assert_stays("/usr/lib/systemd/system/slipwayd.service.d/override.conf");
        assert_stays("/srv/web/releases/2026.11.22-1f3a9c2");
}

static void test_private_keys(void **state)
{
        (void) state;
        assert_masked("a\n-----BEGIN PRIVATE KEY-----\nMC4C\nAQ==\n-----END PRIVATE KEY-----\nb",
                      "a\n***\nb");
        assert_masked("\"k\": \"-----BEGIN EC PRIVATE KEY-----\\nMC4C\\n-----END EC PRIVATE "
                      "KEY-----\\n\"\nb",
                      "\"k\": \"***\\n\"\nb");
        assert_masked("x -----BEGIN PRIVATE KEY----- a -----END PRIVATE KEY----- y", "x *** y");
        assert_masked("x -----BEGIN PRIVATE KEY----- a -----END PRIV", "x ***");
        assert_stays("-----END PRIVATE KEY-----");
        assert_masked("x MC4C | -----END PRIVATE KEY----- y", "***-----END PRIVATE KEY----- y");
        assert_stays("-----BEGIN PUBLIC KEY-----\nMCow\n-----END PUBLIC KEY-----");
}

/* The end of a key never comes: what comes long after it is told again. */
static void test_open_private_key(void **state)
{
        _cleanup_free_ char *text = NULL, *result = NULL;
        size_t size;
        FILE *f = open_memstream(&text, &size);

        (void) state;
        fputs("-----BEGIN PRIVATE KEY-----\n", f);
        for (int i = 0; i < 300; i++)
                fprintf(f, "line %d\n", i);
        assert_int_equal(fclose(f), 0);
        result = masked(text);
        assert_null(strstr(result, "line 199\n"));
        assert_non_null(strstr(result, "line 200\n"));
}

static void test_lines(void **state)
{
        char text[2 * MASK_LINE_MAX + 1];
        _cleanup_free_ char *result = NULL;

        (void) state;
        assert_masked("a\tb\033[31m\xff", "a b?[31m?");
        assert_masked("x [36mpassword [0m=abc", "x password =***");
        assert_masked("x [1;33mAKIAIOSFODNN7EXAMPLE [0m y", "x ***  y");
        assert_stays("a [36 b [x] c");
        memset(text, ' ', sizeof(text) - 1);
        text[sizeof(text) - 1] = '\0';
        result = masked(text);
        assert_int_equal(strlen(result), MASK_LINE_MAX + 1);
}

/* What is cut in its middle has no form any more. */
static void test_cut(void **state)
{
        static const char url[] = "https://me:pw@host/x";
        char text[MASK_LINE_MAX + sizeof(url)], few[] = "a https://me:pw@host", one[] = "abc";
        _cleanup_free_ char *result = NULL;

        (void) state;
        memset(text, ' ', sizeof(text));
        memcpy(text + MASK_LINE_MAX - STRLEN("https://me:pw"), url, sizeof(url));
        result = masked(text);
        assert_null(strstr(result, "https"));
        mask_cut(few, 13);
        assert_string_equal(few, "a ");
        mask_cut(few, 1);
        assert_string_equal(few, "a");
        mask_cut(one, 3);
        assert_string_equal(one, "abc");
        mask_cut(one, 2);
        assert_string_equal(one, "");
}

static char *json_masked(const char *text, bool unknown)
{
        static const char *const known[] = { "a", "tags", NULL };
        _cleanup_json_ cJSON *tree = NULL;

        assert_int_equal(json_parse(text, strlen(text), &tree, NULL), 0);
        if (unknown)
                assert_int_equal(mask_json_unknown(tree, known, "tags"), 0);
        else
                assert_int_equal(mask_json(tree), 0);
        return cJSON_PrintUnformatted(tree);
}

static void test_json(void **state)
{
        static const struct {
                const char *text, *wanted;
                bool unknown;
        } cases[] = {
                {"{\"a\":[{\"secrets\":{\"x\":1}}],\"b\":2}",
                 "{\"a\":[{\"secrets\":\"***\"}],\"b\":2}",                                                        false},
                { "{\"a\":{\"variables\":{\"X\":\"1\",\"Y\":\"2\"}}}",
                 "{\"a\":{\"variables\":{\"X\":\"***\",\"Y\":\"***\"}}}",                                          false},
                { "{\"command\":[\"bin/x\",\"-p\",\"pw\"]}",
                 "{\"command\":[\"bin/x\",\"***\",\"***\"]}",                                                      false},
                { "{\"command\":\"5f\"}",                                                  "{\"command\":\"5f\"}", false},
                { "{\"a\":{\"a\":1,\"b\":[2]},\"c\":\"x\",\"tags\":{\"Stage\":\"prod\"}}",
                 "{\"a\":{\"a\":1,\"b\":\"***\"},\"c\":\"***\",\"tags\":{\"Stage\":\"prod\"}}",                    true },
        };

        (void) state;
        for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
                _cleanup_free_ char *result = json_masked(cases[i].text, cases[i].unknown);

                assert_string_equal(result, cases[i].wanted);
        }
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_names),        cmocka_unit_test(test_lists),
                cmocka_unit_test(test_urls),         cmocka_unit_test(test_forms),
                cmocka_unit_test(test_private_keys), cmocka_unit_test(test_open_private_key),
                cmocka_unit_test(test_lines),        cmocka_unit_test(test_cut),
                cmocka_unit_test(test_json),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
