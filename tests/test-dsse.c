/* SPDX-License-Identifier: Apache-2.0 */
#include "dsse.h"

#include "manifest.h"
#include "test.h"

#define HELLO_TYPE "http://example.com/HelloWorld"
#define HEX        "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"

#define PACK_HEADER_SIZE    16
#define PACK_SIGNATURE_SIZE (4 + SHA256_SIZE + SIGNATURE_SIZE_MAX)

static int parse(const char *text, Envelope **ret, char **reterr)
{
        return envelope_parse(text, strlen(text), HELLO_TYPE, ret, reterr);
}

/* The vector of the DSSE specification. */
static void pae_vector(void **state)
{
        static const char wanted[] = "DSSEv1 29 " HELLO_TYPE " 11 hello world";
        _cleanup_free_ uint8_t *pae = NULL, *empty = NULL;
        size_t size;

        (void) state;
        assert_int_equal(dsse_pae(HELLO_TYPE, "hello world", 11, &pae, &size), 0);
        assert_int_equal(size, strlen(wanted));
        assert_memory_equal(pae, wanted, size);
        assert_int_equal(dsse_pae("", NULL, 0, &empty, &size), 0);
        assert_memory_equal(empty, "DSSEv1 0  0 ", size);
}

/* The specification's example: its signature is raw r||s, which we refuse; in DER it holds. */
static void specification_example(void **state)
{
        static const uint8_t public[] = {
                0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01,
                0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
                0x04, 0x67, 0xcd, 0x39, 0x0f, 0x77, 0xaa, 0x35, 0x9c, 0xb0, 0x8c, 0x22, 0x35,
                0xf6, 0x52, 0x27, 0x04, 0x93, 0xa9, 0xed, 0x83, 0x2b, 0x0a, 0xbc, 0xc0, 0x1f,
                0x70, 0x95, 0x4c, 0x03, 0x90, 0xd2, 0x38, 0x0c, 0x78, 0x2b, 0xd5, 0x4e, 0x26,
                0x91, 0x25, 0xa4, 0x4f, 0x44, 0x33, 0xaf, 0xf1, 0x43, 0x2c, 0xe9, 0x4e, 0x12,
                0xbc, 0xa7, 0x3a, 0xa6, 0x7a, 0xc8, 0x0c, 0xea, 0x12, 0x60, 0x8d, 0xdf, 0x74
        };
        static const uint8_t der[] = { 0x30, 0x44, 0x02, 0x20, 0x03, 0x72, 0x6a, 0xb1, 0x01, 0xad,
                                       0x56, 0xc2, 0x76, 0x3b, 0x6c, 0x6a, 0xac, 0x8e, 0x48, 0x72,
                                       0x75, 0xe2, 0xa7, 0x91, 0x93, 0xa0, 0x9d, 0xc5, 0xf8, 0x59,
                                       0xd9, 0xf8, 0xef, 0x3c, 0x4a, 0x3b, 0x02, 0x20, 0x51, 0xea,
                                       0xb0, 0xc0, 0x6a, 0x36, 0x9b, 0x64, 0xa7, 0x22, 0x25, 0x37,
                                       0xd4, 0x88, 0x7a, 0x89, 0x3d, 0xc2, 0x00, 0xae, 0x21, 0x06,
                                       0x00, 0x74, 0xd5, 0x78, 0x25, 0x23, 0x5b, 0x62, 0x48, 0x64 };
        static const char text[] =
                "{\"payload\":\"aGVsbG8gd29ybGQ=\",\"payloadType\":\"" HELLO_TYPE "\","
                "\"signatures\":[{\"sig\":\"A3JqsQGtVsJ2O2xqrI5IcnXip5GToJ3F+FnZ+O88SjtR6rDAajabZKci"
                "JTfUiHqJPcIAriEGAHTVeCUjW2JIZA==\"}]}";
        _cleanup_(envelope_freep) Envelope *e = NULL;
        _cleanup_(key_freep) Key *k = NULL;
        _cleanup_free_ uint8_t *pae = NULL;
        size_t size;

        (void) state;
        assert_int_equal(parse(text, &e, NULL), 0);
        assert_string_equal(e->payload, "hello world");
        assert_int_equal(e->n_signatures, 1);
        assert_int_equal(e->signatures[0].size, 64);
        assert_int_equal(key_from_der(public, sizeof(public), &k, NULL), 0);
        assert_int_equal(dsse_pae(HELLO_TYPE, e->payload, e->payload_size, &pae, &size), 0);
        assert_int_equal(key_verify(k, pae, size, der, sizeof(der)), 0);
        assert_int_equal(key_verify(k, pae, size, e->signatures[0].bytes, 64), -EKEYREJECTED);
}

