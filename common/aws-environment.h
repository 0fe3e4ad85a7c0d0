/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "macro.h"

/* The environment as the AWS tools read it. Needs neither network nor libcurl. */

/* What a variable is set to, and not empty; else NULL. */
const char *aws_environment(const char *name);

/* Whether it is set to "true", in whatever case. */
bool aws_environment_is_on(const char *name);
