/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <assert.h>
#include <stddef.h>
#include <stdint.h>

#include "macro.h"

/* A fuzz target: libFuzzer calls it with inputs of its own making, replay.c with those that are
 * kept. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* A copy with the NUL behind it that texts have, to be freed; of exactly this size, so that reading
 * beyond it is found. */
static inline char *fuzz_text(const uint8_t *data, size_t size)
{
        char *text = malloc(size + 1);

        assert(text);
        if (size > 0)
                memcpy(text, data, size);
        text[size] = '\0';
        return text;
}
