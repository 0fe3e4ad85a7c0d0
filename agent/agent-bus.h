/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <systemd/sd-bus.h>

#include "macro.h"

/*
 * slipwayd on D-Bus (system bus; the user's bus with --user): name org.slipway.Agent.
 *
 *   /org/slipway/Agent                  interface org.slipway.Agent
 *     Describe() -> s                   everything below as JSON, for programs and for `slipway`
 *     property Version s
 *   /org/slipway/Agent/app/<NAME>       interface org.slipway.App, one object per application;
 * <NAME> is escaped as by sd_bus_path_encode(3) Poll() -> s                       asks the store
 * now; answers when the manifest was judged: what comes of it Rollback(s release, s by) -> s    to
 * that release, or with "" to the one before; answers when the units are up: the release that is
 * live now Stage(s by) -> s text             asks
 * the store now and has its deployment fetched and unpacked, not made live; answers when it is
 * staged, or that there is nothing to do Activate(s by) -> s release       makes live what is
 * staged; answers when it held DeployFiles(h manifest, h index, h artifact, s by, b wait) -> s text
 * deploys from files, judged as the store's; answers when it begins or, with wait, with the release
 * that held Resume()                          takes back a local rollback: the
 * channel decides again properties Name s, Channel s, Phase s, Release s, Pinned s, Failed s   with
 * change signals
 *
 * Methods that change something are for uid 0 (or, with --user, the same user). Errors are
 * org.slipway.Error.Busy, .NoSuchRelease, .Refused (nothing was changed), .Failed, with a message
 * for a person.
 *
 * Describe() gives
 *   { "version": "0.1.0", "instance": "i-1", "store": "s3://...", "fetch": "running",
 *     "apps": [ { "root": "/srv/web", "due": false (a deployment is under way, staged, or to come),
 *                 "state": { as in state.h },
 *                 "poll": { "at": "2026-11-22T14:00:00Z", "next": "...", "ok": true,
 *                           "text": "deployment 42 is live (serial 57)", "expires": "..." } } ] }
 */

#define AGENT_BUS_NAME      "org.slipway.Agent"
#define AGENT_BUS_PATH      "/org/slipway/Agent"
#define AGENT_BUS_INTERFACE "org.slipway.Agent"
#define APP_BUS_INTERFACE   "org.slipway.App"

#define BUS_ERROR_BUSY            "org.slipway.Error.Busy"
#define BUS_ERROR_NO_SUCH_RELEASE "org.slipway.Error.NoSuchRelease"
#define BUS_ERROR_REFUSED         "org.slipway.Error.Refused"
#define BUS_ERROR_FAILED          "org.slipway.Error.Failed"
