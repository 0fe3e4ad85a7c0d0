/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "fault-server.h"

/* The server's end of a websocket, for functions that serve a FaultServer: it writes what it is
 * told, valid or not, and reads what a client must send. */

#define WS_FIN 0x80

/* Answers a request for a websocket; `headers` are more lines that end in CRLF, or "". */
void ws_accept(const FaultRequest *q, const char *headers);

/* A frame; `first` is its first byte: WS_FIN and the opcode. */
void ws_write(const FaultRequest *q, unsigned first, const void *data, size_t size);

typedef struct WsFrame {
        unsigned first; /* byte */
        size_t size;
        char data[1 << 20]; /* unmasked, NUL-terminated */
} WsFrame;

/* The next frame of the client, which is masked, or the process ends with a complaint. False: the
 * client closed the connection. */
bool ws_read(const FaultRequest *q, WsFrame *ret);
