/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <time.h>

#include "macro.h"
#include "name-value.h"

/* How a connection becomes a websocket (RFC 6455, 4.1 and 4.2.2), seen by the client: pure, without
 * a socket. No extension and no subprotocol is asked for. */

#define WS_KEY_SIZE         25 /* with the NUL */
#define WS_ANSWER_SIZE_MAX  16384
#define WS_REFUSAL_SIZE_MAX 4096

/* The request for `target` ("/path?query"); `headers` besides those that make it a websocket, Host
 * among them. *ret is to be freed, and may hold a secret. */
_must_check_ int ws_upgrade_write(const char *target, const NameValue *headers, size_t n_headers,
                                  char ret_key[static WS_KEY_SIZE], char **ret);

typedef struct WsAnswer WsAnswer;

/* `key`: of the request. */
_must_check_ int ws_answer_new(const char *key, WsAnswer **ret);
WsAnswer *ws_answer_free(WsAnswer *a);
DEFINE_CLEANUP_FUNC(WsAnswer *, ws_answer_free);

/* Goes over the bytes at *data, in whatever pieces they come, up to the end of the answer, and
 * moves *data and *size behind it. 1: it is complete: a websocket from here on (status 101), or
 * refused. 0: all was taken. -EPROTO: no such answer, one to another key, or one of more than
 * WS_ANSWER_SIZE_MAX. */
_must_check_ int ws_answer_take(WsAnswer *a, const uint8_t **data, size_t *size, char **reterr);

unsigned ws_answer_status(const WsAnswer *a); /* 0: it did not come yet */

/* The first WS_REFUSAL_SIZE_MAX bytes of the body of a refusal, as far as they came;
 * NUL-terminated, never NULL. */
const char *ws_answer_body(const WsAnswer *a, size_t *ret_size);

time_t ws_answer_date(const WsAnswer *a); /* -1: none */
