/* SPDX-License-Identifier: Apache-2.0 */
#include "kms.h"

#include <stdio.h>

#include "aws-call.h"
#include "aws-environment.h"
#include "base64.h"
#include "digest.h"
#include "err.h"
#include "json-read.h"

#define KEY_NAME_SIZE_MAX  2048
#define ARN_PARTS          6
#define PUBLIC_KEY_B64_MAX 16384
#define SIGNATURE_B64_MAX  1024

static const AwsService kms = { "kms", AWS_JSON, "TrentService" };

static const char *const algorithms[_KEY_TYPE_MAX] = {
        [KEY_ED25519] = "ED25519_SHA_512",
        [KEY_ECDSA_P256] = "ECDSA_SHA_256",
};

#define TITLE "the KMS key "

#define ADVICE                                                                                \
        "Slipway takes signing keys (usage SIGN_VERIFY) of the spec ECC_NIST_P256 (`aws kms " \
        "create-key --key-usage SIGN_VERIFY --key-spec ECC_NIST_P256`) or ECC_NIST_EDWARDS25519"

/* clang-format off */
static const AwsHint hints[] = {
        { "NotFoundException", "there is no such key or alias in this account and region; another "
                               "account's takes its whole ARN" },
        { "InvalidArnException", "use the ARN of a key or of an alias" },
        { "DisabledException", "someone disabled this key: `aws kms enable-key` undoes that" },
        { "KMSInvalidStateException", "the key is not usable now (is its deletion scheduled?)" },
        { "UnsupportedOperationException", ADVICE },
        { "InvalidKeyUsageException", ADVICE },
        {}
};
/* clang-format on */

typedef struct KmsKey {
        KeyHolder holder;
        Http *http;
        CredentialsSource *credentials;
        AwsClient *client;
        char *title;      /* "the KMS key NAME" */
        const char *name; /* in it */
        KeyType type;
} KmsKey;

static KmsKey *kms_key_free(KmsKey *k)
{
        if (!k)
                return NULL;
        (void) aws_client_free(k->client);
        (void) credentials_source_free(k->credentials);
        (void) http_free(k->http);
        free(k->title);
        free(k);
        return NULL;
}
DEFINE_CLEANUP_FUNC(KmsKey *, kms_key_free);

static KeyHolder *on_free(KeyHolder *h)
{
        (void) kms_key_free((KmsKey *) h);
        return NULL;
}

/* The region of "arn:PARTITION:kms:REGION:ACCOUNT:RESOURCE"; NULL if it is no ARN. */
static int find_region(const char *name, char **ret, char **reterr)
{
        const char *parts[ARN_PARTS] = { name };
        size_t n = 1;

        if (strncmp(name, "arn:", 4) != 0) {
                *ret = NULL;
                return 0;
        }
        for (const char *p = name; n < ARN_PARTS && (p = strchr(p, ':')); p++)
                parts[n++] = p + 1;
        if (n < ARN_PARTS || strncmp(parts[2], "kms:", 4) != 0 || parts[3][0] == ':')
                return fail(reterr, -EINVAL,
                            "'%s' is not the ARN of a KMS key "
                            "(arn:aws:kms:REGION:ACCOUNT:key/ID, or alias/NAME at its end)",
                            name);
        *ret = strndup(parts[3], (size_t) (parts[4] - 1 - parts[3]));
        return *ret ? 0 : -ENOMEM;
}

static int kms_key_new(const char *name, KmsKey **ret, char **reterr)
{
        _cleanup_(kms_key_freep) KmsKey *k = calloc(1, sizeof(KmsKey));
        _cleanup_free_ char *region = NULL;
        int r;

        if (!k)
                return -ENOMEM;
        if (!*name || strlen(name) > KEY_NAME_SIZE_MAX)
                return fail(reterr, -EINVAL,
                            "a KMS key is given as kms:alias/NAME, kms:ID or kms:ARN");
        if (asprintf(&k->title, TITLE "%s", name) < 0)
                return k->title = NULL, -ENOMEM;
        k->name = k->title + STRLEN(TITLE);
        r = find_region(name, &region, reterr);
        if (r >= 0)
                r = http_new(aws_environment("AWS_CA_BUNDLE"), &k->http);
        if (r >= 0)
                r = credentials_source_new(&k->credentials, reterr);
        if (r >= 0)
                r = aws_client_new(&kms, region, k->http, k->credentials, k->credentials,
                                   &k->client, reterr);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(k);
        return 0;
}

/* A call about this key: adds KeyId to `json`, and gives the answer's object. */
static int ask(KmsKey *k, const char *action, const char *what, cJSON *json, cJSON **ret,
               char **reterr)
{
        _cleanup_free_ char *text = NULL, *answer = NULL, *doing = NULL;
        size_t size;
        int r;

        if (!cJSON_AddStringToObject(json, "KeyId", k->name))
                return -ENOMEM;
        text = cJSON_PrintUnformatted(json);
        if (!text ||
            asprintf(&doing, "%s %s in %s", what, k->title, aws_client_region(k->client)) < 0) {
                doing = NULL;
                return -ENOMEM;
        }
        r = aws_call(k->client,
                     &(AwsRequest){ .action = action, .what = doing, .json = text, .hints = hints },
                     &answer, &size, reterr);
        if (r < 0)
                return r;
        r = json_parse(answer, size, ret, reterr);
        return r < 0 ? fail_prefix(reterr, -EPROTO, "can't %s: the answer", doing) : 0;
}

