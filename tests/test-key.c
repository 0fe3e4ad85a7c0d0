/* SPDX-License-Identifier: Apache-2.0 */
#include "key.h"

#include "test.h"

#define GENPKEY_P256 "openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 "

/* Runs a shell command in the test's directory. */
static void sh(const char *dir, const char *command)
{
        _cleanup_free_ char *line = NULL;

        assert_true(asprintf(&line, "cd %s && { %s; } >/dev/null 2>&1", dir, command) > 0);
        if (system(line) != 0)
                fail_msg("failed: %s", command);
}

static char *in(const char *dir, const char *name)
{
        char *path = NULL;

        assert_true(asprintf(&path, "%s/%s", dir, name) > 0);
        return path;
}

static void write_file(const char *dir, const char *name, const void *data, size_t size)
{
        _cleanup_close_ int fd = dir_open_at(AT_FDCWD, dir);

        assert_true(fd >= 0);
        assert_int_equal(file_write_atomic_at(fd, name, data, size, 0600), 0);
}

static size_t read_file(const char *dir, const char *name, char **ret)
{
        _cleanup_free_ char *path = in(dir, name);
        size_t size;

        assert_int_equal(file_read_at(AT_FDCWD, path, 65536, ret, &size), 0);
        return size;
}

static Key *load(const char *dir, const char *name, bool private)
{
        _cleanup_free_ char *path = in(dir, name), *err = NULL;
        Key *k = NULL;
        int r = private ? key_load_private(path, &k, &err) : key_load_public(path, &k, &err);

        if (r < 0)
                fail_msg("%s: %s", name, strempty(err));
        return k;
}

static void assert_refused(const char *dir, const char *name, bool private, int error,
                           const char *text)
{
        _cleanup_free_ char *path = in(dir, name), *err = NULL;
        Key *k = NULL;
        int r = private ? key_load_private(path, &k, &err) : key_load_public(path, &k, &err);

        if (r != error || !err || !strstr(err, text) || !strstr(err, name))
                fail_msg("%s: %d \"%s\", wanted %d \"%s\"", name, r, strempty(err), error, text);
        assert_null(k);
}

/* Signs with openssl and checks here, then the other way round. */
static void exchange(const char *dir, bool ed25519)
{
        _cleanup_(key_freep) Key *private = load(dir, "key.pem", true),
                                 *public = load(dir, "key.pub", false),
                                 *half = load(dir, "key.pem", false);
        _cleanup_free_ char *signature = NULL, *der = NULL;
        uint8_t own[SIGNATURE_SIZE_MAX];
        size_t size, der_size;
        Sha256 id;

        size = read_file(dir, "key.der", &der);
        assert_memory_equal(key_public_der(public, &der_size), der, size);
        assert_int_equal(der_size, size);
        assert_int_equal(sha256(der, size, &id), 0);
        assert_true(sha256_equal(key_id(private), &id));
        assert_true(sha256_equal(key_id(public), &id));
        assert_true(sha256_equal(key_id(half), &id));
        assert_int_equal(key_type(half), ed25519 ? KEY_ED25519 : KEY_ECDSA_P256);

        sh(dir, "printf hello > data");
        sh(dir, ed25519 ? "openssl pkeyutl -sign -inkey key.pem -rawin -in data -out sig"
                        : "openssl dgst -sha256 -sign key.pem -out sig data");
        size = read_file(dir, "sig", &signature);
        assert_int_equal(key_verify(public, "hello", 5, (uint8_t *) signature, size), 0);

        assert_int_equal(key_sign(private, "hello", 5, own, &size, NULL), 0);
        assert_int_equal(key_sign(half, "hello", 5, own, &der_size, NULL), -EINVAL);
        write_file(dir, "sig", own, size);
        sh(dir,
           ed25519 ? "openssl pkeyutl -verify -pubin -inkey key.pub -rawin -in data -sigfile sig"
                   : "openssl dgst -sha256 -verify key.pub -signature sig data");
}

static void ed25519_from_openssl(void **state)
{
        sh(*state, "openssl genpkey -algorithm ed25519 -out key.pem &&"
                   "openssl pkey -in key.pem -pubout -out key.pub &&"
                   "openssl pkey -in key.pem -pubout -outform DER -out key.der");
        exchange(*state, true);
}

static void p256_from_openssl(void **state)
{
        sh(*state, GENPKEY_P256 "-out key.pem &&"
                                "openssl pkey -in key.pem -pubout -out key.pub &&"
                                "openssl pkey -in key.pem -pubout -outform DER -out key.der");
        exchange(*state, false);
}

