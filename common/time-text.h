/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stdint.h>

#include "macro.h"

/* Points in time and durations as text. */

/* "2026-11-22T14:00:00Z" (RFC 3339, UTC, whole seconds, 1970 to 9999; later seconds are written as
 * the last one of 9999), and back: anything else, days that do not exist included, is -EBADMSG. */
#define TIME_TEXT_SIZE 21
char *time_format_utc(uint64_t sec, char buffer[static TIME_TEXT_SIZE]);
_must_check_ int time_parse_utc(const char *s, uint64_t *ret_sec);

/* "1500ms", "10s", "2min", "1h": exact, in the largest unit that holds it, 0 as "0s". What is not a
 * whole number of milliseconds is written in "us", which duration_parse() does not take. At most
 * 2^53 microseconds; longer ones and other forms are -EBADMSG. */
#define DURATION_TEXT_SIZE 24
char *duration_format(uint64_t usec, char buffer[static DURATION_TEXT_SIZE]);
_must_check_ int duration_parse(const char *s, uint64_t *ret_usec);
