/* SPDX-License-Identifier: Apache-2.0 */
#include "size-text.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

#define SIZE_MAX_BYTES (UINT64_C(1) << 53)

#define UNITS "KMGT"

char *size_text_format(uint64_t bytes, char buffer[static SIZE_TEXT_SIZE])
{
        size_t unit = 0;

        while (bytes > 0 && bytes % 1024 == 0 && unit < STRLEN(UNITS)) {
                bytes /= 1024;
                unit++;
        }
        (void) snprintf(buffer, SIZE_TEXT_SIZE, "%" PRIu64 "%.1s", bytes,
                        unit > 0 ? &UNITS[unit - 1] : "");
        return buffer;
}

int size_text_parse(const char *s, uint64_t *ret_bytes)
{
        uint64_t bytes = 0;
        size_t n_digits = strspn(s, "0123456789");
        const char *unit = s[n_digits] ? strchr(UNITS, s[n_digits]) : NULL;

        if (n_digits == 0 || n_digits > 16 || (s[n_digits] && (!unit || s[n_digits + 1])))
                return -EBADMSG;
        for (size_t i = 0; i < n_digits; i++)
                bytes = bytes * 10 + (uint64_t) (s[i] - '0');
        for (const char *u = UNITS; unit && u <= unit; u++) {
                if (bytes > SIZE_MAX_BYTES / 1024)
                        return -EBADMSG;
                bytes *= 1024;
        }
        if (bytes > SIZE_MAX_BYTES)
                return -EBADMSG;
        *ret_bytes = bytes;
        return 0;
}
