/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "digest.h"
#include "macro.h"

/* Where the body of an answer goes: memory, a place in a file, or a digest. All zero is memory. As
 * a body may hold secrets, memory is wiped before it is freed; what was taken is the taker's. */

typedef struct Sink {
        enum {
                SINK_MEMORY,
                SINK_FD,
                SINK_HASH,
        } kind;
        uint64_t size; /* bytes written since the last restart */

        char *data; /* memory; NUL-terminated, NULL while empty */
        size_t allocated;

        int fd; /* file; the caller's */
        uint64_t offset;

        Hasher *hasher; /* digest; made by the first write */
} Sink;

void sink_done(Sink *s); /* leaves it empty, to be written to again */

_must_check_ int sink_write(Sink *s, const void *data, size_t size);

/* Forgets what was written: the next byte is the first again. */
void sink_restart(Sink *s);

/* Gives the digest of a SINK_HASH; it starts again after that. */
_must_check_ int sink_digest(Sink *s, Sha256 *ret);
