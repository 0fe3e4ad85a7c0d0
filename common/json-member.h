/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stdint.h>

#include <cJSON.h>

/*
 * Members of documents that are only shown, not obeyed: what is missing, of another type, or of no
 * object (NULL too) is NULL or 0. What is obeyed is read by json-read.h.
 */

const cJSON *json_member(const cJSON *object, const char *name);
const char *json_member_text(const cJSON *object, const char *name);
uint64_t json_member_number(const cJSON *object, const char *name);

/* Of "2026-11-22T14:00:00Z": seconds since the epoch. */
uint64_t json_member_time(const cJSON *object, const char *name);

/* Of an array's element. */
uint64_t json_number(const cJSON *v);
