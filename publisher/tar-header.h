/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "index.h"

/*
 * Tar headers in GNU format, as `tar --format=gnu` writes them (GNU tar manual, "Basic Tar
 * Format"): paths and link targets longer than 100 bytes go before the header as entries of type
 * 'L' and 'K', sizes of 8 GiB and more are base-256. GNU tar, bsdtar, busybox, Python and Go read
 * it.
 *
 * Not pax: its paths are UTF-8 by definition, so that readers convert them to their locale's
 * charset (libarchive through iconv, which loads modules from disk) and mangle or refuse other
 * bytes. GNU's names are plain bytes everywhere.
 */

#define TAR_BLOCK_SIZE 512
#define TAR_END_SIZE   (2 * TAR_BLOCK_SIZE) /* zero blocks that end an archive */

/* The longest: 'L' and 'K' with their content (a path is up to 4095 bytes, '/' and NUL), and the
 * header itself. */
#define TAR_HEADER_SIZE_MAX ((2 * (1 + 9) + 1) * TAR_BLOCK_SIZE)

/* Bytes that fill up `size` bytes of content to whole blocks. */
static inline size_t tar_padding(uint64_t size)
{
        return -size % TAR_BLOCK_SIZE;
}

/* Writes all headers of an entry: path, link, type, mode, size and mtime from f, owner 0 without
 * names. Returns their size, whole blocks. */
size_t tar_header_format(const IndexFile *f, uint8_t buffer[static TAR_HEADER_SIZE_MAX]);
