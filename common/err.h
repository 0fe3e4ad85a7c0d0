/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <errno.h>

#include "macro.h"

/*
 * Errors in Slipway. A function returns a negative errno on failure, which goes up unchanged, 0 on
 * success, and a positive value only for an outcome that its header documents.
 *
 * A function that judges input or talks to the outside also has a last parameter `char **reterr`:
 * on failure it is set to an allocated sentence part, for a person, that names what failed, on
 * what, and why: no newline, no full stop. It may be left NULL when memory is short. The caller
 * frees it. Whoever handles the error logs it, once.
 *
 * What an errno means across modules:
 *   -EBADMSG      input is malformed or breaks a rule of its format
 *   -EKEYREJECTED a signature, a key or a digest does not hold
 *   -EFBIG        more bytes than the limit of this kind of input
 *   -ENOENT       what was named does not exist
 *   -EACCES       the store refused us (HTTP 403), or the file system did
 *   -ETIMEDOUT    a limit of time passed
 *   -EHOSTDOWN    the store can't be reached or does not work: trying again may help
 *   -EPROTO       a peer broke its protocol
 */

/* Sets *reterr (if reterr is not NULL; an earlier text is freed) from the format, returns error. */
int fail(char **reterr, int error, const char *format, ...) _printf_(3, 4);

/* As fail(), with ": " and the text of errno value `error` (negative or positive) appended. */
int fail_errno(char **reterr, int error, const char *format, ...) _printf_(3, 4);

/* Puts "prefix: " before the text in *reterr, if there is one, and returns error. */
int fail_prefix(char **reterr, int error, const char *format, ...) _printf_(3, 4);

/* The text for a user: *reterr if set, else the errno's own words. Never NULL, not allocated. */
const char *err_text(int error, const char *err);
