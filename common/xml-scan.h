/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stddef.h>

#include "macro.h"

/*
 * The small XML that AWS services answer with: elements, text, the five named entities and numeric
 * ones. Attributes are skipped. Comments, CDATA, DOCTYPE and so entity definitions are -EBADMSG,
 * like anything that is not well-formed, deeper than XML_DEPTH_MAX or longer in names than
 * XML_PATH_MAX. Bytes of text are not checked to be UTF-8.
 */

#define XML_DEPTH_MAX 16
#define XML_PATH_MAX  255

/* One element without elements in it: its path ("ListBucketResult/Contents/Key") and its text,
 * decoded, without a NUL inside. A result other than 0 ends the scan. */
typedef int (*xml_leaf_t)(const char *path, const char *text, void *userdata);

/* Calls `leaf` for each in the order of the document. Returns 0, -EBADMSG, or what leaf() said. */
_must_check_ int xml_scan(const char *data, size_t size, xml_leaf_t leaf, void *userdata);
