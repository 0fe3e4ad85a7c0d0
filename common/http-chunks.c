/* SPDX-License-Identifier: Apache-2.0 */
#include <ctype.h>
#include <errno.h>
#include <stdbool.h>

#include "http-chunks.h"

#define N_DIGITS_MAX 15 /* fits into off_t */

static int take_size(HttpChunks *c, unsigned char x)
{
        if (isxdigit(x) && c->n_digits < N_DIGITS_MAX) {
                c->left = c->left * 16 + (isdigit(x) ? x - '0' : (tolower(x) - 'a' + 10));
                c->n_digits++;
                return 0;
        }
        if (isxdigit(x) || c->n_digits == 0)
                return -EBADMSG;
        c->n_digits = 0;
        c->state = HTTP_CHUNKS_EXTENSIONS;
        return 0;
}

/* One byte that is not of the content. */
static int take_around(HttpChunks *c, unsigned char x)
{
        int r = c->state == HTTP_CHUNKS_SIZE ? take_size(c, x) : 0;

        if (r < 0)
                return r;
        if (c->state == HTTP_CHUNKS_EXTENSIONS && x == '\n')
                c->state = c->left > 0 ? HTTP_CHUNKS_CONTENT : HTTP_CHUNKS_END;
        else if (c->state == HTTP_CHUNKS_BEHIND && x == '\n')
                c->state = HTTP_CHUNKS_SIZE;
        else if (c->state == HTTP_CHUNKS_BEHIND && x != '\r')
                return -EBADMSG;
        c->n_around++;
        return c->n_around > HTTP_CHUNKS_AROUND_MAX + c->n_content * HTTP_CHUNKS_AROUND_FACTOR
                       ? -EFBIG
                       : 0;
}

int http_chunks_next(HttpChunks *c, const char **data, size_t *size, const char **ret,
                     size_t *ret_size)
{
        while (*size > 0 && c->state != HTTP_CHUNKS_CONTENT) {
                int r = take_around(c, (unsigned char) **data);
                if (r < 0)
                        return r;
                (*data)++;
                (*size)--;
        }
        if (*size == 0)
                return 0;
        *ret = *data;
        *ret_size = MIN(*size, c->left);
        *data += *ret_size;
        *size -= *ret_size;
        c->n_content += *ret_size;
        c->left -= *ret_size;
        if (c->left == 0)
                c->state = HTTP_CHUNKS_BEHIND;
        return 1;
}
