/* SPDX-License-Identifier: Apache-2.0 */
#include "import-appspec.h"

#include <errno.h>

#include "err.h"

#define TIMEOUT_DEFAULT_SEC 3600
#define TIMEOUT_MAX_SEC     (24 * 3600) /* what a hook may take */

typedef enum Place {
        PLACE_NONE,
        PLACE_PRE,
        PLACE_POST,
        PLACE_UNIT, /* a unit's, if one is named, else hooks.post */
} Place;

#define BEFORE "it is in hooks.pre, where the new release's files are on disk already, but not live"
#define AFTER                                                                             \
        "it is in hooks.post, and what it leaves in the background ends with it: have a " \
        "systemd unit run the application, and say --unit"
#define TRAFFIC                                                                           \
        "load balancers are not told: let their health checks see the restart, or do in " \
        "hooks.pre and hooks.post what its scripts do"
#define RESERVED "CodeDeploy runs no scripts there"

/* In the order in which they run, which is that of the lists they go to. */
/* clang-format off */
static const struct Event {
        const char *name;
        Place place;
        const char *advice;
} events[] = {
        { "ApplicationStop",    PLACE_NONE,
          "restarting a unit stops what ran before: name it with --unit, and put into its "
          "ExecStop= what has to happen then" },
        { "BeforeInstall",      PLACE_PRE, BEFORE },
        { "AfterInstall",       PLACE_PRE,
          "it is in hooks.pre, before the release is live: it finds it in $SLIPWAY_RELEASE_DIR, "
          "and should change no file of it; do that in the build, or below shared/" },
        { "BeforeDeploy",       PLACE_PRE, BEFORE },
        { "ApplicationStart",   PLACE_UNIT, AFTER },
        { "AfterDeploy",        PLACE_POST, AFTER },
        { "ValidateService",    PLACE_POST,
          "it is in hooks.post: once, and the release is taken back when it fails; health.http "
          "and health.commands ask until the deadline" },
        { "BeforeBlockTraffic", PLACE_NONE, TRAFFIC },
        { "AfterBlockTraffic",  PLACE_NONE, TRAFFIC },
        { "BeforeAllowTraffic", PLACE_NONE, TRAFFIC },
        { "AfterAllowTraffic",  PLACE_NONE, TRAFFIC },
        { "DownloadBundle",     PLACE_NONE, RESERVED },
        { "Install",            PLACE_NONE, RESERVED },
        { "BlockTraffic",       PLACE_NONE, RESERVED },
        { "AllowTraffic",       PLACE_NONE, RESERVED },
};
/* clang-format on */

/* One of a section's events, with its name for notes. */
typedef struct EventScripts {
        const struct Event *event;
        const char *setting;
} EventScripts;

/* "hooks.AfterInstall", "files[0]", to be freed. */
static char *setting_of(const char *section, const char *member)
{
        char *s = NULL;

        err_set(&s, "%s.%s", section, member);
        return s;
}

/* A member that has to be a text, if it is there. */
static int text_member(const YamlNode *map, const char *name, const YamlNode **ret, char **reterr)
{
        *ret = yaml_node_member(map, name);
        return *ret ? yaml_node_check(*ret, YAML_KIND_TEXT, reterr) : 0;
}

static int need_text_member(const YamlNode *map, const char *name, const YamlNode **ret,
                            char **reterr)
{
        int r = yaml_node_check(map, YAML_KIND_MAP, reterr);

        if (r >= 0)
                r = text_member(map, name, ret, reterr);
        if (r >= 0 && !*ret)
                return fail(reterr, -EBADMSG, "line %u: %s is missing", map->line, name);
        return r;
}

/* Members that are not among the known ones get a note. */
static int note_others(Import *m, const YamlNode *map, const char *setting,
                       const char *const *known, size_t n_known)
{
        for (const YamlNode *v = map->child; v; v = v->next) {
                _cleanup_free_ char *name = NULL;
                size_t i = 0;
                while (i < n_known && !streq(known[i], v->name))
                        i++;
                if (i < n_known)
                        continue;
                name = setting_of(setting, v->name);
                int r = name ? import_note(m, v, false, name, "no AppSpec file for EC2 has it")
                             : -ENOMEM;
                if (r < 0)
                        return r;
        }
        return 0;
}

