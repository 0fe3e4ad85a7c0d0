/* SPDX-License-Identifier: Apache-2.0 */
#include "kept-root.h"

#include "test.h"

#define EXPIRES 2110975200 /* 2036-11-22T14:00:00Z */

static Key *key;

static int make_key(void **state)
{
        (void) state;
        return key_generate(KEY_ED25519, &key);
}

static int free_key(void **state)
{
        (void) state;
        key_free(key);
        return 0;
}

/* The text of a chain's root with this version, all whose roots say the same. */
static char *make_text(uint64_t version)
{
        Trust *t = NULL;
        char *text = NULL;
        size_t size;

        assert_return_code(
                trust_format_first(&key, 1, 1, &key, 1, 1, EXPIRES, NULL, 0, &text, &size, NULL),
                0);
        for (uint64_t i = 1; i < version; i++) {
                _cleanup_(envelope_freep) Envelope *e = NULL;
                assert_return_code(envelope_parse(text, strlen(text), TRUST_PAYLOAD_TYPE, &e, NULL),
                                   0);
                assert_return_code(trust_parse(e->payload, e->payload_size, &t, NULL), 0);
                free(text);
                assert_return_code(
                        trust_format_next(t, &key, 1, 1, &key, 1, 1, EXPIRES, &text, &size, NULL),
                        0);
                t = trust_free(t);
        }
        return text;
}

static void write_text(const char *dir, const char *name, const char *text)
{
        _cleanup_close_ int fd = dir_open_at(AT_FDCWD, dir);

        assert_return_code(fd, 0);
        assert_return_code(file_write_atomic_at(fd, name, text, strlen(text), 0600), 0);
}

static void write_root(const char *dir, const char *name, uint64_t version)
{
        _cleanup_free_ char *text = make_text(version);

        write_text(dir, name, text);
}

/* The version that counts, whether it is to be kept, and what is said. */
static void assert_loads(const char *dir, uint64_t version, bool is_new, const char *words)
{
        _cleanup_free_ char *path = NULL, *trouble = NULL, *err = NULL;
        _cleanup_(envelope_freep) Envelope *e = NULL;
        _cleanup_(trust_freep) Trust *t = NULL;

        assert_true(asprintf(&path, "%s/root.json", dir) > 0);
        if (kept_root_load(path, dir, &t, &e, &trouble, &err) < 0)
                fail_msg("%s", strempty(err));
        assert_int_equal(trust_version(t), version);
        assert_int_equal(e != NULL, is_new);
        if (words ? !trouble || !strstr(trouble, words) : trouble != NULL)
                fail_msg("\"%s\", wanted \"%s\"", strempty(trouble), strempty(words));
}

static void higher_version_counts(void **state)
{
        static const struct {
                uint64_t image, kept, counts;
                bool is_new;
        } cases[] = {
                {1,  0, 1, false},
                { 1, 1, 1, false},
                { 2, 0, 2, true },
                { 1, 2, 2, false},
                { 2, 2, 2, false},
                { 3, 2, 3, true },
                { 2, 3, 3, false},
        };
        _cleanup_close_ int fd = dir_open_at(AT_FDCWD, *state);

        assert_return_code(fd, 0);
        for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
                write_root(*state, "root.json", cases[i].image);
                if (cases[i].kept > 0)
                        write_root(*state, KEPT_ROOT_NAME, cases[i].kept);
                assert_loads(*state, cases[i].counts, cases[i].is_new, NULL);
                (void) unlinkat(fd, KEPT_ROOT_NAME, 0);
        }
}

static void what_is_kept_can_be_loaded(void **state)
{
        _cleanup_close_ int fd = dir_open_at(AT_FDCWD, *state);
        _cleanup_(envelope_freep) Envelope *e = NULL;
        _cleanup_free_ char *text = make_text(4);

        assert_return_code(fd, 0);
        write_root(*state, "root.json", 1);
        assert_return_code(envelope_parse(text, strlen(text), TRUST_PAYLOAD_TYPE, &e, NULL), 0);
        assert_return_code(kept_root_save(fd, e), 0);
        assert_loads(*state, 4, false, NULL);
}

static void damage_is_said(void **state)
{
        write_root(*state, "root.json", 2);
        write_text(*state, KEPT_ROOT_NAME, "{");
        assert_loads(*state, 2, true, "what was learned of trust roots is lost");
}

static void image_must_have_one(void **state)
{
        _cleanup_free_ char *path = NULL, *trouble = NULL, *err = NULL;
        Envelope *e = NULL;
        Trust *t = NULL;

        write_root(*state, KEPT_ROOT_NAME, 2);
        assert_true(asprintf(&path, "%s/root.json", (char *) *state) > 0);
        assert_int_equal(kept_root_load(path, *state, &t, &e, &trouble, &err), -ENOENT);
        assert_non_null(err);
        assert_null(t);
        assert_null(e);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                test_in_dir(higher_version_counts),
                test_in_dir(what_is_kept_can_be_loaded),
                test_in_dir(damage_is_said),
                test_in_dir(image_must_have_one),
        };
        return cmocka_run_group_tests(tests, make_key, free_key);
}
