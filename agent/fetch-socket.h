/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "message.h"

/* slipway-fetch's end of the socket, for answers from callbacks: who steps the whole looks whether
 * one of them failed. */
typedef struct FetchSocket {
        int fd;
        int error; /* the first failure; 0: none */
} FetchSocket;

/* `fd` travels with it, unless it is negative, and stays the caller's. */
void fetch_socket_send(FetchSocket *s, const Message *m, int fd);

/* An answer without descriptor in one line. `text` may be NULL. */
void fetch_socket_answer(FetchSocket *s, MessageType type, uint64_t id, int result,
                         const char *text);
