/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "macro.h"
#include "sink.h"

/* One answer of ListObjectsV2 with encoding-type=url.
 * Source: Amazon S3 API Reference, "ListObjectsV2". */

/* Adds the keys of the page to `keys`, one a line, without `prefix`, with which each must begin;
 * keys that are not the path of an object (store_path_is_valid()) are left out. *ret_token is NULL
 * on the last page, else what to ask for the next one with, to be freed. -EBADMSG: not such an
 * answer; -EFBIG: `keys` would get more than size_max bytes. */
_must_check_ int s3_list_take_page(const char *xml, size_t size, const char *prefix,
                                   uint64_t size_max, Sink *keys, char **ret_token);
