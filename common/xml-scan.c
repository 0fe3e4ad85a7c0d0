/* SPDX-License-Identifier: Apache-2.0 */
#include "xml-scan.h"

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>

#include "secret.h"

typedef struct Scan {
        const char *p, *end;
        const char *text; /* where the text of the innermost element begins */
        char path[XML_PATH_MAX + 1];
        size_t path_size;
        unsigned depth;
        bool is_leaf;  /* no element was seen in the innermost one */
        bool had_root; /* nothing but blanks may follow */
        xml_leaf_t leaf;
        void *userdata;
} Scan;

static bool is_blank(char c)
{
        return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

static bool is_name(char c)
{
        return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
               c == '_' || c == '-' || c == '.' || c == ':';
}

static bool scan_looks_at(const Scan *s, const char *what)
{
        size_t n = strlen(what);

        return (size_t) (s->end - s->p) >= n && memcmp(s->p, what, n) == 0;
}

static char *put_utf8(char *out, uint32_t c)
{
        if (c < 0x80)
                *out++ = (char) c;
        else if (c < 0x800) {
                *out++ = (char) (0xc0 | c >> 6);
                *out++ = (char) (0x80 | (c & 0x3f));
        } else if (c < 0x10000) {
                *out++ = (char) (0xe0 | c >> 12);
                *out++ = (char) (0x80 | (c >> 6 & 0x3f));
                *out++ = (char) (0x80 | (c & 0x3f));
        } else {
                *out++ = (char) (0xf0 | c >> 18);
                *out++ = (char) (0x80 | (c >> 12 & 0x3f));
                *out++ = (char) (0x80 | (c >> 6 & 0x3f));
                *out++ = (char) (0x80 | (c & 0x3f));
        }
        return out;
}

/* The character of "#65" or "#x41" (what stands between "&" and ";"); 0: none. */
static uint32_t numeric_entity(const char *s, size_t n)
{
        uint32_t c = 0, base = 10;
        size_t i = 1;

        if (n > 2 && s[1] == 'x') {
                base = 16;
                i = 2;
        }
        if (i >= n || n > 9)
                return 0;
        for (; i < n; i++) {
                char d = s[i];
                uint32_t value = d >= '0' && d <= '9'   ? (uint32_t) (d - '0')
                                 : d >= 'a' && d <= 'f' ? (uint32_t) (d - 'a' + 10)
                                 : d >= 'A' && d <= 'F' ? (uint32_t) (d - 'A' + 10)
                                                        : 16;
                if (value >= base)
                        return 0;
                c = c * base + value;
                if (c > 0x10ffff)
                        return 0;
        }
        return c >= 0xd800 && c < 0xe000 ? 0 : c;
}

static uint32_t entity(const char *s, size_t n)
{
        static const struct {
                const char *name;
                uint32_t c;
        } named[] = {
                {"lt",    '<' },
                { "gt",   '>' },
                { "amp",  '&' },
                { "quot", '"' },
                { "apos", '\''}
        };

        if (n > 0 && s[0] == '#')
                return numeric_entity(s, n);
        for (size_t i = 0; i < ELEMENTSOF(named); i++)
                if (strlen(named[i].name) == n && memcmp(named[i].name, s, n) == 0)
                        return named[i].c;
        return 0;
}

/* No entity is shorter than what it stands for. */
static int decode(const char *s, size_t size, char **ret)
{
        _cleanup_free_ char *text = malloc(size + 1);
        char *out = text;

        if (!text)
                return -ENOMEM;
        for (const char *end = s + size; s < end; s++) {
                if (*s == '\0')
                        return -EBADMSG;
                if (*s != '&') {
                        *out++ = *s;
                        continue;
                }
                const char *semicolon = memchr(s, ';', end - s);
                uint32_t c = semicolon ? entity(s + 1, semicolon - s - 1) : 0;
                if (c == 0)
                        return -EBADMSG;
                out = put_utf8(out, c);
                s = semicolon;
        }
        *out = '\0';
        *ret = TAKE_PTR(text);
        return 0;
}

static int push(Scan *s, const char *name, size_t n)
{
        if (s->depth == XML_DEPTH_MAX || n == 0 || s->path_size + 1 + n > XML_PATH_MAX ||
            (s->depth == 0 && s->had_root))
                return -EBADMSG;
        if (s->depth++ > 0)
                s->path[s->path_size++] = '/';
        memcpy(s->path + s->path_size, name, n);
        s->path_size += n;
        s->path[s->path_size] = '\0';
        s->is_leaf = s->had_root = true;
        return 0;
}

/* Closes the innermost element, whose text ends at `text_end`. */
static int pop(Scan *s, const char *text_end)
{
        if (s->is_leaf) {
                /* Answers of STS hold secrets. */
                _cleanup_(secret_freep) char *text = NULL;
                int r = decode(s->text, text_end - s->text, &text);
                if (r < 0)
                        return r;
                r = s->leaf(s->path, text, s->userdata);
                if (r != 0)
                        return r;
        }
        char *slash = strrchr(s->path, '/');
        s->path_size = slash ? (size_t) (slash - s->path) : 0;
        s->path[s->path_size] = '\0';
        s->depth--;
        s->is_leaf = false;
        return 0;
}

/* Skips to the ">" of a tag, over quoted attribute values. */
static int skip_attributes(Scan *s, bool *ret_empty)
{
        for (; s->p < s->end && *s->p != '>'; s->p++) {
                if (*s->p == '<')
                        return -EBADMSG;
                if (*s->p != '"' && *s->p != '\'')
                        continue;
                s->p = memchr(s->p + 1, *s->p, s->end - s->p - 1);
                if (!s->p)
                        return -EBADMSG;
        }
        if (s->p == s->end)
                return -EBADMSG;
        *ret_empty = s->p[-1] == '/';
        s->p++;
        return 0;
}

static size_t name_size(const Scan *s)
{
        size_t n = 0;

        while (s->p + n < s->end && is_name(s->p[n]))
                n++;
        return n;
}

static int scan_open(Scan *s)
{
        bool is_empty;
        size_t n;
        int r;

        s->p++;
        n = name_size(s);
        r = push(s, s->p, n);
        if (r < 0)
                return r;
        s->p += n;
        if (s->p == s->end || (!is_blank(*s->p) && *s->p != '>' && *s->p != '/'))
                return -EBADMSG;
        r = skip_attributes(s, &is_empty);
        if (r < 0)
                return r;
        s->text = s->p;
        return is_empty ? pop(s, s->p) : 0;
}

static int scan_close(Scan *s)
{
        const char *text_end = s->p, *last = strrchr(s->path, '/');

        s->p += 2;
        size_t n = name_size(s);
        last = last ? last + 1 : s->path;
        if (s->depth == 0 || strlen(last) != n || memcmp(last, s->p, n) != 0)
                return -EBADMSG;
        s->p += n;
        while (s->p < s->end && is_blank(*s->p))
                s->p++;
        if (s->p == s->end || *s->p++ != '>')
                return -EBADMSG;
        return pop(s, text_end);
}

static int scan_declaration(Scan *s)
{
        for (; s->p < s->end; s->p++)
                if (scan_looks_at(s, "?>")) {
                        s->p += 2;
                        return 0;
                }
        return -EBADMSG;
}

static int scan_step(Scan *s)
{
        if (scan_looks_at(s, "<?"))
                return s->depth == 0 ? scan_declaration(s) : -EBADMSG;
        if (scan_looks_at(s, "<!"))
                return -EBADMSG;
        if (scan_looks_at(s, "</"))
                return scan_close(s);
        if (*s->p == '<')
                return scan_open(s);
        /* Text: only a leaf's counts, and outside the root there is none. */
        if (s->depth == 0 && !is_blank(*s->p))
                return -EBADMSG;
        s->p++;
        return 0;
}

int xml_scan(const char *data, size_t size, xml_leaf_t leaf, void *userdata)
{
        Scan s = { .p = data, .end = data + size, .leaf = leaf, .userdata = userdata };

        while (s.p < s.end) {
                int r = scan_step(&s);
                if (r != 0)
                        return r;
        }
        return s.depth == 0 && s.had_root ? 0 : -EBADMSG;
}
