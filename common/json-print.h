/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stdbool.h>

#include <cJSON.h>

/* As cJSON_Print() and cJSON_PrintUnformatted(), but whole numbers up to JSON_UINT_MAX
 * (json-read.h) are written as they are: cJSON writes them rounded and with an exponent from 10^15
 * on, which no reader here takes; and U+007F is escaped, which cJSON leaves as it is and readers
 * here refuse. To be freed; NULL: no memory. */
char *json_print(const cJSON *tree, bool formatted);
