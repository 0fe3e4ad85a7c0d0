/* SPDX-License-Identifier: Apache-2.0 */
#include "key.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

#include <openssl/bio.h>
#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509.h>

#include "err.h"
#include "fd.h"

#define PUBLIC_DER_SIZE_MAX 91
#define KIND_SIZE           64

struct Key {
        EVP_PKEY *pkey;
        KeyType type;
        bool has_private;
        KeyHolder *holder; /* NULL: nobody else signs for it */
        Sha256 id;
        uint8_t public_der[PUBLIC_DER_SIZE_MAX];
        size_t public_der_size;
};

/* What SubjectPublicKeyInfo holds before the key's own bytes: each type has one form. */
static const struct {
        const char *name;
        size_t head_size, size;
        uint8_t head[27];
} types[_KEY_TYPE_MAX] = {
  /* RFC 8410: OID 1.3.101.112, 32 bytes */
        [KEY_ED25519] = {"ed25519",
                         12,                44,
                         { 0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21,
                            0x00 }                                                                                                      },
 /* RFC 5480: id-ecPublicKey, secp256r1, uncompressed point (04), two times 32 bytes */
        [KEY_ECDSA_P256] = { "ecdsa-p256", 27, 91, { 0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a,
                                                     0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06,
                                                     0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03,
                                                     0x01, 0x07, 0x03, 0x42, 0x00, 0x04 }},
};

#define ADVICE                                                              \
        "use an Ed25519 key (`openssl genpkey -algorithm ed25519`) or one " \
        "on P-256 (`openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256`)"

static void bio_freep(BIO **b)
{
        BIO_free(*b);
}

static void md_ctx_freep(EVP_MD_CTX **c)
{
        EVP_MD_CTX_free(*c);
}

/* libcrypto's queue of errors belongs to the thread and would turn up in some later report. */
static void clear_errorsp(_unused_ int *dummy)
{
        ERR_clear_error();
}
#define _clear_errors_ _cleanup_(clear_errorsp) _unused_ int _dummy = 0

const char *key_type_to_string(KeyType t)
{
        return t >= 0 && t < _KEY_TYPE_MAX ? types[t].name : NULL;
}

KeyType key_type_from_string(const char *s)
{
        for (KeyType t = 0; t < _KEY_TYPE_MAX; t++)
                if (streq(types[t].name, s))
                        return t;
        return _KEY_TYPE_INVALID;
}

/* The key's type; otherwise, `kind` is what to call it in a message. */
static KeyType type_of(EVP_PKEY *pkey, char kind[static KIND_SIZE])
{
        const char *name = EVP_PKEY_get0_type_name(pkey);

        snprintf(kind, KIND_SIZE, "%s", name ? name : "unknown");
        if (EVP_PKEY_is_a(pkey, "ED25519"))
                return KEY_ED25519;
        if (EVP_PKEY_is_a(pkey, "EC") &&
            EVP_PKEY_get_group_name(pkey, kind, KIND_SIZE, NULL) == 1 &&
            streq(kind, SN_X9_62_prime256v1))
                return KEY_ECDSA_P256;
        return _KEY_TYPE_INVALID;
}

/* Fills in the public half. -EBADMSG: it is not in the form that ids are made of. */
static int fill_public_der(Key *k)
{
        _cleanup_(bio_freep) BIO *bio = BIO_new(BIO_s_mem());
        char *der;
        long size;

        if (!bio || i2d_PUBKEY_bio(bio, k->pkey) != 1)
                return -ENOMEM;
        size = BIO_get_mem_data(bio, &der);
        if (size != (long) types[k->type].size ||
            memcmp(der, types[k->type].head, types[k->type].head_size) != 0)
                return -EBADMSG;
        memcpy(k->public_der, der, (size_t) size);
        k->public_der_size = (size_t) size;
        return sha256(der, (size_t) size, &k->id);
}

/* Takes over the EVP_PKEY. */
static int key_wrap(EVP_PKEY *pkey, bool has_private, Key **ret, char **reterr)
{
        _cleanup_(key_freep) Key *k = calloc(1, sizeof(Key));
        char kind[KIND_SIZE];
        int r;

        if (!k) {
                EVP_PKEY_free(pkey);
                return -ENOMEM;
        }
        k->pkey = pkey;
        k->has_private = has_private;
        k->type = type_of(pkey, kind);
        if (k->type < 0)
                return fail(reterr, -EOPNOTSUPP, "holds a key of another kind (%s): " ADVICE, kind);
        if (k->type == KEY_ECDSA_P256 &&
            EVP_PKEY_set_utf8_string_param(pkey, OSSL_PKEY_PARAM_EC_POINT_CONVERSION_FORMAT,
                                           OSSL_PKEY_EC_POINT_CONVERSION_FORMAT_UNCOMPRESSED) != 1)
                return -ENOMEM;
        r = fill_public_der(k);
        if (r == -EBADMSG)
                return fail(reterr, r,
                            "holds a key in an unusual form (curve by parameters?): " ADVICE);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(k);
        return 0;
}

