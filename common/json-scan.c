/* SPDX-License-Identifier: Apache-2.0 */
#include "json-scan.h"
#include "utf8.h"

#include <ctype.h>
#include <errno.h>

#define NUMBER_MAX        ((UINT64_C(1) << 53) - 1)
#define NUMBER_DIGITS_MAX 16

static int scan_fail(JsonScanner *s, const char *reason)
{
        s->reason = reason;
        return -EBADMSG;
}

/* The byte at pos, or -1 at the end. */
static int peek(const JsonScanner *s)
{
        return s->pos < s->size ? (unsigned char) s->data[s->pos] : -1;
}

static void scan_space(JsonScanner *s)
{
        /* NOLINTNEXTLINE(bugprone-not-null-terminated-result): NUL is no space */
        while (s->pos < s->size && memchr(" \t\r\n", s->data[s->pos], 4))
                s->pos++;
}

/* The four hex digits of \uXXXX, the cursor being on the 'u'. */
static int scan_hex4(JsonScanner *s, unsigned *ret)
{
        unsigned value = 0;

        for (size_t i = 1; i <= 4; i++) {
                int c = s->pos + i < s->size ? (unsigned char) s->data[s->pos + i] : -1;
                if (c < 0 || !isxdigit(c))
                        return scan_fail(s, "\\u needs four hex digits");
                value = value << 4 | (unsigned) (c <= '9' ? c - '0' : (c | 0x20) - 'a' + 10);
        }
        s->pos += 5;
        *ret = value;
        return 0;
}

static int scan_unicode_escape(JsonScanner *s)
{
        unsigned first, second;
        int r = scan_hex4(s, &first);

        if (r < 0)
                return r;
        if (first == 0)
                return scan_fail(s, "\\u0000 is not allowed");
        if (first < 0xd800 || first > 0xdfff)
                return 0;
        if (first > 0xdbff || s->size - s->pos < 2 || memcmp(s->data + s->pos, "\\u", 2) != 0)
                return scan_fail(s, "half of a surrogate pair");
        s->pos++;
        r = scan_hex4(s, &second);
        if (r < 0)
                return r;
        if (second < 0xdc00 || second > 0xdfff)
                return scan_fail(s, "half of a surrogate pair");
        return 0;
}

static int scan_escape(JsonScanner *s)
{
        s->pos++;
        int c = peek(s);
        if (c == 'u')
                return scan_unicode_escape(s);
        if (c <= 0 || !strchr("\"\\/bfnrt", c))
                return scan_fail(s, "unknown escape in a string");
        s->pos++;
        return 0;
}

static int scan_string(JsonScanner *s)
{
        int r;

        if (peek(s) != '"')
                return scan_fail(s, "a string in double quotes is expected here");
        s->pos++;
        for (;;) {
                int c = peek(s);
                if (c < 0)
                        return scan_fail(s, "the text ends inside a string");
                if (c == '"')
                        break;
                if (c < ' ' || c == 0x7f)
                        return scan_fail(s, "control character in a string");
                if (c == '\\') {
                        r = scan_escape(s);
                        if (r < 0)
                                return r;
                        continue;
                }
                size_t n = utf8_sequence_size((const unsigned char *) s->data + s->pos,
                                              s->size - s->pos);
                if (n == 0)
                        return scan_fail(s, "not UTF-8");
                s->pos += n;
        }
        s->pos++;
        return 0;
}

static int scan_number(JsonScanner *s)
{
        size_t start, n_digits;
        uint64_t value = 0;

        if (peek(s) == '-')
                s->pos++;
        start = s->pos;
        while (peek(s) >= '0' && peek(s) <= '9') {
                if (s->pos - start >= NUMBER_DIGITS_MAX)
                        return scan_fail(s, "number out of range (largest: 2^53 - 1)");
                value = value * 10 + (uint64_t) (peek(s) - '0');
                s->pos++;
        }
        n_digits = s->pos - start;
        if (n_digits == 0)
                return scan_fail(s, "a digit is expected here");
        if (n_digits > 1 && s->data[start] == '0')
                return scan_fail(s, "number with a leading zero");
        if (value > NUMBER_MAX)
                return scan_fail(s, "number out of range (largest: 2^53 - 1)");
        if (peek(s) == '.' || (peek(s) | 0x20) == 'e')
                return scan_fail(s, "only whole numbers, without fraction or exponent");
        return 0;
}

static int scan_literal(JsonScanner *s)
{
        static const char *const words[] = { "true", "false", "null" };

        for (size_t i = 0; i < ELEMENTSOF(words); i++) {
                size_t size = strlen(words[i]);
                if (s->size - s->pos >= size && memcmp(s->data + s->pos, words[i], size) == 0) {
                        s->pos += size;
                        return 0;
                }
        }
        return scan_fail(s, peek(s) < 0 ? "the text ends where a value is expected"
                                        : "a value is expected here");
}

/* A member's name and its colon. */
static int scan_key(JsonScanner *s)
{
        JsonLevel *l = &s->levels[s->depth - 1];
        size_t start = s->pos;
        int r = scan_string(s);

        if (r < 0)
                return r;
        l->key_pos = start;
        l->key_size = s->pos - start;
        scan_space(s);
        if (peek(s) != ':')
                return scan_fail(s, "\":\" is expected after a member's name");
        s->pos++;
        scan_space(s);
        return 0;
}

/* Enters an object or array; an empty one is left again at once. Returns 1 if an element follows.
 */
static int scan_open(JsonScanner *s)
{
        bool object = peek(s) == '{';

        if (s->depth >= JSON_DEPTH_MAX)
                return scan_fail(s, "nested too deeply");
        s->levels[s->depth++] = (JsonLevel){ .object = object };
        s->pos++;
        scan_space(s);
        if (peek(s) != (object ? '}' : ']'))
                return 1;
        s->pos++;
        s->depth--;
        return 0;
}

/* After a value: leaves what ends here. Returns 1 if another element follows, 0 at the end of the
 * document. */
static int scan_after_value(JsonScanner *s)
{
        while (s->depth > 0) {
                JsonLevel *l = &s->levels[s->depth - 1];
                scan_space(s);
                if (peek(s) == ',') {
                        s->pos++;
                        scan_space(s);
                        l->index++;
                        return 1;
                }
                if (peek(s) != (l->object ? '}' : ']'))
                        return scan_fail(s,
                                         l->object ? "\",\" or \"}\" is expected after a member"
                                                   : "\",\" or \"]\" is expected after an element");
                s->pos++;
                s->depth--;
        }
        scan_space(s);
        if (s->pos < s->size)
                return scan_fail(s, "something follows after the end of the document");
        return 0;
}

void json_scan_start(JsonScanner *s)
{
        scan_space(s);
}

int json_scan_key(JsonScanner *s)
{
        if (s->depth > 0 && s->levels[s->depth - 1].object)
                return scan_key(s);
        return 0;
}

int json_scan_value(JsonScanner *s)
{
        int c = peek(s), r;

        if (c == '{' || c == '[') {
                r = scan_open(s);
                return r != 0 ? r : scan_after_value(s);
        }
        if (c == '"')
                r = scan_string(s);
        else if (c == '-' || (c >= '0' && c <= '9'))
                r = scan_number(s);
        else
                r = scan_literal(s);
        return r < 0 ? r : scan_after_value(s);
}
