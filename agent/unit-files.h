/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "macro.h"
#include "site.h"
#include "unit-plan.h"

/*
 * The unit files that a release brings (activate.h, unit_files). Where systemd looks for the host's
 * own units, each gets a link to its path below <root>/current, as `systemctl link` makes it: so
 * the switch decides what systemd reads, and neither a rollback nor a reboot needs a new link. A
 * link is ours if it leads to something below <root>/current; whatever else has the name of a unit
 * there is the host's, and is never touched.
 */

/* Before a switch to the release `i`: -EKEYREJECTED, the configuration does not allow one of its
 * unit files (it may have changed since the manifest was judged); -EBADMSG, one is no file in its
 * tree; -EEXIST, the host has a unit of that name. */
_must_check_ int unit_files_check(const Site *s, const Installed *i, char **reterr);

/* Whether each unit file that the live release brings, and may bring, has its link, or something of
 * the host's in its place. */
bool unit_files_are_linked(const Site *s, const Activate *a);

/* A release with how it goes live; `release` NULL: there is none. */
typedef struct UnitFiles {
        const char *release;
        const Activate *activate;
} UnitFiles;

/* Adds to the plan what the way from one release to the other changes. systemd has to read its unit
 * files again if a link comes or goes, or a file is not the same in both; and if `again`: an
 * earlier try, which a crash cut off, may have made the links already. */
_must_check_ int unit_files_plan(const Site *s, const UnitFiles *to, const UnitFiles *from,
                                 bool again, UnitPlan *p);
