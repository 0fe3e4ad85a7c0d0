/* SPDX-License-Identifier: Apache-2.0 */
#include "ws-frame.h"

#include <sys/random.h>

#include "err.h"
#include "sink.h"
#include "utf8.h"

#define FIN             0x80
#define RESERVED        0x70
#define OPCODE          0x0f
#define MASKED          0x80
#define SIZE            0x7f
#define SIZE_IN_2       126
#define SIZE_IN_8       127
#define HEADER_SIZE_MAX 10 /* without a mask */
#define MASK_SIZE       4

struct WsReader {
        size_t size_max;
        uint8_t header[HEADER_SIZE_MAX]; /* of the present frame */
        size_t header_size;
        bool in_payload;
        size_t left; /* of the present frame's payload */
        uint8_t control[WS_CONTROL_SIZE_MAX];
        size_t control_size;
        WsOpcode opcode; /* of the message whose fragments come; WS_CONTINUATION: none does */
        Sink message;
        bool given; /* the message was given out */
};

int ws_reader_new(size_t size_max, WsReader **ret)
{
        WsReader *r = calloc(1, sizeof(WsReader));

        if (!r)
                return -ENOMEM;
        r->size_max = size_max;
        *ret = r;
        return 0;
}

WsReader *ws_reader_free(WsReader *r)
{
        if (!r)
                return NULL;
        sink_done(&r->message);
        free(r);
        return NULL;
}

#define violation(ret_status, status, reterr, ...) \
        (*(ret_status) = (status), fail(reterr, -EPROTO, __VA_ARGS__))

static bool is_control(unsigned opcode)
{
        return opcode >= WS_CLOSE;
}

static bool opcode_is_known(unsigned opcode)
{
        return opcode <= WS_BINARY || (opcode >= WS_CLOSE && opcode <= WS_PONG);
}

static unsigned frame_opcode(const WsReader *r)
{
        return r->header[0] & OPCODE;
}

static bool frame_is_final(const WsReader *r)
{
        return r->header[0] & FIN;
}

/* The first two bytes. */
static int judge_start(const WsReader *r, unsigned *ret_status, char **reterr)
{
        const unsigned opcode = frame_opcode(r);

        if (r->header[0] & RESERVED)
                return violation(ret_status, WS_PROTOCOL_ERROR, reterr,
                                 "a frame with reserved bits");
        if (!opcode_is_known(opcode))
                return violation(ret_status, WS_PROTOCOL_ERROR, reterr,
                                 "a frame with the unknown opcode %u", opcode);
        if (r->header[1] & MASKED)
                return violation(ret_status, WS_PROTOCOL_ERROR, reterr, "a masked frame");
        if (is_control(opcode) &&
            (!frame_is_final(r) || (r->header[1] & SIZE) > WS_CONTROL_SIZE_MAX))
                return violation(ret_status, WS_PROTOCOL_ERROR, reterr,
                                 "a control frame that is %s",
                                 frame_is_final(r) ? "too long" : "a fragment");
        if (!is_control(opcode) && (opcode == WS_CONTINUATION) != (r->opcode != WS_CONTINUATION))
                return violation(ret_status, WS_PROTOCOL_ERROR, reterr, "%s",
                                 opcode == WS_CONTINUATION
                                         ? "a fragment of no message"
                                         : "a message in the middle of another one");
        return 0;
}

static size_t full_header_size(const WsReader *r)
{
        const unsigned size = r->header_size < 2 ? 0 : r->header[1] & SIZE;

        return size == SIZE_IN_8 ? 10 : size == SIZE_IN_2 ? 4 : 2;
}

static int judge_size(WsReader *r, unsigned *ret_status, char **reterr)
{
        const size_t n = r->header_size;
        uint64_t size = 0;

        for (size_t i = n == 2 ? 1 : 2; i < n; i++)
                size = size << 8 | r->header[i];
        if ((n == 4 && size < SIZE_IN_2) || (n == 10 && (size <= UINT16_MAX || size >> 63)))
                return violation(ret_status, WS_PROTOCOL_ERROR, reterr,
                                 "a frame whose size is not written in the shortest way");
        if (!is_control(frame_opcode(r)) && size > r->size_max - r->message.size)
                return violation(ret_status, WS_TOO_BIG, reterr,
                                 "a message of more than the limit of %zu bytes", r->size_max);
        r->left = (size_t) size;
        return 0;
}

static int take_header(WsReader *r, uint8_t byte, unsigned *ret_status, char **reterr)
{
        int k = 0;

        r->header[r->header_size++] = byte;
        if (r->header_size == 2)
                k = judge_start(r, ret_status, reterr);
        if (k < 0 || r->header_size < full_header_size(r))
                return k;
        k = judge_size(r, ret_status, reterr);
        if (k >= 0 && !is_control(frame_opcode(r)) && frame_opcode(r) != WS_CONTINUATION)
                r->opcode = frame_opcode(r);
        r->in_payload = true;
        r->control_size = 0;
        return k;
}

static int take_payload(WsReader *r, const uint8_t *data, size_t size)
{
        r->left -= size;
        if (!is_control(frame_opcode(r)))
                return sink_write(&r->message, data, size);
        memcpy(r->control + r->control_size, data, size);
        r->control_size += size;
        return 0;
}

