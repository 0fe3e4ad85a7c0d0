/* SPDX-License-Identifier: Apache-2.0 */
#include "trust.h"

#include "test.h"

#define N_KEYS  4
#define EXPIRES 2110975200 /* 2036-11-22T14:00:00Z */

static Key *keys[N_KEYS];
static char hex[N_KEYS][SHA256_HEX_SIZE];

static int make_keys(void **state)
{
        (void) state;
        for (size_t i = 0; i < N_KEYS; i++) {
                assert_int_equal(key_generate(i % 2 ? KEY_ECDSA_P256 : KEY_ED25519, &keys[i]), 0);
                sha256_to_hex(key_id(keys[i]), hex[i]);
        }
        return 0;
}

static int free_keys(void **state)
{
        (void) state;
        for (size_t i = 0; i < N_KEYS; i++)
                key_free(keys[i]);
        return 0;
}

/* A trust root whose first n_keys keys may sign manifests, the last one trust roots. */
static char *make_text(size_t n_keys, unsigned threshold)
{
        _cleanup_free_ char *err = NULL;
        char *text = NULL;
        size_t size;
        int r = trust_format_first(keys, n_keys, threshold, keys + 3, 1, 1, EXPIRES, keys + 3, 1,
                                   &text, &size, &err);

        if (r < 0)
                fail_msg("%s", strempty(err));
        assert_int_equal(strlen(text), size);
        return text;
}

static Envelope *open_text(const char *text)
{
        Envelope *e = NULL;

        assert_int_equal(envelope_parse(text, strlen(text), TRUST_PAYLOAD_TYPE, &e, NULL), 0);
        return e;
}

static Trust *make(size_t n_keys, unsigned threshold)
{
        _cleanup_free_ char *text = make_text(n_keys, threshold);
        _cleanup_(envelope_freep) Envelope *e = open_text(text);
        Trust *t = NULL;

        assert_int_equal(trust_parse(e->payload, e->payload_size, &t, NULL), 0);
        return t;
}

/* A manifest signed by the keys whose numbers stand in `by`. */
static Envelope *signed_by(const char *by)
{
        Envelope *e = NULL;

        assert_int_equal(envelope_new("{\"a\":1}", 7, &e), 0);
        for (; *by; by++)
                assert_int_equal(envelope_sign(e, MANIFEST_PAYLOAD_TYPE, keys[*by - '0'], NULL), 0);
        return e;
}

static void assert_rejected(const Trust *t, const Envelope *e, const char *text)
{
        _cleanup_free_ char *err = NULL;

        assert_int_equal(trust_verify_manifest(t, e, &err), -EKEYREJECTED);
        assert_non_null(err);
        assert_string_equal(err, text);
}

static void write_root(const char *dir, const char *text)
{
        _cleanup_close_ int fd = dir_open_at(AT_FDCWD, dir);

        assert_true(fd >= 0);
        assert_int_equal(file_write_atomic_at(fd, "root.json", text, strlen(text), 0644), 0);
}

static void first_root(void **state)
{
        _cleanup_free_ char *text = make_text(2, 2), *path = NULL, *err = NULL;
        _cleanup_(envelope_freep) Envelope *e = open_text(text);
        _cleanup_(trust_freep) Trust *t = NULL;
        _cleanup_free_ uint8_t *pae = NULL;
        size_t size;

        assert_int_equal(e->n_signatures, 1);
        assert_int_equal(dsse_pae(TRUST_PAYLOAD_TYPE, e->payload, e->payload_size, &pae, &size), 0);
        assert_int_equal(
                key_verify(keys[3], pae, size, e->signatures[0].bytes, e->signatures[0].size), 0);

        assert_true(asprintf(&path, "%s/root.json", (char *) *state) > 0);
        assert_int_equal(trust_load(path, &t, &err), -ENOENT);
        assert_non_null(strstr(err, "does not exist: make one with"));
        write_root(*state, text);
        assert_int_equal(trust_load(path, &t, &err), 0);
        assert_int_equal(trust_version(t), 1);
        assert_int_equal(trust_expires_sec(t), EXPIRES);
        assert_int_equal(trust_n_manifest_keys(t), 2);
        assert_int_equal(trust_manifest_threshold(t), 2);
        for (size_t i = 0; i < 2; i++) {
                assert_true(sha256_equal(key_id(trust_manifest_key(t, i)), key_id(keys[i])));
                assert_int_equal(key_type(trust_manifest_key(t, i)), key_type(keys[i]));
        }
}