typedef struct PublicAnswer {
        char *public_key, *usage;
} PublicAnswer;

static void public_answer_done(PublicAnswer *a)
{
        free(a->public_key);
        free(a->usage);
}

static int parse_base64(const cJSON *v, const char *path, void *target, char **reterr)
{
        char **field = target;
        int r = json_check_text(v, path, 1, PUBLIC_KEY_B64_MAX, reterr);

        if (r < 0)
                return r;
        free(*field);
        *field = strdup(v->valuestring);
        return *field ? 0 : -ENOMEM;
}

static const JsonField public_fields[] = {
        {"PublicKey",            parse_base64, offsetof(PublicAnswer, public_key), true },
        { "KeyUsage", json_parse_string, offsetof(PublicAnswer, usage), true },
        {           }
};

static int judge_public(const KmsKey *k, const PublicAnswer *a, Key **ret, char **reterr)
{
        _cleanup_free_ uint8_t *der = NULL;
        size_t size;
        int r;

        if (!streq(a->usage, "SIGN_VERIFY"))
                return fail(reterr, -EOPNOTSUPP, "%s is not for signing (its usage is %s): " ADVICE,
                            k->title, a->usage);
        r = base64_decode(a->public_key, &der, &size);
        if (r == -EBADMSG)
                return fail(reterr, -EPROTO, "what KMS sent as the public half of %s is not base64",
                            k->title);
        if (r < 0)
                return r;
        r = key_from_der(der, size, ret, reterr);
        if (r == -EOPNOTSUPP)
                return fail(reterr, r, "%s is of a kind that instances don't take: " ADVICE,
                            k->title);
        return r < 0 ? fail_prefix(reterr, -EPROTO, "what KMS sent as the public half of %s",
                                   k->title)
                     : 0;
}

static int get_public(KmsKey *k, Key **ret, char **reterr)
{
        _cleanup_(public_answer_done) PublicAnswer answer = {};
        _cleanup_json_ cJSON *json = cJSON_CreateObject(), *reply = NULL;
        int r;

        if (!json)
                return -ENOMEM;
        r = ask(k, "GetPublicKey", "get the public half of", json, &reply, reterr);
        if (r < 0)
                return r;
        r = json_dispatch_known(reply, "", public_fields, &answer, reterr);
        if (r < 0)
                return fail_prefix(reterr, -EPROTO, "KMS' answer about %s", k->title);
        return judge_public(k, &answer, ret, reterr);
}

static int add_message(cJSON *json, const KmsKey *k, const void *data, size_t size)
{
        const bool raw = size <= KMS_MESSAGE_SIZE_MAX;
        _cleanup_free_ char *text = NULL;
        Sha256 digest;
        int r = raw ? 0 : sha256(data, size, &digest);

        if (r >= 0)
                r = raw ? base64_encode(data, size, &text)
                        : base64_encode(digest.bytes, sizeof(digest.bytes), &text);
        if (r < 0)
                return r;
        if (!cJSON_AddStringToObject(json, "Message", text) ||
            !cJSON_AddStringToObject(json, "MessageType", raw ? "RAW" : "DIGEST") ||
            !cJSON_AddStringToObject(json, "SigningAlgorithm", algorithms[k->type]))
                return -ENOMEM;
        return 0;
}

static int take_signature(const KmsKey *k, const cJSON *reply,
                          uint8_t ret_signature[static SIGNATURE_SIZE_MAX], size_t *ret_size,
                          char **reterr)
{
        const char *text =
                cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(reply, "Signature"));
        _cleanup_free_ uint8_t *bytes = NULL;
        size_t size;
        int r = text && strlen(text) <= SIGNATURE_B64_MAX ? base64_decode(text, &bytes, &size)
                                                          : -EBADMSG;

        if (r == -EBADMSG || (r >= 0 && (size == 0 || size > SIGNATURE_SIZE_MAX)))
                return fail(reterr, -EPROTO, "what KMS sent as a signature with %s makes no sense",
                            k->title);
        if (r < 0)
                return r;
        memcpy(ret_signature, bytes, size);
        *ret_size = size;
        return 0;
}

static int on_sign(KeyHolder *h, const void *data, size_t size,
                   uint8_t ret_signature[static SIGNATURE_SIZE_MAX], size_t *ret_size,
                   char **reterr)
{
        KmsKey *k = (KmsKey *) h;
        _cleanup_json_ cJSON *json = cJSON_CreateObject(), *reply = NULL;
        int r;

        if (!json)
                return -ENOMEM;
        r = add_message(json, k, data, size);
        if (r >= 0)
                r = ask(k, "Sign", "sign with", json, &reply, reterr);
        return r < 0 ? r : take_signature(k, reply, ret_signature, ret_size, reterr);
}

int kms_key_load(const char *name, Key **ret, char **reterr)
{
        _cleanup_(kms_key_freep) KmsKey *k = NULL;
        _cleanup_(key_freep) Key *key = NULL;
        int r = kms_key_new(name, &k, reterr);

        if (r >= 0)
                r = get_public(k, &key, reterr);
        if (r < 0)
                return r;
        k->type = key_type(key);
        k->holder = (KeyHolder){
                .name = k->title,
                .size_max = k->type == KEY_ED25519 ? KMS_MESSAGE_SIZE_MAX : SIZE_MAX,
                .sign = on_sign,
                .free = on_free,
        };
        key_set_holder(key, &TAKE_PTR(k)->holder);
        *ret = TAKE_PTR(key);
        return 0;
}
