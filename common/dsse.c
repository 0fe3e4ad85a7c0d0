/* SPDX-License-Identifier: Apache-2.0 */
#include "dsse.h"

#include <endian.h>
#include <stdio.h>

#include "base64.h"
#include "err.h"
#include "json-read.h"

#define PACK_MAGIC "SLPYENV1"

typedef struct PackHeader {
        char magic[8];
        uint32_t payload_size, n_signatures;
} PackHeader;

typedef struct PackSignature {
        uint32_t size;
        uint8_t key_id[SHA256_SIZE], bytes[SIGNATURE_SIZE_MAX];
} PackSignature;

_Static_assert(sizeof(PackHeader) == 16 && sizeof(PackSignature) == 164, "layout has no padding");

Envelope *envelope_free(Envelope *e)
{
        if (e)
                free(e->payload);
        free(e);
        return NULL;
}

int envelope_new(const void *payload, size_t size, Envelope **ret)
{
        _cleanup_(envelope_freep) Envelope *e = NULL;

        if (size > ENVELOPE_SIZE_MAX)
                return -EFBIG;
        e = calloc(1, sizeof(Envelope));
        if (!e)
                return -ENOMEM;
        e->payload = malloc(size + 1);
        if (!e->payload)
                return -ENOMEM;
        if (size > 0)
                memcpy(e->payload, payload, size);
        e->payload[size] = '\0';
        e->payload_size = size;
        *ret = TAKE_PTR(e);
        return 0;
}

/* --- JSON --- */

/* What envelope_parse() fills. */
typedef struct EnvelopeParser {
        Envelope *envelope;
        const char *type;
} EnvelopeParser;

static int parse_base64(const cJSON *v, const char *path, uint8_t **ret, size_t *ret_size,
                        char **reterr)
{
        int r;

        if (!cJSON_IsString(v))
                return json_fail_type(v, path, "a string", reterr);
        r = base64_decode(v->valuestring, ret, ret_size);
        return r == -EBADMSG ? fail(reterr, r, "%s: is not base64", path) : r;
}

static int parse_payload(const cJSON *v, const char *path, void *target, char **reterr)
{
        Envelope *e = ((EnvelopeParser *) target)->envelope;

        return parse_base64(v, path, (uint8_t **) &e->payload, &e->payload_size, reterr);
}

static int parse_payload_type(const cJSON *v, const char *path, void *target, char **reterr)
{
        const char *type = ((EnvelopeParser *) target)->type;

        if (!cJSON_IsString(v) || !streq(v->valuestring, type))
                return fail(reterr, -EBADMSG, "%s: must be \"%s\"", path, type);
        return 0;
}

static int parse_key_id(const cJSON *v, const char *path, void *target, char **reterr)
{
        Sha256 *id = target;

        if (!cJSON_IsString(v))
                return json_fail_type(v, path, "a string", reterr);
        /* A hint in a form that is not ours is no hint. */
        if (sha256_from_hex(v->valuestring, id) < 0)
                *id = (Sha256){};
        return 0;
}

static int parse_sig(const cJSON *v, const char *path, void *target, char **reterr)
{
        _cleanup_free_ uint8_t *bytes = NULL;
        Signature *s = target;
        size_t size;
        int r = parse_base64(v, path, &bytes, &size, reterr);

        if (r < 0)
                return r;
        if (size == 0 || size > SIGNATURE_SIZE_MAX)
                return fail(reterr, -EBADMSG, "%s: a signature has 1 to %d bytes", path,
                            SIGNATURE_SIZE_MAX);
        memcpy(s->bytes, bytes, size);
        s->size = size;
        return 0;
}

static const JsonField signature_fields[] = {
        {"keyid",             parse_key_id, offsetof(Signature, key_id) },
        { "sig", parse_sig, 0, true },
        {         },
};

static int parse_signature(const cJSON *v, const char *path, void *target, char **reterr)
{
        Envelope *e = target;

        return json_dispatch_known(v, path, signature_fields, &e->signatures[e->n_signatures++],
                                   reterr);
}

