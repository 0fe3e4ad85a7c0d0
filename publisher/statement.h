/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "macro.h"
#include "manifest.h"

/* Writes the statement of where a release comes from: common/provenance.h has its form. */

/* Whether it is a URI (RFC 3986: a scheme, and no character that has to be written as %XX). */
bool statement_uri_is_valid(const char *text);

/* The text with such characters as %XX, to be freed; NULL: out of memory. */
char *statement_uri(const char *text);

/* The statement, to be freed: what was built is the manifest's artifact and index, from what its
 * source says (a repository that is neither at a host nor an absolute path is left out), by
 * `builder` (a URI). Parsed once more before it is returned. */
_must_check_ int statement_format(const Manifest *m, const char *builder, uint64_t started_sec,
                                  char **ret, size_t *ret_size, char **reterr);