/* The same key in SEC 1 form, and with a compressed point: one id. */
static void p256_other_forms(void **state)
{
        sh(*state,
           GENPKEY_P256 "-out key.pem &&"
                        "openssl ec -in key.pem -out sec1.pem &&"
                        "openssl ec -in key.pem -conv_form compressed -out compressed.pem &&"
                        "openssl ec -in key.pem -pubout -conv_form compressed -out compressed.pub");
        _cleanup_(key_freep) Key *k = load(*state, "key.pem", true);
        static const char *const others[] = { "sec1.pem", "compressed.pem", "compressed.pub" };
        for (size_t i = 0; i < ELEMENTSOF(others); i++) {
                _cleanup_(key_freep) Key *other = load(*state, others[i], false);
                assert_true(sha256_equal(key_id(k), key_id(other)));
        }
}

static void files_refused(void **state)
{
        char large[KEY_FILE_SIZE_MAX + 1];

        sh(*state, "openssl genpkey -algorithm ed25519 -aes256 -pass pass:x -out encrypted.pem;"
                   "openssl genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:1024 -out rsa.pem;"
                   "openssl pkey -in rsa.pem -pubout -out rsa.pub;"
                   "openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-384 -out p384.pem;"
                   "openssl genpkey -algorithm ed448 -out ed448.pem;"
                   "openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 "
                   "-pkeyopt ec_param_enc:explicit -out explicit.pem;"
                   "openssl genpkey -algorithm ed25519 -out key.pem;"
                   "openssl pkey -in key.pem -pubout -out key.pub;"
                   "openssl pkey -in key.pem -pubout -outform DER -out key.der;"
                   "head -c 60 key.pem > short.pem; : > empty.pem; mkfifo fifo.pem");
        assert_refused(*state, "encrypted.pem", true, -EOPNOTSUPP, "is encrypted");
        assert_refused(*state, "encrypted.pem", false, -EOPNOTSUPP, "is encrypted");
        assert_refused(*state, "rsa.pem", true, -EOPNOTSUPP, "another kind (RSA)");
        assert_refused(*state, "rsa.pub", false, -EOPNOTSUPP, "use an Ed25519 key");
        assert_refused(*state, "p384.pem", true, -EOPNOTSUPP, "another kind (secp384r1)");
        assert_refused(*state, "ed448.pem", true, -EOPNOTSUPP, "another kind (ED448)");
        assert_refused(*state, "explicit.pem", true, -EBADMSG, "unusual form");
        assert_refused(*state, "key.pub", true, -EBADMSG, "holds no private key");
        assert_refused(*state, "key.der", false, -EBADMSG, "holds no key in PEM");
        assert_refused(*state, "short.pem", true, -EBADMSG, "holds no private key");
        assert_refused(*state, "empty.pem", false, -EBADMSG, "holds no key in PEM");
        assert_refused(*state, "missing.pem", true, -ENOENT, "No such file");
        assert_refused(*state, "fifo.pem", true, -EINVAL, "not a regular file");
        memset(large, 'A', sizeof(large));
        write_file(*state, "large.pem", large, sizeof(large));
        assert_refused(*state, "large.pem", false, -EFBIG, "larger than");
}

static int from_der(const void *der, size_t size)
{
        _cleanup_(key_freep) Key *k = NULL;
        _cleanup_free_ char *err = NULL;
        int r = key_from_der(der, size, &k, &err);

        assert_true(r == 0 || err);
        return r;
}

static void der_forms(void **state)
{
        (void) state;
        for (KeyType t = 0; t < _KEY_TYPE_MAX; t++) {
                _cleanup_(key_freep) Key *k = NULL;
                uint8_t der[128] = {};
                size_t size;
                assert_int_equal(key_generate(t, &k), 0);
                assert_int_equal(key_type(k), t);
                const uint8_t *own = key_public_der(k, &size);
                memcpy(der, own, size);
                assert_int_equal(from_der(der, size), 0);
                assert_int_equal(from_der(der, size + 1), -EBADMSG);
                for (size_t i = 0; i < size; i++)
                        assert_int_equal(from_der(der, i), -EBADMSG);
                der[0] ^= 1;
                assert_int_equal(from_der(der, size), -EBADMSG);
        }
}

/* A compressed point is the same key in other bytes: it would have a second id. */
static void compressed_der_refused(void **state)
{
        _cleanup_free_ char *der = NULL;

        sh(*state, GENPKEY_P256 "-out key.pem && openssl ec -in key.pem -pubout "
                                "-conv_form compressed -outform DER -out compressed.der");
        size_t size = read_file(*state, "compressed.der", &der);
        assert_int_equal(size, 59);
        assert_int_equal(from_der(der, size), -EBADMSG);
}

