/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include <cJSON.h>

#include "macro.h"
#include "time-text.h"

/*
 * Strict JSON (RFC 8259) for documents whose every member is known. cJSON builds the tree; what it
 * lets pass is checked before (json-scan.h): invalid UTF-8, control characters in strings, \u0000,
 * halves of surrogate pairs, numbers that are not JSON or not whole numbers within +-(2^53 - 1)
 * written without fraction and exponent, trailing bytes, nesting deeper than JSON_DEPTH_MAX.
 *
 * The error texts of all functions with a JSON path start with that path and ": "
 * ("release.artifact.size: missing"), so that json_line_of() takes them as they are. Members whose
 * names are not plain words are written [\"like this\"], with odd characters as "?".
 */

#define JSON_UINT_MAX        ((UINT64_C(1) << 53) - 1) /* what JSON numbers hold exactly */
#define JSON_STRING_SIZE_MAX 1024

/* Parses `size` bytes; data[size] must be NUL, as fd_read_all() leaves it. *ret is freed by
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

/* The member that says which format a document has, as "slipway/state/1". */
#define JSON_SCHEMA "schema"

/* Applies a table of at most 64 fields, ended by a field without name, in the order of the
 * document, but JSON_SCHEMA before all others (and again in its turn): a document of a format that
 * is not known is refused for that, not for what is new in it. `object` must be an object; unknown,
 * duplicate and missing required members are -EBADMSG. Names are compared exactly. The document
 * itself has the path "". */
_must_check_ int json_dispatch(const cJSON *object, const char *path, const JsonField *fields,
                               void *target, char **reterr);

/* The same, for formats made by others: unknown members are passed over. */
_must_check_ int json_dispatch_known(const cJSON *object, const char *path, const JsonField *fields,
                                     void *target, char **reterr);

/* Whether a schema is that of the same format as `known`, with a higher number: what wrote it is a
 * newer version of Slipway. */
bool json_schema_is_newer(const char *schema, const char *known);

/* Calls `each` for every element of an array of at most n_max elements, with the path "PATH[i]". */
_must_check_ int json_each(const cJSON *array, const char *path, size_t n_max, json_parse_t each,
                           void *target, char **reterr);

/* Calls `each` for every member of an object whose names are free (value->string), at most n_max of
 * them; a name that comes twice is -EBADMSG. */
_must_check_ int json_each_member(const cJSON *object, const char *path, size_t n_max,
                                  json_parse_t each, void *target, char **reterr);

/* Ready-made parse functions. Strings are stored as char * (an earlier value is freed). */

/* char *: 1..JSON_STRING_SIZE_MAX bytes, no control characters. */
int json_parse_string(const cJSON *v, const char *path, void *target, char **reterr);
/* char *: name_is_valid() */
int json_parse_name(const cJSON *v, const char *path, void *target, char **reterr);
/* uint64_t: 0..JSON_UINT_MAX */
int json_parse_uint(const cJSON *v, const char *path, void *target, char **reterr);
/* uint64_t: 1..JSON_UINT_MAX */
int json_parse_counter(const cJSON *v, const char *path, void *target, char **reterr);
/* bool */
int json_parse_bool(const cJSON *v, const char *path, void *target, char **reterr);
/* Sha256 */
int json_parse_sha256(const cJSON *v, const char *path, void *target, char **reterr);
/* uint64_t: "2026-11-22T14:00:00Z" -> seconds since the epoch */
int json_parse_time(const cJSON *v, const char *path, void *target, char **reterr);
/* uint64_t: "10s" -> microseconds */
int json_parse_duration(const cJSON *v, const char *path, void *target, char **reterr);

/* Checks that the value is a string of so many bytes, without control characters (Unicode's C0 and
 * C1): for parse functions of one's own. */
_must_check_ int json_check_text(const cJSON *v, const char *path, size_t size_min, size_t size_max,
                                 char **reterr);

/* -EBADMSG with "PATH: must be WANTED, is a string" (or what else the value is). */
int json_fail_type(const cJSON *v, const char *path, const char *wanted, char **reterr);

/* The 1-based line on which stands what the path, or an error text that starts with one, names. If
 * it is not there (a missing member), the line of the nearest object or array around it; 0 if the
 * text is not JSON up to there. For messages about configuration files. */
unsigned json_line_of(const char *data, size_t size, const char *path);

/* Adds a number. cJSON's own numbers are doubles, which it prints rounded or with an exponent from
 * 10^15 on. More than JSON_UINT_MAX: -ERANGE. */
_must_check_ int json_add_uint(cJSON *object, const char *name, uint64_t value);
