/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stdio.h>
#include <sys/types.h>

#include "macro.h"

/* A result that is a whole text, for verbs that take --output. */

extern const char *arg_output; /* NULL: stdout */

/* Has write() make the text, then writes it to stdout, or, by one rename, to the file of --output
 * with `mode`: nobody ever sees half of it. Returns an exit code; logs what fails. */
_must_check_ int admin_output(int (*write)(FILE *f, void *userdata), void *userdata, mode_t mode);
