/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stdint.h>

#include <cJSON.h>

#include "macro.h"

/*
 * A hold: somebody does not want anything to be deployed for now. It ends by itself (by the clock,
 * CLOCK_REALTIME, so also while nobody runs); what has ended may stay in the state until somebody
 * looks. As JSON: { "by": "root", "since": "...", "until": "...", "reason": "..." }.
 */

#define HOLD_TEXT_SIZE_MAX 256

typedef struct Hold {
        char *by;                      /* NULL: none */
        char *reason;                  /* may be NULL */
        uint64_t since_sec, until_sec; /* since the epoch; until_sec 0: until somebody ends it */
} Hold;

/* Replaces what is there, by copies, cut to HOLD_TEXT_SIZE_MAX bytes and cleaned (utf8_clean()). An
 * empty reason is none. */
_must_check_ int hold_set(Hold *h, const char *by, const char *reason, uint64_t now_sec,
                          uint64_t until_sec);
void hold_done(Hold *h);

bool hold_is_on(const Hold *h, uint64_t now_sec);

/* "root holds it until 2026-11-22T15:00:00Z: the fair", to be freed; NULL when memory is short. */
char *hold_to_text(const Hold *h);

/* "2026-11-22T15:00:00Z", or from now on "90s", "30min", "2h". -EINVAL: it is neither, or not to
 * come. */
_must_check_ int hold_parse_until(const char *text, uint64_t now_sec, uint64_t *ret_sec,
                                  char **reterr);

/* A parse function of json-read.h; target is a Hold. */
int hold_parse(const cJSON *v, const char *path, void *target, char **reterr);
_must_check_ int hold_format(const Hold *h, cJSON **ret);