static void parsed(void **state)
{
        static const char *const texts[] = {
                "{\"payload\":\"+/8=\",\"payloadType\":\"" HELLO_TYPE "\",\"signatures\":"
                "[{\"keyid\":\"" HEX "\",\"sig\":\"AQID\"},{\"sig\":\"BA==\"}]}",
                /* URL-safe, other key ids, what others add */
                "{\"extra\":{\"payload\":1},\"payload\":\"-_8\",\"payloadType\":\"" HELLO_TYPE
                "\",\"signatures\":[{\"keyid\":\"" HEX "\",\"sig\":\"AQID\",\"cert\":\"x\"},"
                "{\"keyid\":\"arn:aws:kms\",\"sig\":\"BA\"}],\"extra\":[]}\n",
        };

        (void) state;
        for (size_t i = 0; i < ELEMENTSOF(texts); i++) {
                _cleanup_(envelope_freep) Envelope *e = NULL;
                _cleanup_free_ char *err = NULL;
                char hex[SHA256_HEX_SIZE];
                const Sha256 none = {};
                if (parse(texts[i], &e, &err) != 0)
                        fail_msg("%s: %s", texts[i], strempty(err));
                assert_int_equal(e->payload_size, 2);
                assert_memory_equal(e->payload, "\xfb\xff", 3);
                assert_int_equal(e->n_signatures, 2);
                assert_string_equal(sha256_to_hex(&e->signatures[0].key_id, hex), HEX);
                assert_int_equal(e->signatures[0].size, 3);
                assert_memory_equal(e->signatures[0].bytes, "\1\2\3", 3);
                assert_true(sha256_equal(&e->signatures[1].key_id, &none));
                assert_int_equal(e->signatures[1].size, 1);
        }
}

static void unsigned_parsed(void **state)
{
        _cleanup_(envelope_freep) Envelope *e = NULL;

        (void) state;
        assert_int_equal(parse("{\"payload\":\"\",\"payloadType\":\"" HELLO_TYPE
                               "\",\"signatures\":[]}",
                               &e, NULL),
                         0);
        assert_int_equal(e->payload_size, 0);
        assert_string_equal(e->payload, "");
        assert_int_equal(e->n_signatures, 0);
}

#define WITH(payload, type, signatures) \
        "{\"payload\":" payload ",\"payloadType\":" type ",\"signatures\":" signatures "}"
#define TYPE "\"" HELLO_TYPE "\""

static void assert_refused(const char *text, const char *error)
{
        _cleanup_free_ char *err = NULL;
        Envelope *e = NULL;
        int r = parse(text, &e, &err);

        if (r != -EBADMSG || !err || strncmp(err, error, strlen(error)) != 0)
                fail_msg("%s: %d %s", text, r, strempty(err));
        assert_null(e);
}

