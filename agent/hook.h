/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "command.h"
#include "macro.h"
#include "site.h"

/*
 * Runs the hooks of one kind of the release in site->state->pending, one after the other, after
 * what an agent that died left running was ended. How each ended goes to the state (hook-log.h),
 * which the caller saves.
 *
 * Pre and post hooks stop at the first that fails; all revert hooks run, whatever becomes of them.
 * A hook that a lost connection to systemd cut off, or that was stopped from outside, is run again.
 */

typedef struct HookRun HookRun;

/* 0; -EBADMSG: a hook failed; -EAGAIN: a pre hook ended with exit status 75 (EX_TEMPFAIL of
 * sysexits.h), and nothing failed; -EHOSTDOWN: systemd can't be asked. The run may be freed here.
 */
typedef void (*hook_done_t)(int result, const char *reason, void *userdata);

/* Starts it; done() is never called from in here. COMMAND_PRE, _POST or _REVERT. */
_must_check_ int hook_run_start(Site *site, CommandKind kind, hook_done_t done, void *userdata,
                                HookRun **ret);

/* Has a hook that still runs stopped; no callback after this. */
HookRun *hook_run_free(HookRun *r);
DEFINE_CLEANUP_FUNC(HookRun *, hook_run_free);
