/* SPDX-License-Identifier: Apache-2.0 */
#include "ssm-frame.h"

#include <ctype.h>

#include "digest.h"
#include "err.h"

#define HEADER_SIZE    116
#define AT_TYPE        4
#define AT_VERSION     36
#define AT_CREATED     40
#define AT_ID          64
#define AT_DIGEST      80
#define AT_SIZE        HEADER_SIZE
#define AT_PAYLOAD     (HEADER_SIZE + 4)
#define SCHEMA_VERSION 1

static void put_number(uint8_t *p, size_t size, uint64_t value)
{
        for (size_t i = size; i > 0; i--, value >>= 8)
                p[i - 1] = (uint8_t) value;
}

static uint64_t get_number(const uint8_t *p, size_t size)
{
        uint64_t value = 0;

        for (size_t i = 0; i < size; i++)
                value = value << 8 | p[i];
        return value;
}

static void swap_halves(const uint8_t from[static UUID_SIZE], uint8_t to[static UUID_SIZE])
{
        memcpy(to, from + UUID_SIZE / 2, UUID_SIZE / 2);
        memcpy(to + UUID_SIZE / 2, from, UUID_SIZE / 2);
}

static bool type_is_valid(const char *type, size_t size)
{
        for (size_t i = 0; i < size; i++)
                if (!isgraph((unsigned char) type[i]))
                        return false;
        return size > 0 && size <= SSM_FRAME_TYPE_MAX;
}

int ssm_frame_pack(const SsmFrame *f, void **ret, size_t *ret_size)
{
        _cleanup_free_ uint8_t *p = NULL;
        uint8_t id[UUID_SIZE];
        Sha256 digest;
        int r;

        if (!type_is_valid(f->type, strlen(f->type)) || uuid_parse(f->id, id) < 0 ||
            f->payload_size > UINT32_MAX)
                return -EINVAL;
        r = sha256(f->payload, f->payload_size, &digest);
        if (r < 0)
                return r;
        p = calloc(1, AT_PAYLOAD + f->payload_size);
        if (!p)
                return -ENOMEM;
        put_number(p, 4, HEADER_SIZE);
        memset(p + AT_TYPE, ' ', SSM_FRAME_TYPE_MAX);
        memcpy(p + AT_TYPE, f->type, strlen(f->type));
        put_number(p + AT_VERSION, 4, SCHEMA_VERSION);
        put_number(p + AT_CREATED, 8, f->created_msec);
        swap_halves(id, p + AT_ID);
        memcpy(p + AT_DIGEST, digest.bytes, SHA256_SIZE);
        put_number(p + AT_SIZE, 4, f->payload_size);
        if (f->payload_size > 0)
                memcpy(p + AT_PAYLOAD, f->payload, f->payload_size);
        *ret = TAKE_PTR(p);
        *ret_size = AT_PAYLOAD + f->payload_size;
        return 0;
}

static int take_type(const uint8_t *p, SsmFrame *f, char **reterr)
{
        const char *type = (const char *) p + AT_TYPE;
        size_t size = SSM_FRAME_TYPE_MAX;

        while (size > 0 && (type[size - 1] == ' ' || type[size - 1] == '\0'))
                size--;
        if (!type_is_valid(type, size))
                return fail(reterr, -EBADMSG, "a message without a valid type");
        memcpy(f->type, type, size);
        f->type[size] = '\0';
        return 0;
}

static int take_payload(const uint8_t *data, size_t size, SsmFrame *f, char **reterr)
{
        const size_t header_size = get_number(data, 4);

        if (header_size < HEADER_SIZE || header_size > size - 4)
                return fail(reterr, -EBADMSG,
                            "a message of %zu bytes with a header of %zu instead of %u", size,
                            header_size, HEADER_SIZE);
        f->payload = data + header_size + 4;
        f->payload_size = size - header_size - 4;
        if (get_number(data + header_size, 4) > f->payload_size)
                return fail(reterr, -EBADMSG, "a message that ends before its payload does");
        return 0;
}

int ssm_frame_unpack(const void *data, size_t size, SsmFrame *ret, char **reterr)
{
        const uint8_t *p = data;
        uint8_t id[UUID_SIZE];
        SsmFrame f = {};
        Sha256 digest;
        int r;

        if (size < AT_PAYLOAD)
                return fail(reterr, -EBADMSG, "a message of only %zu bytes", size);
        r = take_payload(p, size, &f, reterr);
        if (r >= 0)
                r = take_type(p, &f, reterr);
        if (r >= 0)
                r = sha256(f.payload, f.payload_size, &digest);
        if (r < 0)
                return r;
        f.created_msec = get_number(p + AT_CREATED, 8);
        if (f.created_msec == 0)
                return fail(reterr, -EBADMSG, "a message of type %s without its time", f.type);
        swap_halves(p + AT_ID, id);
        (void) uuid_format(id, f.id);
        f.digest_holds = memcmp(p + AT_DIGEST, digest.bytes, SHA256_SIZE) == 0;
        *ret = f;
        return 0;
}
