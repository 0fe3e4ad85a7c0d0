/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "http.h"
#include "macro.h"
#include "remote-order.h"
#include "ssm-channel.h"

/*
 * slipway-fetch's side of orders that come through Systems Manager: keeps a channel open, tells
 * that the instance is there, makes orders of messages, remembers them (ssm-memory.h) before they
 * are acknowledged, and brings the answers back, also those that a crash or the network held up. It
 * carries nothing out.
 */

typedef struct SsmOptions {
        SsmChannel channel;
        SsmIdentity identity;
        const char *directory; /* of ssm-memory.h */
} SsmOptions;

typedef struct SsmCallbacks {
        /* To be carried out. `number` names it in what follows, for the life of this object. With
         * `again` slipway-fetch was started anew since it was handed over, and does not know what
         * became of it: nothing is to be begun. */
        void (*order)(uint64_t number, const RemoteOrder *o, bool again, void *userdata);

        /* The order is not wanted any more; ssm_news() says what came of that. */
        void (*cancel)(uint64_t number, void *userdata);

        /* How it goes, when that changes. `result` 0: orders can come, by `channel`; else why not.
         * */
        void (*state)(int result, SsmChannel channel, const char *why, void *userdata);
} SsmCallbacks;

typedef struct Ssm Ssm;

/* `http` must outlive it; the rest is copied. */
_must_check_ int ssm_new(Http *http, const SsmOptions *options, const SsmCallbacks *callbacks,
                         void *userdata, Ssm **ret, char **reterr);
Ssm *ssm_free(Ssm *s); /* without calling back; what is under way stays remembered */
DEFINE_CLEANUP_FUNC(Ssm *, ssm_free);

/* What became of an order: `result` and `output`, NUL-terminated, as in remote-order.h. A number
 * that is not known is ignored. */
void ssm_news(Ssm *s, uint64_t number, int result, const char *output);

/* For the loop that steps `http`: in how many microseconds start_due() has something to do
 * (UINT64_MAX: nothing waits), and doing it, which may call back. */
uint64_t ssm_due_in_usec(const Ssm *s);
void ssm_start_due(Ssm *s);
