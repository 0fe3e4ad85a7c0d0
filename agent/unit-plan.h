/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "activate.h"
#include "macro.h"

/*
 * What is done to units, and which of them have to run in the end: on the way to a release, and on
 * the way back from one that went wrong. Nothing but rules; units.h carries them out.
 *
 * On the way to a release its units are done in their order. A unit has to run in the end if the
 * last of its actions says so: after restart, reload-or-restart and start it runs, after stop not,
 * after reload and try-restart as before. Besides, units whose file only the release before brought
 * (unit_files) are stopped first, while systemd still knows what that file says: they are gone with
 * it.
 *
 * The way back restores what ran before the switch:
 * - A unit that the old release names is treated as it says, but never less than what gets rid of
 *   the new release's process: if the new release restarted, stopped or started it, it is restarted
 *   where the old one says start, reload, try-restart or reload-or-restart; where it says reload
 *   and nothing replaced the process, that is reload-or-restart (it may have died meanwhile). What
 *   did not run before is not brought up by reload and try-restart, but stopped again if the new
 *   release started it.
 * - A unit that only the new release names (also: there was no release before), and that did not
 *   run before, is stopped if that release started it: these come first, last one first. One that
 *   ran before is restarted if its process was replaced or stopped, else reloaded where the new
 *   release had it reloaded: these come last.
 */

typedef struct UnitPlan {
        ActivateUnit *steps;
        size_t n_steps, n_before_files; /* the first so many, before unit files are changed */
        char **watched;                 /* the units that have to run in the end */
        size_t n_watched;
        uint64_t bake_usec, deadline_usec; /* as in Activate */
        /* The change of unit files, by unit-files.h: names of units whose links go, paths of files
         * that are linked, and whether systemd reads all of them again. */
        char **unlinked, **linked;
        size_t n_unlinked, n_linked;
        bool reload_systemd;
} UnitPlan;

void unit_plan_done(UnitPlan *p);

/* `ran` names the units that ran before the switch; NULL at its end, or itself NULL. `from` is the
 * release before; NULL: there is none, or its units stay. *ret is written on success only. */
_must_check_ int unit_plan_forward(const Activate *to, const Activate *from, char *const *ran,
                                   UnitPlan *ret);

/* Back from `bad` to `old`, NULL: to nothing. The times are old's, or bad's. */
_must_check_ int unit_plan_back(const Activate *old, const Activate *bad, char *const *ran,
                                UnitPlan *ret);

/* A copy, of which nothing is left to do but to watch (UNIT_RUN_WATCH). */
_must_check_ int unit_plan_watch(const UnitPlan *p, UnitPlan *ret);

/* The unit file that unit_files brings for this unit is its own, or its template's
 * (web@.service for web@1.service). */
bool unit_files_provide(const Activate *a, const char *unit);
