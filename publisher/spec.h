/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "macro.h"
#include "manifest.h"

/*
 * slipway.json, in the application's repository: how its releases go live, and on which instances.
 *
 *   { "targets": { "any": [ { "Role": ["web"] } ] },
 *     "activate": { "units": [ { "name": "web.service", "action": "restart" } ] } }
 *
 * Both members are optional; for what they hold see common/activate.h and manifest.h.
 */

#define SPEC_NAME     "slipway.json"
#define SPEC_SIZE_MAX (128 * 1024)

typedef struct Spec {
        Targets targets;
        Activate activate;
} Spec;

void spec_done(Spec *s);

/* What holds without a slipway.json: every instance of the channel, no units. */
_must_check_ int spec_default(Spec *ret, char **reterr);

/* Reads the file `path` below dir_fd (AT_FDCWD will do). -ENOENT if there is none; other errors
 * name the file, and the line where one is to blame. */
_must_check_ int spec_load(int dir_fd, const char *path, Spec *ret, char **reterr);