static int parse_signatures(const cJSON *v, const char *path, void *target, char **reterr)
{
        return json_each(v, path, N_SIGNATURES_MAX, parse_signature,
                         ((EnvelopeParser *) target)->envelope, reterr);
}

static const JsonField envelope_fields[] = {
        {"payload",           parse_payload, 0, true },
        { "payloadType",                  parse_payload_type, 0, true },
        { "signatures",                  parse_signatures, 0, true },
        {              },
};

int envelope_parse(const char *data, size_t size, const char *type, Envelope **ret, char **reterr)
{
        _cleanup_(envelope_freep) Envelope *e = NULL;
        _cleanup_json_ cJSON *tree = NULL;
        int r;

        if (size > ENVELOPE_SIZE_MAX)
                return fail(reterr, -EFBIG, "the envelope has %zu bytes, more than %d", size,
                            ENVELOPE_SIZE_MAX);
        r = json_parse(data, size, &tree, reterr);
        if (r < 0)
                return r;
        e = calloc(1, sizeof(Envelope));
        if (!e)
                return -ENOMEM;
        r = json_dispatch_known(tree, "", envelope_fields, &(EnvelopeParser){ e, type }, reterr);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(e);
        return 0;
}

static int add_base64(cJSON *object, const char *name, const void *data, size_t size)
{
        _cleanup_free_ char *text = NULL;
        int r = base64_encode(data, size, &text);

        if (r < 0)
                return r;
        return cJSON_AddStringToObject(object, name, text) ? 0 : -ENOMEM;
}

static int signature_format(const Signature *s, cJSON *signatures)
{
        cJSON *object = cJSON_CreateObject();
        char hex[SHA256_HEX_SIZE];

        if (!object || !cJSON_AddItemToArray(signatures, object) ||
            !cJSON_AddStringToObject(object, "keyid", sha256_to_hex(&s->key_id, hex)))
                return -ENOMEM;
        return add_base64(object, "sig", s->bytes, s->size);
}

int envelope_format(const Envelope *e, const char *type, char **ret, size_t *ret_size)
{
        _cleanup_json_ cJSON *tree = cJSON_CreateObject();
        _cleanup_free_ char *text = NULL;
        cJSON *signatures;
        char *line;
        int r, size;

        if (!tree)
                return -ENOMEM;
        r = add_base64(tree, "payload", e->payload, e->payload_size);
        if (r < 0)
                return r;
        signatures = cJSON_AddStringToObject(tree, "payloadType", type)
                             ? cJSON_AddArrayToObject(tree, "signatures")
                             : NULL;
        if (!signatures)
                return -ENOMEM;
        for (size_t i = 0; i < e->n_signatures; i++) {
                r = signature_format(&e->signatures[i], signatures);
                if (r < 0)
                        return r;
        }
        text = cJSON_PrintUnformatted(tree);
        if (!text)
                return -ENOMEM;
        if (strlen(text) >= ENVELOPE_SIZE_MAX)
                return -EFBIG;
        size = asprintf(&line, "%s\n", text);
        if (size < 0)
                return -ENOMEM;
        *ret = line;
        *ret_size = (size_t) size;
        return 0;
}

/* --- signing --- */

int dsse_pae(const char *type, const void *payload, size_t size, uint8_t **ret, size_t *ret_size)
{
        _cleanup_free_ char *head = NULL;
        int head_size = asprintf(&head, "DSSEv1 %zu %s %zu ", strlen(type), type, size);
        uint8_t *pae;

        if (head_size < 0) {
                head = NULL;
                return -ENOMEM;
        }
        pae = malloc((size_t) head_size + size);
        if (!pae)
                return -ENOMEM;
        memcpy(pae, head, (size_t) head_size);
        if (size > 0)
                memcpy(pae + head_size, payload, size);
        *ret = pae;
        *ret_size = (size_t) head_size + size;
        return 0;
}

