/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "macro.h"
#include "site.h"

/*
 * Runs one command of a release (a hook, a probe) as a transient unit of systemd, with its user,
 * its limits and its environment, and tells how it ended.
 *
 * The unit is a oneshot service, slipway-<app>-<kind>-<16 hexadecimal digits>.service: it ends when
 * the command does, and whatever the command left in its control group is killed then, before
 * done() is called. Nothing that a command starts can outlive it, and nothing that it leaves open
 * can hang us. systemd keeps the time limit; what it and the command write goes to the journal,
 * under the identifier slipway-<app>-<release>. The fields SLIPWAY_APP and SLIPWAY_RELEASE
 * (LogExtraFields=) are missing where journald reads it after the unit's end.
 *
 * Arguments are passed as they are: no shell, and neither "$" (which is doubled for systemd) nor
 * "%" (systemd escapes what comes over D-Bus) stands for anything.
 */

typedef enum CommandKind {
        COMMAND_PRE,
        COMMAND_POST,
        COMMAND_REVERT,
        COMMAND_PROBE,
        _COMMAND_KIND_MAX,
} CommandKind;

const char *command_kind_to_string(CommandKind k); /* "pre", ... as in the unit's name */

/* Of which release the command is, and between which it stands; everything is borrowed. */
typedef struct CommandPlace {
        const Site *site;
        const char *release;
        const char *previous; /* NULL: none */
        uint64_t serial;
        const Activate *activate; /* the release's, for its variables */
} CommandPlace;

typedef struct CommandResult {
        int error; /* 0: exit status 0. -EIO: another one, or a signal; -ETIMEDOUT: its time limit;
                      -EHOSTDOWN: systemd can't be asked or was lost, or did not run the command (a
                      mount that its directory needs failed), or the command was stopped from
                      outside: it may have run or not, and is to be run again */
        int exit_status;    /* -1: it has none */
        const char *reason; /* names the command; NULL when all went well */
        const char *output; /* its last lines (journal-tail.h); NULL: none */
} CommandResult;

/* The run may be freed here. */
typedef void (*command_done_t)(const CommandResult *result, void *userdata);

typedef struct CommandRun CommandRun;

/* Starts it; -EKEYREJECTED: its user is not allowed. done() is never called from in here. `place`
 * is needed for this call only, what it borrows from for as long as the run lives. want_output:
 * read the last lines also of a command that went well. */
_must_check_ int command_start(const CommandPlace *place, CommandKind kind, const Command *command,
                               bool want_output, command_done_t done, void *userdata,
                               CommandRun **ret);

/* Has a command that still runs stopped, without waiting for it; no callback after this. */
CommandRun *command_free(CommandRun *r);
DEFINE_CLEANUP_FUNC(CommandRun *, command_free);

/* Whether the commands' users are allowed (the configuration may be another one than when the
 * release came; -EKEYREJECTED) and exist on this host (getpwnam(3); -ENOENT). With --user
 * everything runs as the same user, and none is looked up. */
_must_check_ int command_check_users(const Site *site, const Activate *activate, char **reterr);
