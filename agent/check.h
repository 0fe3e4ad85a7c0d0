/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <systemd/sd-bus.h>

#include "config.h"
#include "finding.h"
#include "macro.h"
#include "paths.h"
#include "trust.h"

/*
 * `slipway check`: examines what slipwayd needs on this host and says what to mend. It changes
 * nothing, works whether slipwayd runs or not, and waits for nothing without a limit. Each part
 * takes what the parts before it found out, and passes over what these could not.
 */

typedef struct Check {
        bool user;
        const char *config_path;
        Paths paths;
        Config *config;   /* NULL: broken */
        Trust *trust;     /* NULL: broken */
        sd_bus *bus;      /* NULL: not to be had */
        uint64_t now_sec; /* the clock */
        Findings findings;
} Check;

void check_done(Check *c);

/* The configuration, and who may change it. */
void check_config(Check *c);

/* Asks instance metadata who this host is, by a slipway-fetch of its own, half a minute at most.
 * `needed`: without it, nothing goes. */
_must_check_ int check_instance(Check *c, bool needed, Instance **ret);

/* The trust root. */
void check_keys(Check *c);

/* The clock against what can't be later than now: the program's own file, the state's events; and
 * whether the kernel says that something keeps it right (adjtimex(2)). */
void check_clock(Check *c);

/* The users of slipwayd's children, slipwayd's directories and who owns them, room and inodes where
 * slipwayd writes. */
void check_files(Check *c);

/* The bus, systemd, slipwayd's unit and what it may write, the units of the applications, and other
 * agents that deploy or take the same orders. */
void check_units(Check *c);

/* Asks the store for each application's manifest, by a slipway-fetch of its own, and judges what
 * comes. A minute at most. */
void check_store(Check *c);
