/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <cJSON.h>

#include "macro.h"

/*
 * What slipwayd's state files say, for when it can't be asked: the document of admin-view.h,
 * without "version" and polls. The configuration is not read: it may be what keeps slipwayd from
 * running. Changes nothing. A file that is damaged is an error that names it.
 */
_must_check_ int admin_files_describe(const char *state_dir, cJSON **ret, char **reterr);
