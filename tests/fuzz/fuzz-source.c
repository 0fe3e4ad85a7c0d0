/* SPDX-License-Identifier: Apache-2.0 */
#include "fuzz.h"
#include "source.h"
#include "utf8.h"

#define TEXT_SIZE_MAX 1024

/* Texts, one after the other, and where they end. */
static char *environment, *environment_end;

static char *get(const char *name)
{
        const size_t n = strlen(name);

        for (char *line = environment; line < environment_end; line += strlen(line) + 1)
                if (strncmp(line, name, n) == 0 && line[n] == '=')
                        return line + n + 1;
        return NULL;
}

/* As a manifest takes it. */
static void check_text(const char *s)
{
        size_t left = s ? strlen(s) : 0;

        assert(!s || (left > 0 && left <= TEXT_SIZE_MAX));
        for (size_t n; left > 0; s += n, left -= n) {
                n = utf8_sequence_size((const unsigned char *) s, left);
                assert(n > 0 && (unsigned char) *s >= ' ' && *s != 0x7f);
        }
}

/* What a CI service says of a build, which whoever pushed a branch had a say in. The input's lines
 * are variables. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        _cleanup_free_ char *text = fuzz_text(data, size), *who = NULL;
        _cleanup_(source_donep) Source s = {};

        for (char *c = text; (c = memchr(c, '\n', (size_t) (text + size - c)));)
                *c = '\0';
        environment = text;
        environment_end = text + size;
        assert(source_from_ci(get, &s) == 0);
        check_text(s.repository);
        check_text(s.commit);
        check_text(s.ref);
        check_text(s.build);
        check_text(s.by);
        assert(source_who(get, &who) == 0);
        check_text(who);
        return 0;
}
