/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include <cJSON.h>

#include "macro.h"

/*
 * Strict JSON (RFC 8259) for documents whose every member is known. cJSON builds the tree; what it
 * lets pass is checked here before: invalid UTF-8, control characters in strings, \u0000, numbers
 * that are not JSON or not whole numbers within +-(2^53 - 1), trailing bytes, nesting deeper than
 * JSON_DEPTH_MAX.
 */

#define JSON_DEPTH_MAX 16

/* Parses `size` bytes (data[size] must be NUL, as fd_read_all() leaves it). *ret is freed by
 * cJSON_Delete(). -EBADMSG: *reterr has line and column. */
_must_check_ int json_parse(const char *data, size_t size, cJSON **ret, char **reterr);

static inline void cjson_deletep(cJSON **p)
{
        cJSON_Delete(*p);
}
#define _cleanup_json_ _cleanup_(cjson_deletep)

/* One member of an object. parse() gets the value, its JSON path ("release.artifact.size") and what
 * json_dispatch() was given plus `offset`; it checks type and content and stores. */
typedef int (*json_parse_t)(const cJSON *value, const char *path, void *target, char **reterr);

typedef struct JsonField {
        const char *name;
        json_parse_t parse;
        size_t offset;
        bool required;
} JsonField;

/* Applies a table, ended by a field without name: `object` must be an object; unknown, duplicate
 * and missing required members are -EBADMSG, and *reterr names the JSON path. Names are compared
 * exactly. */
_must_check_ int json_dispatch(const cJSON *object, const char *path, const JsonField *fields,
                               void *target, char **reterr);

/* Ready-made parse functions. Strings are stored as char * (an earlier value is freed). */
int json_parse_string(const cJSON *v, const char *path, void *target,
                      char **reterr); /* char *: 1..1024 bytes */
int json_parse_name(const cJSON *v, const char *path, void *target,
                    char **reterr); /* char *: name_is_valid() */
int json_parse_uint(const cJSON *v, const char *path, void *target,
                    char **reterr); /* uint64_t: 0..2^53-1 */
int json_parse_bool(const cJSON *v, const char *path, void *target, char **reterr);   /* bool */
int json_parse_sha256(const cJSON *v, const char *path, void *target, char **reterr); /* Sha256 */
int json_parse_time(
        const cJSON *v, const char *path, void *target,
        char **reterr); /* uint64_t: "2026-11-22T14:00:00Z" -> seconds since the epoch */
int json_parse_duration(const cJSON *v, const char *path, void *target,
                        char **reterr); /* uint64_t: "10s" -> microseconds */

/* Calls `each` for every element of an array of at most n_max elements, with the path "PATH[i]". */
_must_check_ int json_each(const cJSON *array, const char *path, size_t n_max, json_parse_t each,
                           void *target, char **reterr);

/* The 1-based line on which the member or element with this JSON path stands in the text; 0 if
 * there is none. For messages about configuration files. */
unsigned json_line_of(const char *data, size_t size, const char *path);

/* "2026-11-22T14:00:00Z", and back (-EBADMSG). */
#define TIME_TEXT_SIZE 21
char *time_format_utc(uint64_t sec, char buffer[static TIME_TEXT_SIZE]);
_must_check_ int time_parse_utc(const char *s, uint64_t *ret_sec);

/* "1500ms", "10s", "2min", "1h": exact, in the largest unit that holds it. */
#define DURATION_TEXT_SIZE 24
char *duration_format(uint64_t usec, char buffer[static DURATION_TEXT_SIZE]);
_must_check_ int duration_parse(const char *s, uint64_t *ret_usec);
