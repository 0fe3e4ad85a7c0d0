/* SPDX-License-Identifier: Apache-2.0 */
#include "activate.h"

#include <stdio.h>

#include "err.h"
#include "json-read.h"
#include "name.h"
#include "size-text.h"
#include "time-text.h"

#define COMMAND_TIMEOUT_DEFAULT_USEC (UINT64_C(120) * 1000000)
#define MEMORY_MIN_BYTES             (UINT64_C(1) << 20)
#define HTTP_INTERVAL_DEFAULT_USEC   (UINT64_C(1) * 1000000)
#define HTTP_TIMEOUT_DEFAULT_USEC    (UINT64_C(5) * 1000000)
#define SEC                          UINT64_C(1000000)
#define VARIABLE_NAME_SIZE_MAX       64

static const char *const unit_actions[_UNIT_ACTION_MAX] = {
        [UNIT_RESTART] = "restart",
        [UNIT_RELOAD] = "reload",
        [UNIT_RELOAD_OR_RESTART] = "reload-or-restart",
        [UNIT_TRY_RESTART] = "try-restart",
        [UNIT_START] = "start",
        [UNIT_STOP] = "stop",
};

const char *unit_action_to_string(UnitAction a)
{
        return a >= 0 && a < _UNIT_ACTION_MAX ? unit_actions[a] : NULL;
}

UnitAction unit_action_from_string(const char *s)
{
        for (UnitAction a = 0; a < _UNIT_ACTION_MAX; a++)
                if (streq(unit_actions[a], s))
                        return a;
        return _UNIT_ACTION_INVALID;
}

static const char *const shared_creates[_SHARED_CREATE_MAX] = {
        [SHARED_NONE] = "none",
        [SHARED_FILE] = "file",
        [SHARED_DIRECTORY] = "directory",
};

/* --- values --- */

static int parse_tree_path(const cJSON *v, const char *path, void *target, char **reterr)
{
        int r = json_parse_string(v, path, target, reterr);

        if (r < 0)
                return r;
        if (!tree_path_is_valid(v->valuestring))
                return fail(reterr, -EBADMSG,
                            "%s: \"%s\" is not a path in the release (relative, no \"..\")", path,
                            v->valuestring);
        return 0;
}

static int parse_duration_within(const cJSON *v, const char *path, uint64_t min_usec,
                                 uint64_t max_usec, uint64_t *ret_usec, char **reterr)
{
        char min[DURATION_TEXT_SIZE], max[DURATION_TEXT_SIZE];
        int r = json_parse_duration(v, path, ret_usec, reterr);

        if (r < 0)
                return r;
        if (*ret_usec < min_usec || *ret_usec > max_usec)
                return fail(reterr, -EBADMSG, "%s: must be from %s to %s", path,
                            duration_format(min_usec, min), duration_format(max_usec, max));
        return 0;
}

