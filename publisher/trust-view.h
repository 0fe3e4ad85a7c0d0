/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <cJSON.h>

#include "macro.h"
#include "trust.h"

/* What a trust root says, for those who are to sign it: its keys, what is different from the one
 * before it, and whose signatures it has. */

/* `before` may be NULL: not known. Puts "version", "expires", "manifest", "root", "signatures" and,
 * with `before`, "complete" (whether it may follow) into `result`; with `print` tells it on stdout.
 */
_must_check_ int trust_view(const Trust *t, const Envelope *e, const Trust *before, bool print,
                            cJSON *result);
