/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stdint.h>

#include "macro.h"

/* Universally unique identifiers (RFC 9562). */

#define UUID_SIZE      16
#define UUID_TEXT_SIZE 37 /* with the NUL */

/* A random one (version 4), as lower-case text. */
_must_check_ int uuid_new(char ret[static UUID_TEXT_SIZE]);

char *uuid_format(const uint8_t bytes[static UUID_SIZE], char buffer[static UUID_TEXT_SIZE]);

/* Of any version; the digits may be of either case. Any other form is -EBADMSG. */
_must_check_ int uuid_parse(const char *s, uint8_t ret[static UUID_SIZE]);