static void refused(void **state)
{
        (void) state;
        assert_refused("", "line 1, column 1");
        assert_refused("[]", "the document: must be an object");
        assert_refused("{}", "payload: missing");
        assert_refused("{\"payload\":\"\",\"payloadType\":" TYPE "}", "signatures: missing");
        assert_refused("{\"payload\":\"\",\"signatures\":[]}", "payloadType: missing");
        assert_refused(WITH("\"\",\"payload\":\"\"", TYPE, "[]"), "payload: stands there twice");
        assert_refused(WITH("\"\"", TYPE ",\"payloadType\":" TYPE, "[]"), "payloadType: stands");
        assert_refused(WITH("\"\"", TYPE, "[],\"signatures\":[]"),
                       "signatures: stands there twice");
        assert_refused(WITH("1", TYPE, "[]"), "payload: must be a string");
        assert_refused(WITH("\"A\"", TYPE, "[]"), "payload: is not base64");
        assert_refused(WITH("\"AA AA\"", TYPE, "[]"), "payload: is not base64");
        assert_refused(WITH("\"\"", "\"http://example.com/helloworld\"", "[]"),
                       "payloadType: must be");
        assert_refused(WITH("\"\"", "\"" HELLO_TYPE "x\"", "[]"), "payloadType: must be");
        assert_refused(WITH("\"\"", "null", "[]"), "payloadType: must be");
        assert_refused(WITH("\"\"", TYPE, "{}"), "signatures: must be an array");
        assert_refused(WITH("\"\"", TYPE, "[{}]"), "signatures[0].sig: missing");
        assert_refused(WITH("\"\"", TYPE, "[{\"sig\":\"AQ==\"},1]"),
                       "signatures[1]: must be an object");
        assert_refused(WITH("\"\"", TYPE, "[{\"sig\":\"\"}]"),
                       "signatures[0].sig: a signature has");
        assert_refused(WITH("\"\"", TYPE, "[{\"sig\":\"*\"}]"), "signatures[0].sig: is not base64");
        assert_refused(WITH("\"\"", TYPE, "[{\"sig\":7}]"), "signatures[0].sig: must be a string");
        assert_refused(WITH("\"\"", TYPE, "[{\"sig\":\"AQ==\",\"sig\":\"AQ==\"}]"),
                       "signatures[0].sig: stands there twice");
        assert_refused(WITH("\"\"", TYPE, "[{\"sig\":\"AQ==\",\"keyid\":1}]"),
                       "signatures[0].keyid: must be a string");
}

/* An envelope with so many signatures, each of so many bytes. */
static Envelope *make(size_t payload_size, size_t n_signatures, size_t signature_size)
{
        _cleanup_free_ char *payload = malloc(payload_size + 1);
        Envelope *e = NULL;

        memset(payload, 'p', payload_size);
        assert_int_equal(envelope_new(payload, payload_size, &e), 0);
        for (; e->n_signatures < n_signatures; e->n_signatures++) {
                Signature *s = &e->signatures[e->n_signatures];
                s->size = signature_size;
                memset(s->bytes, 's', signature_size);
                memset(s->key_id.bytes, (int) e->n_signatures, SHA256_SIZE);
        }
        return e;
}

static void assert_same(const Envelope *a, const Envelope *b)
{
        assert_int_equal(a->payload_size, b->payload_size);
        assert_memory_equal(a->payload, b->payload, a->payload_size + 1);
        assert_int_equal(a->n_signatures, b->n_signatures);
        for (size_t i = 0; i < a->n_signatures; i++) {
                assert_int_equal(a->signatures[i].size, b->signatures[i].size);
                assert_memory_equal(a->signatures[i].bytes, b->signatures[i].bytes,
                                    a->signatures[i].size);
                assert_true(sha256_equal(&a->signatures[i].key_id, &b->signatures[i].key_id));
        }
}

static void formatted_again(void **state)
{
        _cleanup_(envelope_freep) Envelope *e = make(1000, N_SIGNATURES_MAX, SIGNATURE_SIZE_MAX),
                                           *again = NULL;
        _cleanup_free_ char *text = NULL;
        size_t size;

        (void) state;
        assert_int_equal(envelope_format(e, HELLO_TYPE, &text, &size), 0);
        assert_int_equal(size, strlen(text));
        assert_int_equal(text[size - 1], '\n');
        assert_int_equal(parse(text, &again, NULL), 0);
        assert_same(e, again);
}

