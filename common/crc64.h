/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "macro.h"

/*
 * CRC-64/NVME, the one checksum of a whole object that S3 computes itself over an upload in parts.
 * It finds accidents, not malice: digest.h is for that.
 * Source: NVM Express NVM Command Set Specification 1.0, 5.2.1.3.4 (64b CRC); its form in S3:
 * Amazon S3 User Guide, "Checking object integrity".
 */

#define CRC64_TEXT_SIZE 13 /* base64 of the 8 bytes, with the NUL */

/* The CRC of `size` bytes after those of `crc`, which is 0 at the start. */
uint64_t crc64(uint64_t crc, const void *data, size_t size);

/* As S3 wants it: base64 of the bytes, the highest first. */
_must_check_ int crc64_to_text(uint64_t crc, char ret[static CRC64_TEXT_SIZE]);
