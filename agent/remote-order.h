/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "macro.h"

/*
 * What somebody far away may ask of an application on this host, and how it travels from
 * slipway-fetch, which takes it from a message, to slipwayd, which carries it out: as one line of
 * words, "COMMAND ACTION APP RELEASE UNTIL REASON...", each but the last without a space, "-" for
 * those that are absent; every order has one such line. It rings; what gets installed is decided by
 * signed manifests alone.
 */

typedef enum OrderAction {
        ORDER_POLL,     /* ask the channel now, and do what it says */
        ORDER_DEPLOY,   /* `release`: the channel's, or one that is still on disk */
        ORDER_ROLLBACK, /* `release`, or the one before */
        ORDER_HOLD,
        ORDER_RESUME,
        ORDER_CONFIRM,
        ORDER_STATUS,
        _ORDER_ACTION_MAX,
        _ORDER_ACTION_INVALID = -1,
} OrderAction;

const char *order_action_to_string(OrderAction a); /* "poll" */
OrderAction order_action_from_string(const char *s);

#define ORDER_COMMAND_SIZE 36 /* a UUID in lower case (RFC 9562) */
#define ORDER_UNTIL_MAX    64
#define ORDER_REASON_MAX   256

/* Whether it is a UUID as commands, and replies to them, have it. */
bool order_command_is_valid(const char *s);

typedef struct RemoteOrder {
        char *command; /* names it, here and in the history */
        OrderAction action;
        char *app;     /* name_is_valid(); NULL: the only one of this host */
        char *release; /* name_is_valid(); needed by DEPLOY, may be with ROLLBACK, else NULL */
        char *until;  /* with HOLD: letters, digits and ":.+-", at most ORDER_UNTIL_MAX, the first a
                       * digit; hold_parse_until() reads it; NULL: until somebody says resume */
        char *reason; /* with HOLD: printable UTF-8 in one line, 1 to ORDER_REASON_MAX bytes, not
                       * only "-"; or NULL */
} RemoteOrder;

void remote_order_done(RemoteOrder *o);

/* 0, or -EINVAL: a member breaks the rules above; *reterr starts with its name ("release: ..."),
 * and repeats nothing of what it holds. */
_must_check_ int remote_order_check(const RemoteOrder *o, char **reterr);

/* The line. Only for an order that was checked. */
_must_check_ int remote_order_pack(const RemoteOrder *o, char **ret);

/* -EINVAL: not such a line, or not by the rules above; *reterr repeats nothing of it. */
_must_check_ int remote_order_unpack(const char *line, RemoteOrder *ret, char **reterr);

#define ORDER_WORDS_MAX 24000

/* What became of an order: one of these, 0 (done), -ECANCELED, or another negative errno (failed),
 * with words for people of at most ORDER_WORDS_MAX bytes. */
enum {
        ORDER_GOES_ON = 1, /* the words so far */
        ORDER_NOT_STOPPED, /* it was to be cancelled, and can't be: the words say why; it goes on */
};
