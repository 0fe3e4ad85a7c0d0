/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stdint.h>

#include <cJSON.h>

#include "agent.h"
#include "macro.h"

/*
 * Keeps slipway-fetch listening for orders (MESSAGE_LISTEN) under the name of the instance that
 * this host is: once that is known, again with back-off when slipway-fetch ends, and anew when the
 * name changes. What comes may be hostile, and is handed on as it came.
 */

typedef struct Listener Listener;

typedef struct ListenerCallbacks {
        /* An order; the number names it until lost(). `again`: it was handed over before. */
        void (*order)(uint64_t number, bool again, const char *line, void *userdata);
        void (*cancel)(uint64_t number, void *userdata);
        void (*lost)(void *userdata); /* all numbers are void */
} ListenerCallbacks;

/* Begins to listen when the event loop runs. */
_must_check_ int listener_new(Agent *agent, const ListenerCallbacks *callbacks, void *userdata,
                              Listener **ret);
Listener *listener_free(Listener *l);
DEFINE_CLEANUP_FUNC(Listener *, listener_free);

/* What is known of the instance may have changed. */
void listener_look_again(Listener *l);

/* What became of an order, as in remote-order.h. -EAGAIN: slipway-fetch does not read now;
 * -EHOSTDOWN, -EPIPE: it is gone. */
_must_check_ int listener_tell(Listener *l, uint64_t number, int result, const char *words);

/* By which channel orders can come; NULL: by none now. */
const char *listener_channel(const Listener *l);

/* Adds "channel", "listening" and "trouble" to the object. */
_must_check_ int listener_describe(const Listener *l, cJSON *object);
