/* SPDX-License-Identifier: Apache-2.0 */
#include "digest.h"

#include <pthread.h>

#include <openssl/evp.h>

#include "err.h"
#include "fd.h"

struct Hasher {
        EVP_MD_CTX *context;
};

/* Found once: what EVP_sha256() gives is looked up among the providers at each use (crypto(7),
 * "Performance"). */
static EVP_MD *algorithm;
static pthread_once_t algorithm_found = PTHREAD_ONCE_INIT;

static void find_algorithm(void)
{
        algorithm = EVP_MD_fetch(NULL, "SHA256", NULL);
}

/* NULL: there is no memory. */
static const EVP_MD *sha256_algorithm(void)
{
        (void) pthread_once(&algorithm_found, find_algorithm);
        return algorithm;
}

static int hasher_start(Hasher *h)
{
        return EVP_DigestInit_ex(h->context, sha256_algorithm(), NULL) == 1 ? 0 : -ENOMEM;
}

int hasher_new(Hasher **ret)
{
        _cleanup_(hasher_freep) Hasher *h = calloc(1, sizeof(Hasher));
        int r;

        if (!h)
                return -ENOMEM;
        h->context = EVP_MD_CTX_new();
        if (!h->context)
                return -ENOMEM;
        r = hasher_start(h);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(h);
        return 0;
}

Hasher *hasher_free(Hasher *h)
{
        if (h)
                EVP_MD_CTX_free(h->context);
        free(h);
        return NULL;
}

int hasher_add(Hasher *h, const void *data, size_t size)
{
        return EVP_DigestUpdate(h->context, data, size) == 1 ? 0 : -EIO;
}

int hasher_finish(Hasher *h, Sha256 *ret)
{
        if (EVP_DigestFinal_ex(h->context, ret->bytes, NULL) != 1)
                return -EIO;
        return hasher_start(h);
}

int sha256(const void *data, size_t size, Sha256 *ret)
{
        return EVP_Digest(data, size, ret->bytes, NULL, sha256_algorithm(), NULL) == 1 ? 0
                                                                                       : -ENOMEM;
}

int sha256_fd(int fd, uint64_t offset, uint64_t size, Sha256 *ret)
{
        _cleanup_(hasher_freep) Hasher *h = NULL;
        uint8_t buffer[65536];
        int r = hasher_new(&h);

        if (r < 0)
                return r;
        while (size > 0) {
                size_t n = MIN(size, sizeof(buffer));
                r = fd_pread_exactly(fd, buffer, n, offset);
                if (r < 0)
                        return r;
                r = hasher_add(h, buffer, n);
                if (r < 0)
                        return r;
                offset += n;
                size -= n;
        }
        return hasher_finish(h, ret);
}

bool sha256_equal(const Sha256 *a, const Sha256 *b)
{
        return memcmp(a->bytes, b->bytes, SHA256_SIZE) == 0;
}

char *sha256_to_hex(const Sha256 *d, char buffer[static SHA256_HEX_SIZE])
{
        static const char digits[] = "0123456789abcdef";

        for (size_t i = 0; i < SHA256_SIZE; i++) {
                buffer[2 * i] = digits[d->bytes[i] >> 4];
                buffer[2 * i + 1] = digits[d->bytes[i] & 15];
        }
        buffer[2 * SHA256_SIZE] = '\0';
        return buffer;
}

static int nibble(char c)
{
        if (c >= '0' && c <= '9')
                return c - '0';
        if (c >= 'a' && c <= 'f')
                return c - 'a' + 10;
        return -EBADMSG;
}

int sha256_from_hex(const char *s, Sha256 *ret)
{
        Sha256 d;

        if (strlen(s) != 2 * SHA256_SIZE)
                return -EBADMSG;
        for (size_t i = 0; i < SHA256_SIZE; i++) {
                int high = nibble(s[2 * i]), low = nibble(s[2 * i + 1]);
                if (high < 0 || low < 0)
                        return -EBADMSG;
                d.bytes[i] = high << 4 | low;
        }
        *ret = d;
        return 0;
}
