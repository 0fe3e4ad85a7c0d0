/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stddef.h>

#include "macro.h"

/* UTF-8 (RFC 3629). */

/* Size of the sequence at p, of which `left` bytes may be looked at (at least 1): shortest form, no
 * surrogates, at most U+10FFFF; else 0. */
size_t utf8_sequence_size(const unsigned char *p, size_t left);

/* Makes a text from outside fit for a log line, a JSON string and D-Bus: control characters (C0,
 * C1) become blanks, bytes that are not UTF-8 become '?'. */
void utf8_clean(char *s);