static void load_names_the_file(void **state)
{
        _cleanup_free_ char *path = NULL, *err = NULL;
        Trust *t = NULL;

        assert_true(asprintf(&path, "%s/root.json", (char *) *state) > 0);
        write_root(*state, "{}");
        assert_int_equal(trust_load(path, &t, &err), -EBADMSG);
        assert_non_null(strstr(err, path));
        assert_non_null(strstr(err, "payload: missing"));
}

static void one_of_two(void **state)
{
        _cleanup_(trust_freep) Trust *t = make(2, 1);
        static const char *const good[] = { "0", "1", "01", "10", "20", "0123", "221" };

        (void) state;
        for (size_t i = 0; i < ELEMENTSOF(good); i++) {
                _cleanup_(envelope_freep) Envelope *e = signed_by(good[i]);
                assert_int_equal(trust_verify_manifest(t, e, NULL), 0);
        }
}

static void two_of_three(void **state)
{
        _cleanup_(trust_freep) Trust *t = make(3, 2);
        static const char *const good[] = { "01", "12", "20", "012", "0313", "0011" };
        static const char *const few[] = { "0", "00", "03", "2222", "1333" };

        (void) state;
        for (size_t i = 0; i < ELEMENTSOF(good); i++) {
                _cleanup_(envelope_freep) Envelope *e = signed_by(good[i]);
                assert_int_equal(trust_verify_manifest(t, e, NULL), 0);
        }
        for (size_t i = 0; i < ELEMENTSOF(few); i++) {
                _cleanup_(envelope_freep) Envelope *e = signed_by(few[i]);
                assert_rejected(t, e, "1 of 2 needed signatures by keys of the trust root");
        }
}

/* Two signatures of one key, the second under another key's id. */
static void one_key_two_ids(void **state)
{
        _cleanup_(trust_freep) Trust *t = make(2, 2);
        _cleanup_(envelope_freep) Envelope *e = signed_by("11");
        _cleanup_free_ char *wanted = NULL;

        (void) state;
        e->signatures[1].key_id = *key_id(keys[0]);
        assert_true(asprintf(&wanted,
                             "1 of 2 needed signatures by keys of the trust root; the signature of "
                             "key %s does not match",
                             hex[0]) > 0);
        assert_rejected(t, e, wanted);
        memset(&e->signatures[1].key_id, 7, sizeof(Sha256));
        assert_rejected(t, e, "1 of 2 needed signatures by keys of the trust root");
}

/* Hints do not decide: wrong ones, and none, are verified all the same. */
static void hints_are_hints(void **state)
{
        _cleanup_(trust_freep) Trust *t = make(2, 2);
        _cleanup_(envelope_freep) Envelope *e = signed_by("01");

        (void) state;
        e->signatures[0].key_id = *key_id(keys[1]);
        memset(&e->signatures[1].key_id, 0, sizeof(Sha256));
        assert_int_equal(trust_verify_manifest(t, e, NULL), 0);
}

static void reasons(void **state)
{
        _cleanup_(trust_freep) Trust *t = make(2, 1);
        _cleanup_(envelope_freep) Envelope *none = signed_by(""), *others = signed_by("23"),
                                           *bad = signed_by("0");
        _cleanup_free_ char *unknown = NULL, *mismatch = NULL, *without = NULL;

        (void) state;
        assert_rejected(t, none, "no signature");

        assert_true(asprintf(&unknown,
                             "signed only by keys that are not in the trust root (key ids: %s, %s)",
                             hex[2], hex[3]) > 0);
        assert_rejected(t, others, unknown);
        memset(&others->signatures[1].key_id, 0, sizeof(Sha256));
        assert_true(asprintf(&without,
                             "signed only by keys that are not in the trust root (key ids: %s, one "
                             "without a key id)",
                             hex[2]) > 0);
        assert_rejected(t, others, without);

        bad->payload[6] = ']';
        assert_true(asprintf(&mismatch,
                             "signature of key %s does not match: changed after it was signed, or "
                             "signed as something else",
                             hex[0]) > 0);
        assert_rejected(t, bad, mismatch);
}

