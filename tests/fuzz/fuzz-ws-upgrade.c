/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>

#include "fuzz.h"
#include "ssm-refusal.h"
#include "ws-upgrade.h"

/* Takes it in pieces of this size; gives what is left behind the answer. */
static int take_all(WsAnswer *a, const uint8_t *data, size_t size, size_t piece_size,
                    size_t *ret_left)
{
        int r = 0;

        while (r == 0 && size > 0) {
                size_t n = MIN(size, piece_size), left = n;
                /* of exactly this size, so that reading beyond it is found */
                _cleanup_free_ char *piece = fuzz_text(data, n), *err = NULL;
                const uint8_t *p = (uint8_t *) piece;
                r = ws_answer_take(a, &p, &left, &err);
                assert(r >= 0 || (r == -EPROTO && err));
                assert(r != 0 || left == 0);
                data += n - left;
                size -= n - left;
        }
        *ret_left = size;
        return r;
}

/* In which pieces bytes come makes no difference: the first byte says how large they are. A refusal
 * can be judged, whatever is in it. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        _cleanup_(ws_answer_freep) WsAnswer *whole = NULL, *pieces = NULL;
        _cleanup_(ssm_refusal_done) SsmRefusal f = {};
        size_t left, pieces_left, body_size, n;
        int r;

        if (size == 0)
                return 0;
        assert(ws_answer_new("dGhlIHNhbXBsZSBub25jZQ==", &whole) == 0);
        assert(ws_answer_new("dGhlIHNhbXBsZSBub25jZQ==", &pieces) == 0);
        r = take_all(whole, data + 1, size - 1, size, &left);
        assert(take_all(pieces, data + 1, size - 1, data[0] % 16 + 1, &pieces_left) == r);
        assert(r < 0 || left == pieces_left);
        assert(ws_answer_status(whole) == ws_answer_status(pieces));
        const char *body = ws_answer_body(whole, &body_size);
        assert(body_size <= WS_REFUSAL_SIZE_MAX);
        assert(memcmp(body, ws_answer_body(pieces, &n), body_size) == 0 && n == body_size);
        assert(ssm_refusal_parse(ws_answer_status(whole), body, body_size, &f) == 0);
        assert(f.error.code && f.error.message && f.result < 0);
        (void) ws_answer_date(whole);
        return 0;
}