static void pem_roundtrip(void **state)
{
        for (KeyType t = 0; t < _KEY_TYPE_MAX; t++) {
                _cleanup_(key_freep) Key *k = NULL, *again = NULL, *public = NULL;
                char *pem = NULL, *pub = NULL, *pem_again = NULL;
                assert_int_equal(key_generate(t, &k), 0);
                assert_int_equal(key_private_pem(k, &pem), 0);
                assert_int_equal(strncmp(pem, "-----BEGIN PRIVATE KEY-----\n", 28), 0);
                assert_int_equal(key_public_pem(k, &pub), 0);
                assert_int_equal(strncmp(pub, "-----BEGIN PUBLIC KEY-----\n", 27), 0);
                write_file(*state, "key.pem", pem, strlen(pem));
                write_file(*state, "key.pub", pub, strlen(pub));
                again = load(*state, "key.pem", true);
                public = load(*state, "key.pub", false);
                assert_true(sha256_equal(key_id(k), key_id(again)));
                assert_true(sha256_equal(key_id(k), key_id(public)));
                assert_int_equal(key_private_pem(again, &pem_again), 0);
                assert_string_equal(pem, pem_again);
                key_text_free(pem);
                key_text_free(pem_again);
                key_text_free(pub);
                assert_int_equal(key_private_pem(public, &pem), -EINVAL);
        }
        assert_null(key_text_free(NULL));
}

/* DER ECDSA-Sig-Value to the 64 bytes r||s that others use. */
static void der_to_raw(const uint8_t *der, uint8_t raw[static 64])
{
        const uint8_t *p = der + 2;

        for (size_t i = 0; i < 2; i++) {
                size_t size = p[1];
                const uint8_t *number = p + 2;
                p = number + size;
                for (; size > 32; size--)
                        number++;
                memset(raw + 32 * i, 0, 32);
                memcpy(raw + 32 * i + 32 - size, number, size);
        }
}

static void signatures_refused(void **state)
{
        (void) state;
        for (KeyType t = 0; t < _KEY_TYPE_MAX; t++) {
                _cleanup_(key_freep) Key *k = NULL, *other = NULL;
                uint8_t s[SIGNATURE_SIZE_MAX + 1] = {}, raw[64];
                size_t size;
                assert_int_equal(key_generate(t, &k), 0);
                assert_int_equal(key_generate(t, &other), 0);
                assert_int_equal(key_sign(k, "hello", 5, s, &size, NULL), 0);
                assert_true(size <= 72);
                assert_int_equal(key_verify(k, "hello", 5, s, size), 0);
                assert_int_equal(key_verify(other, "hello", 5, s, size), -EKEYREJECTED);
                assert_int_equal(key_verify(k, "hellp", 5, s, size), -EKEYREJECTED);
                assert_int_equal(key_verify(k, "hello", 4, s, size), -EKEYREJECTED);
                assert_int_equal(key_verify(k, "hello", 5, s, size + 1), -EKEYREJECTED);
                for (size_t i = 0; i < size; i++)
                        assert_int_equal(key_verify(k, "hello", 5, s, i), -EKEYREJECTED);
                assert_int_equal(key_verify(k, "hello", 5, s, SIGNATURE_SIZE_MAX + 1),
                                 -EKEYREJECTED);
                for (size_t i = 0; i < size; i++) {
                        s[i] ^= 0x80;
                        assert_int_equal(key_verify(k, "hello", 5, s, size), -EKEYREJECTED);
                        s[i] ^= 0x80;
                }
                if (t == KEY_ECDSA_P256) {
                        der_to_raw(s, raw);
                        assert_int_equal(key_verify(k, "hello", 5, raw, 64), -EKEYREJECTED);
                }
        }
}