static void caps(void **state)
{
        /* The largest manifest with as many signatures as there may be. */
        _cleanup_(envelope_freep) Envelope *whole =
                make(MANIFEST_SIZE_MAX, N_SIGNATURES_MAX, SIGNATURE_SIZE_MAX);
        _cleanup_(envelope_freep) Envelope *large = make(ENVELOPE_SIZE_MAX, 0, 0);
        _cleanup_free_ char *text = NULL, *err = NULL, *blank = malloc(ENVELOPE_SIZE_MAX + 2);
        Envelope *e = NULL;
        size_t size;

        (void) state;
        assert_int_equal(envelope_format(whole, MANIFEST_PAYLOAD_TYPE, &text, &size), 0);
        assert_int_equal(envelope_parse(text, size, MANIFEST_PAYLOAD_TYPE, &e, &err), 0);
        envelope_free(e);
        e = NULL;
        assert_int_equal(envelope_format(large, HELLO_TYPE, &text, &size), -EFBIG);
        assert_int_equal(envelope_new(large->payload, ENVELOPE_SIZE_MAX + 1, &e), -EFBIG);
        memset(blank, ' ', ENVELOPE_SIZE_MAX + 1);
        blank[ENVELOPE_SIZE_MAX + 1] = '\0';
        assert_int_equal(envelope_parse(blank, ENVELOPE_SIZE_MAX + 1, HELLO_TYPE, &e, &err),
                         -EFBIG);
        assert_null(e);
}

static void too_many_signatures(void **state)
{
        _cleanup_free_ char *text = NULL, *err = NULL;
        Envelope *e = NULL;
        size_t size;
        FILE *f = open_memstream(&text, &size);

        (void) state;
        fputs("{\"payload\":\"\",\"payloadType\":" TYPE ",\"signatures\":[", f);
        for (size_t i = 0; i < N_SIGNATURES_MAX; i++)
                fputs("{\"sig\":\"AQ==\"},", f);
        fputs("{\"sig\":\"AQ==\"}]}", f);
        assert_int_equal(fclose(f), 0);
        assert_int_equal(parse(text, &e, &err), -EBADMSG);
        assert_string_equal(err, "signatures: has more than 16 elements");
}

static void long_signature(void **state)
{
        _cleanup_free_ char *text = NULL, *err = NULL;
        Envelope *e = NULL;

        (void) state;
        assert_true(asprintf(&text,
                             "{\"payload\":\"\",\"payloadType\":" TYPE
                             ",\"signatures\":[{\"sig\":\"%0172d\"}]}",
                             0) > 0);
        assert_int_equal(parse(text, &e, &err), -EBADMSG);
        assert_string_equal(err, "signatures[0].sig: a signature has 1 to 128 bytes");
}

static void signing(void **state)
{
        _cleanup_(envelope_freep) Envelope *e = NULL;
        _cleanup_(key_freep) Key *k = NULL;
        _cleanup_free_ uint8_t *pae = NULL;
        size_t size;

        (void) state;
        assert_int_equal(key_generate(KEY_ED25519, &k), 0);
        assert_int_equal(envelope_new("{}", 2, &e), 0);
        for (size_t i = 0; i < N_SIGNATURES_MAX; i++)
                assert_int_equal(envelope_sign(e, HELLO_TYPE, k, NULL), 0);
        assert_int_equal(envelope_sign(e, HELLO_TYPE, k, NULL), -E2BIG);
        assert_int_equal(dsse_pae(HELLO_TYPE, "{}", 2, &pae, &size), 0);
        assert_int_equal(key_verify(k, pae, size, e->signatures[0].bytes, e->signatures[0].size),
                         0);
        assert_true(sha256_equal(&e->signatures[0].key_id, key_id(k)));
}

static void packed_again(void **state)
{
        static const struct {
                size_t payload_size, n_signatures, signature_size;
        } cases[] = {
                {0,                  0,                0                 },
                { 1,                 1,                1                 },
                { 1000,              2,                64                },
                { ENVELOPE_SIZE_MAX, N_SIGNATURES_MAX, SIGNATURE_SIZE_MAX},
        };

        (void) state;
        for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
                _cleanup_(envelope_freep)
                        Envelope *e = make(cases[i].payload_size, cases[i].n_signatures,
                                           cases[i].signature_size),
                                 *again = NULL;
                _cleanup_free_ uint8_t *data = NULL;
                size_t size;
                assert_int_equal(envelope_pack(e, &data, &size), 0);
                assert_int_equal(size, PACK_HEADER_SIZE +
                                               cases[i].n_signatures * PACK_SIGNATURE_SIZE +
                                               cases[i].payload_size);
                assert_int_equal(envelope_unpack(data, size, &again), 0);
                assert_same(e, again);
        }
}

