/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stdint.h>
#include <sys/types.h>

/*
 * What sits in a child's place after a takeover: nothing of the child's code runs any more, and
 * what it does to slipwayd by its socket is what the file TAKEOVER_ORDERS says, "WHAT SEED ROUNDS".
 * It is not confined: what its sandbox holds is breakout.h's affair.
 *
 * "takeover WHAT ..." on stderr, which is the journal, says what was done.
 */

#define TAKEOVER_ORDERS "/run/takeover"

typedef struct Takeover {
        char what[32];
        uint64_t seed; /* of takeover_random(), which it advances */
        unsigned n_rounds;
} Takeover;

/* Reads the orders. Without them, waits for the end. */
void takeover_open(Takeover *ret);

__attribute__((format(printf, 2, 3))) void takeover_say(const Takeover *t, const char *format, ...);

/* A number below n (at most 2^32); the same ones for the same seed. */
uint32_t takeover_random(Takeover *t, uint32_t n);

/* A memfd of so many random bytes, without seals. */
int takeover_memfd(Takeover *t, size_t size);
