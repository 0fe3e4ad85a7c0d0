/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stdio.h>

#include <cJSON.h>

#include "check.h"
#include "macro.h"

/*
 * `slipway report`: what somebody needs who is asked why something went wrong on this host, in one
 * text. It changes nothing, asks nobody outside this host, and works whether slipwayd, the bus and
 * the configuration are well or not: what can't be had is said, and the rest is there.
 *
 * Nothing of it is a secret, as far as a program can tell: files that hold credentials are not read
 * (/etc/slipway/environment is only looked at from outside, drop-ins of the unit and the contents
 * of releases as well), and all that is written goes through mask.h.
 *
 * Each part writes to f; errors in f stay there. A part that fails has written what it could, and
 * *reterr says what is missing.
 */

#define REPORT_PART_SIZE_MAX (512 * 1024) /* what is longer loses its end */

typedef struct Report {
        Check check;         /* what was examined, without the network */
        bool offline;        /* slipwayd could not be asked: `agent` is from its state files */
        cJSON *agent;        /* as in admin-view.h; NULL: nothing is known */
        char *agent_trouble; /* why slipwayd could not be asked, and its files not be read */
} Report;

void report_done(Report *r);

/* Where the application of `agent` lives; NULL: it is not known. */
const char *report_root(const cJSON *app);

typedef int (*report_part_t)(const Report *r, FILE *f, char **reterr);

/* Versions, system, memory, and how long it is up. */
int report_host(const Report *r, FILE *f, char **reterr);
/* The clock, and whether something keeps it right. */
int report_clock(const Report *r, FILE *f, char **reterr);
/* What was found, as by `slipway check`. */
int report_findings(const Report *r, FILE *f, char **reterr);
/* What agent.json and its drop-ins say. */
int report_config(const Report *r, FILE *f, char **reterr);
/* Names, owners and sizes of what lies in the directories of configuration and state. */
int report_files(const Report *r, FILE *f, char **reterr);
/* The trust root's keys. */
int report_keys(const Report *r, FILE *f, char **reterr);
/* As `slipway status` shows it. */
int report_status(const Report *r, FILE *f, char **reterr);
/* All of it, for programs. */
int report_state(const Report *r, FILE *f, char **reterr);
/* What lies below each application's releases/. */
int report_releases(const Report *r, FILE *f, char **reterr);
/* slipwayd's unit, and those of what is live. */
int report_units(const Report *r, FILE *f, char **reterr);
/* Room and inodes. */
int report_disk(const Report *r, FILE *f, char **reterr);
/* slipwayd's last lines in the journal, and systemd's about it. */
int report_journal(const Report *r, FILE *f, char **reterr);