static int parse_timeout(const YamlNode *script, uint64_t *ret_sec, char **reterr)
{
        const YamlNode *node;
        int r = text_member(script, "timeout", &node, reterr);

        *ret_sec = TIMEOUT_DEFAULT_SEC;
        if (r < 0 || !node)
                return r;
        /* ten digits fit */
        bool digits =
                strlen(node->text) <= 10 && strspn(node->text, "0123456789") == strlen(node->text);
        *ret_sec = digits ? strtoull(node->text, NULL, 10) : 0;
        if (*ret_sec < 1 || *ret_sec > TIMEOUT_MAX_SEC)
                return fail(reterr, -EBADMSG,
                            "line %u: timeout must be a number of seconds from 1 to %d", node->line,
                            TIMEOUT_MAX_SEC);
        return 0;
}

static int note_user(Import *m, const YamlNode *script, const YamlNode *runas, const YamlNode *sudo,
                     const char *setting)
{
        if (sudo && !streq(sudo->text, "false"))
                return import_note(m, sudo, false, setting,
                                   "no hook takes sudo: say \"user\": \"root\" if it must be root, "
                                   "and list root in hook_users of slipway-agent.json(5)");
        if (!runas)
                return import_note(m, script, true, setting,
                                   "it ran as root, and runs as the host's first of hook_users in "
                                   "slipway-agent.json(5), unless \"user\" says another one");
        return 0;
}

static int take_script(Import *m, const YamlNode *script, const EventScripts *e, cJSON **list,
                       char **reterr)
{
        static const char *const known[] = { "location", "timeout", "runas", "sudo" };
        const YamlNode *location, *runas, *sudo;
        uint64_t timeout_sec;
        int r = need_text_member(script, "location", &location, reterr);

        if (r >= 0)
                r = text_member(script, "runas", &runas, reterr);
        if (r >= 0)
                r = text_member(script, "sudo", &sudo, reterr);
        if (r >= 0)
                r = parse_timeout(script, &timeout_sec, reterr);
        if (r >= 0)
                r = import_command(list, location, timeout_sec, runas ? runas->text : NULL, reterr);
        if (r >= 0)
                r = note_user(m, script, runas, sudo, e->setting);
        return r < 0 ? r : note_others(m, script, e->setting, known, ELEMENTSOF(known));
}

static int take_event(Import *m, const YamlNode *node, const EventScripts *e, char **reterr)
{
        Place place = e->event->place == PLACE_UNIT && !m->units ? PLACE_POST : e->event->place;
        int r = yaml_node_check(node, YAML_KIND_LIST, reterr);

        if (r < 0)
                return r;
        if (place == PLACE_UNIT)
                return import_note(m, node, false, e->setting,
                                   "the unit is restarted instead: what its scripts do besides "
                                   "goes to hooks.pre, or to the unit");
        if (place == PLACE_NONE)
                return import_note(m, node, false, e->setting, "%s", e->event->advice);
        r = import_note(m, node, true, e->setting, "%s", e->event->advice);
        for (const YamlNode *script = node->child; script && r >= 0; script = script->next)
                r = take_script(m, script, e, place == PLACE_PRE ? &m->pre : &m->post, reterr);
        return r;
}

static int take_events(Import *m, const YamlNode *section, char **reterr)
{
        const char *known[ELEMENTSOF(events)];
        int r = yaml_node_check(section, YAML_KIND_MAP, reterr);

        for (size_t i = 0; i < ELEMENTSOF(events) && r >= 0; i++) {
                const YamlNode *node = yaml_node_member(section, events[i].name);
                _cleanup_free_ char *setting = setting_of(section->name, events[i].name);
                known[i] = events[i].name;
                if (!setting)
                        return -ENOMEM;
                if (node)
                        r = take_event(m, node, &(EventScripts){ &events[i], setting }, reterr);
        }
        return r < 0 ? r : note_others(m, section, section->name, known, ELEMENTSOF(known));
}

static int take_file(Import *m, const YamlNode *file, const char *setting, char **reterr)
{
        static const char *const known[] = { "source", "destination" };
        _cleanup_free_ char *path = NULL;
        const YamlNode *source, *destination;
        int r = need_text_member(file, "source", &source, reterr);

        if (r >= 0)
                r = need_text_member(file, "destination", &destination, reterr);
        if (r < 0)
                return r;
        path = import_path(source->text);
        if (!path)
                return -ENOMEM;
        r = import_note(m, file, false, setting,
                        "nothing is copied out of a release: let what used %s use "
                        "/srv/APP/current%s%s (root in slipway-agent.json(5) says another place)",
                        destination->text, *path ? "/" : "", path);
        return r < 0 ? r : note_others(m, file, setting, known, ELEMENTSOF(known));
}