int envelope_sign(Envelope *e, const char *type, const Key *k, char **reterr)
{
        _cleanup_free_ uint8_t *pae = NULL;
        Signature s = { .key_id = *key_id(k) };
        size_t size;
        int r;

        if (e->n_signatures >= N_SIGNATURES_MAX)
                return fail(reterr, -E2BIG, "more than %d keys can't sign one document",
                            N_SIGNATURES_MAX);
        r = dsse_pae(type, e->payload, e->payload_size, &pae, &size);
        if (r < 0)
                return r;
        r = key_sign(k, pae, size, s.bytes, &s.size, reterr);
        if (r < 0)
                return r;
        e->signatures[e->n_signatures++] = s;
        return 0;
}

int envelope_verify(const Envelope *e, const char *type, const Key *k)
{
        _cleanup_free_ uint8_t *pae = NULL;
        size_t size;
        int r = dsse_pae(type, e->payload, e->payload_size, &pae, &size);

        if (r < 0)
                return r;
        for (size_t i = 0; i < e->n_signatures; i++) {
                r = key_verify(k, pae, size, e->signatures[i].bytes, e->signatures[i].size);
                if (r != -EKEYREJECTED)
                        return r;
        }
        return -EKEYREJECTED;
}

/* --- the packed form --- */

int envelope_pack(const Envelope *e, uint8_t **ret, size_t *ret_size)
{
        PackHeader header = {
                .payload_size = htole32((uint32_t) e->payload_size),
                .n_signatures = htole32((uint32_t) e->n_signatures),
        };
        size_t size = sizeof(header) + e->n_signatures * sizeof(PackSignature) + e->payload_size;
        uint8_t *data = malloc(size), *p = data;

        if (!data)
                return -ENOMEM;
        memcpy(header.magic, PACK_MAGIC, sizeof(header.magic));
        p = mempcpy(p, &header, sizeof(header));
        for (size_t i = 0; i < e->n_signatures; i++) {
                const Signature *s = &e->signatures[i];
                PackSignature packed = { .size = htole32((uint32_t) s->size) };
                memcpy(packed.key_id, s->key_id.bytes, SHA256_SIZE);
                memcpy(packed.bytes, s->bytes, s->size);
                p = mempcpy(p, &packed, sizeof(packed));
        }
        memcpy(p, e->payload, e->payload_size);
        *ret = data;
        *ret_size = size;
        return 0;
}

static int unpack_signature(const uint8_t *data, Signature *ret)
{
        PackSignature packed;

        memcpy(&packed, data, sizeof(packed));
        ret->size = le32toh(packed.size);
        if (ret->size == 0 || ret->size > SIGNATURE_SIZE_MAX)
                return -EBADMSG;
        for (size_t i = ret->size; i < SIGNATURE_SIZE_MAX; i++)
                if (packed.bytes[i] != 0)
                        return -EBADMSG;
        memcpy(ret->bytes, packed.bytes, SIGNATURE_SIZE_MAX);
        memcpy(ret->key_id.bytes, packed.key_id, SHA256_SIZE);
        return 0;
}

int envelope_unpack(const void *data, size_t size, Envelope **ret)
{
        _cleanup_(envelope_freep) Envelope *e = NULL;
        const uint8_t *p = (const uint8_t *) data + sizeof(PackHeader);
        size_t payload_size, n_signatures;
        PackHeader header;
        int r;

        if (size < sizeof(header))
                return -EBADMSG;
        memcpy(&header, data, sizeof(header));
        payload_size = le32toh(header.payload_size);
        n_signatures = le32toh(header.n_signatures);
        if (memcmp(header.magic, PACK_MAGIC, sizeof(header.magic)) != 0 ||
            payload_size > ENVELOPE_SIZE_MAX || n_signatures > N_SIGNATURES_MAX ||
            size != sizeof(header) + n_signatures * sizeof(PackSignature) + payload_size)
                return -EBADMSG;
        r = envelope_new(p + n_signatures * sizeof(PackSignature), payload_size, &e);
        if (r < 0)
                return r;
        for (; e->n_signatures < n_signatures; e->n_signatures++, p += sizeof(PackSignature)) {
                r = unpack_signature(p, &e->signatures[e->n_signatures]);
                if (r < 0)
                        return r;
        }
        *ret = TAKE_PTR(e);
        return 0;
}
