/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "macro.h"

/*
 * A file of environment variables as EnvironmentFile= of systemd.exec(5) reads it, as far as it
 * goes for credentials: lines NAME=VALUE, the value in single or double quotes or in none; empty
 * lines and those that start with # or ; are passed over. A backslash, which is special there, is
 * refused.
 */

#define ENVIRONMENT_FILE_SIZE_MAX (64 * 1024)

/* Sets the variables of the file that are not set already. No such file is fine. -EBADMSG: the text
 * says which line. */
_must_check_ int environment_file_load(const char *path, char **reterr);