static int take_permission(Import *m, const YamlNode *permission, const char *setting,
                           char **reterr)
{
        static const char *const known[] = { "object", "pattern", "except",  "owner", "group",
                                             "mode",   "acls",    "context", "type" };
        const YamlNode *object;
        int r = need_text_member(permission, "object", &object, reterr);

        if (r >= 0)
                r = import_note(
                        m, permission, false, setting,
                        "files of a release are for reading, 0644 or 0755 as in the bundle, "
                        "and nobody's to change: what the application writes of %s goes to "
                        "links.shared, with user, group and mode",
                        object->text);
        return r < 0 ? r : note_others(m, permission, setting, known, ELEMENTSOF(known));
}

typedef int (*take_element_t)(Import *m, const YamlNode *element, const char *setting,
                              char **reterr);

static int take_list(Import *m, const YamlNode *list, take_element_t take, char **reterr)
{
        int r = yaml_node_check(list, YAML_KIND_LIST, reterr);
        size_t i = 0;

        for (const YamlNode *v = list->child; v && r >= 0; v = v->next) {
                _cleanup_free_ char *setting = NULL;
                err_set(&setting, "%s[%zu]", list->name, i++);
                r = setting ? take(m, v, setting, reterr) : -ENOMEM;
        }
        return r;
}

static int take_files(Import *m, const YamlNode *node, char **reterr)
{
        return take_list(m, node, take_file, reterr);
}

static int take_permissions(Import *m, const YamlNode *node, char **reterr)
{
        return take_list(m, node, take_permission, reterr);
}

static int take_exists(Import *m, const YamlNode *node, char **reterr)
{
        int r = yaml_node_check(node, YAML_KIND_TEXT, reterr);

        return r < 0 ? r
                     : import_note(m, node, false, "file_exists_behavior",
                                   "every release has a directory of its own, in which nothing "
                                   "exists before");
}

static int take_version(Import *m _unused_, const YamlNode *node, char **reterr)
{
        int r = yaml_node_check(node, YAML_KIND_TEXT, reterr);

        if (r < 0 || streq(node->text, "0.0") || streq(node->text, "0.1"))
                return r;
        return fail(reterr, -EBADMSG,
                    "line %u: neither version 0.0, an AppSpec file, nor 0.1, a deploy spec",
                    node->line);
}

static int take_os(Import *m _unused_, const YamlNode *node, char **reterr)
{
        int r = yaml_node_check(node, YAML_KIND_TEXT, reterr);

        if (r < 0 || streq(node->text, "linux"))
                return r;
        return fail(reterr, -EBADMSG, "line %u: Slipway runs on linux alone", node->line);
}

static int take_resources(Import *m _unused_, const YamlNode *node, char **reterr)
{
        return fail(reterr, -EBADMSG,
                    "line %u: resources: this AppSpec file is for ECS or Lambda, not for EC2",
                    node->line);
}

static const struct Section {
        const char *name;
        int (*take)(Import *m, const YamlNode *node, char **reterr);
} sections[] = {
        {"version",               take_version    },
        { "os",                   take_os         },
        { "resources",            take_resources  },
        { "Resources",            take_resources  },
        { "files",                take_files      },
        { "file_exists_behavior", take_exists     },
        { "permissions",          take_permissions},
        { "hooks",                take_events     },
        { "scripts",              take_events     },
};

static int take_section(Import *m, const YamlNode *node, char **reterr)
{
        for (size_t i = 0; i < ELEMENTSOF(sections); i++)
                if (streq(sections[i].name, node->name))
                        return node->kind == YAML_KIND_NULL ? 0 : sections[i].take(m, node, reterr);
        return import_note(m, node, false, node->name, "no AppSpec file for EC2 has it");
}

int import_appspec(Import *m, const YamlNode *root, char **reterr)
{
        if (!yaml_node_member(root, "version"))
                return fail(reterr, -EBADMSG,
                            "line %u: neither an AppSpec file, which begins with \"version: 0.0\", "
                            "nor an EC2 deploy action, which has InstanceTagKey",
                            root->line);
        for (const YamlNode *node = root->child; node; node = node->next) {
                int r = take_section(m, node, reterr);
                if (r < 0)
                        return r;
        }
        return 0;
}
