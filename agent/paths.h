/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "macro.h"

/*
 * Where things lie: /etc/slipway/agent.json, /var/lib/slipway, /var/lib/slipway-fetch (what
 * slipway-fetch remembers), /var/cache/slipway, /run/slipway, and /etc/systemd/system, where the
 * host's own units are (systemd.unit(5), "Unit File Load Path"); for a user the same below the XDG
 * base directories (XDG Base Directory Specification 0.8): $XDG_CONFIG_HOME, $XDG_STATE_HOME,
 * $XDG_CACHE_HOME and $XDG_RUNTIME_DIR, with their defaults below $HOME.
 */

typedef struct Paths {
        char *config_file, *state_dir, *fetch_state_dir, *cache_dir, *runtime_dir, *unit_dir;
} Paths;

/* -ENXIO: neither HOME nor the variable that is needed is set. */
_must_check_ int paths_init(bool user, Paths *ret, char **reterr);
void paths_done(Paths *p);
