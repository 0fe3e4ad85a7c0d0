/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stdint.h>

#include "http.h"
#include "macro.h"
#include "message.h"

/*
 * slipway-fetch's answer to MESSAGE_LISTEN: an Ssm (ssm.h) whose callbacks become messages to
 * slipwayd, until it is freed. One that can't be had, for want of credentials or memory, is tried
 * again every minute.
 */

typedef struct SsmRelay SsmRelay;

/* `listen` is the message; `directory` that of ssm-memory.h. `http` must outlive it. -EPROTO: not
 * such a message. */
_must_check_ int ssm_relay_new(int socket_fd, Http *http, const char *directory,
                               const Message *listen, SsmRelay **ret, char **reterr);
SsmRelay *ssm_relay_free(SsmRelay *l);
DEFINE_CLEANUP_FUNC(SsmRelay *, ssm_relay_free);

/* The request that it answers. */
uint64_t ssm_relay_id(const SsmRelay *l);

/* MESSAGE_ORDER_NEWS with its descriptor, which stays the caller's. */
_must_check_ int ssm_relay_news(SsmRelay *l, const Message *m, int fd);

/* As in ssm.h. start_due() gives an error of the socket. */
uint64_t ssm_relay_due_in_usec(const SsmRelay *l);
_must_check_ int ssm_relay_start_due(SsmRelay *l);
