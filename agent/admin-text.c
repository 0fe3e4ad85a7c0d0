/* SPDX-License-Identifier: Apache-2.0 */
#include "admin-text.h"
#include "json-print.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

/* Decodes one UTF-8 sequence: its length in bytes, or 0 if there is none that is valid (RFC 3629).
 */
static size_t utf8_decode(const char *s, uint32_t *ret)
{
        const unsigned char *p = (const unsigned char *) s;
        static const uint32_t least[] = { 0, 0, 0x80, 0x800, 0x10000 };
        size_t n = p[0] < 0x80 ? 1 : p[0] >= 0xf0 ? 4 : p[0] >= 0xe0 ? 3 : p[0] >= 0xc0 ? 2 : 0;
        uint32_t c = n == 1 ? p[0] : p[0] & (0x7f >> n);

        if (n == 0 || p[0] >= 0xf8)
                return 0;
        for (size_t i = 1; i < n; i++) {
                if ((p[i] & 0xc0) != 0x80)
                        return 0;
                c = c << 6 | (p[i] & 0x3f);
        }
        if ((n > 1 && c < least[n]) || c > 0x10ffff || (c >= 0xd800 && c <= 0xdfff))
                return 0;
        *ret = c;
        return n;
}

/* Bidirectional controls can show one text as another (CVE-2021-42574). */
static bool is_harmful(uint32_t c)
{
        return c < 0x20 || (c >= 0x7f && c <= 0x9f) || c == 0x061c || c == 0x200e || c == 0x200f ||
               (c >= 0x2028 && c <= 0x202e) || (c >= 0x2066 && c <= 0x2069) || c == 0xfeff;
}

char *text_clean(char *s)
{
        char *to = s;

        for (const char *from = s; *from;) {
                uint32_t c = 0;
                size_t n = utf8_decode(from, &c);

                if (n == 0 || is_harmful(c)) {
                        *to++ = '?';
                        from += n ? n : 1;
                        continue;
                }
                memmove(to, from, n);
                to += n;
                from += n;
        }
        *to = '\0';
        return s;
}

/* Recursion is bounded: json_parse() takes JSON_DEPTH_MAX levels. */
/* NOLINTNEXTLINE(misc-no-recursion): see above */
void text_clean_json(cJSON *tree)
{
        if (tree->string)
                text_clean(tree->string);
        if (cJSON_IsString(tree))
                text_clean(tree->valuestring);
        for (cJSON *child = tree->child; child; child = child->next)
                text_clean_json(child);
}

/* Takes plain. */
static int escape_harmful(char *plain, char **ret)
{
        _cleanup_free_ char *text = NULL;
        size_t size = 0;
        FILE *f;

        if (!plain)
                return -ENOMEM;
        f = open_memstream(&text, &size);
        if (!f) {
                cJSON_free(plain);
                return -errno;
        }
        for (const char *p = plain; *p;) {
                uint32_t c = 0;
                size_t n = utf8_decode(p, &c);

                /* cJSON's own line breaks and tabs; inside strings it has escaped these already */
                if (n == 1 && (c == '\n' || c == '\t'))
                        fputc((int) c, f);
                else if (n > 0 && !is_harmful(c))
                        fwrite(p, 1, n, f);
                else
                        fprintf(f, "\\u%04" PRIx32, n ? c : 0xfffd);
                p += n ? n : 1;
        }
        fputc('\n', f);
        cJSON_free(plain);
        if (fclose(f) != 0)
                return -errno;
        *ret = TAKE_PTR(text);
        return 0;
}

int text_format_json(const cJSON *tree, char **ret)
{
        return escape_harmful(json_print(tree, true), ret);
}

int text_format_json_line(const cJSON *tree, char **ret)
{
        return escape_harmful(json_print(tree, false), ret);
}

char *time_ago(uint64_t now_sec, uint64_t then_sec, char buffer[static TIME_AGO_SIZE])
{
        bool future = then_sec > now_sec;
        uint64_t d = future ? then_sec - now_sec : now_sec - then_sec;
        const char *unit = "s";

        if (d == 0) {
                (void) snprintf(buffer, TIME_AGO_SIZE, "now");
                return buffer;
        }
        if (d >= 2 * 86400) {
                d /= 86400;
                unit = " days";
        } else if (d >= 2 * 3600) {
                d /= 3600;
                unit = "h";
        } else if (d >= 120) {
                d /= 60;
                unit = "min";
        }
        (void) snprintf(buffer, TIME_AGO_SIZE, "%s%" PRIu64 "%s%s", future ? "in " : "", d, unit,
                        future ? "" : " ago");
        return buffer;
}