/* The exact bytes: both sides of the border may be of different versions. */
static void packed_layout(void **state)
{
        _cleanup_(envelope_freep) Envelope *e = make(3, 1, 2);
        _cleanup_free_ uint8_t *data = NULL;
        uint8_t wanted[PACK_HEADER_SIZE + PACK_SIGNATURE_SIZE + 3] = "SLPYENV1\3\0\0\0\1\0\0\0\2";
        size_t size;

        (void) state;
        memcpy(wanted + PACK_HEADER_SIZE + 4 + SHA256_SIZE, "ss", 2);
        memcpy(wanted + PACK_HEADER_SIZE + PACK_SIGNATURE_SIZE, "ppp", 3);
        assert_int_equal(envelope_pack(e, &data, &size), 0);
        assert_int_equal(size, sizeof(wanted));
        assert_memory_equal(data, wanted, size);
}

/* Unpacks from an allocation of exactly that size, so that reading beyond it is found. */
static int unpack(const uint8_t *data, size_t size)
{
        _cleanup_(envelope_freep) Envelope *e = NULL;
        _cleanup_free_ uint8_t *copy = malloc(MAX(size, 1U));

        memcpy(copy, data, size);
        return envelope_unpack(copy, size, &e);
}

static void put32(uint8_t *p, uint32_t value)
{
        for (size_t i = 0; i < 4; i++)
                p[i] = (uint8_t) (value >> 8 * i);
}

static void hostile_packed(void **state)
{
        _cleanup_(envelope_freep) Envelope *e = make(20, 2, 64);
        _cleanup_free_ uint8_t *data = NULL;
        static const uint32_t values[] = {
                0,          1,          17,         0x7fffffff,
                0x80000000, 0xfffffff0, 0xffffffff, ENVELOPE_SIZE_MAX + 1,
                0x0063e707,
        };
        size_t size;

        (void) state;
        assert_int_equal(envelope_pack(e, &data, &size), 0);
        assert_int_equal(unpack(data, size), 0);
        for (size_t i = 0; i < size; i++)
                assert_int_equal(unpack(data, i), -EBADMSG);
        uint8_t longer[PACK_HEADER_SIZE + 2 * PACK_SIGNATURE_SIZE + 20 + 1];
        assert_int_equal(sizeof(longer), size + 1);
        memcpy(longer, data, size);
        longer[size] = 0;
        assert_int_equal(unpack(longer, size + 1), -EBADMSG);

        for (size_t i = 0; i < ELEMENTSOF(values); i++) {
                static const size_t offsets[] = { 8, 12 };
                for (size_t k = 0; k < ELEMENTSOF(offsets); k++) {
                        memcpy(longer, data, size);
                        put32(longer + offsets[k], values[i]);
                        assert_int_equal(unpack(longer, size), -EBADMSG);
                }
                if (values[i] == 1 || values[i] == 17)
                        continue;
                memcpy(longer, data, size);
                put32(longer + PACK_HEADER_SIZE, values[i]);
                assert_int_equal(unpack(longer, size), -EBADMSG);
        }
        for (size_t i = 0; i < 8; i++) {
                memcpy(longer, data, size);
                longer[i] ^= 1;
                assert_int_equal(unpack(longer, size), -EBADMSG);
        }
        /* Bytes behind a signature. */
        memcpy(longer, data, size);
        longer[PACK_HEADER_SIZE + PACK_SIGNATURE_SIZE - 1] = 1;
        assert_int_equal(unpack(longer, size), -EBADMSG);
        memcpy(longer, data, size);
        put32(longer + PACK_HEADER_SIZE, 63);
        assert_int_equal(unpack(longer, size), -EBADMSG);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(pae_vector),     cmocka_unit_test(specification_example),
                cmocka_unit_test(parsed),         cmocka_unit_test(unsigned_parsed),
                cmocka_unit_test(refused),        cmocka_unit_test(formatted_again),
                cmocka_unit_test(caps),           cmocka_unit_test(too_many_signatures),
                cmocka_unit_test(long_signature), cmocka_unit_test(signing),
                cmocka_unit_test(packed_again),   cmocka_unit_test(packed_layout),
                cmocka_unit_test(hostile_packed),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