/* A manifest key's signature over the same bytes as another kind of document is worth nothing. */
static void other_type(void **state)
{
        _cleanup_(trust_freep) Trust *t = make(2, 1);
        _cleanup_(envelope_freep) Envelope *e = signed_by("");

        (void) state;
        assert_int_equal(envelope_sign(e, TRUST_PAYLOAD_TYPE, keys[0], NULL), 0);
        assert_int_equal(trust_verify_manifest(t, e, NULL), -EKEYREJECTED);
}

/* Root keys do not sign manifests. */
static void root_key_is_no_manifest_key(void **state)
{
        _cleanup_(trust_freep) Trust *t = make(2, 1);
        _cleanup_(envelope_freep) Envelope *e = signed_by("3");

        (void) state;
        assert_int_equal(trust_verify_manifest(t, e, NULL), -EKEYREJECTED);
}

static void every_changed_byte(void **state)
{
        _cleanup_(trust_freep) Trust *t = make(2, 2);
        _cleanup_(envelope_freep) Envelope *e = signed_by("01");

        (void) state;
        for (size_t i = 0; i < e->payload_size; i++) {
                e->payload[i] ^= 1;
                assert_int_equal(trust_verify_manifest(t, e, NULL), -EKEYREJECTED);
                e->payload[i] ^= 1;
        }
        e->payload_size--;
        assert_int_equal(trust_verify_manifest(t, e, NULL), -EKEYREJECTED);
        e->payload_size++;
        for (size_t i = 0; i < 2; i++) {
                e->signatures[i].bytes[10] ^= 1;
                assert_int_equal(trust_verify_manifest(t, e, NULL), -EKEYREJECTED);
                e->signatures[i].bytes[10] ^= 1;
        }
        assert_int_equal(trust_verify_manifest(t, e, NULL), 0);
}

static void assert_payload_refused(const char *payload, const char *error)
{
        _cleanup_free_ char *err = NULL;
        Trust *t = NULL;

        if (trust_parse(payload, strlen(payload), &t, &err) != -EBADMSG || !err ||
            strncmp(err, error, strlen(error)) != 0)
                fail_msg("%s: \"%s\", wanted \"%s\"", payload, strempty(err), error);
}

/* The payload with the first occurrence of a text replaced by another one. */
static void assert_change_refused(const char *from, const char *to, const char *error)
{
        _cleanup_free_ char *text = make_text(2, 1), *changed = NULL;
        _cleanup_(envelope_freep) Envelope *e = open_text(text);
        const char *at = strstr(e->payload, from);

        if (!at)
                fail_msg("%s is not in %s", from, e->payload);
        assert_true(asprintf(&changed, "%.*s%s%s", (int) (at - e->payload), e->payload, to,
                             at + strlen(from)) > 0);
        assert_payload_refused(changed, error);
}

