/* SPDX-License-Identifier: Apache-2.0 */
#include "sink.h"

#include "err.h"
#include "fd.h"

/* What was written before a restart may reach further than `size`. */
static void free_memory(Sink *s)
{
        if (s->data)
                explicit_bzero(s->data, s->allocated);
        free(s->data);
        s->data = NULL;
        s->allocated = 0;
}

void sink_done(Sink *s)
{
        free_memory(s);
        s->size = 0;
        s->hasher = hasher_free(s->hasher);
}

/* Not by realloc(), which leaves what it copied. */
static int grow_memory(Sink *s, size_t allocated)
{
        /* NOLINTNEXTLINE(clang-analyzer-optin.portability.UnixAPI): at least 1 */
        char *p = malloc(allocated);

        if (!p)
                return -ENOMEM;
        if (s->data)
                memcpy(p, s->data, s->size);
        free_memory(s);
        s->data = p;
        s->allocated = allocated;
        return 0;
}

static int write_memory(Sink *s, const void *data, size_t size)
{
        if (s->allocated - s->size < size + 1 || s->allocated == 0) {
                int r = grow_memory(s, MAX(s->size + size + 1, 2 * s->allocated));
                if (r < 0)
                        return r;
        }
        memcpy(s->data + s->size, data, size);
        s->data[s->size + size] = '\0';
        return 0;
}

static int write_hash(Sink *s, const void *data, size_t size)
{
        if (!s->hasher) {
                int r = hasher_new(&s->hasher);
                if (r < 0)
                        return r;
        }
        return hasher_add(s->hasher, data, size);
}

int sink_write(Sink *s, const void *data, size_t size)
{
        int r = s->kind == SINK_MEMORY ? write_memory(s, data, size)
                : s->kind == SINK_FD   ? fd_pwrite_all(s->fd, data, size, s->offset + s->size)
                                       : write_hash(s, data, size);

        if (r >= 0)
                s->size += size;
        return r;
}

void sink_restart(Sink *s)
{
        s->size = 0;
        if (s->data)
                s->data[0] = '\0';
        s->hasher = hasher_free(s->hasher);
}

int sink_digest(Sink *s, Sha256 *ret)
{
        int r = write_hash(s, "", 0);

        return r < 0 ? r : hasher_finish(s->hasher, ret);
}
