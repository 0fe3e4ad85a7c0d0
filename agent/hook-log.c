/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdio.h>
#include <time.h>

#include "err.h"
#include "hook-log.h"
#include "journal-tail.h"
#include "json-read.h"
#include "time-text.h"

static void entry_clear(HookEntry *e)
{
        free(e->release);
        free(e->command);
        free(e->text);
        free(e->output);
        *e = (HookEntry){};
}

void hook_log_clear(HookLog *l)
{
        entry_clear(&l->pre);
        entry_clear(&l->post);
        entry_clear(&l->revert);
}

int hook_entry_set(HookEntry *e, const char *release, const char *command, const char *text,
                   const char *output)
{
        HookEntry n = { .release = strdup(release),
                        .command = strdup(command),
                        .text = text ? strdup(text) : NULL,
                        .output = output ? strdup(output) : NULL,
                        .at_sec = time(NULL),
                        .ok = !text };

        if (!n.release || !n.command || (text && !n.text) || (output && !n.output)) {
                entry_clear(&n);
                return -ENOMEM;
        }
        entry_clear(e);
        *e = n;
        return 0;
}

/* A text that systemd or we made; an output is a list of them, so that no line is mistaken for
 * another one's. */
static int check_text(const cJSON *v, const char *path, char **reterr)
{
        if (!cJSON_IsString(v) || strlen(v->valuestring) >= JOURNAL_TAIL_SIZE_MAX)
                return fail(reterr, -EBADMSG, "%s is not a text of less than %d bytes", path,
                            JOURNAL_TAIL_SIZE_MAX);
        return 0;
}

static int parse_text(const cJSON *v, const char *path, void *target, char **reterr)
{
        char **text = target;
        int r = check_text(v, path, reterr);

        if (r < 0)
                return r;
        free(*text);
        *text = strdup(v->valuestring);
        return *text ? 0 : -ENOMEM;
}

static int parse_line(const cJSON *v, const char *path, void *target, char **reterr)
{
        char **output = target, *longer;
        int r = check_text(v, path, reterr);

        if (r < 0)
                return r;
        if (asprintf(&longer, "%s%s%s", strempty(*output), *output ? "\n" : "", v->valuestring) < 0)
                return -ENOMEM;
        free(*output);
        *output = longer;
        return 0;
}

static int parse_output(const cJSON *v, const char *path, void *target, char **reterr)
{
        return json_each(v, path, JOURNAL_TAIL_LINES_MAX, parse_line, target, reterr);
}

static const JsonField entry_fields[] = {
        {"release",           json_parse_name, offsetof(HookEntry, release), true },
        { "command", json_parse_string, offsetof(HookEntry, command), true },
        { "at",               json_parse_time, offsetof(HookEntry, at_sec), true },
        { "ok",          json_parse_bool, offsetof(HookEntry, ok), true },
        { "text", parse_text, offsetof(HookEntry, text) },
        { "output",               parse_output, offsetof(HookEntry, output) },
        {}
};

static int parse_entry(const cJSON *v, const char *path, void *target, char **reterr)
{
        return json_dispatch(v, path, entry_fields, target, reterr);
}

int hook_log_parse(const cJSON *v, const char *path, void *target, char **reterr)
{
        static const JsonField fields[] = {
                {"pre",             parse_entry, offsetof(HookLog, pre) },
                { "post", parse_entry, offsetof(HookLog, post) },
                { "revert",                parse_entry, offsetof(HookLog, revert) },
                {           }
        };

        return json_dispatch(v, path, fields, target, reterr);
}

static bool add_output(cJSON *o, const char *output)
{
        cJSON *lines = cJSON_AddArrayToObject(o, "output");
        _cleanup_free_ char *copy = strdup(output);
        char *rest = copy, *line;

        if (!lines || !copy)
                return false;
        while ((line = strsep(&rest, "\n"))) {
                cJSON *text = cJSON_CreateString(line);

                if (!text || !cJSON_AddItemToArray(lines, text)) {
                        cJSON_Delete(text);
                        return false;
                }
        }
        return true;
}

static bool add_entry(cJSON *hooks, const char *name, const HookEntry *e)
{
        char at[TIME_TEXT_SIZE];
        cJSON *o;

        if (!e->release)
                return true;
        o = cJSON_AddObjectToObject(hooks, name);
        return o && cJSON_AddStringToObject(o, "release", e->release) &&
               cJSON_AddStringToObject(o, "command", e->command) &&
               cJSON_AddStringToObject(o, "at", time_format_utc(e->at_sec, at)) &&
               cJSON_AddBoolToObject(o, "ok", e->ok) &&
               (!e->text || cJSON_AddStringToObject(o, "text", e->text)) &&
               (!e->output || add_output(o, e->output));
}

int hook_log_format(const HookLog *l, cJSON *object)
{
        cJSON *hooks;

        if (!l->pre.release && !l->post.release && !l->revert.release)
                return 0;
        hooks = cJSON_AddObjectToObject(object, "hooks");
        return hooks && add_entry(hooks, "pre", &l->pre) && add_entry(hooks, "post", &l->post) &&
                               add_entry(hooks, "revert", &l->revert)
                       ? 0
                       : -ENOMEM;
}
