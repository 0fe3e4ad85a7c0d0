/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>

#include "fuzz.h"
#include "sink.h"
#include "ws-frame.h"

#define LIMIT 4096

/* All that a reader gives, one after the other. */
static void read_all(const uint8_t *data, size_t size, size_t piece_size, Sink *ret)
{
        _cleanup_(ws_reader_freep) WsReader *r = NULL;
        int k = 0;

        assert(ws_reader_new(LIMIT, &r) == 0);
        for (size_t left; k >= 0 && size > 0; size -= left, data += left) {
                left = MIN(size, piece_size);
                /* of exactly this size, so that reading beyond it is found */
                _cleanup_free_ char *piece = fuzz_text(data, left);
                const uint8_t *p = (uint8_t *) piece;
                size_t n = left;
                do {
                        _cleanup_free_ char *err = NULL;
                        WsMessage m;
                        unsigned status = 0;
                        k = ws_reader_next(r, &p, &n, &m, &status, &err);
                        if (k < 0) {
                                assert(k == -EPROTO && err && status > 1000);
                                m = (WsMessage){ .data = err,
                                                 .size = strlen(err),
                                                 .status = status };
                        }
                        assert(k <= 0 || m.size <= LIMIT);
                        if (k != 0)
                                assert(sink_write(ret, &m.opcode, sizeof(m.opcode)) == 0 &&
                                       sink_write(ret, &m.status, sizeof(m.status)) == 0 &&
                                       sink_write(ret, m.data, m.size) == 0);
                } while (k > 0);
                assert(k < 0 || n == 0);
        }
}

/* In which pieces bytes come makes no difference: the first byte says how large they are. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        _cleanup_(sink_done) Sink whole = {}, pieces = {};

        if (size == 0)
                return 0;
        read_all(data + 1, size - 1, size, &whole);
        read_all(data + 1, size - 1, data[0] % 16 + 1, &pieces);
        assert(whole.size == pieces.size);
        assert(whole.size == 0 || memcmp(whole.data, pieces.data, whole.size) == 0);
        return 0;
}
