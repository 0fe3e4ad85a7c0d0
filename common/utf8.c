/* SPDX-License-Identifier: Apache-2.0 */
#include "utf8.h"

size_t utf8_sequence_size(const unsigned char *p, size_t left)
{
        size_t size = p[0] < 0x80   ? 1
                      : p[0] < 0xc2 ? 0
                      : p[0] < 0xe0 ? 2
                      : p[0] < 0xf0 ? 3
                      : p[0] < 0xf5 ? 4
                                    : 0;

        if (size > left)
                return 0;
        for (size_t i = 1; i < size; i++)
                if ((p[i] & 0xc0) != 0x80)
                        return 0;
        if ((p[0] == 0xe0 && p[1] < 0xa0) || (p[0] == 0xed && p[1] >= 0xa0) ||
            (p[0] == 0xf0 && p[1] < 0x90) || (p[0] == 0xf4 && p[1] >= 0x90))
                return 0;
        return size;
}

void utf8_clean(char *s)
{
        size_t left = strlen(s);

        while (left > 0) {
                size_t n = utf8_sequence_size((const unsigned char *) s, left);

                if (n == 0)
                        *s = '?';
                else if ((unsigned char) *s < ' ' || *s == 0x7f)
                        *s = ' ';
                else if (n == 2 && (unsigned char) s[0] == 0xc2 && (unsigned char) s[1] < 0xa0)
                        s[0] = s[1] = ' '; /* C1 */
                n = MAX(n, (size_t) 1);
                s += n;
                left -= n;
        }
}
