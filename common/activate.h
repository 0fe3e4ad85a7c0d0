/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <errno.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include <cJSON.h>

#include "macro.h"

/*
 * "activate": how a release goes live on a host. It stands in the application's slipway.json, goes
 * into the manifest as it is, and into the agent's state with each installed release. The grammar
 * is the tables in activate.c; unknown and duplicate members are errors that name the JSON path.
 *
 *   { "links": { "shared": [
 *       "var/uploads",
 *       { "path": "config/local.env", "create": "file", "user": "web", "group": "web",
 *         "mode": "0640" } ] },
 *     "unit_files": [ "systemd/web.service" ],
 *     "units": [ { "name": "web.service", "action": "restart" } ],
 *     "hooks": { "pre": [ COMMAND ], "post": [ COMMAND ], "revert": [ COMMAND ] },
 *     "health": { "bake": "10s", "deadline": "120s",
 *       "http": [ { "url": "http://127.0.0.1:8080/healthz", "status": 200, "interval": "1s",
 *                   "timeout": "5s" } ],
 *       "commands": [ COMMAND ],
 *       "confirm": "30min" },
 *     "variables": { "NAME": "value" } }
 *
 *   COMMAND: { "command": ["bin/migrate", "--up"], "user": "web", "directory": "app",
 *              "timeout": "120s", "memory": "512M" }
 *
 * All members are optional, but a unit's name and action, a link's path, a probe's url and a
 * command's "command". What is missing has the default shown, or:
 *
 * links.shared: paths in the release that are links to the same path below <root>/shared/, which
 * outlives releases. As plain text, or without "create", it must exist there. "create" ("file" or
 * "directory") makes what is missing, for user and group (default: root) with the mode (0644,
 * 0755). No path lies within another.
 * unit_files: unit files in the release, which the host links into systemd's directory under the
 * last component of their path, a unit name that comes once.
 * units: what is done to units after the switch, in this order. A unit may come several times with
 * different actions (stop first, start at the end); the last one tells whether it is to run.
 * COMMAND.command: the program first, a path in the release or an absolute one, then its arguments.
 * No shell. user: default the host's first hook user. directory: where it starts, a path in the
 * release, default its top. timeout: 1s to 24h. memory: 1M to 2^53 bytes, default no limit.
 * health.http, health.commands: from the time the units are up, until the bake is over and all are
 * well. HTTP only of this host: localhost,
 * 127.0.0.1 or [::1]. status: 100 to 599. interval: 100ms to 1h; timeout 100ms to 5min.
 * health.confirm: somebody has to confirm the release within so long after the bake (1s to 24h), or
 * it is taken back; default: not needed.
 * variables: for hooks and command probes; names [A-Za-z_][A-Za-z0-9_]{0,63}, not SLIPWAY_...; the
 * values may be empty.
 *
 * Durations: time-text.h; sizes: size-text.h.
 */

#define ACTIVATE_SHARED_MAX     64
#define ACTIVATE_UNITS_MAX      64
#define ACTIVATE_UNIT_FILES_MAX 16
#define ACTIVATE_COMMANDS_MAX   16 /* of each kind */
#define ACTIVATE_ARGUMENTS_MAX  64
#define ACTIVATE_HTTP_MAX       16
#define ACTIVATE_VARIABLES_MAX  64
#define BAKE_DEFAULT_USEC       (UINT64_C(10) * 1000000)
#define DEADLINE_DEFAULT_USEC   (UINT64_C(120) * 1000000)
#define DEADLINE_MAX_USEC       (UINT64_C(24) * 3600 * 1000000)

typedef enum SharedCreate {
        SHARED_NONE, /* it must exist */
        SHARED_FILE,
        SHARED_DIRECTORY,
        _SHARED_CREATE_MAX,
        _SHARED_CREATE_INVALID = -EINVAL,
} SharedCreate;

typedef struct SharedLink {
        char *path; /* tree_path_is_valid() */
        SharedCreate create;
        char *user, *group; /* NULL: root */
        mode_t mode;        /* 0: the default */
} SharedLink;

typedef enum UnitAction {
        UNIT_RESTART,
        UNIT_RELOAD,
        UNIT_RELOAD_OR_RESTART,
        UNIT_TRY_RESTART,
        UNIT_START,
        UNIT_STOP,
        _UNIT_ACTION_MAX,
        _UNIT_ACTION_INVALID = -EINVAL,
} UnitAction;

const char *unit_action_to_string(UnitAction a); /* "restart", ... as systemctl(1) has them */
UnitAction unit_action_from_string(const char *s);

typedef struct ActivateUnit {
        char *name; /* unit_name_is_valid() */
        UnitAction action;
} ActivateUnit;

typedef struct Command {
        char **argv; /* ended by NULL */
        size_t n_argv;
        char *user, *directory;              /* may be NULL */
        uint64_t timeout_usec, memory_bytes; /* memory 0: no limit */
} Command;

typedef struct HttpProbe {
        char *url;
        uint64_t status, interval_usec, timeout_usec;
} HttpProbe;

typedef struct Variable {
        char *name, *value;
} Variable;

typedef struct Activate {
        SharedLink *shared;
        size_t n_shared;
        char **unit_files;
        size_t n_unit_files;
        ActivateUnit *units;
        size_t n_units;
        Command *pre, *post, *revert; /* hooks */
        size_t n_pre, n_post, n_revert;
        uint64_t bake_usec;     /* how long the units must stay up */
        uint64_t deadline_usec; /* limit for the jobs and the bake together; more than bake_usec */
        HttpProbe *http;
        size_t n_http;
        Command *commands; /* probes */
        size_t n_commands;
        uint64_t confirm_usec; /* 0: need not be confirmed */
        Variable *variables;
        size_t n_variables;
} Activate;

/* `path` is the JSON path for messages ("activate"). A NULL object gives the defaults: no units.
 * *ret is written on success only. */
_must_check_ int activate_parse(const cJSON *object, const char *path, Activate *ret,
                                char **reterr);

/* The object again: what has no value is left out, the health times are always there. */
_must_check_ int activate_format(const Activate *a, cJSON **ret);

/* `a` must be valid, as activate_parse() makes it. */
_must_check_ int activate_copy(const Activate *a, Activate *ret);
void activate_done(Activate *a);

/* The unit that a path of unit_files is the file of: its last component. */
const char *unit_file_name(const char *path);