static void payload_refused(void **state)
{
        _cleanup_free_ char *first = NULL, *role = NULL, *doubled = NULL;

        (void) state;
        assert_payload_refused("", "line 1");
        assert_payload_refused("{}", "schema: missing");
        assert_payload_refused("{\"later\":{},\"schema\":\"slipway/trust/2\"}",
                               "schema: this version knows");
        assert_change_refused("trust/1", "trust/2",
                              "schema: this version knows \"slipway/trust/1\" only; what made this "
                              "trust root may be newer");
        assert_change_refused("\"version\":1,", "", "version: missing");
        assert_change_refused("\"version\":1", "\"version\":0", "version: must be at least 1");
        assert_change_refused("\"version\":1", "\"version\":1,\"version\":1", "version: stands");
        assert_change_refused("\"version\":1", "\"version\":1,\"x\":1", "x: this version knows no");
        assert_change_refused("2036-11-22T", "2036-11-22 ", "expires: must be a time");
        assert_change_refused("\"type\":\"ed25519\"", "\"type\":\"ecdsa-p256\"",
                              "keys[0].type: the key is of type \"ed25519\"");
        assert_change_refused("\"type\":\"ed25519\"", "\"type\":\"rsa\"", "keys[0].type: must be");
        assert_change_refused("\"type\":\"ed25519\",", "", "keys[0].type: missing");
        assert_change_refused(hex[0], hex[1], "keys[0].id: is not the SHA-256");
        assert_change_refused("\"public\":\"", "\"public\":\"*", "keys[0].public: is not base64");
        assert_change_refused("\"public\":\"", "\"public\":\"AAAA", "keys[0].public: is not a");
        assert_change_refused("\"threshold\":1", "\"threshold\":0", "manifest.threshold: must be");
        assert_change_refused("\"threshold\":1", "\"threshold\":3", "manifest.threshold: must be");
        assert_change_refused("\"threshold\":1,", "", "manifest.threshold: missing");
        assert_true(asprintf(&role, "\"threshold\":1,\"keys\":[\"%s\"", hex[0]) > 0);
        assert_true(asprintf(&doubled, "\"threshold\":1,\"keys\":[\"%s\",\"%s\"", hex[0], hex[0]) >
                    0);
        assert_change_refused(role, doubled, "manifest.keys[1]: this key id stands there twice");
        assert_true(asprintf(&first, "\"threshold\":1,\"keys\":[\"%s\"", hex[2]) > 0);
        assert_change_refused(role, first, "manifest.keys[0]: this key is not in \"keys\"");
}

static void key_twice_refused(void **state)
{
        _cleanup_free_ char *text = make_text(2, 1), *changed = NULL, *err = NULL;
        _cleanup_(envelope_freep) Envelope *e = open_text(text);
        const char *start = strstr(e->payload, "{\"id\":"), *end = strchr(start, '}') + 1;
        Trust *t = NULL;

        (void) state;
        assert_true(asprintf(&changed, "%.*s,%.*s%s", (int) (end - e->payload), e->payload,
                             (int) (end - start), start, end) > 0);
        assert_int_equal(trust_parse(changed, strlen(changed), &t, &err), -EBADMSG);
        assert_string_equal(err, "keys[1]: this key stands there twice");
}

static void first_root_refused(void **state)
{
        _cleanup_free_ char *err = NULL;
        Key *twice[] = { keys[0], keys[1], keys[0] };
        char *text = NULL;
        size_t size;

        (void) state;
        assert_int_equal(
                trust_format_first(keys, 2, 3, keys, 1, 1, EXPIRES, NULL, 0, &text, &size, &err),
                -EBADMSG);
        assert_int_equal(
                trust_format_first(keys, 2, 0, keys, 1, 1, EXPIRES, NULL, 0, &text, &size, &err),
                -EBADMSG);
        assert_int_equal(
                trust_format_first(keys, 0, 1, keys, 1, 1, EXPIRES, NULL, 0, &text, &size, &err),
                -EBADMSG);
        assert_int_equal(
                trust_format_first(keys, 2, 1, keys, 1, 2, EXPIRES, NULL, 0, &text, &size, &err),
                -EBADMSG);
        assert_int_equal(
                trust_format_first(twice, 3, 2, keys, 1, 1, EXPIRES, NULL, 0, &text, &size, &err),
                -EBADMSG);
        assert_string_equal(err, "manifest.keys[2]: this key id stands there twice");
        assert_null(text);

        /* The same keys in both roles are fine. */
        assert_int_equal(
                trust_format_first(keys, 2, 1, keys, 2, 2, EXPIRES, NULL, 0, &text, &size, &err),
                0);
        free(text);
}

/* A root after `t`, or with NULL a first one, whose root keys are those from keys[first] on, signed
 * by the keys whose numbers stand in `by`. */
static Envelope *make_root(const Trust *t, size_t first, size_t n_keys, unsigned threshold,
                           const char *by)
{
        _cleanup_free_ char *text = NULL;
        char *err = NULL;
        size_t size;
        Envelope *e;
        int r = t ? trust_format_next(t, keys, 1, 1, keys + first, n_keys, threshold, EXPIRES,
                                      &text, &size, &err)
                  : trust_format_first(keys, 1, 1, keys + first, n_keys, threshold, EXPIRES, NULL,
                                       0, &text, &size, &err);

        if (r < 0)
                fail_msg("%s", strempty(err));
        e = open_text(text);
        for (; *by; by++)
                assert_int_equal(envelope_sign(e, TRUST_PAYLOAD_TYPE, keys[*by - '0'], NULL), 0);
        return e;
}

