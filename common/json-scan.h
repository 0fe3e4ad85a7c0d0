/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "macro.h"

/*
 * Walks over a JSON text and checks its form, without making a tree, allocating or recursing: what
 * json_parse() asks of a text before cJSON sees it, and how json_line_of() finds a place in it.
 *
 *   JsonScanner s = { .data = data, .size = size };
 *   json_scan_start(&s);
 *   do {
 *           r = json_scan_key(&s);
 *           ... s.levels[0 .. s.depth) tell where the value stands ...
 *           if (r == 0)
 *                   r = json_scan_value(&s);
 *   } while (r > 0);
 */

#define JSON_DEPTH_MAX 16

/* One open object or array. */
typedef struct JsonLevel {
        bool object;
        size_t index;             /* of the present element or member */
        size_t key_pos, key_size; /* of the present member's name, quotes included */
} JsonLevel;

typedef struct JsonScanner {
        const char *data;
        size_t size, pos;
        JsonLevel levels[JSON_DEPTH_MAX];
        size_t depth;
        const char *reason; /* after -EBADMSG: what is wrong at pos */
} JsonScanner;

/* Goes to the first value. */
void json_scan_start(JsonScanner *s);

/* Goes over the name of the next value, if it has one. */
_must_check_ int json_scan_key(JsonScanner *s);

/* Goes over a value, or into an object or array. Returns 1 if another value follows, 0 at the end
 * of the document. */
_must_check_ int json_scan_value(JsonScanner *s);
