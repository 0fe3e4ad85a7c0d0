/* SPDX-License-Identifier: Apache-2.0 */
#include "test.h"

#include <stdlib.h>

#include <cJSON.h>
#include <openssl/core_names.h>
#include <openssl/evp.h>
#include <openssl/x509.h>

#include "base64.h"
#include "digest.h"
#include "dsse.h"
#include "fault-server.h"
#include "json-read.h"
#include "key-source.h"
#include "kms.h"
#include "signers.h"

/* A small KMS: it signs with libcrypto's own calls, and keeps to the limits that AWS documents. */

#define MESSAGE_MAX 4096

static FaultServer server;
static EVP_PKEY *p256, *p256_other, *ed25519, *rsa;

static void answer_json(const FaultRequest *q, int status, cJSON *json)
{
        _cleanup_free_ char *text = cJSON_PrintUnformatted(json);

        fault_answer(q, status, "Content-Type: application/x-amz-json-1.1\r\n", text, strlen(text));
        cJSON_Delete(json);
}

static bool answer_error(const FaultRequest *q, const char *code)
{
        cJSON *json = cJSON_CreateObject();

        cJSON_AddStringToObject(json, "__type", code);
        cJSON_AddStringToObject(json, "message", "it is so");
        answer_json(q, 400, json);
        return true;
}

static bool answer_text(const FaultRequest *q, const char *text)
{
        fault_answer(q, 200, "", text, strlen(text));
        return true;
}

static void add_bytes(cJSON *json, const char *name, const void *data, size_t size)
{
        _cleanup_free_ char *text = NULL;

        if (base64_encode(data, size, &text) < 0)
                abort();
        cJSON_AddStringToObject(json, name, text);
}

static const char *member(const cJSON *json, const char *name)
{
        return strempty(cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(json, name)));
}

static bool answer_public(const FaultRequest *q, EVP_PKEY *key, const char *usage)
{
        cJSON *json = cJSON_CreateObject(), *algorithms = cJSON_AddArrayToObject(json, "X");
        unsigned char *der = NULL;
        int size = i2d_PUBKEY(key, &der);

        cJSON_AddItemToArray(algorithms, cJSON_CreateString("unknown to us"));
        add_bytes(json, "PublicKey", der, (size_t) size);
        cJSON_AddStringToObject(json, "KeyUsage", usage);
        OPENSSL_free(der);
        answer_json(q, 200, json);
        return true;
}

static size_t sign_digest(EVP_PKEY *key, const uint8_t *digest, size_t size,
                          uint8_t ret[static SIGNATURE_SIZE_MAX])
{
        EVP_PKEY_CTX *context = EVP_PKEY_CTX_new(key, NULL);
        size_t n = SIGNATURE_SIZE_MAX;

        if (EVP_PKEY_sign_init(context) != 1 || EVP_PKEY_sign(context, ret, &n, digest, size) != 1)
                abort();
        EVP_PKEY_CTX_free(context);
        return n;
}

static size_t sign_raw(EVP_PKEY *key, const char *md, const uint8_t *data, size_t size,
                       uint8_t ret[static SIGNATURE_SIZE_MAX])
{
        EVP_MD_CTX *context = EVP_MD_CTX_new();
        size_t n = SIGNATURE_SIZE_MAX;

        if (EVP_DigestSignInit_ex(context, NULL, md, NULL, NULL, key, NULL) != 1 ||
            EVP_DigestSign(context, ret, &n, data, size) != 1)
                abort();
        EVP_MD_CTX_free(context);
        return n;
}

static bool answer_signature(const FaultRequest *q, EVP_PKEY *key, const cJSON *asked)
{
        const bool raw = streq(member(asked, "MessageType"), "RAW"), edwards = key == ed25519;
        const char *algorithm = edwards ? "ED25519_SHA_512" : "ECDSA_SHA_256";
        uint8_t signature[SIGNATURE_SIZE_MAX];
        _cleanup_free_ uint8_t *message = NULL;
        cJSON *json = cJSON_CreateObject();
        size_t size;

        if (!streq(member(asked, "SigningAlgorithm"), algorithm) ||
            (!raw && (edwards || !streq(member(asked, "MessageType"), "DIGEST"))) ||
            base64_decode(member(asked, "Message"), &message, &size) < 0 || size == 0 ||
            size > MESSAGE_MAX || (!raw && size != SHA256_SIZE))
                return answer_error(q, "ValidationException");
        size = raw ? sign_raw(key, edwards ? NULL : "SHA256", message, size, signature)
                   : sign_digest(key, message, size, signature);
        add_bytes(json, "Signature", signature, size);
        answer_json(q, 200, json);
        return true;
}

