/* SPDX-License-Identifier: Apache-2.0 */
#include "fuzz.h"
#include "journal-tail.h"
#include "utf8.h"

/* What an application writes to its journal, from the last line to the first: what is kept has the
 * form that messages and the state take. Each line of the input is an entry; "\1" stands for a line
 * break within one. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        _cleanup_free_ char *text = fuzz_text(data, size), *clean = NULL;
        size_t n_lines = 1;
        TailText t;

        tail_text_init(&t);
        for (char *line = text, *end; line; line = end ? end + 1 : NULL) {
                end = memchr(line, '\n', (size_t) (text + size - line));
                const size_t n = end ? (size_t) (end - line) : (size_t) (text + size - line);
                for (size_t i = 0; i < n; i++)
                        if (line[i] == 1)
                                line[i] = '\n';
                if (!tail_text_prepend(&t, line, n))
                        break;
        }
        const char *kept = t.text + t.start;
        assert(strlen(kept) < JOURNAL_TAIL_SIZE_MAX &&
               t.start + strlen(kept) + 1 == sizeof(t.text));
        assert(t.n_lines <= JOURNAL_TAIL_LINES_MAX);
        clean = strdup(kept);
        assert(clean);
        for (char *c = clean; (c = strchr(c, '\n'));) {
                *c = ' ';
                n_lines++;
        }
        assert(t.n_lines == 0 || n_lines == t.n_lines);
        for (const char *k = kept; *k; k++)
                assert((unsigned char) *k >= ' ' || *k == '\n');
        utf8_clean(clean);
        for (size_t i = 0; kept[i]; i++)
                assert(clean[i] == kept[i] || kept[i] == '\n');
        return 0;
}
