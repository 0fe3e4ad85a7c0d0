/* SPDX-License-Identifier: Apache-2.0 */
#include "uuid.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <sys/random.h>

static bool hyphen_follows(size_t i)
{
        return i == 3 || i == 5 || i == 7 || i == 9;
}

char *uuid_format(const uint8_t bytes[static UUID_SIZE], char buffer[static UUID_TEXT_SIZE])
{
        char *out = buffer;

        for (size_t i = 0; i < UUID_SIZE; i++)
                out += sprintf(out, hyphen_follows(i) ? "%02x-" : "%02x", bytes[i]);
        return buffer;
}

int uuid_new(char ret[static UUID_TEXT_SIZE])
{
        uint8_t bytes[UUID_SIZE];

        if (getrandom(bytes, sizeof(bytes), 0) < 0)
                return -errno;
        bytes[6] = (uint8_t) (0x40 | (bytes[6] & 0x0f)); /* the version */
        bytes[8] = (uint8_t) (0x80 | (bytes[8] & 0x3f)); /* the variant */
        (void) uuid_format(bytes, ret);
        return 0;
}

static unsigned digit_value(char c)
{
        return (unsigned) (isdigit((unsigned char) c) ? c - '0'
                                                      : tolower((unsigned char) c) - 'a' + 10);
}

int uuid_parse(const char *s, uint8_t ret[static UUID_SIZE])
{
        uint8_t bytes[UUID_SIZE];

        for (size_t i = 0; i < UUID_SIZE; i++) {
                if (!isxdigit((unsigned char) s[0]) || !isxdigit((unsigned char) s[1]))
                        return -EBADMSG;
                bytes[i] = (uint8_t) (digit_value(s[0]) << 4 | digit_value(s[1]));
                s += 2;
                if (hyphen_follows(i) && *s++ != '-')
                        return -EBADMSG;
        }
        if (*s)
                return -EBADMSG;
        memcpy(ret, bytes, sizeof(bytes));
        return 0;
}
