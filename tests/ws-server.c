/* SPDX-License-Identifier: Apache-2.0 */
#include "ws-server.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <openssl/evp.h>

void ws_accept(const FaultRequest *q, const char *headers)
{
        char *key = fault_header(q, "Sec-WebSocket-Key");
        unsigned char digest[EVP_MAX_MD_SIZE], accept[64];
        char text[1024];
        unsigned size;

        (void) snprintf(text, sizeof(text), "%s258EAFA5-E914-47DA-95CA-C5AB0DC85B11",
                        key ? key : "");
        free(key);
        if (EVP_Digest(text, strlen(text), digest, &size, EVP_sha1(), NULL) != 1)
                _exit(99);
        (void) EVP_EncodeBlock(accept, digest, (int) size);
        (void) snprintf(text, sizeof(text),
                        "HTTP/1.1 101 Switching Protocols\r\nupgrade: WebSocket\r\n"
                        "connection: keep-alive, Upgrade\r\n"
                        "Sec-WebSocket-Accept: %s\r\n%s\r\n",
                        accept, headers);
        fault_write(q, text, strlen(text));
}

void ws_write(const FaultRequest *q, unsigned first, const void *data, size_t size)
{
        unsigned char head[10] = { (unsigned char) first };
        size_t n_size = size > 65535 ? 8 : size > 125 ? 2 : 0, left = size;

        head[1] = (unsigned char) (n_size == 8 ? 127 : n_size == 2 ? 126 : size);
        for (size_t i = n_size; i > 0; i--, left >>= 8)
                head[1 + i] = (unsigned char) left;
        fault_write(q, head, 2 + n_size);
        fault_write(q, data, size);
}

static bool read_exactly(const FaultRequest *q, void *data, size_t size)
{
        for (char *p = data; size > 0;) {
                ssize_t n = read(q->fd, p, size);
                if (n <= 0)
                        return false;
                p += n;
                size -= (size_t) n;
        }
        return true;
}

bool ws_read(const FaultRequest *q, WsFrame *ret)
{
        unsigned char head[2], more[8], mask[4];
        size_t size;

        if (!read_exactly(q, head, sizeof(head)))
                return false;
        size = head[1] & 0x7f;
        size_t n_size = size == 127 ? 8 : size == 126 ? 2 : 0;
        if (!read_exactly(q, more, n_size) || !read_exactly(q, mask, sizeof(mask)))
                return false;
        for (size_t i = 0; i < n_size; i++)
                size = (i == 0 ? 0 : size << 8) | more[i];
        if (!(head[1] & 0x80) || size >= sizeof(ret->data)) {
                fprintf(stderr, "a frame that is not masked, or too large\n");
                _exit(99);
        }
        if (!read_exactly(q, ret->data, size))
                return false;
        for (size_t i = 0; i < size; i++)
                ret->data[i] = (char) (ret->data[i] ^ mask[i % 4]);
        ret->data[size] = '\0';
        ret->first = head[0];
        ret->size = size;
        return true;
}