static Trust *parse(Envelope *e)
{
        Trust *t = NULL;

        assert_int_equal(trust_parse(e->payload, e->payload_size, &t, NULL), 0);
        envelope_free(e);
        return t;
}

static void assert_follows(const Trust *t, Envelope *e, Trust **ret)
{
        char *err = NULL;

        if (trust_follow(t, e, ret, &err) < 0)
                fail_msg("%s", strempty(err));
        envelope_free(e);
}

/* Words at the beginning of the error. */
static void assert_does_not_follow(const Trust *t, Envelope *e, int error, const char *words)
{
        _cleanup_free_ char *err = NULL;
        Trust *next = NULL;

        assert_int_equal(trust_follow(t, e, &next, &err), error);
        assert_null(next);
        if (!err || strncmp(err, words, strlen(words)) != 0)
                fail_msg("\"%s\", wanted \"%s\"", strempty(err), words);
        envelope_free(e);
}

/* Root keys 1 and 2 and 3, two of which must sign, give way to 2 and 3 and then to 0 alone. */
static void chain(void **state)
{
        _cleanup_(trust_freep) Trust *t = parse(make_root(NULL, 1, 3, 2, ""));
        Trust *next = NULL;

        (void) state;
        assert_int_equal(trust_n_root_keys(t), 3);
        assert_int_equal(trust_root_threshold(t), 2);
        assert_true(sha256_equal(key_id(trust_root_key(t, 2)), key_id(keys[3])));
        assert_follows(t, make_root(t, 2, 2, 2, "23"), &next);
        trust_become(t, next);
        assert_int_equal(trust_version(t), 2);
        assert_int_equal(trust_n_root_keys(t), 2);
        assert_follows(t, make_root(t, 0, 1, 1, "320"), &next);
        trust_become(t, next);
        assert_int_equal(trust_version(t), 3);
        assert_int_equal(trust_n_root_keys(t), 1);
        assert_true(sha256_equal(key_id(trust_root_key(t, 0)), key_id(keys[0])));
}

/* Of keys 0, 1 and 2 two must sign, also the next root, whose keys are 1, 2 and 3. */
static void too_few_root_keys(void **state)
{
        static const struct {
                const char *by, *words;
        } cases[] = {
                {"",    "no signature"                                                     },
                { "3",  "signed only by keys that are not root keys of version 1 (key ids:"},
                { "0",  "1 of 2 needed signatures by root keys of version 1"               },
                { "03", "1 of 2 needed signatures by root keys of version 1"               },
                { "00", "1 of 2 needed signatures by root keys of version 1"               },
                { "01", "1 of 2 needed signatures by root keys of version 2"               },
        };
        _cleanup_(trust_freep) Trust *t = parse(make_root(NULL, 0, 3, 2, ""));
        Trust *next = NULL;

        (void) state;
        for (size_t i = 0; i < ELEMENTSOF(cases); i++)
                assert_does_not_follow(t, make_root(t, 1, 3, 2, cases[i].by), -EKEYREJECTED,
                                       cases[i].words);
        /* One of the old keys is lost, and one of the new. */
        assert_follows(t, make_root(t, 1, 3, 2, "12"), &next);
        trust_free(next);
        assert_follows(t, make_root(t, 1, 3, 2, "023"), &next);
        trust_free(next);
}

/* Who may sign manifests may not sign roots. */
static void manifest_key_is_no_root_key(void **state)
{
        _cleanup_(trust_freep) Trust *t = parse(make_root(NULL, 1, 1, 1, ""));

        (void) state;
        assert_does_not_follow(t, make_root(t, 1, 1, 1, "0"), -EKEYREJECTED, "signed only by keys");
}

