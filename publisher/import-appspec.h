/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "import.h"

/*
 * AppSpec files of CodeDeploy for EC2 and on-premises instances (version 0.0), and the deploy spec
 * files of CodePipeline's EC2 action (0.1, with "scripts" instead of "hooks").
 *
 *   version: 0.0
 *   os: linux
 *   files: [ { source: /, destination: /var/www/web } ]
 *   file_exists_behavior: OVERWRITE
 *   permissions: [ { object: /var/www/web, owner: web, mode: 644 } ]
 *   hooks: { AfterInstall: [ { location: scripts/migrate.sh, timeout: 300, runas: web } ] }
 *
 * Sources: AWS CodeDeploy User Guide, "AppSpec file reference" (a script's timeout is 3600 s unless
 * said otherwise, and at most that; without runas the agent's user runs it, which is root);
 * AWS CodePipeline User Guide, "Amazon EC2 action reference", "Deploy spec file reference". That a
 * location may begin with "/" and that "sudo" is known is what the CodeDeploy agent's source says.
 */

_must_check_ int import_appspec(Import *m, const YamlNode *root, char **reterr);
