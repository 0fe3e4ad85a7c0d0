/* SPDX-License-Identifier: Apache-2.0 */
#include "tar-header.h"

#include <assert.h>
#include <stdio.h>

#include "name.h"

typedef struct TarHeader {
        char name[100];
        char mode[8];
        char uid[8];
        char gid[8];
        char size[12];
        char mtime[12];
        char checksum[8];
        char type;
        char link[100];
        char magic[8];
        char user[32];
        char group[32];
        char device_major[8];
        char device_minor[8];
        char rest[167];
} TarHeader;

static_assert(sizeof(TarHeader) == TAR_BLOCK_SIZE, "a header is one block");

#define LONG_NAME "././@LongLink" /* what GNU tar calls its long-name entries */

/* Zero-padded octal digits and a NUL fill the field. */
static void put_octal(char *field, size_t size, uint64_t value)
{
        field[--size] = '\0';
        while (size > 0) {
                field[--size] = '0' + (value & 7);
                value >>= 3;
        }
}

static void put_size(char field[static 12], uint64_t value)
{
        if (value >> 33 == 0) {
                put_octal(field, 12, value);
                return;
        }
        field[0] = (char) 0x80;
        for (size_t i = 11; i > 0; i--) {
                field[i] = (char) (value & 0xff);
                value >>= 8;
        }
}

static void put_checksum(TarHeader *h)
{
        const uint8_t *p = (const uint8_t *) h;
        unsigned sum = 0;

        memset(h->checksum, ' ', sizeof(h->checksum));
        for (size_t i = 0; i < sizeof(*h); i++)
                sum += p[i];
        /* Six digits, NUL, blank: as tar has always written it. */
        put_octal(h->checksum, 7, sum);
}

static void put_header(uint8_t *block, char type, const char *name, size_t name_size,
                       const char *link, unsigned mode, uint64_t size, uint64_t mtime_sec)
{
        TarHeader h = { .type = type, .magic = "ustar  " };

        memcpy(h.name, name, MIN(name_size, sizeof(h.name)));
        memcpy(h.link, link, MIN(strlen(link), sizeof(h.link)));
        put_octal(h.mode, sizeof(h.mode), mode);
        put_octal(h.uid, sizeof(h.uid), 0);
        put_octal(h.gid, sizeof(h.gid), 0);
        put_size(h.size, size);
        put_octal(h.mtime, sizeof(h.mtime), mtime_sec);
        put_checksum(&h);
        memcpy(block, &h, sizeof(h));
}

/* Returns the bytes written: none if the name fits the header's own field. */
static size_t put_long_name(uint8_t *p, char type, const char *name, size_t size)
{
        if (size <= sizeof(((TarHeader *) NULL)->name))
                return 0;
        size_t whole = size + 1 + tar_padding(size + 1);
        put_header(p, type, LONG_NAME, STRLEN(LONG_NAME), "", 0644, size + 1, 0);
        memset(p + TAR_BLOCK_SIZE, 0, whole);
        memcpy(p + TAR_BLOCK_SIZE, name, size);
        return TAR_BLOCK_SIZE + whole;
}

size_t tar_header_format(const IndexFile *f, uint8_t buffer[static TAR_HEADER_SIZE_MAX])
{
        static const char types[] = {
                [FILE_REGULAR] = '0', [FILE_DIRECTORY] = '5', [FILE_SYMLINK] = '2'
        };
        const char *link = strempty(f->link);
        char name[TREE_PATH_SIZE_MAX + 2];
        size_t name_size = strlen(f->path), size = 0;

        assert(name_size <= TREE_PATH_SIZE_MAX && strlen(link) <= TREE_PATH_SIZE_MAX);
        memcpy(name, f->path, name_size);
        if (f->type == FILE_DIRECTORY)
                name[name_size++] = '/';
        size += put_long_name(buffer + size, 'K', link, strlen(link));
        size += put_long_name(buffer + size, 'L', name, name_size);
        put_header(buffer + size, types[f->type], name, name_size, link, f->mode, f->size_bytes,
                   f->mtime_sec);
        return size + TAR_BLOCK_SIZE;
}
