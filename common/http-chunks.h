/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "macro.h"

/*
 * A body in chunks (RFC 9112, 7.1). libcurl can take them apart, but passes over what stands around
 * the content without a word, so that a server may keep it busy for as long as it likes: here that
 * has a limit, too.
 *
 *   HEX DIGITS [; extensions] LF  content  [CR] LF  ...  0 LF  trailers
 */

/* What may stand around the content: so much, and so many bytes for each of the content's, which is
 * enough for chunks of one byte. */
#define HTTP_CHUNKS_AROUND_MAX    (UINT64_C(64) * 1024)
#define HTTP_CHUNKS_AROUND_FACTOR 8

/* All zeros at the beginning of a body. */
typedef struct HttpChunks {
        enum {
                HTTP_CHUNKS_SIZE,
                HTTP_CHUNKS_EXTENSIONS,
                HTTP_CHUNKS_CONTENT,
                HTTP_CHUNKS_BEHIND,
                HTTP_CHUNKS_END,
        } state;
        unsigned n_digits;
        uint64_t left;                /* of the chunk's content */
        uint64_t n_content, n_around; /* bytes of the body so far */
} HttpChunks;

/* Takes of the next bytes of the body what brings some content: 1, and it is in *ret. 0: all of
 * them are taken, and there is none. -EBADMSG: these are no chunks; -EFBIG: too much around the
 * content. */
_must_check_ int http_chunks_next(HttpChunks *c, const char **data, size_t *size, const char **ret,
                                  size_t *ret_size);