static void only_the_next_version(void **state)
{
        _cleanup_(trust_freep) Trust *first = parse(make_root(NULL, 0, 1, 1, "0"));
        _cleanup_(trust_freep) Trust *second = parse(make_root(first, 0, 1, 1, "0"));
        _cleanup_(trust_freep) Trust *third = parse(make_root(second, 0, 1, 1, "0"));

        (void) state;
        assert_does_not_follow(first, make_root(second, 0, 1, 1, "0"), -EKEYREJECTED,
                               "its version is 3, and only 2 can follow 1");
        assert_does_not_follow(second, make_root(first, 0, 1, 1, "0"), -EKEYREJECTED,
                               "its version is 2, and only 3 can follow 2");
        assert_does_not_follow(third, make_root(NULL, 0, 1, 1, "0"), -EKEYREJECTED,
                               "its version is 1, and only 4 can follow 3");
}

/* A manifest's signature is none under a root, also over the same bytes. */
static void root_of_another_type(void **state)
{
        _cleanup_(trust_freep) Trust *t = parse(make_root(NULL, 0, 1, 1, ""));
        Envelope *e = make_root(t, 0, 1, 1, "");

        (void) state;
        assert_int_equal(envelope_sign(e, MANIFEST_PAYLOAD_TYPE, keys[0], NULL), 0);
        assert_does_not_follow(t, e, -EKEYREJECTED, "signature of key");
}

/* Nothing is parsed that is not signed; what is signed is parsed as strictly as ever. */
static void verified_before_parsed(void **state)
{
        _cleanup_(trust_freep) Trust *t = parse(make_root(NULL, 0, 1, 1, ""));
        Envelope *e = NULL;

        (void) state;
        assert_int_equal(envelope_new("{", 1, &e), 0);
        assert_int_equal(envelope_sign(e, TRUST_PAYLOAD_TYPE, keys[1], NULL), 0);
        assert_does_not_follow(t, e, -EKEYREJECTED, "signed only by keys");
        assert_int_equal(envelope_new("{", 1, &e), 0);
        assert_int_equal(envelope_sign(e, TRUST_PAYLOAD_TYPE, keys[0], NULL), 0);
        assert_does_not_follow(t, e, -EBADMSG, "line 1");
}

static void every_changed_byte_of_a_root(void **state)
{
        _cleanup_(trust_freep) Trust *t = parse(make_root(NULL, 0, 2, 2, ""));
        Envelope *e = make_root(t, 0, 2, 2, "01");
        Trust *next = NULL;

        (void) state;
        for (size_t i = 0; i < e->payload_size; i++) {
                e->payload[i] ^= 1;
                assert_int_equal(trust_follow(t, e, &next, NULL), -EKEYREJECTED);
                e->payload[i] ^= 1;
        }
        assert_follows(t, e, &next);
        trust_free(next);
}

static void next_root_refused(void **state)
{
        _cleanup_(trust_freep) Trust *t = parse(make_root(NULL, 0, 1, 1, ""));
        _cleanup_free_ char *err = NULL;
        char *text = NULL;
        size_t size;

        (void) state;
        assert_int_equal(trust_format_next(t, keys, 1, 2, keys, 1, 1, EXPIRES, &text, &size, &err),
                         -EBADMSG);
        assert_string_equal(err, "manifest.threshold: must be 1 to the number of keys, which is 1");
        assert_null(text);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                test_in_dir(first_root),
                test_in_dir(load_names_the_file),
                cmocka_unit_test(one_of_two),
                cmocka_unit_test(two_of_three),
                cmocka_unit_test(one_key_two_ids),
                cmocka_unit_test(hints_are_hints),
                cmocka_unit_test(reasons),
                cmocka_unit_test(other_type),
                cmocka_unit_test(root_key_is_no_manifest_key),
                cmocka_unit_test(every_changed_byte),
                cmocka_unit_test(payload_refused),
                cmocka_unit_test(key_twice_refused),
                cmocka_unit_test(first_root_refused),
                cmocka_unit_test(chain),
                cmocka_unit_test(too_few_root_keys),
                cmocka_unit_test(manifest_key_is_no_root_key),
                cmocka_unit_test(only_the_next_version),
                cmocka_unit_test(root_of_another_type),
                cmocka_unit_test(verified_before_parsed),
                cmocka_unit_test(every_changed_byte_of_a_root),
                cmocka_unit_test(next_root_refused),
        };
        return cmocka_run_group_tests(tests, make_keys, free_keys);
}
