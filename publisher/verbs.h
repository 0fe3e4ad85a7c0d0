/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <cJSON.h>

#include "arguments.h"

/*
 * The verbs of slipway-publish, one file each (publish-NAME.c).
 *
 * A verb does its work and puts its result into `result` (an empty JSON object); without --json it
 * prints it to stdout for people instead. It returns 0, a negative errno, or one of the exit codes
 * below, in both cases with *reterr set. It logs nothing about the error that it returns.
 */

/* Exit codes, for scripts: documented in the man page, never to be renumbered. */
enum {
        PUBLISH_OK = 0,
        PUBLISH_FAILED = 1,     /* any negative errno but -EKEYREJECTED */
        PUBLISH_USAGE = 2,      /* the command line is wrong; nothing was done */
        PUBLISH_LOST = 3,       /* another publisher was first; nothing was published */
        PUBLISH_UNVERIFIED = 4, /* a signature, a digest or a rule does not hold; -EKEYREJECTED */
};

int verb_keygen(const Arguments *a, cJSON *result, char **reterr);
int verb_trust_init(const Arguments *a, cJSON *result, char **reterr);
int verb_trust_show(const Arguments *a, cJSON *result, char **reterr);
int verb_trust_edit(const Arguments *a, cJSON *result, char **reterr);
int verb_trust_sign(const Arguments *a, cJSON *result, char **reterr);
int verb_trust_publish(const Arguments *a, cJSON *result, char **reterr);
int verb_release(const Arguments *a, cJSON *result, char **reterr);
int verb_promote(const Arguments *a, cJSON *result, char **reterr);
int verb_rollback(const Arguments *a, cJSON *result, char **reterr);
int verb_refresh(const Arguments *a, cJSON *result, char **reterr);
int verb_halt(const Arguments *a, cJSON *result, char **reterr);
int verb_unhalt(const Arguments *a, cJSON *result, char **reterr);
int verb_verify(const Arguments *a, cJSON *result, char **reterr);
int verb_verify_all(const Arguments *a, cJSON *result, char **reterr); /* verify --all */
int verb_import(const Arguments *a, cJSON *result, char **reterr);
int verb_log(const Arguments *a, cJSON *result, char **reterr);

/* Runs the command line: finds the verb, parses its options, calls it, logs its error, and with
 * --json prints its result, to which "error" and "exit" are added when it failed. Returns the exit
 * code. */
int verbs_run(int argc, char **argv);
