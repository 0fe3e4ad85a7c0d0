/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>

#include "fuzz.h"
#include "http-chunks.h"
#include "sink.h"

static int read_all(const uint8_t *data, size_t size, size_t piece_size, Sink *ret)
{
        HttpChunks c = {};
        int k = 0;

        for (size_t left; k >= 0 && size > 0; size -= left, data += left) {
                left = MIN(size, piece_size);
                /* of exactly this size, so that reading beyond it is found */
                _cleanup_free_ char *piece = fuzz_text(data, left);
                const char *p = piece, *content;
                size_t n = left, content_size;

                while ((k = http_chunks_next(&c, &p, &n, &content, &content_size)) > 0) {
                        assert(content_size > 0 && content >= piece &&
                               content + content_size <= piece + left);
                        assert(sink_write(ret, content, content_size) == 0);
                }
                assert(k < 0 || n == 0);
        }
        assert(k == 0 || k == -EBADMSG || k == -EFBIG);
        return k;
}

/* In which pieces bytes come makes no difference: the first byte says how large they are. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        _cleanup_(sink_done) Sink whole = {}, pieces = {};

        if (size == 0)
                return 0;
        assert(read_all(data + 1, size - 1, size, &whole) ==
               read_all(data + 1, size - 1, data[0] % 16 + 1, &pieces));
        assert(whole.size == pieces.size);
        assert(whole.size == 0 || memcmp(whole.data, pieces.data, whole.size) == 0);
        return 0;
}
