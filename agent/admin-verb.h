/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <cJSON.h>
#include <systemd/sd-bus.h>

#include "agent.h"
#include "macro.h"

/*
 * What the verbs of `slipway` have in common. A verb that is more than a few lines lives in
 * admin-VERB.c and is declared at the end of this file; the table in admin.c names them all. A verb
 * gets its words (NULL at the end), prints its result to stdout, logs what fails, and returns an
 * exit code (admin.h).
 */

/* Options of the command line. */
extern bool arg_json, arg_user;
extern const char *arg_config; /* NULL: the usual place */
extern bool arg_wait, arg_watch;
extern const char *arg_file, *arg_index, *arg_manifest; /* of deploy */
extern const char *arg_until, *arg_reason;              /* of hold */

/* What is known about this host, and where from. */
typedef struct Known {
        sd_bus *bus;   /* NULL: slipwayd could not be asked */
        cJSON *agent;  /* as in admin-view.h */
        int bus_error; /* why it could not: -ESRCH, -ETIMEDOUT, ... */
} Known;

void known_done(Known *k);
#define _cleanup_known_ _cleanup_(known_done)

/* Asks slipwayd. Errors as in admin-bus.h. */
_must_check_ int known_ask(Known *k, char **reterr);

/* Asks again, over the same connection. Errors leave what is known. */
_must_check_ int known_refresh(Known *k, char **reterr);

/* Asks slipwayd, or reads its state files when it does not answer. Says so, and logs what fails.
 * Returns an exit code. */
_must_check_ int known_get(Known *k);

/* The application's object; NULL, with a message, when there is none. */
const cJSON *known_find_app(const Known *k, const char *name);

/* Return an exit code. The second writes one line, the third gives one object with an "app" and,
 * unless name is NULL, another member. */
int admin_print_json(const cJSON *tree);
int admin_print_json_line(const cJSON *tree);
int admin_print_answer(const char *app, const char *name, const char *value);

int admin_exit_code(int error);

#define ADMIN_BY_SIZE_MAX 64

/* Who asks: for the history. */
void admin_who(char by[static ADMIN_BY_SIZE_MAX]);

/* Whether the work can be done without slipwayd; says that it is. A bus that refuses us is not
 * that: slipwayd may be at work. */
bool admin_go_offline(int error, const char *err);

AgentOptions admin_offline_options(void);

/* How long to wait for slipwayd to change what is live: as long as the slowest of the application's
 * releases may take to come up, and another to go back. */
uint64_t admin_change_timeout_usec(const cJSON *app);

int verb_check(char **args);
int verb_deploy(char **args);
int verb_due(char **args);
int verb_exec(char **args);
int verb_hold(char **args);
int verb_metrics(char **args);
int verb_plan(char **args);
int verb_poll(char **args);
int verb_report(char **args);
int verb_stage(char **args);
int verb_status(char **args);
int verb_activate(char **args);
int verb_verify(char **args);
int verb_confirm(char **args);
