/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "agent.h"
#include "file-order.h"
#include "macro.h"

/*
 * What `slipway` does itself when slipwayd is dead, hung or masked: the same engine, under the same
 * lock, with no network. Needs root (or options->user). A slipwayd that holds the app's lock for
 * more than two seconds more is hung: it is ended (SIGKILL by pidfd), and the state file says where
 * it stood. SIGINT and SIGTERM wait for the end. Errors as app_rollback(), app_activate(),
 * app_hold() and app_resume() have them.
 */

/* Who looks on while an application is changed: told after whatever may have changed it. */
typedef struct Onlooker {
        void (*look)(const App *app, void *userdata);
        void *userdata;
} Onlooker;

/* *ret_live: the release that is live now (allocated). */
_must_check_ int offline_rollback(const AgentOptions *options, const char *app, const char *release,
                                  const char *by, Onlooker onlooker, char **ret_live,
                                  char **reterr);

/* Makes live what is staged, and watches it; *ret_live as above. */
_must_check_ int offline_activate(const AgentOptions *options, const char *app, const char *by,
                                  Onlooker onlooker, char **ret_live, char **reterr);

/* Deploys from files, with the trust root and slipway-fetch of the configuration, and watches it;
 * *ret_live: the release that is live, or that there is nothing to do. */
_must_check_ int offline_deploy_files(const AgentOptions *options, const char *app,
                                      const OrderFiles *files, const char *by, Onlooker onlooker,
                                      char **ret_live, char **reterr);

/* As app_hold(). */
_must_check_ int offline_hold(const AgentOptions *options, const char *app, const char *until,
                              const char *reason, const char *by, char **ret, char **reterr);

/* Confirms the release that waits for it; slipwayd sees it when it comes back. */
_must_check_ int offline_confirm(const AgentOptions *options, const char *app, const char *by,
                                 char **ret, char **reterr);

_must_check_ int offline_resume(const AgentOptions *options, const char *app, char **reterr);
