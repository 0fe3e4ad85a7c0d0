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
 *   -ENOKEY       there are no credentials, or no region, to ask the store with: they may come
 *   -ETIMEDOUT    a limit of time passed
 *   -EHOSTDOWN    the store can't be reached: trying again may help
 *   -EBUSY        the store works badly or asks for patience: trying again later may help
 *   -EPROTO       a peer broke its protocol
 */

/* Sets *reterr (if reterr is not NULL; an earlier text is freed) from the format, gives back error.
 * They are macros so that the compiler sees what comes back, and knows that a failure is one. */
#define fail(reterr, error, ...)              \
        ({                                    \
                int _error = (error);         \
                err_set(reterr, __VA_ARGS__); \
                _error;                       \
        })

/* As fail(), with ": " and the text of errno value `error` (negative or positive) appended. */
#define fail_errno(reterr, error, ...)                      \
        ({                                                  \
                int _error = (error);                       \
                err_set_errno(reterr, _error, __VA_ARGS__); \
                _error;                                     \
        })

/* Puts "prefix: " before the text in *reterr, if there is one, and gives back error. */
#define fail_prefix(reterr, error, ...)          \
        ({                                       \
                int _error = (error);            \
                err_prefix(reterr, __VA_ARGS__); \
                _error;                          \
        })

/* The functions behind them; err_set() serves to format any allocated text. */
void err_set(char **reterr, const char *format, ...) _printf_(2, 3);
void err_set_errno(char **reterr, int error, const char *format, ...) _printf_(3, 4);
void err_prefix(char **reterr, const char *format, ...) _printf_(2, 3);

/* Whether both texts say the same, but for the ids that a service gives to its requests. */
bool err_text_equal(const char *a, const char *b);

/* The text for a user: *reterr if set, else the errno's own words. Never NULL, not allocated. */
const char *err_text(int error, const char *err);
