/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "state.h"

/* The state file, /var/lib/slipway/<app>.json, as state.h shows it: read and written. */

#define STATE_SIZE_MAX (8 * 1024 * 1024)

/* Reads <app>.json in dir_fd. -ENOENT: there is none; -EBADMSG: damaged; -EPROTONOSUPPORT: made by
 * a newer version, *reterr says what to do. */
_must_check_ int state_load(int dir_fd, const char *app, State **ret, char **reterr);

/* Replaces <app>.json, durably. */
_must_check_ int state_save(const State *s, int dir_fd);

/* Takes a damaged <app>.json out of the way: it becomes <app>.json.damaged-<random>. */
_must_check_ int state_set_aside(int dir_fd, const char *app);

/* Its JSON. */
_must_check_ int state_format(const State *s, cJSON **ret);