/* The name of an account, as useradd(8) takes it. */
static int parse_account(const cJSON *v, const char *path, void *target, char **reterr)
{
        int r = json_parse_string(v, path, target, reterr);
        const char *s = v->valuestring;

        if (r < 0)
                return r;
        if (strlen(s) > 32 || s[0] == '-' ||
            strspn(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-") !=
                    strlen(s))
                return fail(reterr, -EBADMSG, "%s: \"%s\" is not the name of a user or group", path,
                            s);
        return 0;
}

/* --- links --- */

static int parse_create(const cJSON *v, const char *path, void *target, char **reterr)
{
        for (SharedCreate c = SHARED_FILE; c < _SHARED_CREATE_MAX; c++)
                if (cJSON_IsString(v) && streq(v->valuestring, shared_creates[c])) {
                        *(SharedCreate *) target = c;
                        return 0;
                }
        return fail(reterr, -EBADMSG, "%s: must be \"file\" or \"directory\"", path);
}

static int parse_mode(const cJSON *v, const char *path, void *target, char **reterr)
{
        const char *s = cJSON_IsString(v) ? v->valuestring : "";
        mode_t mode;

        if (strlen(s) != 4 || s[0] != '0' || strspn(s, "01234567") != 4)
                return fail(reterr, -EBADMSG,
                            "%s: must be four octal digits, the first of them 0 (\"0640\")", path);
        mode = (mode_t) strtoul(s, NULL, 8);
        if (mode == 0)
                return fail(reterr, -EBADMSG, "%s: 0000 lets nobody in", path);
        *(mode_t *) target = mode;
        return 0;
}

static const JsonField shared_fields[] = {
        {"path",               parse_tree_path, offsetof(SharedLink, path), true },
        { "create", parse_create, offsetof(SharedLink, create) },
        { "user",                parse_account, offsetof(SharedLink, user) },
        { "group",            parse_account, offsetof(SharedLink, group) },
        { "mode", parse_mode, offsetof(SharedLink, mode) },
        {},
};

/* True if one of them is the other, or lies within it. */
static bool paths_overlap(const char *a, const char *b)
{
        size_t n = MIN(strlen(a), strlen(b));

        return strncmp(a, b, n) == 0 && (a[n] == '/' || a[n] == '\0') &&
               (b[n] == '/' || b[n] == '\0');
}

static int check_shared(const Activate *a, const SharedLink *link, const char *path, char **reterr)
{
        if (link->create == SHARED_NONE && (link->user || link->group || link->mode > 0))
                return fail(reterr, -EBADMSG,
                            "%s: user, group and mode are for what is made: say \"create\" as well",
                            path);
        for (const SharedLink *other = a->shared; other < link; other++)
                if (paths_overlap(other->path, link->path))
                        return fail(reterr, -EBADMSG, "%s: %s and %s are one, or within another",
                                    path, other->path, link->path);
        return 0;
}

static int parse_shared(const cJSON *v, const char *path, void *target, char **reterr)
{
        Activate *a = target;
        SharedLink *shared = array_extend(a->shared, a->n_shared, sizeof(SharedLink)), *link;
        int r;

        if (!shared)
                return -ENOMEM;
        a->shared = shared;
        link = &shared[a->n_shared++];
        r = cJSON_IsString(v) ? parse_tree_path(v, path, &link->path, reterr)
                              : json_dispatch(v, path, shared_fields, link, reterr);
        return r < 0 ? r : check_shared(a, link, path, reterr);
}

static int parse_shared_list(const cJSON *v, const char *path, void *target, char **reterr)
{
        return json_each(v, path, ACTIVATE_SHARED_MAX, parse_shared, target, reterr);
}

static const JsonField links_fields[] = {
        {"shared",  parse_shared_list },
        {         },
};

static int parse_links(const cJSON *v, const char *path, void *target, char **reterr)
{
        return json_dispatch(v, path, links_fields, target, reterr);
}

/* --- units --- */

static int fail_unit_name(const char *path, const char *name, char **reterr)
{
        return fail(reterr, -EBADMSG,
                    "%s: \"%s\" is not the name of a service, socket, timer, path or target unit",
                    path, name);
}

const char *unit_file_name(const char *path)
{
        const char *slash = strrchr(path, '/');

        return slash ? slash + 1 : path;
}

static int parse_unit_file(const cJSON *v, const char *path, void *target, char **reterr)
{
        Activate *a = target;
        char **files = array_extend(a->unit_files, a->n_unit_files, sizeof(char *));
        const char *name;
        int r;

        if (!files)
                return -ENOMEM;
        a->unit_files = files;
        r = parse_tree_path(v, path, &files[a->n_unit_files], reterr);
        a->n_unit_files++;
        if (r < 0)
                return r;
        name = unit_file_name(v->valuestring);
        if (!unit_name_is_valid(name))
                return fail_unit_name(path, name, reterr);
        for (size_t i = 0; i + 1 < a->n_unit_files; i++)
                if (streq(unit_file_name(files[i]), name))
                        return fail(reterr, -EBADMSG, "%s: %s stands there twice", path, name);
        return 0;
}

static int parse_unit_files(const cJSON *v, const char *path, void *target, char **reterr)
{
        return json_each(v, path, ACTIVATE_UNIT_FILES_MAX, parse_unit_file, target, reterr);
}

static int parse_unit_name(const cJSON *v, const char *path, void *target, char **reterr)
{
        int r = json_check_text(v, path, 1, JSON_STRING_SIZE_MAX, reterr);

        if (r < 0)
                return r;
        if (!unit_name_is_valid(v->valuestring))
                return fail_unit_name(path, v->valuestring, reterr);
        return json_parse_string(v, path, target, reterr);
}

static int parse_unit_action(const cJSON *v, const char *path, void *target, char **reterr)
{
        UnitAction a =
                cJSON_IsString(v) ? unit_action_from_string(v->valuestring) : _UNIT_ACTION_INVALID;

        if (a < 0)
                return fail(reterr, -EBADMSG,
                            "%s: must be \"restart\", \"reload\", \"reload-or-restart\", "
                            "\"try-restart\", \"start\" or \"stop\"",
                            path);
        *(UnitAction *) target = a;
        return 0;
}

static const JsonField unit_fields[] = {
        {"name",                 parse_unit_name, offsetof(ActivateUnit, name), true },
        { "action", parse_unit_action, offsetof(ActivateUnit, action), true },
        {             },
};

static int parse_unit(const cJSON *v, const char *path, void *target, char **reterr)
{
        Activate *a = target;
        ActivateUnit *units = array_extend(a->units, a->n_units, sizeof(ActivateUnit)), *unit;
        int r;

        if (!units)
                return -ENOMEM;
        a->units = units;
        unit = &units[a->n_units++];
        r = json_dispatch(v, path, unit_fields, unit, reterr);
        if (r < 0)
                return r;
        for (const ActivateUnit *other = units; other < unit; other++)
                if (streq(other->name, unit->name) && other->action == unit->action)
                        return fail(reterr, -EBADMSG, "%s.name: %s stands there twice for %s", path,
                                    unit->name, unit_action_to_string(unit->action));
        return 0;
}

static int parse_units(const cJSON *v, const char *path, void *target, char **reterr)
{
        return json_each(v, path, ACTIVATE_UNITS_MAX, parse_unit, target, reterr);
}

/* --- commands --- */

static int parse_argument(const cJSON *v, const char *path, void *target, char **reterr)
{
        Command *c = target;
        int r = json_check_text(v, path, c->n_argv == 0 ? 1 : 0, JSON_STRING_SIZE_MAX, reterr);

        if (r < 0)
                return r;
        if (c->n_argv == 0 && v->valuestring[0] != '/' && !tree_path_is_valid(v->valuestring))
                return fail(reterr, -EBADMSG,
                            "%s: \"%s\" is neither an absolute path nor one in the release", path,
                            v->valuestring);
        c->argv[c->n_argv] = strdup(v->valuestring);
        if (!c->argv[c->n_argv])
                return -ENOMEM;
        c->n_argv++;
        return 0;
}

static int parse_argv(const cJSON *v, const char *path, void *target, char **reterr)
{
        Command *c = target;

        if (!cJSON_IsArray(v) || !v->child)
                return fail(reterr, -EBADMSG,
                            "%s: must be a list: the program, then each argument by itself", path);
        c->argv = calloc(ACTIVATE_ARGUMENTS_MAX + 1, sizeof(char *));
        return c->argv ? json_each(v, path, ACTIVATE_ARGUMENTS_MAX, parse_argument, c, reterr)
                       : -ENOMEM;
}

static int parse_timeout(const cJSON *v, const char *path, void *target, char **reterr)
{
        return parse_duration_within(v, path, SEC, DEADLINE_MAX_USEC, target, reterr);
}

static int parse_memory(const cJSON *v, const char *path, void *target, char **reterr)
{
        uint64_t *bytes = target;

        if (!cJSON_IsString(v) || size_text_parse(v->valuestring, bytes) < 0 ||
            *bytes < MEMORY_MIN_BYTES)
                return fail(reterr, -EBADMSG, "%s: must be a size of at least 1M, like \"512M\"",
                            path);
        return 0;
}

static const JsonField command_fields[] = {
        {"command",         parse_argv, 0, true },
        { "user",                parse_account, offsetof(Command, user) },
        { "directory",                parse_tree_path, offsetof(Command, directory) },
        { "timeout",parse_timeout, offsetof(Command, timeout_usec) },
        { "memory",            parse_memory, offsetof(Command, memory_bytes) },
        {},
};

typedef struct CommandList {
        Command **commands;
        size_t *n_commands;
} CommandList;

static int parse_command(const cJSON *v, const char *path, void *target, char **reterr)
{
        CommandList *list = target;
        Command *commands = array_extend(*list->commands, *list->n_commands, sizeof(Command)), *c;

        if (!commands)
                return -ENOMEM;
        *list->commands = commands;
        c = &commands[(*list->n_commands)++];
        c->timeout_usec = COMMAND_TIMEOUT_DEFAULT_USEC;
        return json_dispatch(v, path, command_fields, c, reterr);
}

static int parse_commands(const cJSON *v, const char *path, Command **commands, size_t *n,
                          char **reterr)
{
        CommandList list = { commands, n };

        return json_each(v, path, ACTIVATE_COMMANDS_MAX, parse_command, &list, reterr);
}

static int parse_pre(const cJSON *v, const char *path, void *target, char **reterr)
{
        Activate *a = target;

        return parse_commands(v, path, &a->pre, &a->n_pre, reterr);
}

static int parse_post(const cJSON *v, const char *path, void *target, char **reterr)
{
        Activate *a = target;

        return parse_commands(v, path, &a->post, &a->n_post, reterr);
}

static int parse_revert(const cJSON *v, const char *path, void *target, char **reterr)
{
        Activate *a = target;

        return parse_commands(v, path, &a->revert, &a->n_revert, reterr);
}

static const JsonField hooks_fields[] = {
        {"pre",       parse_pre },
        { "post",          parse_post },
        { "revert",parse_revert },
        {  },
};

static int parse_hooks(const cJSON *v, const char *path, void *target, char **reterr)
{
        return json_dispatch(v, path, hooks_fields, target, reterr);
}

/* --- health --- */

/* Probes ask this host alone: a manifest must not make a fleet knock at other doors. */
static bool url_is_local(const char *url)
{
        static const char *const hosts[] = { "localhost", "127.0.0.1", "[::1]" };
        const char *host = strncmp(url, "http://", 7) == 0    ? url + 7
                           : strncmp(url, "https://", 8) == 0 ? url + 8
                                                              : NULL;

        if (!host || strpbrk(url, " @\\"))
                return false;
        for (size_t i = 0; i < ELEMENTSOF(hosts); i++) {
                size_t n = strlen(hosts[i]);
                if (strncmp(host, hosts[i], n) == 0 && (!host[n] || strchr(":/?", host[n])))
                        return true;
        }
        return false;
}

static int parse_url(const cJSON *v, const char *path, void *target, char **reterr)
{
        int r = json_parse_string(v, path, target, reterr);

        if (r < 0)
                return r;
        if (!url_is_local(v->valuestring))
                return fail(reterr, -EBADMSG,
                            "%s: \"%s\" is not an http or https URL of localhost, 127.0.0.1 or "
                            "[::1]",
                            path, v->valuestring);
        return 0;
}

static int parse_status(const cJSON *v, const char *path, void *target, char **reterr)
{
        uint64_t *status = target;
        int r = json_parse_uint(v, path, status, reterr);

        if (r < 0)
                return r;
        return *status >= 100 && *status <= 599
                       ? 0
                       : fail(reterr, -EBADMSG, "%s: must be from 100 to 599", path);
}

static int parse_interval(const cJSON *v, const char *path, void *target, char **reterr)
{
        return parse_duration_within(v, path, SEC / 10, 3600 * SEC, target, reterr);
}

static int parse_http_timeout(const cJSON *v, const char *path, void *target, char **reterr)
{
        return parse_duration_within(v, path, SEC / 10, 300 * SEC, target, reterr);
}

static const JsonField http_fields[] = {
        {"url",               parse_url, offsetof(HttpProbe, url), true },
        { "status", parse_status, offsetof(HttpProbe, status) },
        { "interval",               parse_interval, offsetof(HttpProbe, interval_usec) },
        { "timeout",           parse_http_timeout, offsetof(HttpProbe, timeout_usec) },
        {                 },
};

static int parse_http(const cJSON *v, const char *path, void *target, char **reterr)
{
        Activate *a = target;
        HttpProbe *http = array_extend(a->http, a->n_http, sizeof(HttpProbe)), *probe;

        if (!http)
                return -ENOMEM;
        a->http = http;
        probe = &http[a->n_http++];
        *probe = (HttpProbe){ .status = 200,
                              .interval_usec = HTTP_INTERVAL_DEFAULT_USEC,
                              .timeout_usec = HTTP_TIMEOUT_DEFAULT_USEC };
        return json_dispatch(v, path, http_fields, probe, reterr);
}

static int parse_http_list(const cJSON *v, const char *path, void *target, char **reterr)
{
        return json_each(v, path, ACTIVATE_HTTP_MAX, parse_http, target, reterr);
}

static int parse_probe_commands(const cJSON *v, const char *path, void *target, char **reterr)
{
        Activate *a = target;

        return parse_commands(v, path, &a->commands, &a->n_commands, reterr);
}

static int parse_confirm(const cJSON *v, const char *path, void *target, char **reterr)
{
        return parse_duration_within(v, path, SEC, DEADLINE_MAX_USEC, target, reterr);
}

static const JsonField health_fields[] = {
        {"bake",               json_parse_duration, offsetof(Activate, bake_usec) },
        { "deadline",   json_parse_duration, offsetof(Activate, deadline_usec) },
        { "http",                   parse_http_list },
        { "commands",parse_probe_commands },
        { "confirm",      parse_confirm, offsetof(Activate, confirm_usec) },
        {                  },
};

static int parse_health(const cJSON *v, const char *path, void *target, char **reterr)
{
        Activate *a = target;
        char bake[DURATION_TEXT_SIZE], deadline[DURATION_TEXT_SIZE];
        int r = json_dispatch(v, path, health_fields, a, reterr);

        if (r < 0)
                return r;
        if (a->deadline_usec > DEADLINE_MAX_USEC)
                return fail(reterr, -EBADMSG, "%s.deadline: must be at most 24h", path);
        if (a->deadline_usec <= a->bake_usec)
                return fail(reterr, -EBADMSG,
                            "%s.deadline: is %s, must be more than the bake time of %s, which is a "
                            "part of it",
                            path, duration_format(a->deadline_usec, deadline),
                            duration_format(a->bake_usec, bake));
        return 0;
}

/* --- variables --- */

static bool variable_name_is_valid(const char *s)
{
        static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_";

        return strlen(s) <= VARIABLE_NAME_SIZE_MAX && s[0] && strchr(letters, s[0]) &&
               strspn(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_0123456789") ==
                       strlen(s) &&
               strncmp(s, "SLIPWAY_", 8) != 0;
}

static int parse_variable(const cJSON *v, const char *path, void *target, char **reterr)
{
        Activate *a = target;
        Variable *variables = array_extend(a->variables, a->n_variables, sizeof(Variable));
        int r = json_check_text(v, path, 0, JSON_STRING_SIZE_MAX, reterr);

        if (!variables)
                return -ENOMEM;
        a->variables = variables;
        if (r < 0)
                return r;
        if (!variable_name_is_valid(v->string))
                return fail(reterr, -EBADMSG,
                            "%s: not a name for a variable (letters, digits and \"_\", at most %d, "
                            "not SLIPWAY_...)",
                            path, VARIABLE_NAME_SIZE_MAX);
        variables[a->n_variables++] = (Variable){ strdup(v->string), strdup(v->valuestring) };
        return variables[a->n_variables - 1].name && variables[a->n_variables - 1].value ? 0
                                                                                         : -ENOMEM;
}

static int parse_variables(const cJSON *v, const char *path, void *target, char **reterr)
{
        return json_each_member(v, path, ACTIVATE_VARIABLES_MAX, parse_variable, target, reterr);
}

/* --- the whole --- */

static const JsonField activate_fields[] = {
        {"links",           parse_links },
        { "unit_files",                parse_unit_files },
        { "units",parse_units },
        { "hooks",          parse_hooks },
        { "health",                parse_health },
        { "variables",parse_variables },
        {               },
};

int activate_parse(const cJSON *object, const char *path, Activate *ret, char **reterr)
{
        _cleanup_(activate_done) Activate a = {
                .bake_usec = BAKE_DEFAULT_USEC,
                .deadline_usec = DEADLINE_DEFAULT_USEC,
        };
        int r;

        if (object) {
                r = json_dispatch(object, path, activate_fields, &a, reterr);
                if (r < 0)
                        return r;
        }
        *ret = a;
        a = (Activate){};
        return 0;
}

static void commands_done(Command *commands, size_t n)
{
        for (size_t i = 0; i < n; i++) {
                for (size_t k = 0; k < commands[i].n_argv; k++)
                        free(commands[i].argv[k]);
                free(commands[i].argv);
                free(commands[i].user);
                free(commands[i].directory);
        }
        free(commands);
}

void activate_done(Activate *a)
{
        for (size_t i = 0; i < a->n_shared; i++) {
                free(a->shared[i].path);
                free(a->shared[i].user);
                free(a->shared[i].group);
        }
        free(a->shared);
        for (size_t i = 0; i < a->n_unit_files; i++)
                free(a->unit_files[i]);
        free(a->unit_files);
        for (size_t i = 0; i < a->n_units; i++)
                free(a->units[i].name);
        free(a->units);
        commands_done(a->pre, a->n_pre);
        commands_done(a->post, a->n_post);
        commands_done(a->revert, a->n_revert);
        commands_done(a->commands, a->n_commands);
        for (size_t i = 0; i < a->n_http; i++)
                free(a->http[i].url);
        free(a->http);
        for (size_t i = 0; i < a->n_variables; i++) {
                free(a->variables[i].name);
                free(a->variables[i].value);
        }
        free(a->variables);
        *a = (Activate){};
}

int activate_copy(const Activate *a, Activate *ret)
{
        _cleanup_json_ cJSON *object = NULL;
        int r = activate_format(a, &object);

        return r < 0 ? r : activate_parse(object, "activate", ret, NULL);
}

/* --- writing --- */

/* NULL is left out. */
static bool add_text(cJSON *object, const char *name, const char *value)
{
        return !value || cJSON_AddStringToObject(object, name, value);
}

static bool add_duration(cJSON *object, const char *name, uint64_t usec)
{
        char text[DURATION_TEXT_SIZE];

        return cJSON_AddStringToObject(object, name, duration_format(usec, text));
}

static cJSON *add_object(cJSON *array)
{
        cJSON *object = cJSON_CreateObject();

        if (object && cJSON_AddItemToArray(array, object))
                return object;
        cJSON_Delete(object);
        return NULL;
}

static bool add_string(cJSON *array, const char *value)
{
        cJSON *item = cJSON_CreateString(value);

        if (item && cJSON_AddItemToArray(array, item))
                return true;
        cJSON_Delete(item);
        return false;
}

static bool shared_format(const SharedLink *link, cJSON *array)
{
        char mode[8];
        cJSON *o;

        if (link->create == SHARED_NONE)
                return add_string(array, link->path);
        o = add_object(array);
        (void) snprintf(mode, sizeof(mode), "%04o", (unsigned) link->mode & 07777);
        return o && add_text(o, "path", link->path) &&
               add_text(o, "create", shared_creates[link->create]) &&
               add_text(o, "user", link->user) && add_text(o, "group", link->group) &&
               add_text(o, "mode", link->mode > 0 ? mode : NULL);
}

static bool links_format(const Activate *a, cJSON *object)
{
        cJSON *links = a->n_shared > 0 ? cJSON_AddObjectToObject(object, "links") : NULL;
        cJSON *array = links ? cJSON_AddArrayToObject(links, "shared") : NULL;

        for (size_t i = 0; array && i < a->n_shared; i++)
                if (!shared_format(&a->shared[i], array))
                        return false;
        return array || a->n_shared == 0;
}

static bool unit_files_format(const Activate *a, cJSON *object)
{
        cJSON *array = a->n_unit_files > 0 ? cJSON_AddArrayToObject(object, "unit_files") : NULL;

        for (size_t i = 0; array && i < a->n_unit_files; i++)
                if (!add_string(array, a->unit_files[i]))
                        return false;
        return array || a->n_unit_files == 0;
}

static bool units_format(const Activate *a, cJSON *object)
{
        cJSON *array = cJSON_AddArrayToObject(object, "units");

        for (size_t i = 0; array && i < a->n_units; i++) {
                cJSON *o = add_object(array);
                if (!o || !add_text(o, "name", a->units[i].name) ||
                    !add_text(o, "action", unit_action_to_string(a->units[i].action)))
                        return false;
        }
        return array;
}

static bool command_format(const Command *c, cJSON *array)
{
        cJSON *o = add_object(array), *argv = o ? cJSON_AddArrayToObject(o, "command") : NULL;
        char memory[SIZE_TEXT_SIZE];

        for (size_t i = 0; argv && i < c->n_argv; i++)
                if (!add_string(argv, c->argv[i]))
                        return false;
        return argv && add_text(o, "user", c->user) && add_text(o, "directory", c->directory) &&
               add_duration(o, "timeout", c->timeout_usec) &&
               add_text(o, "memory",
                        c->memory_bytes > 0 ? size_text_format(c->memory_bytes, memory) : NULL);
}

static bool commands_format(const Command *commands, size_t n, cJSON *object, const char *name)
{
        cJSON *array = n > 0 ? cJSON_AddArrayToObject(object, name) : NULL;

        for (size_t i = 0; array && i < n; i++)
                if (!command_format(&commands[i], array))
                        return false;
        return array || n == 0;
}

static bool hooks_format(const Activate *a, cJSON *object)
{
        cJSON *hooks;

        if (a->n_pre + a->n_post + a->n_revert == 0)
                return true;
        hooks = cJSON_AddObjectToObject(object, "hooks");
        return hooks && commands_format(a->pre, a->n_pre, hooks, "pre") &&
               commands_format(a->post, a->n_post, hooks, "post") &&
               commands_format(a->revert, a->n_revert, hooks, "revert");
}

static bool http_format(const Activate *a, cJSON *health)
{
        cJSON *array = a->n_http > 0 ? cJSON_AddArrayToObject(health, "http") : NULL;

        for (size_t i = 0; array && i < a->n_http; i++) {
                const HttpProbe *p = &a->http[i];
                cJSON *o = add_object(array);
                if (!o || !add_text(o, "url", p->url) ||
                    !cJSON_AddNumberToObject(o, "status", (double) p->status) ||
                    !add_duration(o, "interval", p->interval_usec) ||
                    !add_duration(o, "timeout", p->timeout_usec))
                        return false;
        }
        return array || a->n_http == 0;
}

static bool health_format(const Activate *a, cJSON *object)
{
        cJSON *health = cJSON_AddObjectToObject(object, "health");

        return health && add_duration(health, "bake", a->bake_usec) &&
               add_duration(health, "deadline", a->deadline_usec) && http_format(a, health) &&
               commands_format(a->commands, a->n_commands, health, "commands") &&
               (a->confirm_usec == 0 || add_duration(health, "confirm", a->confirm_usec));
}

static bool variables_format(const Activate *a, cJSON *object)
{
        cJSON *o = a->n_variables > 0 ? cJSON_AddObjectToObject(object, "variables") : NULL;

        for (size_t i = 0; o && i < a->n_variables; i++)
                if (!add_text(o, a->variables[i].name, a->variables[i].value))
                        return false;
        return o || a->n_variables == 0;
}

int activate_format(const Activate *a, cJSON **ret)
{
        _cleanup_json_ cJSON *object = cJSON_CreateObject();

        if (!object || !links_format(a, object) || !unit_files_format(a, object) ||
            !units_format(a, object) || !hooks_format(a, object) || !health_format(a, object) ||
            !variables_format(a, object))
                return -ENOMEM;
        *ret = TAKE_PTR(object);
        return 0;
}