/* Keys whose public half can be had, and which then fail. */
static bool serve_sign(const FaultRequest *q, const char *id, const cJSON *asked)
{
        atomic_fetch_add(&fault_counts()->scratch[0], 1);
        if (streq(id, "alias/ed25519"))
                return answer_signature(q, ed25519, asked);
        if (streq(id, "alias/moved"))
                return answer_signature(q, p256_other, asked);
        if (streq(id, "alias/disabled-later"))
                return answer_error(q, "com.amazonaws.kms#DisabledException");
        if (streq(id, "alias/denied-later"))
                return answer_error(q, "AccessDeniedException");
        if (streq(id, "alias/no-json"))
                return answer_text(q, "\x01garbage");
        if (streq(id, "alias/no-signature"))
                return answer_text(q, "{\"Signature\":7}");
        if (streq(id, "alias/no-base64"))
                return answer_text(q, "{\"Signature\":\"%%%%\"}");
        if (streq(id, "alias/empty"))
                return answer_text(q, "{\"Signature\":\"\"}");
        if (streq(id, "alias/long")) {
                char text[512];
                (void) snprintf(text, sizeof(text), "{\"Signature\":\"%0400d\"}", 0);
                return answer_text(q, text);
        }
        return answer_signature(q, p256, asked);
}

static bool serve_public(const FaultRequest *q, const char *id)
{
        if (streq(id, "alias/ed25519"))
                return answer_public(q, ed25519, "SIGN_VERIFY");
        if (streq(id, "alias/rsa"))
                return answer_public(q, rsa, "SIGN_VERIFY");
        if (streq(id, "alias/agreement"))
                return answer_public(q, p256, "KEY_AGREEMENT");
        if (streq(id, "alias/symmetric"))
                return answer_error(q, "UnsupportedOperationException");
        if (streq(id, "alias/disabled"))
                return answer_error(q, "DisabledException");
        if (streq(id, "alias/deleted"))
                return answer_error(q, "KMSInvalidStateException");
        if (streq(id, "alias/none"))
                return answer_error(q, "NotFoundException");
        if (streq(id, "alias/denied"))
                return answer_error(q, "AccessDeniedException");
        if (streq(id, "alias/garbage"))
                return answer_text(q, "<html>hello</html>");
        if (streq(id, "alias/list"))
                return answer_text(q, "[]");
        if (streq(id, "alias/nothing"))
                return answer_text(q, "{\"KeyUsage\":\"SIGN_VERIFY\"}");
        if (streq(id, "alias/text"))
                return answer_text(q, "{\"KeyUsage\":\"SIGN_VERIFY\",\"PublicKey\":\"!\"}");
        if (streq(id, "alias/der"))
                return answer_text(q, "{\"KeyUsage\":\"SIGN_VERIFY\",\"PublicKey\":\"AAAA\"}");
        return answer_public(q, p256, "SIGN_VERIFY");
}

static bool serve(const FaultRequest *q)
{
        _cleanup_free_ char *target = fault_header(q, "X-Amz-Target");
        _cleanup_free_ char *authorization = fault_header(q, "Authorization");
        _cleanup_json_ cJSON *asked = NULL;

        if (json_parse(q->body, q->body_size, &asked, NULL) < 0)
                return answer_error(q, "SerializationException");
        const char *id = member(asked, "KeyId");
        /* What an ARN says of the region is what counts. */
        if (!strstr(authorization, strstr(id, "eu-west-3") ? "/eu-west-3/kms/" : "/us-east-1/kms/"))
                return answer_error(q, "InvalidSignatureException");
        return streq(target, "TrentService.Sign") ? serve_sign(q, id, asked) : serve_public(q, id);
}

static void sign_and_check(const char *name, EVP_PKEY *of, size_t size, int result,
                           const char *text)
{
        _cleanup_free_ char *data = malloc(size), *err = NULL;
        _cleanup_(key_freep) Key *k = NULL;
        uint8_t signature[SIGNATURE_SIZE_MAX];
        EVP_MD_CTX *context = EVP_MD_CTX_new();
        size_t signature_size;

        memset(data, 'x', size);
        int r = key_source_signer(name, &k, &err);
        if (r >= 0)
                r = key_sign(k, data, size, signature, &signature_size, &err);
        if (r != result)
                fail_msg("%s: %d (%s)", name, r, strempty(err));
        if (r < 0) {
                if (!strstr(strempty(err), text))
                        fail_msg("%s: '%s' has not '%s'", name, strempty(err), text);
        } else {
                assert_int_equal(EVP_DigestVerifyInit_ex(context, NULL,
                                                         of == ed25519 ? NULL : "SHA256", NULL,
                                                         NULL, of, NULL),
                                 1);
                assert_int_equal(EVP_DigestVerify(context, signature, signature_size,
                                                  (const uint8_t *) data, size),
                                 1);
        }
        EVP_MD_CTX_free(context);
}

