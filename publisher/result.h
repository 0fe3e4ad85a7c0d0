/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stdint.h>

#include <cJSON.h>

#include "digest.h"
#include "macro.h"

/* Building JSON results: cJSON's functions with our errors. All return 0 or -ENOMEM. */

/* A NULL value adds nothing. Bytes that are not UTF-8 become '?', so that the document is JSON. */
_must_check_ int result_add_string(cJSON *object, const char *name, const char *value);

/* Up to 2^53, which JSON numbers hold exactly. */
_must_check_ int result_add_uint(cJSON *object, const char *name, uint64_t value);
_must_check_ int result_add_bool(cJSON *object, const char *name, bool value);

/* "2026-11-22T14:00:00Z" */
_must_check_ int result_add_time(cJSON *object, const char *name, uint64_t sec);
_must_check_ int result_add_sha256(cJSON *object, const char *name, const Sha256 *digest);

/* A new member, owned by `object`. */
_must_check_ int result_add_object(cJSON *object, const char *name, cJSON **ret);
_must_check_ int result_add_array(cJSON *object, const char *name, cJSON **ret);

_must_check_ int result_append_string(cJSON *array, const char *value);

/* A new object at the array's end, owned by it. */
_must_check_ int result_append_object(cJSON *array, cJSON **ret);