Key *key_free(Key *k)
{
        if (!k)
                return NULL;
        if (k->holder)
                (void) k->holder->free(k->holder);
        EVP_PKEY_free(k->pkey);
        free(k);
        return NULL;
}

void key_set_holder(Key *k, KeyHolder *h)
{
        k->holder = h;
}

int key_generate(KeyType type, Key **ret)
{
        _clear_errors_;
        EVP_PKEY *pkey = type == KEY_ED25519
                                 ? EVP_PKEY_Q_keygen(NULL, NULL, "ED25519")
                                 : EVP_PKEY_Q_keygen(NULL, NULL, "EC", SN_X9_62_prime256v1);

        return pkey ? key_wrap(pkey, true, ret, NULL) : -EIO;
}

int key_from_der(const void *der, size_t size, Key **ret, char **reterr)
{
        _cleanup_(key_freep) Key *k = NULL;
        _clear_errors_;
        const unsigned char *p = der;
        EVP_PKEY *pkey;
        int r;

        if (size > KEY_FILE_SIZE_MAX)
                return fail(reterr, -EBADMSG, "is not a public key in DER");
        pkey = d2i_PUBKEY(NULL, &p, (long) size);
        if (!pkey)
                return fail(reterr, -EBADMSG, "is not a public key in DER");
        r = key_wrap(pkey, false, &k, reterr);
        if (r < 0)
                return r;
        if (k->public_der_size != size || memcmp(k->public_der, der, size) != 0)
                return fail(reterr, -EBADMSG,
                            "is not in the one form of a public key (compressed, or bytes follow)");
        *ret = TAKE_PTR(k);
        return 0;
}

/* A key file's text, on the stack so that no copy of it stays behind in freed memory. */
typedef struct KeyText {
        char data[KEY_FILE_SIZE_MAX];
        size_t size;
} KeyText;

static void key_text_wipep(KeyText *t)
{
        OPENSSL_cleanse(t, sizeof(*t));
}

static int key_text_read(const char *path, KeyText *t, char **reterr)
{
        _cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
        struct stat st;
        int r;

        if (fd < 0 || fstat(fd, &st) < 0)
                return fail_errno(reterr, -errno, "key file %s", path);
        if (!S_ISREG(st.st_mode))
                return fail(reterr, -EINVAL, "key file %s is not a regular file", path);
        if (st.st_size > KEY_FILE_SIZE_MAX)
                return fail(reterr, -EFBIG, "key file %s is larger than %d bytes: not a key", path,
                            KEY_FILE_SIZE_MAX);
        t->size = (size_t) st.st_size;
        r = fd_pread_exactly(fd, t->data, t->size, 0);
        return r < 0 ? fail_errno(reterr, r, "key file %s", path) : 0;
}

/* Asked by libcrypto when a key is encrypted: there is nobody to type. */
static int on_passphrase(_unused_ char *buffer, _unused_ int size, _unused_ int writing,
                         void *userdata)
{
        *(bool *) userdata = true;
        return -1;
}

static EVP_PKEY *pem_read(const KeyText *t, bool private, bool *ret_encrypted)
{
        _cleanup_(bio_freep) BIO *bio = BIO_new_mem_buf(t->data, (int) t->size);

        if (!bio)
                return NULL;
        return private ? PEM_read_bio_PrivateKey(bio, NULL, on_passphrase, ret_encrypted)
                       : PEM_read_bio_PUBKEY(bio, NULL, on_passphrase, ret_encrypted);
}

static int load_private(const char *path, const KeyText *t, Key **ret, char **reterr)
{
        bool encrypted = false;
        EVP_PKEY *pkey = pem_read(t, true, &encrypted);
        int r;

        if (encrypted)
                return fail(reterr, -EOPNOTSUPP,
                            "key file %s is encrypted: keep the key where only the signer can read "
                            "it, and decrypt it with `openssl pkey -in FILE -out NEWFILE`",
                            path);
        if (!pkey)
                return fail(reterr, -EBADMSG, "key file %s holds no private key in PEM", path);
        r = key_wrap(pkey, true, ret, reterr);
        return r < 0 ? fail_prefix(reterr, r, "key file %s", path) : 0;
}

int key_load_private(const char *path, Key **ret, char **reterr)
{
        _cleanup_(key_text_wipep) KeyText t = {};
        _clear_errors_;
        int r = key_text_read(path, &t, reterr);

        return r < 0 ? r : load_private(path, &t, ret, reterr);
}

int key_load_public(const char *path, Key **ret, char **reterr)
{
        _cleanup_(key_text_wipep) KeyText t = {};
        _cleanup_(key_freep) Key *k = NULL;
        _clear_errors_;
        bool encrypted = false;
        EVP_PKEY *pkey;
        int r = key_text_read(path, &t, reterr);

        if (r < 0)
                return r;
        pkey = pem_read(&t, false, &encrypted);
        if (pkey) {
                r = key_wrap(pkey, false, ret, reterr);
                return r < 0 ? fail_prefix(reterr, r, "key file %s", path) : 0;
        }
        r = load_private(path, &t, &k, reterr);
        if (r == -EBADMSG && !memmem(t.data, t.size, "PRIVATE KEY", STRLEN("PRIVATE KEY")))
                return fail(reterr, r, "key file %s holds no key in PEM", path);
        if (r < 0)
                return r;
        return key_from_der(k->public_der, k->public_der_size, ret, reterr);
}