static bool is_utf8(const uint8_t *data, size_t size)
{
        while (size > 0) {
                size_t n = utf8_sequence_size(data, size);
                if (n == 0)
                        return false;
                data += n;
                size -= n;
        }
        return true;
}

/* RFC 6455, 7.4.2, and what was registered with IANA since. */
static bool status_may_be_sent(unsigned status)
{
        return (status >= 1000 && status <= 1003) || (status >= 1007 && status <= 1014) ||
               (status >= 3000 && status <= 4999);
}

static int end_close(WsReader *r, WsMessage *ret, unsigned *ret_status, char **reterr)
{
        const unsigned status = (unsigned) r->control[0] << 8 | r->control[1];

        *ret = (WsMessage){ .opcode = WS_CLOSE, .data = "", .status = WS_NO_STATUS };
        if (r->control_size == 0)
                return 1;
        if (r->control_size == 1 || !status_may_be_sent(status))
                return violation(ret_status, WS_PROTOCOL_ERROR, reterr,
                                 "a close without a valid status");
        if (!is_utf8(r->control + 2, r->control_size - 2))
                return violation(ret_status, WS_INVALID_DATA, reterr,
                                 "a close whose reason is not UTF-8");
        ret->status = status;
        ret->data = r->control + 2;
        ret->size = r->control_size - 2;
        return 1;
}

static int end_message(WsReader *r, WsMessage *ret, unsigned *ret_status, char **reterr)
{
        *ret = (WsMessage){ .opcode = r->opcode,
                            .data = r->message.data ? r->message.data : "",
                            .size = r->message.size };
        if (r->opcode == WS_TEXT && !is_utf8(ret->data, ret->size))
                return violation(ret_status, WS_INVALID_DATA, reterr, "a text that is not UTF-8");
        r->opcode = WS_CONTINUATION;
        r->given = true;
        return 1;
}

/* 1: a message ended with it. */
static int end_frame(WsReader *r, WsMessage *ret, unsigned *ret_status, char **reterr)
{
        r->header_size = 0;
        r->in_payload = false;
        if (frame_opcode(r) == WS_CLOSE)
                return end_close(r, ret, ret_status, reterr);
        if (!is_control(frame_opcode(r)))
                return frame_is_final(r) ? end_message(r, ret, ret_status, reterr) : 0;
        *ret = (WsMessage){ .opcode = frame_opcode(r),
                            .data = r->control,
                            .size = r->control_size };
        return 1;
}

int ws_reader_next(WsReader *r, const uint8_t **data, size_t *size, WsMessage *ret,
                   unsigned *ret_status, char **reterr)
{
        int k = 0;

        if (r->given)
                sink_done(&r->message);
        r->given = false;
        while (k == 0 && *size > 0) {
                size_t n = r->in_payload ? MIN(*size, r->left) : 1;
                k = r->in_payload ? take_payload(r, *data, n)
                                  : take_header(r, **data, ret_status, reterr);
                *data += n;
                *size -= n;
                if (k == 0 && r->in_payload && r->left == 0)
                        k = end_frame(r, ret, ret_status, reterr);
        }
        return k;
}

static size_t put_header(uint8_t *p, unsigned first, size_t size)
{
        const size_t n_size = size > UINT16_MAX ? 8 : size >= SIZE_IN_2 ? 2 : 0;

        p[0] = (uint8_t) first;
        p[1] = (uint8_t) (MASKED | (n_size == 8 ? SIZE_IN_8 : n_size == 2 ? SIZE_IN_2 : size));
        for (size_t i = n_size; i > 0; i--, size >>= 8)
                p[1 + i] = (uint8_t) size;
        return 2 + n_size;
}

/* Gives the end of what was written, NULL without random bytes. */
static uint8_t *put_frame(uint8_t *p, unsigned first, const uint8_t *data, size_t size)
{
        uint8_t mask[MASK_SIZE];

        if (getrandom(mask, sizeof(mask), 0) < 0)
                return NULL;
        p += put_header(p, first, size);
        memcpy(p, mask, MASK_SIZE);
        p += MASK_SIZE;
        for (size_t i = 0; i < size; i++)
                p[i] = data[i] ^ mask[i % MASK_SIZE];
        return p + size;
}

int ws_message_write(WsOpcode opcode, const void *data, size_t size, void **ret, size_t *ret_size)
{
        const size_t n_frames = size / WS_FRAGMENT_SIZE_MAX + 1;
        _cleanup_free_ uint8_t *out = malloc(size + n_frames * (HEADER_SIZE_MAX + MASK_SIZE));
        const uint8_t *from = data;
        uint8_t *p = out;
        size_t n;

        if (!out)
                return -ENOMEM;
        for (size_t left = size; p && (left > 0 || p == out); left -= n, from += n) {
                n = MIN(left, (size_t) WS_FRAGMENT_SIZE_MAX);
                p = put_frame(p, (p == out ? opcode : WS_CONTINUATION) | (n == left ? FIN : 0),
                              from, n);
        }
        if (!p)
                return -EIO;
        *ret_size = (size_t) (p - out);
        *ret = TAKE_PTR(out);
        return 0;
}

int ws_close_write(unsigned status, void **ret, size_t *ret_size)
{
        const uint8_t payload[] = { (uint8_t) (status >> 8), (uint8_t) status };

        return ws_message_write(WS_CLOSE, payload, status == WS_NO_STATUS ? 0 : sizeof(payload),
                                ret, ret_size);
}