/* The empty message of RFC 8032, section 7.1, test 1. */
static void rfc8032_vector(void **state)
{
        static const uint8_t der[] = {
                0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21,
                0x00, 0xd7, 0x5a, 0x98, 0x01, 0x82, 0xb1, 0x0a, 0xb7, 0xd5, 0x4b,
                0xfe, 0xd3, 0xc9, 0x64, 0x07, 0x3a, 0x0e, 0xe1, 0x72, 0xf3, 0xda,
                0xa6, 0x23, 0x25, 0xaf, 0x02, 0x1a, 0x68, 0xf7, 0x07, 0x51, 0x1a,
        };
        static const uint8_t signature[] = {
                0xe5, 0x56, 0x43, 0x00, 0xc3, 0x60, 0xac, 0x72, 0x90, 0x86, 0xe2, 0xcc, 0x80,
                0x6e, 0x82, 0x8a, 0x84, 0x87, 0x7f, 0x1e, 0xb8, 0xe5, 0xd9, 0x74, 0xd8, 0x73,
                0xe0, 0x65, 0x22, 0x49, 0x01, 0x55, 0x5f, 0xb8, 0x82, 0x15, 0x90, 0xa3, 0x3b,
                0xac, 0xc6, 0x1e, 0x39, 0x70, 0x1c, 0xf9, 0xb4, 0x6b, 0xd2, 0x5b, 0xf5, 0xf0,
                0x59, 0x5b, 0xbe, 0x24, 0x65, 0x51, 0x41, 0x43, 0x8e, 0x7a, 0x10, 0x0b,
        };
        _cleanup_(key_freep) Key *k = NULL;

        (void) state;
        assert_int_equal(key_from_der(der, sizeof(der), &k, NULL), 0);
        assert_int_equal(key_verify(k, "", 0, signature, sizeof(signature)), 0);
}

/* Someone else with the private half, who may sign with another one. */
typedef struct Holder {
        KeyHolder holder;
        Key *private;
        bool *freed;
} Holder;

static int holder_sign(KeyHolder *h, const void *data, size_t size,
                       uint8_t ret_signature[static SIGNATURE_SIZE_MAX], size_t *ret_size,
                       char **reterr)
{
        const Holder *holder = (Holder *) h;

        if (size == 0)
                return err_set(reterr, "nothing to sign"), -EREMOTEIO;
        return key_sign(holder->private, data, size, ret_signature, ret_size, reterr);
}

static KeyHolder *holder_free(KeyHolder *h)
{
        Holder *holder = (Holder *) h;

        *holder->freed = true;
        key_free(holder->private);
        free(holder);
        return NULL;
}

/* The public half of `of`, with a holder who signs with `by` and takes it over. */
static Key *held_key(const Key *of, Key *by, bool *freed)
{
        Holder *holder = malloc(sizeof(Holder));
        const uint8_t *der;
        size_t size;
        Key *k;

        *holder = (Holder){
                .holder = {"the holder", SIZE_MAX, holder_sign, holder_free},
                .private = by,
                .freed = freed
        };
        der = key_public_der(of, &size);
        assert_int_equal(key_from_der(der, size, &k, NULL), 0);
        key_set_holder(k, &holder->holder);
        return k;
}

static void held_elsewhere(void **state)
{
        _cleanup_(key_freep) Key *other = NULL, *false_key = NULL;
        _cleanup_free_ char *err = NULL;
        uint8_t s[SIGNATURE_SIZE_MAX];
        bool freed = false, false_freed = false;
        size_t size = 0;
        Key *by, *own, *k;

        (void) state;
        assert_int_equal(key_generate(KEY_ECDSA_P256, &by), 0);
        k = held_key(by, by, &freed);
        assert_int_equal(key_sign(k, "hello", 5, s, &size, &err), 0);
        assert_int_equal(key_verify(k, "hello", 5, s, size), 0);
        assert_int_equal(key_sign(k, "", 0, s, &size, &err), -EREMOTEIO);
        assert_string_equal(err, "nothing to sign");
        assert_false(freed);
        key_free(k);
        assert_true(freed);

        assert_int_equal(key_generate(KEY_ECDSA_P256, &other), 0);
        assert_int_equal(key_generate(KEY_ECDSA_P256, &own), 0);
        false_key = held_key(other, own, &false_freed);
        size = 1000;
        assert_int_equal(key_sign(false_key, "hello", 5, s, &size, &err), -EKEYREJECTED);
        assert_string_equal(err,
                            "what the holder gave as a signature is not one by its public key");
        assert_int_equal(size, 1000);
}

static void type_names(void **state)
{
        (void) state;
        for (KeyType t = 0; t < _KEY_TYPE_MAX; t++)
                assert_int_equal(key_type_from_string(key_type_to_string(t)), t);
        assert_true(key_type_from_string("rsa") < 0);
        assert_null(key_type_to_string(_KEY_TYPE_MAX));
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                test_in_dir(ed25519_from_openssl), test_in_dir(p256_from_openssl),
                test_in_dir(p256_other_forms),     test_in_dir(files_refused),
                cmocka_unit_test(der_forms),       test_in_dir(compressed_der_refused),
                test_in_dir(pem_roundtrip),        cmocka_unit_test(signatures_refused),
                cmocka_unit_test(rfc8032_vector),  cmocka_unit_test(type_names),
                cmocka_unit_test(held_elsewhere),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
