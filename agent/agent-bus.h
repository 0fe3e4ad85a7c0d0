/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <systemd/sd-bus.h>

#include "macro.h"

/* clang-format off */
/*
 * slipwayd on D-Bus (system bus; the user's bus with --user): name org.slipway.Agent.
 *
 *   /org/slipway/Agent               interface org.slipway.Agent
 *     Describe() -> s json             everything below, for programs and for `slipway`
 *     property Version s
 *
 *   /org/slipway/Agent/app/<NAME>      interface org.slipway.App, one object an application; <NAME>
 *                                      is escaped as by sd_bus_path_encode(3)
 *     Poll() -> s verdict              asks the store now; answers when the manifest was judged
 *     Rollback(s release, s by) -> s release
 *                                      to that release, or with "" to the one before; answers when
 *                                      the units are up
 *     Stage(s by) -> s text            asks the store now and has its deployment fetched and
 *                                      unpacked, not made live; answers when it is staged, or that
 *                                      there is nothing to do
 *     Activate(s by) -> s release      makes live what is staged; answers when it held
 *     DeployFiles(h manifest, h index, h artifact, ah provenances, s by, b wait) -> s text
 *                                      deploys from files (of the up to 12 provenances the one that
 *                                      the manifest names, if it is among them), judged as the
 *                                      store's; answers when it begins or, with wait, with the
 *                                      release that held
 *     Hold(s until, s reason, s by) -> s text
 *                                      deploys nothing until then: "2026-11-22T15:00:00Z", "2h", or
 *                                      "" for until Resume(); text says what becomes of what is
 *                                      under way
 *     Plan() -> s json, ah indexes     what would happen now, and why not: see plan.h
 *     Confirm(s by) -> s release       confirms the release that waits for it
 *     Resume()                         ends a hold, takes back a local rollback: the channel decides
 *                                      again
 *     properties, with change signals unless they are constant:
 *       Name s, Channel s              constant
 *       Phase s, Release s, Pinned s, Failed s, Staged s
 *       HeldBy s, HoldReason s, HeldUntil t
 *                                      "" and 0: not held; HeldUntil in seconds since the epoch, 0
 *                                      until it is resumed
 *       Progress (tt)                  bytes of the artifact that are here, and all of them; 0 0
 *                                      while nothing is fetched
 *
 * Anybody may look. Methods that change something are for uid 0 (with --user: the same user) and
 * for whom polkit allows it: authority.h; DeployFiles() is for uid 0 alone. Errors are
 * org.slipway.Error.Busy, .NoSuchRelease, .Refused (nothing was changed), .Failed, with a message
 * for a person.
 *
 * Describe() gives
 *   { "version": "0.1.0", "instance": "i-1", "store": "s3://...", "fetch": "running",
 *     "trouble": "can't ask who this host is: ...",    when that, or what it means, is not known
 *     "changes": true,       other tags lead to other applications, as soon as what is under way ends
 *     "identity": { "instance": "i-1", "instance_from": "configuration", "metadata" or "host name",
 *                   "region": "...", "zone": "...", "account": "...",          if they are known
 *                   "tags": { "Stage": "prod" },
 *                   "tags_from": "configuration", "metadata" or "ec2:DescribeTags",
 *                   "tags_error": "why there are none" },
 *     "trust": { "version": 2, "expires": "2036-11-22T14:00:00Z",      the trust root that counts
 *                "trouble": "why it is not known whether there is a newer one" },
 *     "ssm": { "channel": "ec2messages",      where orders from far away are taken (orders.h)
 *              "listening": true, "trouble": "why none can come",
 *              "other_agent": "amazon-ssm-agent.service",       which runs, and may take them
 *              "orders": [ { "command": "<uuid>", "action": "deploy", "app": "web", "release": "r3",
 *                            "at": "2026-11-22T14:00:00Z",
 *                            "result": "under way", "done", "failed" or "cancelled" } ] },
 *     "apps": [ { "root": "/srv/web", "due": false (a deployment is under way, staged, or to come),
 *                 "state": { as in state.h },
 *                 "credentials": "environment",      what the store was asked with last
 *                 "poll": { "at": "2026-11-22T14:00:00Z", "next": "...", "ok": true,
 *                           "verdict": "nothing",   as judge.h has them
 *                           "text": "deployment 42 is live (serial 57)", "expires": "..." } } ] }
 * "instance", "store" and "identity" are missing, and "apps" empty, until it is known what to do.
 */
/* clang-format on */

#define AGENT_BUS_NAME      "org.slipway.Agent"
#define AGENT_BUS_PATH      "/org/slipway/Agent"
#define AGENT_BUS_INTERFACE "org.slipway.Agent"
#define APP_BUS_INTERFACE   "org.slipway.App"

#define BUS_ERROR_BUSY            "org.slipway.Error.Busy"
#define BUS_ERROR_NO_SUCH_RELEASE "org.slipway.Error.NoSuchRelease"
#define BUS_ERROR_REFUSED         "org.slipway.Error.Refused"
#define BUS_ERROR_FAILED          "org.slipway.Error.Failed"
