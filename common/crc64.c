/* SPDX-License-Identifier: Apache-2.0 */
#include "crc64.h"

#include <endian.h>
#include <pthread.h>

#include "base64.h"

#define POLYNOMIAL UINT64_C(0x9a6c9329ac4bc9b5) /* 0xad93d23594c93659, its bits reversed */

/* table[n][byte]: what a byte with n more after it does. Eight bytes are taken in one step, as one
 * at a time would take longer than the network. */
static uint64_t table[8][256];
static pthread_once_t table_made = PTHREAD_ONCE_INIT;

static void make_table(void)
{
        for (unsigned byte = 0; byte < 256; byte++) {
                uint64_t x = byte;
                for (int bit = 0; bit < 8; bit++)
                        x = x >> 1 ^ (x & 1 ? POLYNOMIAL : 0);
                table[0][byte] = x;
        }
        for (int n = 1; n < 8; n++)
                for (unsigned byte = 0; byte < 256; byte++)
                        table[n][byte] =
                                table[n - 1][byte] >> 8 ^ table[0][table[n - 1][byte] & 0xff];
}

static uint64_t add_eight(uint64_t x, const uint8_t *p)
{
        uint64_t word, sum = 0;

        memcpy(&word, p, sizeof(word));
        x ^= le64toh(word);
        for (int n = 0; n < 8; n++)
                sum ^= table[7 - n][x >> 8 * n & 0xff];
        return sum;
}

uint64_t crc64(uint64_t crc, const void *data, size_t size)
{
        const uint8_t *p = data;
        uint64_t x = ~crc;

        (void) pthread_once(&table_made, make_table);
        for (; size >= 8; p += 8, size -= 8)
                x = add_eight(x, p);
        for (; size > 0; p++, size--)
                x = x >> 8 ^ table[0][(x ^ *p) & 0xff];
        return ~x;
}

int crc64_to_text(uint64_t crc, char ret[static CRC64_TEXT_SIZE])
{
        const uint64_t bytes = htobe64(crc);
        _cleanup_free_ char *text = NULL;
        int r = base64_encode((const uint8_t *) &bytes, sizeof(bytes), &text);

        if (r >= 0)
                memcpy(ret, text, CRC64_TEXT_SIZE);
        return r;
}
