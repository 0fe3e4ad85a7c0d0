/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "macro.h"

/* Base64 (RFC 4648). */

/* Standard alphabet, padded, one line; to be freed. */
_must_check_ int base64_encode(const void *data, size_t size, char **ret);

/* Takes the standard and the URL-safe alphabet, with padding or without. Other characters (blanks
 * too), wrong lengths and unused bits that are not zero are -EBADMSG. *ret is followed by a NUL,
 * which is not counted; to be freed. */
_must_check_ int base64_decode(const char *s, uint8_t **ret, size_t *ret_size);
