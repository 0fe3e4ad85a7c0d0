/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stdint.h>

#include "macro.h"

#define MANIFEST_EXPIRES_DEFAULT "30d"
#define TRUST_EXPIRES_DEFAULT    "3650d"

/* The time at which something signed at now_sec expires (both seconds since the epoch), from what a
 * person wrote: a whole number with one of the units h, d, w; a day ("2027-01-31": its end, UTC);
 * or a time ("2027-01-31T12:00:00Z"). What is not after now_sec, or lies more than a hundred years
 * ahead, is -EINVAL. */
_must_check_ int expiry_parse(const char *text, uint64_t now_sec, uint64_t *ret_sec, char **reterr);

/* Such a whole number with a unit alone, which may be 0; `option` is named in *reterr. */
_must_check_ int expiry_parse_span(const char *option, const char *text, uint64_t *ret_sec,
                                   char **reterr);
