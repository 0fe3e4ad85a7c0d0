/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stdint.h>

#include <cJSON.h>

#include "macro.h"

/*
 * How the hooks of the last deployment that ran any went: of each kind the one that ran last, which
 * is the one that failed, if one did. Part of the state (state.h):
 *
 *   "hooks": { "pre": { "release": "...", "command": "bin/migrate", "at": "2026-11-22T15:00:00Z",
 *                       "ok": false, "text": "ended with exit status 3",
 *                       "output": [ "its last lines" ] }, "post": { ... }, "revert": { ... } }
 */

typedef struct HookEntry {
        char *release; /* NULL: none ran */
        char *command; /* the program */
        char *text;    /* how it ended; NULL: well */
        char *output;  /* its last lines; may be NULL */
        uint64_t at_sec;
        bool ok;
} HookEntry;

typedef struct HookLog {
        HookEntry pre, post, revert;
} HookLog;

/* Copies. */
_must_check_ int hook_entry_set(HookEntry *e, const char *release, const char *command,
                                const char *text, const char *output);
void hook_log_clear(HookLog *l);

/* A JsonField's parse function (json-read.h); target is a HookLog. */
int hook_log_parse(const cJSON *v, const char *path, void *target, char **reterr);

/* Adds "hooks" to the object, if any ran. */
_must_check_ int hook_log_format(const HookLog *l, cJSON *object);
