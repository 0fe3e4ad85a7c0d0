/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>

#include "fuzz.h"
#include "window.h"

#define WEEK_SEC (7 * 24 * 60 * 60)

/* What is taken is written in one form, which means the same. It is open or will be within a week,
 * and just when it says. */
static void check(const Window *w, uint64_t now_sec)
{
        uint64_t opens_sec = window_opens_sec(w, now_sec),
                 closes_sec = window_closes_sec(w, opens_sec);

        assert(opens_sec >= now_sec && opens_sec - now_sec < WEEK_SEC);
        assert(window_is_open(w, opens_sec));
        assert(opens_sec == now_sec || !window_is_open(w, opens_sec - 1));
        assert(closes_sec > opens_sec);
        assert(closes_sec == UINT64_MAX ||
               (window_is_open(w, closes_sec - 1) && !window_is_open(w, closes_sec)));
}

static bool is_same(const WindowSpan *a, const WindowSpan *b)
{
        return a->days == b->days && a->begin_min == b->begin_min && a->end_min == b->end_min;
}

/* Each line is a span. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        _cleanup_free_ char *text = fuzz_text(data, size);
        Window w = {};

        for (char *save = NULL, *line = strtok_r(text, "\n", &save); line;
             line = strtok_r(NULL, "\n", &save)) {
                _cleanup_free_ char *err = NULL;
                char first[WINDOW_SPAN_TEXT_SIZE], second[WINDOW_SPAN_TEXT_SIZE];
                Window again = {};

                if (window_add(&w, line, &err) < 0) {
                        assert(err);
                        continue;
                }
                (void) window_span_format(&w.spans[w.n_spans - 1], first);
                assert(window_add(&again, first, &err) == 0);
                assert(is_same(&again.spans[0], &w.spans[w.n_spans - 1]));
                assert(streq(window_span_format(&again.spans[0], second), first));
        }
        for (uint64_t now_sec = 0; w.n_spans > 0 && now_sec < WEEK_SEC; now_sec += 5 * 60 * 60 + 59)
                check(&w, now_sec);
        return 0;
}
