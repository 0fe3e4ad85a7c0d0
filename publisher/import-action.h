/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "import.h"

/*
 * CodePipeline's deploy action with the provider EC2: the members of its "configuration".
 * Sources: AWS CodePipeline User Guide, "Amazon EC2 action reference"; its scripts are run by
 * Systems Manager's document AWS-RunShellScript, whose executionTimeout is 3600 s unless said
 * otherwise.
 */

/* Finds it anywhere in a text (the configuration alone, an action, what "aws codepipeline
 * get-pipeline" prints, a template in JSON): the map that has InstanceTagKey. None: *ret is NULL.
 * Several: -EBADMSG. */
_must_check_ int import_action_find(const YamlNode *root, const YamlNode **ret, char **reterr);

/* Takes the configuration. What stands around it in the text is not looked at. */
_must_check_ int import_action(Import *m, const YamlNode *configuration, char **reterr);
