/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "macro.h"

/*
 * The bytes of a websocket, seen by the client (RFC 6455, 5 and 7.4): pure, without a socket.
 * Frames that the server sends become messages; messages become frames, masked with random keys.
 */

typedef enum WsOpcode {
        WS_CONTINUATION = 0,
        WS_TEXT = 1,
        WS_BINARY = 2,
        WS_CLOSE = 8,
        WS_PING = 9,
        WS_PONG = 10,
} WsOpcode;

/* Status codes of closing, as far as they are ours. */
enum {
        WS_NORMAL = 1000,
        WS_GOING_AWAY = 1001,
        WS_PROTOCOL_ERROR = 1002,
        WS_NO_STATUS = 1005, /* a close without one; never sent */
        WS_INVALID_DATA = 1007,
        WS_TOO_BIG = 1009,
};

#define WS_CONTROL_SIZE_MAX  125
#define WS_FRAGMENT_SIZE_MAX (128 * 1024) /* what is larger is sent in fragments */

typedef struct WsMessage {
        WsOpcode opcode;  /* no continuation: fragments are put together */
        const void *data; /* WS_TEXT: UTF-8; WS_CLOSE: the reason, UTF-8; never NULL */
        size_t size;
        unsigned status; /* WS_CLOSE */
} WsMessage;

typedef struct WsReader WsReader;

/* `size_max`: of a message. */
_must_check_ int ws_reader_new(size_t size_max, WsReader **ret);
WsReader *ws_reader_free(WsReader *r);
DEFINE_CLEANUP_FUNC(WsReader *, ws_reader_free);

/* Goes over the bytes at *data, in whatever pieces they come, up to the end of a message, and moves
 * *data and *size behind it. 1: *ret is the message, the reader's until the next call; there may be
 * more. 0: all was taken, and none ended. -EPROTO: the server broke the protocol; *ret_status is
 * what to close with. After a failure the reader must not be used. */
_must_check_ int ws_reader_next(WsReader *r, const uint8_t **data, size_t *size, WsMessage *ret,
                                unsigned *ret_status, char **reterr);

/* The frames of a message (WS_TEXT, WS_BINARY, WS_PING, WS_PONG); *ret is to be freed. Control
 * messages have at most WS_CONTROL_SIZE_MAX bytes. */
_must_check_ int ws_message_write(WsOpcode opcode, const void *data, size_t size, void **ret,
                                  size_t *ret_size);

/* The frame that closes, with `status` but for WS_NO_STATUS. */
_must_check_ int ws_close_write(unsigned status, void **ret, size_t *ret_size);
