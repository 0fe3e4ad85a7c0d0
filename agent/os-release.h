/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "macro.h"

/* What operating system this host has. Source: os-release(5). */

typedef struct OsRelease {
        char name[64];    /* "Debian GNU/Linux"; "Linux" if it is not told */
        char version[64]; /* "12"; "" if it is not told */
} OsRelease;

/* Reads /etc/os-release, or else /usr/lib/os-release. Whatever can't be read is not told. */
void os_release_read(OsRelease *ret);

/* The same from the file's text: lines NAME=VALUE, the value in double or single quotes or none. In
 * double quotes, and without quotes, a backslash takes the next character's meaning away. Lines of
 * another form are passed over; what is too long is cut; control characters become blanks. */
void os_release_parse(const char *text, OsRelease *ret);