KeyType key_type(const Key *k)
{
        return k->type;
}

const Sha256 *key_id(const Key *k)
{
        return &k->id;
}

const uint8_t *key_public_der(const Key *k, size_t *ret_size)
{
        *ret_size = k->public_der_size;
        return k->public_der;
}

/* The bytes of a memory BIO as a string. The BIO wipes its own copies. */
static int bio_take_text(BIO *bio, char **ret)
{
        char *data, *text;
        long size = BIO_get_mem_data(bio, &data);

        text = size > 0 ? strndup(data, (size_t) size) : NULL;
        if (!text)
                return -ENOMEM;
        *ret = text;
        return 0;
}

int key_private_pem(const Key *k, char **ret)
{
        _cleanup_(bio_freep) BIO *bio = BIO_new(BIO_s_mem());
        _clear_errors_;

        if (!k->has_private)
                return -EINVAL;
        if (!bio || PEM_write_bio_PKCS8PrivateKey(bio, k->pkey, NULL, NULL, 0, NULL, NULL) != 1)
                return -ENOMEM;
        return bio_take_text(bio, ret);
}

int key_public_pem(const Key *k, char **ret)
{
        _cleanup_(bio_freep) BIO *bio = BIO_new(BIO_s_mem());
        _clear_errors_;

        if (!bio || PEM_write_bio_PUBKEY(bio, k->pkey) != 1)
                return -ENOMEM;
        return bio_take_text(bio, ret);
}

char *key_text_free(char *pem)
{
        if (pem)
                OPENSSL_cleanse(pem, strlen(pem));
        free(pem);
        return NULL;
}

/* Ed25519 has its digest built in. */
static const char *digest_of(const Key *k)
{
        return k->type == KEY_ED25519 ? NULL : "SHA256";
}

int key_check_size(const Key *k, size_t size, char **reterr)
{
        if (!k->holder || size <= k->holder->size_max)
                return 0;
        return fail(reterr, -EFBIG,
                    "%s signs at most %zu bytes, and these are %zu: use a P-256 key, which has no "
                    "such limit",
                    k->holder->name, k->holder->size_max, size);
}

/* A signature from outside is judged before anyone builds on it. */
static int sign_by_holder(const Key *k, const void *data, size_t size,
                          uint8_t ret_signature[static SIGNATURE_SIZE_MAX], size_t *ret_size,
                          char **reterr)
{
        uint8_t signature[SIGNATURE_SIZE_MAX];
        size_t signature_size;
        int r = key_check_size(k, size, reterr);

        if (r >= 0)
                r = k->holder->sign(k->holder, data, size, signature, &signature_size, reterr);
        if (r < 0)
                return r;
        r = key_verify(k, data, size, signature, signature_size);
        if (r == -EKEYREJECTED)
                return fail(reterr, r, "what %s gave as a signature is not one by its public key",
                            k->holder->name);
        if (r < 0)
                return r;
        memcpy(ret_signature, signature, signature_size);
        *ret_size = signature_size;
        return 0;
}

int key_sign(const Key *k, const void *data, size_t size,
             uint8_t ret_signature[static SIGNATURE_SIZE_MAX], size_t *ret_size, char **reterr)
{
        _cleanup_(md_ctx_freep) EVP_MD_CTX *context = EVP_MD_CTX_new();
        _clear_errors_;
        size_t signature_size = SIGNATURE_SIZE_MAX;

        if (k->holder)
                return sign_by_holder(k, data, size, ret_signature, ret_size, reterr);
        if (!k->has_private)
                return fail(reterr, -EINVAL, "a public key alone can't sign");
        if (!context)
                return -ENOMEM;
        if (EVP_DigestSignInit_ex(context, NULL, digest_of(k), NULL, NULL, k->pkey, NULL) != 1 ||
            EVP_DigestSign(context, ret_signature, &signature_size, data, size) != 1)
                return fail(reterr, -EIO, "libcrypto can't sign");
        *ret_size = signature_size;
        return 0;
}

int key_verify(const Key *k, const void *data, size_t size, const uint8_t *signature,
               size_t signature_size)
{
        _cleanup_(md_ctx_freep) EVP_MD_CTX *context = EVP_MD_CTX_new();
        _clear_errors_;

        if (signature_size == 0 || signature_size > SIGNATURE_SIZE_MAX)
                return -EKEYREJECTED;
        if (!context ||
            EVP_DigestVerifyInit_ex(context, NULL, digest_of(k), NULL, NULL, k->pkey, NULL) != 1)
                return -ENOMEM;
        return EVP_DigestVerify(context, signature, signature_size, data, size) == 1
                       ? 0
                       : -EKEYREJECTED;
}
