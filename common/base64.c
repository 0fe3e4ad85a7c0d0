/* SPDX-License-Identifier: Apache-2.0 */
#include "base64.h"

#include <errno.h>
#include <limits.h>

#include <openssl/evp.h>

int base64_encode(const void *data, size_t size, char **ret)
{
        _cleanup_free_ char *s = NULL;

        if (size > INT_MAX / 4 * 3 - 4)
                return -EFBIG;
        s = malloc((size + 2) / 3 * 4 + 1);
        if (!s)
                return -ENOMEM;
        EVP_EncodeBlock((unsigned char *) s, data, (int) size);
        *ret = TAKE_PTR(s);
        return 0;
}

/* EVP_DecodeBlock() trims blanks, counts padding as content and knows one alphabet: less work to do
 * it here than to check what it was given. */
static int value_of(char c)
{
        if (c >= 'A' && c <= 'Z')
                return c - 'A';
        if (c >= 'a' && c <= 'z')
                return c - 'a' + 26;
        if (c >= '0' && c <= '9')
                return c - '0' + 52;
        if (c == '+' || c == '-')
                return 62;
        if (c == '/' || c == '_')
                return 63;
        return -EBADMSG;
}

int base64_decode(const char *s, uint8_t **ret, size_t *ret_size)
{
        _cleanup_free_ uint8_t *data = NULL;
        size_t n = strcspn(s, "="), n_padding = strlen(s + n), size = 0;
        uint32_t bits = 0;

        if (n % 4 == 1 || strspn(s + n, "=") != n_padding ||
            (n_padding > 0 && (n_padding > 2 || (n + n_padding) % 4 != 0)))
                return -EBADMSG;
        data = malloc(n / 4 * 3 + 3);
        if (!data)
                return -ENOMEM;
        for (size_t i = 0; i < n; i++) {
                int value = value_of(s[i]);
                if (value < 0)
                        return value;
                bits = bits << 6 | (uint32_t) value;
                /* After the 2nd, 3rd and 4th character of a group another byte is whole. */
                if (i % 4 != 0)
                        data[size++] = (uint8_t) (bits >> (2 * (3 - i % 4)));
        }
        /* 2 characters leave 4 unused bits, 3 leave 2. */
        if ((n % 4 == 2 && bits & 15) || (n % 4 == 3 && bits & 3))
                return -EBADMSG;
        data[size] = '\0';
        *ret = TAKE_PTR(data);
        *ret_size = size;
        return 0;
}