static void signs(void **state)
{
        (void) state;
        sign_and_check("kms:alias/p256", p256, 1, 0, NULL);
        sign_and_check("kms:alias/p256", p256, MESSAGE_MAX, 0, NULL);
        sign_and_check("kms:alias/p256", p256, MESSAGE_MAX + 1, 0, NULL);
        sign_and_check("kms:alias/p256", p256, 250000, 0, NULL);
        sign_and_check("kms:1234abcd-12ab-34cd-56ef-1234567890ab", p256, 100, 0, NULL);
        sign_and_check("kms:arn:aws:kms:eu-west-3:111122223333:key/1234", p256, 100, 0, NULL);
        sign_and_check("kms:arn:aws:kms:eu-west-3:111122223333:alias/a", p256, 5000, 0, NULL);
        sign_and_check("kms:alias/ed25519", ed25519, MESSAGE_MAX, 0, NULL);
}

static void refusals(void **state)
{
        static const struct {
                const char *name;
                int result;
                const char *text;
        } table[] = {
                {"kms:",                         -EINVAL,       "kms:alias/NAME, kms:ID or kms:ARN"              },
                { "kms:arn:aws:s3:::acme",       -EINVAL,       "'arn:aws:s3:::acme' is not the ARN of a KMS"    },
                { "kms:arn:aws:kms",             -EINVAL,       "is not the ARN of a KMS key"                    },
                { "kms:arn:aws:kms::1:key/2",    -EINVAL,       "is not the ARN of a KMS key"                    },
                { "kms:arn:aws:kms:a/b:1:key/2", -EINVAL,       "'a/b' is not the name of a region"              },
                { "kms:alias/agreement",         -EOPNOTSUPP,
                 "not for signing (its usage is KEY_AGREEMENT)"                                                  },
                { "kms:alias/rsa",               -EOPNOTSUPP,   "of a kind that instances don't take"            },
                { "kms:alias/symmetric",         -EREMOTEIO,    "takes signing keys (usage SIGN_VERIFY)"         },
                { "kms:alias/disabled",          -EREMOTEIO,    "enable-key"                                     },
                { "kms:alias/deleted",           -EREMOTEIO,    "is its deletion scheduled?"                     },
                { "kms:alias/none",              -EREMOTEIO,    "no such key or alias in this account and region"},
                { "kms:alias/denied",            -EACCES,       "takes the permission kms:GetPublicKey"          },
                { "kms:alias/garbage",           -EPROTO,       "can't get the public half of the KMS key"       },
                { "kms:alias/list",              -EPROTO,       "must be an object"                              },
                { "kms:alias/nothing",           -EPROTO,       "PublicKey: missing"                             },
                { "kms:alias/text",              -EPROTO,       "is not base64"                                  },
                { "kms:alias/der",               -EPROTO,       "is not a public key in DER"                     },
                { "kms:alias/moved",             -EKEYREJECTED, "what the KMS key alias/moved gave"              },
                { "kms:alias/disabled-later",    -EREMOTEIO,
                 "can't sign with the KMS key alias/disabled-later in us-east-1: DisabledException: it "
                  "is so"                                                                                        },
                { "kms:alias/denied-later",      -EACCES,       "takes the permission kms:Sign"                  },
                { "kms:alias/no-json",           -EPROTO,       "can't sign with"                                },
                { "kms:alias/no-signature",      -EPROTO,       "makes no sense"                                 },
                { "kms:alias/no-base64",         -EPROTO,       "makes no sense"                                 },
                { "kms:alias/empty",             -EPROTO,       "makes no sense"                                 },
                { "kms:alias/long",              -EPROTO,       "makes no sense"                                 },
        };

        (void) state;
        for (size_t i = 0; i < ELEMENTSOF(table); i++)
                sign_and_check(table[i].name, p256, 100, table[i].result, table[i].text);
}

