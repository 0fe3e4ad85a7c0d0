/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stdint.h>

#include <cJSON.h>

#include "macro.h"

/* Texts as an administrator's terminal may get them. */

/* Replaces by '?' what could steer a terminal or disguise a text: C0 and C1 control characters,
 * DEL, the directional and line-separating characters of Unicode, and invalid UTF-8. In place;
 * returns s. */
char *text_clean(char *s);

/* text_clean() for every string in a tree from json_parse(): member names included. */
void text_clean_json(cJSON *tree);

/* The tree as indented JSON text, to be freed; ends in a newline. The characters above are written
 * as \uXXXX, so that a program gets the true text and a terminal nothing but printable bytes. */
_must_check_ int text_format_json(const cJSON *tree, char **ret);

/* The same in one line. */
_must_check_ int text_format_json_line(const cJSON *tree, char **ret);

/* "now", "4s ago", "3min ago", "5h ago", "12 days ago", or "in 11s" when `then` is still to come.
 * Rounded down; both in seconds since the epoch. */
#define TIME_AGO_SIZE 32
char *time_ago(uint64_t now_sec, uint64_t then_sec, char buffer[static TIME_AGO_SIZE]);
