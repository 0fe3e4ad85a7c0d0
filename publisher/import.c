/* SPDX-License-Identifier: Apache-2.0 */
#include "import.h"

#include <stdarg.h>
#include <stdio.h>

#include "err.h"
#include "import-action.h"
#include "import-appspec.h"
#include "json-read.h"
#include "manifest.h"
#include "name.h"
#include "result.h"
#include "utf8.h"

#define SEC UINT64_C(1000000)

void import_done(Import *m)
{
        cJSON_Delete(m->targets);
        cJSON_Delete(m->units);
        cJSON_Delete(m->pre);
        cJSON_Delete(m->post);
        for (size_t i = 0; i < m->n_notes; i++) {
                free(m->notes[i].setting);
                free(m->notes[i].advice);
        }
        free(m->notes);
        *m = (Import){};
}

int import_note(Import *m, const YamlNode *node, bool taken, const char *setting,
                const char *format, ...)
{
        ImportNote *notes = array_extend(m->notes, m->n_notes, sizeof(ImportNote)), *note;
        va_list ap;

        if (!notes)
                return -ENOMEM;
        m->notes = notes;
        note = &notes[m->n_notes++];
        *note = (ImportNote){ .taken = taken,
                              .line = node->line,
                              .setting = strdup(*setting ? setting : "\"\"") };
        va_start(ap, format);
        if (vasprintf(&note->advice, format, ap) < 0)
                note->advice = NULL;
        va_end(ap);
        if (!note->setting || !note->advice)
                return -ENOMEM;
        utf8_clean(note->setting);
        utf8_clean(note->advice);
        return 0;
}

char *import_path(const char *location)
{
        for (;;) {
                if (location[0] != '/' &&
                    (location[0] != '.' || (location[1] != '/' && location[1])))
                        break;
                location++;
        }
        char *path = strdup(location);
        for (size_t n = path ? strlen(path) : 0; n > 0 && path[n - 1] == '/'; n--)
                path[n - 1] = '\0';
        return path;
}

/* A new object at the end of *list, which is made when it is missing. */
static int add_to_list(cJSON **list, cJSON **ret)
{
        if (!*list)
                *list = cJSON_CreateArray();
        return *list ? result_append_object(*list, ret) : -ENOMEM;
}

int import_command(cJSON **list, const YamlNode *location, uint64_t timeout_sec, const char *user,
                   char **reterr)
{
        _cleanup_free_ char *path = NULL;
        char timeout[DURATION_TEXT_SIZE];
        cJSON *command, *argv;
        int r = yaml_node_check(location, YAML_KIND_TEXT, reterr);

        if (r < 0)
                return r;
        path = import_path(location->text);
        if (!path)
                return -ENOMEM;
        if (!tree_path_is_valid(path)) {
                utf8_clean(path);
                return fail(reterr, -EBADMSG, "line %u: \"%s\" is not a path in the bundle",
                            location->line, path);
        }
        r = add_to_list(list, &command);
        if (r >= 0)
                r = result_add_array(command, "command", &argv);
        if (r >= 0)
                r = result_append_string(argv, path);
        if (r >= 0)
                r = result_add_string(command, "user", user);
        if (r >= 0)
                r = result_add_string(command, "timeout",
                                      duration_format(timeout_sec * SEC, timeout));
        return r;
}

static int add_units(Import *m, const Strings *units)
{
        for (size_t i = 0; i < units->n_items; i++) {
                cJSON *unit;
                int r = add_to_list(&m->units, &unit);
                if (r >= 0)
                        r = result_add_string(unit, "name", units->items[i]);
                if (r >= 0)
                        r = result_add_string(unit, "action", "restart");
                if (r < 0)
                        return r;
        }
        return 0;
}

/* Moves *item into the object, if there is one. */
static int move_item(cJSON *object, const char *name, cJSON **item)
{
        if (!*item)
                return 0;
        if (!cJSON_AddItemToObject(object, name, *item))
                return -ENOMEM;
        *item = NULL;
        return 0;
}

static int add_hooks(Import *m, cJSON *activate)
{
        cJSON *hooks, *health;
        int r;

        if (!m->pre && !m->post)
                return 0;
        r = result_add_object(activate, "hooks", &hooks);
        if (r >= 0)
                r = move_item(hooks, "pre", &m->pre);
        /* Without a unit there is nothing to watch before the scripts that start something. */
        if (r >= 0 && m->post && !cJSON_HasObjectItem(activate, "units")) {
                r = result_add_object(activate, "health", &health);
                if (r >= 0)
                        r = result_add_string(health, "bake", "0s");
        }
        return r < 0 ? r : move_item(hooks, "post", &m->post);
}

static int make_spec(Import *m, cJSON *spec)
{
        cJSON *activate;
        int r = move_item(spec, "targets", &m->targets);

        if (r < 0 || (!m->units && !m->pre && !m->post))
                return r;
        r = result_add_object(spec, "activate", &activate);
        if (r >= 0)
                r = move_item(activate, "units", &m->units);
        return r < 0 ? r : add_hooks(m, activate);
}

/* Names, numbers and limits, as every agent judges them. */
static int check_spec(const cJSON *spec, char **reterr)
{
        _cleanup_(targets_done) Targets targets = {};
        _cleanup_(activate_done) Activate activate = {};
        int r = targets_parse(cJSON_GetObjectItemCaseSensitive(spec, "targets"), "targets",
                              &targets, reterr);

        if (r >= 0)
                r = activate_parse(cJSON_GetObjectItemCaseSensitive(spec, "activate"), "activate",
                                   &activate, reterr);
        if (r < 0 && reterr && *reterr)
                utf8_clean(*reterr);
        return r < 0 ? fail_prefix(reterr, r, "no slipway.json can say this") : 0;
}

static int compare_notes(const void *a, const void *b)
{
        const ImportNote *x = a, *y = b;

        return x->line < y->line ? -1 : x->line > y->line;
}

int import_parse(const char *text, size_t size, const Strings *units, Import *ret, cJSON **ret_spec,
                 char **reterr)
{
        _cleanup_(yaml_tree_freep) YamlNode *root = NULL;
        _cleanup_(import_done) Import m = {};
        _cleanup_json_ cJSON *spec = cJSON_CreateObject();
        const YamlNode *action = NULL;
        int r = spec ? yaml_tree_parse(text, size, &root, reterr) : -ENOMEM;

        if (r >= 0)
                r = import_action_find(root, &action, reterr);
        if (r >= 0)
                r = add_units(&m, units);
        if (r >= 0)
                r = action ? import_action(&m, action, reterr) : import_appspec(&m, root, reterr);
        if (r >= 0)
                r = make_spec(&m, spec);
        if (r >= 0)
                r = check_spec(spec, reterr);
        if (r < 0)
                return r;
        if (m.n_notes > 0)
                qsort(m.notes, m.n_notes, sizeof(ImportNote), compare_notes);
        *ret = m;
        m = (Import){};
        *ret_spec = TAKE_PTR(spec);
        return 0;
}
