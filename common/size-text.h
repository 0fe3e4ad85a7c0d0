/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stdint.h>

#include "macro.h"

/* Numbers of bytes as text: "4096", "512K", "64M", "2G", "1T" (powers of 1024, as systemd.exec(5)
 * has them): digits and at most one such letter. size_text_format() takes the largest unit that is
 * exact. At most 2^53 bytes; more, and other forms, are -EBADMSG. */
#define SIZE_TEXT_SIZE 24
char *size_text_format(uint64_t bytes, char buffer[static SIZE_TEXT_SIZE]);
_must_check_ int size_text_parse(const char *s, uint64_t *ret_bytes);
