/* SPDX-License-Identifier: Apache-2.0 */
#include "takeover.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "fd.h"
#include "macro.h"

void takeover_open(Takeover *ret)
{
        FILE *f = fopen(TAKEOVER_ORDERS, "re");
        unsigned long long seed;

        *ret = (Takeover){};
        if (!f || fscanf(f, "%31s %llu %u", ret->what, &seed, &ret->n_rounds) != 3)
                for (;;)
                        (void) pause();
        ret->seed = seed | 1;
        (void) fclose(f);
        takeover_say(ret, "begins, seed %llu", seed);
}

void takeover_say(const Takeover *t, const char *format, ...)
{
        char line[512];
        va_list ap;
        int n = snprintf(line, sizeof(line), "takeover %s ", t->what);

        va_start(ap, format);
        (void) vsnprintf(line + n, sizeof(line) - n, format, ap);
        va_end(ap);
        (void) dprintf(STDERR_FILENO, "%s\n", line);
}

/* Marsaglia's xorshift. */
uint32_t takeover_random(Takeover *t, uint32_t n)
{
        t->seed ^= t->seed << 13;
        t->seed ^= t->seed >> 7;
        t->seed ^= t->seed << 17;
        return (t->seed >> 16) % n;
}

int takeover_memfd(Takeover *t, size_t size)
{
        _cleanup_free_ uint8_t *data = malloc(size + 1);
        int fd = memfd_create("takeover", MFD_CLOEXEC);

        if (!data || fd < 0)
                abort();
        for (size_t i = 0; i < size; i++)
                data[i] = takeover_random(t, 256);
        if (fd_write_all(fd, data, size) < 0)
                abort();
        return fd;
}
