/* SPDX-License-Identifier: Apache-2.0 */
#include "import-action.h"

#include <errno.h>

#include "err.h"
#include "result.h"

#define SCRIPT_TIMEOUT_SEC 3600

typedef int (*take_t)(Import *m, const YamlNode *node, const YamlNode *configuration,
                      char **reterr);

int import_action_find(const YamlNode *root, const YamlNode **ret, char **reterr)
{
        const YamlNode *found = NULL;

        for (const YamlNode *node = root; node; node = node->after) {
                if (!yaml_node_member(node, "InstanceTagKey"))
                        continue;
                if (found)
                        return fail(reterr, -EBADMSG,
                                    "line %u: a second EC2 action, the first is on line %u: import "
                                    "one of them at a time",
                                    node->line, found->line);
                found = node;
        }
        *ret = found;
        return 0;
}

static int note_any_value(Import *m, const YamlNode *key)
{
        return import_note(m, key, false, "InstanceTagKey",
                           "targets need a tag's values, and all of them count here: say "
                           "InstanceTagValue, or give the channel only to instances that have it");
}

static int take_tag(Import *m, const YamlNode *key, const YamlNode *configuration, char **reterr)
{
        const YamlNode *value = yaml_node_member(configuration, "InstanceTagValue");
        cJSON *any, *set, *values;
        int r;

        if (!value)
                return note_any_value(m, key);
        r = yaml_node_check(value, YAML_KIND_TEXT, reterr);
        if (r < 0)
                return r;
        m->targets = cJSON_CreateObject();
        r = m->targets ? result_add_array(m->targets, "any", &any) : -ENOMEM;
        if (r >= 0)
                r = result_append_object(any, &set);
        if (r >= 0)
                r = result_add_array(set, key->text, &values);
        return r < 0 ? r : result_append_string(values, value->text);
}

/* Taken together with the key. */
static int take_tag_value(Import *m _unused_, const YamlNode *node _unused_,
                          const YamlNode *configuration _unused_, char **reterr _unused_)
{
        return 0;
}

static int take_type(Import *m, const YamlNode *type, const YamlNode *configuration _unused_,
                     char **reterr _unused_)
{
        if (streq(type->text, "EC2"))
                return 0;
        return import_note(m, type, false, "InstanceType",
                           "an instance that is not EC2's says its tags and credentials itself: "
                           "see slipway-agent.json(5)");
}

static int take_directory(Import *m, const YamlNode *directory,
                          const YamlNode *configuration _unused_, char **reterr _unused_)
{
        return import_note(m, directory, false, "TargetDirectory",
                           "the host decides where releases lie (root in slipway-agent.json(5)): "
                           "let what used %s use /srv/APP/current",
                           directory->text);
}

static int take_deploy_spec(Import *m, const YamlNode *spec, const YamlNode *configuration _unused_,
                            char **reterr _unused_)
{
        return import_note(m, spec, false, "DeploySpec",
                           "import %s as well, and put its \"activate\" beside these targets",
                           spec->text);
}

static int take_limit(Import *m, const YamlNode *limit, const YamlNode *configuration _unused_,
                      char **reterr _unused_)
{
        return import_note(m, limit, false, limit->name,
                           "slipway.json limits no numbers: release to a channel that few "
                           "instances follow first, then promote; each instance takes back what "
                           "does not run");
}

static int take_target_groups(Import *m, const YamlNode *groups,
                              const YamlNode *configuration _unused_, char **reterr _unused_)
{
        return import_note(m, groups, false, "TargetGroupNameList",
                           "load balancers are not told: let their health checks see the restart, "
                           "or deregister and register the instance in hooks.pre and hooks.post");
}

static int take_pre(Import *m, const YamlNode *script, const YamlNode *configuration _unused_,
                    char **reterr)
{
        int r = import_command(&m->pre, script, SCRIPT_TIMEOUT_SEC, NULL, reterr);

        return r < 0 ? r
                     : import_note(m, script, true, "PreScript",
                                   "it is in hooks.pre, and runs as the application's user, not "
                                   "root, when the release is on disk but not live");
}

static int take_post(Import *m, const YamlNode *script, const YamlNode *configuration _unused_,
                     char **reterr)
{
        int r = import_command(&m->post, script, SCRIPT_TIMEOUT_SEC, NULL, reterr);

        return r < 0 ? r
                     : import_note(m, script, true, "PostScript",
                                   "it is in hooks.post, runs as the application's user, not root, "
                                   "and what it leaves in the background ends with it: have a "
                                   "systemd unit run the application, and say --unit");
}

static const struct {
        const char *name;
        take_t take;
} settings[] = {
        {"InstanceTagKey",       take_tag          },
        { "InstanceTagValue",    take_tag_value    },
        { "InstanceType",        take_type         },
        { "TargetDirectory",     take_directory    },
        { "DeploySpec",          take_deploy_spec  },
        { "MaxBatch",            take_limit        },
        { "MaxError",            take_limit        },
        { "TargetGroupNameList", take_target_groups},
        { "PreScript",           take_pre          },
        { "PostScript",          take_post         },
};

static int take_setting(Import *m, const YamlNode *node, const YamlNode *configuration,
                        char **reterr)
{
        for (size_t i = 0; i < ELEMENTSOF(settings); i++) {
                if (!streq(settings[i].name, node->name))
                        continue;
                int r = yaml_node_check(node, YAML_KIND_TEXT, reterr);
                return r < 0 ? r : settings[i].take(m, node, configuration, reterr);
        }
        return import_note(m, node, false, node->name, "this version does not know it");
}

int import_action(Import *m, const YamlNode *configuration, char **reterr)
{
        for (const YamlNode *node = configuration->child; node; node = node->next) {
                int r = node->kind == YAML_KIND_NULL ? 0
                                                     : take_setting(m, node, configuration, reterr);
                if (r < 0)
                        return r;
        }
        return 0;
}