/* What KMS would refuse is not sent. */
static void ed25519_has_a_limit(void **state)
{
        const int before = server.counts->scratch[0];

        (void) state;
        sign_and_check("kms:alias/ed25519", ed25519, MESSAGE_MAX + 1, -EFBIG, "use a P-256 key");
        assert_int_equal(server.counts->scratch[0], before);
}

/* A manifest that is too long is found out before there is anything to sign. */
static void long_manifest(void **state)
{
        const char *names[] = { "kms:alias/ed25519" };
        char text[1001];
        _cleanup_(signers_done) Signers s = {};
        _cleanup_free_ char *err = NULL;
        Manifest m = {
                .app = (char *) "web",
                .channel = (char *) "prod",
                .serial = 1,
                .deployment = 1,
                .published_sec = 1,
                .expires_sec = 2,
                .release = (char *) "r1",
                .artifact = {.path = (char *) "a",  .size_bytes = 1         },
                .index = { .path = (char *) "i", .size_bytes = 1         },
                .activate = { .bake_usec = 1000000, .deadline_usec = 2000000},
        };

        (void) state;
        assert_int_equal(
                signers_load(&(Strings){ .items = names, .n_items = 1 }, NULL, NULL, &s, &err), 0);
        const int before = server.counts->scratch[0];
        assert_int_equal(signers_check(&s, &m, NULL), 0);
        memset(text, 'x', sizeof(text) - 1);
        text[sizeof(text) - 1] = '\0';
        m.source = (Source){ .repository = text, .commit = text, .ref = text, .build = text };
        assert_int_equal(signers_check(&s, &m, &err), -EFBIG);
        assert_non_null(strstr(err, "signs at most 4096 bytes"));
        assert_int_equal(server.counts->scratch[0], before);
}

static void public_half(void **state)
{
        _cleanup_(key_freep) Key *k = NULL;
        _cleanup_free_ char *err = NULL;
        const int before = server.counts->scratch[0];

        (void) state;
        assert_int_equal(key_source_public("kms:alias/p256", &k, NULL), 0);
        assert_int_equal(key_type(k), KEY_ECDSA_P256);
        assert_int_equal(server.counts->scratch[0], before);
        /* A file, though there is none. */
        assert_int_equal(key_source_public("./kms:alias", &k, &err), -ENOENT);
        assert_int_equal(key_source_signer("kmsfile", &k, &err), -ENOENT);
}

static void needs_region_and_credentials(void **state)
{
        _cleanup_free_ char *err = NULL;
        Key *k;

        (void) state;
        assert_int_equal(unsetenv("AWS_REGION"), 0);
        assert_int_equal(unsetenv("AWS_DEFAULT_REGION"), 0);
        assert_int_equal(key_source_signer("kms:alias/p256", &k, &err), -EINVAL);
        assert_non_null(strstr(err, "set AWS_REGION"));
        assert_int_equal(setenv("AWS_REGION", "us-east-1", 1), 0);
}

static EVP_PKEY *make(const char *type, const char *group)
{
        EVP_PKEY *k = group ? EVP_PKEY_Q_keygen(NULL, NULL, type, group)
                            : EVP_PKEY_Q_keygen(NULL, NULL, type);

        if (!k)
                abort();
        return k;
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(signs),
                cmocka_unit_test(refusals),
                cmocka_unit_test(ed25519_has_a_limit),
                cmocka_unit_test(long_manifest),
                cmocka_unit_test(public_half),
                cmocka_unit_test(needs_region_and_credentials),
        };
        char endpoint[64];

        p256 = make("EC", "P-256");
        p256_other = make("EC", "P-256");
        ed25519 = make("ED25519", NULL);
        rsa = EVP_PKEY_Q_keygen(NULL, NULL, "RSA", (size_t) 2048);
        fault_server_start(&server, serve);
        (void) snprintf(endpoint, sizeof(endpoint), "http://127.0.0.1:%u", server.port);
        (void) setenv("AWS_ENDPOINT_URL_KMS", endpoint, 1);
        (void) setenv("AWS_EC2_METADATA_DISABLED", "true", 1);
        (void) setenv("AWS_REGION", "us-east-1", 1);
        (void) setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE", 1);
        (void) setenv("AWS_SECRET_ACCESS_KEY", "secret", 1);
        int r = cmocka_run_group_tests(tests, NULL, NULL);
        fault_server_stop(&server);
        EVP_PKEY_free(p256);
        EVP_PKEY_free(p256_other);
        EVP_PKEY_free(ed25519);
        EVP_PKEY_free(rsa);
        return r;
}
