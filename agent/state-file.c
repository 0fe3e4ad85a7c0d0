/* SPDX-License-Identifier: Apache-2.0 */
#include <assert.h>
#include <limits.h>
#include <stdio.h>
#include <unistd.h>

#include "err.h"
#include "fd.h"
#include "json-print.h"
#include "json-read.h"
#include "name.h"
#include "state-file.h"

#define STATE_SCHEMA "slipway/state/1"

/* All three enums have the size of an int, and a negative value for what is no word of theirs. */
static int take_word(int value, const char *path, void *target, char **reterr)
{
        if (value < 0)
                return fail(reterr, -EBADMSG, "%s is not a known word", path);
        memcpy(target, &value, sizeof(int));
        return 0;
}

static int parse_phase(const cJSON *v, const char *path, void *target, char **reterr)
{
        return take_word(phase_from_string(strempty(cJSON_GetStringValue(v))), path, target,
                         reterr);
}

static int parse_action(const cJSON *v, const char *path, void *target, char **reterr)
{
        return take_word(action_from_string(strempty(cJSON_GetStringValue(v))), path, target,
                         reterr);
}

static int parse_result(const cJSON *v, const char *path, void *target, char **reterr)
{
        return take_word(result_from_string(strempty(cJSON_GetStringValue(v))), path, target,
                         reterr);
}

static int parse_schema(const cJSON *v, const char *path, void *target, char **reterr)
{
        (void) target;
        if (!cJSON_IsString(v) || !streq(v->valuestring, STATE_SCHEMA))
                return fail(reterr, -EBADMSG, "%s is not " STATE_SCHEMA, path);
        return 0;
}

static int parse_activate(const cJSON *v, const char *path, void *target, char **reterr)
{
        return activate_parse(v, path, target, reterr);
}

static int parse_text(const cJSON *v, const char *path, void *target, char **reterr)
{
        char **s = target;

        if (!cJSON_IsString(v))
                return fail(reterr, -EBADMSG, "%s is not a string", path);
        return state_set(s, v->valuestring);
}

#define FIELD(name, parse, type, member, required)            \
        {                                                     \
                name, parse, offsetof(type, member), required \
        }

static int parse_phase_time(const cJSON *v, const char *path, void *target, char **reterr)
{
        PhaseTimes *times = target;
        Phase phase = phase_from_string(v->string);

        if (phase < 0)
                return fail(reterr, -EBADMSG, "%s is not a known phase", path);
        return json_parse_uint(v, path, &times->msec[phase], reterr);
}

static int parse_phase_times(const cJSON *v, const char *path, void *target, char **reterr)
{
        return json_each_member(v, path, _PHASE_MAX, parse_phase_time, target, reterr);
}

static int parse_unit(const cJSON *v, const char *path, void *target, char **reterr)
{
        char **end = target;

        while (*end)
                end++;
        return parse_text(v, path, end, reterr);
}

static int parse_ran(const cJSON *v, const char *path, void *target, char **reterr)
{
        char ***names = target;

        *names = calloc(PENDING_RAN_MAX + 1, sizeof(char *));
        return *names ? json_each(v, path, PENDING_RAN_MAX, parse_unit, *names, reterr) : -ENOMEM;
}

static int parse_pending(const cJSON *v, const char *path, void *target, char **reterr)
{
        static const JsonField fields[] = {
                FIELD("release", json_parse_name, Pending, release, true),
                FIELD("from", json_parse_name, Pending, from, false),
                FIELD("by", parse_text, Pending, by, true),
                FIELD("deployment", json_parse_uint, Pending, deployment, true),
                FIELD("serial", json_parse_uint, Pending, serial, true),
                FIELD("confirm_ms", json_parse_uint, Pending, confirm_msec, false),
                FIELD("confirm_until_ms", json_parse_uint, Pending, confirm_until_msec, false),
                FIELD("confirm_boot_ms", json_parse_uint, Pending, confirm_boot_msec, false),
                FIELD("confirmed_by", parse_text, Pending, confirmed_by, false),
                FIELD("ran", parse_ran, Pending, ran, false),
                FIELD("action", parse_action, Pending, action, true),
                FIELD("started_ms", json_parse_uint, Pending, started_msec, true),
                FIELD("phase_since_ms", json_parse_uint, Pending, phase_msec, false),
                FIELD("phases_ms", parse_phase_times, Pending, took, false),
                FIELD("attempts", json_parse_uint, Pending, attempts, true),
                FIELD("reason", parse_text, Pending, reason, false),
                {}
        };
        return json_dispatch(v, path, fields, target, reterr);
}

static int parse_staged(const cJSON *v, const char *path, void *target, char **reterr)
{
        static const JsonField fields[] = {
                FIELD("release", json_parse_name, Staged, release, true),
                FIELD("deployment", json_parse_uint, Staged, deployment, true),
                FIELD("serial", json_parse_uint, Staged, serial, true),
                FIELD("by", parse_text, Staged, by, true),
                FIELD("since", json_parse_time, Staged, since_sec, true),
                {}
        };
        return json_dispatch(v, path, fields, target, reterr);
}

static int parse_pinned(const cJSON *v, const char *path, void *target, char **reterr)
{
        static const JsonField fields[] = {
                FIELD("release", json_parse_name, State, pinned, true),
                FIELD("by", parse_text, State, pinned_by, true),
                FIELD("deployment", json_parse_uint, State, pinned_deployment, true),
                FIELD("since", json_parse_time, State, pinned_sec, true),
                {}
        };
        return json_dispatch(v, path, fields, target, reterr);
}

static int parse_failed(const cJSON *v, const char *path, void *target, char **reterr)
{
        static const JsonField fields[] = { FIELD("release", json_parse_name, State, failed, true),
                                            FIELD("reason", parse_text, State, failed_reason, true),
                                            FIELD("deployment", json_parse_uint, State,
                                                  failed_deployment, true),
                                            FIELD("at", json_parse_time, State, failed_sec, true),
                                            {} };
        return json_dispatch(v, path, fields, target, reterr);
}

/* Makes room for one more element at the end of an array, zeroed. */
static int parse_floor(const cJSON *v, const char *path, void *target, char **reterr)
{
        static const JsonField fields[] = { FIELD("channel", json_parse_name, Floor, channel, true),
                                            FIELD("serial", json_parse_uint, Floor, serial, true),
                                            FIELD("deployment", json_parse_uint, Floor, deployment,
                                                  true),
                                            FIELD("sha256", json_parse_sha256, Floor, sha256, true),
                                            {} };
        State *s = target;
        Floor *f = state_grow((void **) &s->floors, &s->n_floors, sizeof(Floor));

        return f ? json_dispatch(v, path, fields, f, reterr) : -ENOMEM;
}

static int parse_installed(const cJSON *v, const char *path, void *target, char **reterr)
{
        static const JsonField fields[] = {
                FIELD("release", json_parse_name, Installed, release, true),
                FIELD("deployment", json_parse_uint, Installed, deployment, true),
                FIELD("serial", json_parse_uint, Installed, serial, true),
                FIELD("installed", json_parse_time, Installed, installed_sec, true),
                FIELD("index", json_parse_sha256, Installed, index_sha256, true),
                FIELD("size", json_parse_uint, Installed, size_bytes, false),
                FIELD("own", json_parse_uint, Installed, own_bytes, false),
                FIELD("activate", parse_activate, Installed, activate, true),
                {}
        };
        State *s = target;
        Installed *i = state_grow((void **) &s->releases, &s->n_releases, sizeof(Installed));
        int r = i ? json_dispatch(v, path, fields, i, reterr) : -ENOMEM;

        if (r >= 0 && i->own_bytes == 0)
                i->own_bytes = i->size_bytes;
        return r;
}

static int parse_event(const cJSON *v, const char *path, void *target, char **reterr)
{
        static const JsonField fields[] = {
                FIELD("at", json_parse_time, Event, at_sec, true),
                FIELD("action", parse_action, Event, action, true),
                FIELD("release", json_parse_name, Event, release, true),
                FIELD("from", json_parse_name, Event, from, false),
                FIELD("deployment", json_parse_uint, Event, deployment, true),
                FIELD("result", parse_result, Event, result, true),
                FIELD("reason", parse_text, Event, reason, false),
                FIELD("by", parse_text, Event, by, true),
                FIELD("took_ms", json_parse_uint, Event, took_msec, true),
                FIELD("phases_ms", parse_phase_times, Event, took, false),
                {}
        };
        State *s = target;
        Event *e = state_grow((void **) &s->events, &s->n_events, sizeof(Event));

        return e ? json_dispatch(v, path, fields, e, reterr) : -ENOMEM;
}

static int parse_floors(const cJSON *v, const char *path, void *target, char **reterr)
{
        return json_each(v, path, STATE_CHANNELS_MAX, parse_floor, target, reterr);
}

static int parse_releases(const cJSON *v, const char *path, void *target, char **reterr)
{
        return json_each(v, path, STATE_RELEASES_MAX, parse_installed, target, reterr);
}

static int parse_events(const cJSON *v, const char *path, void *target, char **reterr)
{
        return json_each(v, path, STATE_HISTORY_MAX, parse_event, target, reterr);
}

static const JsonField state_fields[] = {
        {"schema",      parse_schema, 0, true },
        FIELD("app", json_parse_name, State, app, true),
        FIELD("channel", json_parse_name, State, channel, true),
        FIELD("root", parse_text, State, root, false),
        FIELD("phase", parse_phase, State, phase, true),
        FIELD("current", json_parse_name, State, current, false),
        FIELD("last_good", json_parse_name, State, last_good, false),
        FIELD("down", json_parse_bool, State, down, false),
        FIELD("pending", parse_pending, State, pending, false),
        FIELD("staged", parse_staged, State, staged, false),
        FIELD("deployment", json_parse_uint, State, deployment, true),
        FIELD("hooks", hook_log_parse, State, hooks, false),
        { "pinned",            parse_pinned, 0, false },
        FIELD("held", hold_parse, State, hold, false),
        { "failed",            parse_failed, 0, false },
        { "channels",parse_floors, 0, true },
        { "releases",        parse_releases, 0, true },
        { "history",     parse_events, 0, true },
        {           }
};

static int file_name(const char *app, char ret[static NAME_MAX + 1])
{
        assert(name_is_valid(app));
        return snprintf(ret, NAME_MAX + 1, "%s.json", app);
}

/* The schema of a newer version; NULL: it is none. Looked at before anything else, which need not
 * be known. */
static const char *newer_schema(const cJSON *object)
{
        const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, JSON_SCHEMA);
        const char *schema = strempty(cJSON_GetStringValue(item));

        return json_schema_is_newer(schema, STATE_SCHEMA) ? schema : NULL;
}

static int fail_newer(const char *app, const char *schema, char **reterr)
{
        return fail(reterr, -EPROTONOSUPPORT,
                    "state file %s.json was written by a newer version of Slipway (%s, this one "
                    "knows " STATE_SCHEMA "): nothing is changed for app %s; install that version "
                    "again, or move the file away, which forgets serials, history, holds and "
                    "local rollbacks",
                    app, schema, app);
}

int state_load(int dir_fd, const char *app, State **ret, char **reterr)
{
        _cleanup_(state_freep) State *s = calloc(1, sizeof(State));
        _cleanup_json_ cJSON *object = NULL;
        _cleanup_free_ char *data = NULL;
        char name[NAME_MAX + 1];
        size_t size;
        int r;

        if (!s)
                return -ENOMEM;
        (void) file_name(app, name);
        r = file_read_at(dir_fd, name, STATE_SIZE_MAX, &data, &size);
        if (r < 0)
                return fail_errno(reterr, r, "can't read the state file %s", name);
        r = json_parse(data, size, &object, reterr);
        if (r >= 0 && newer_schema(object))
                return fail_newer(app, newer_schema(object), reterr);
        if (r >= 0)
                r = json_dispatch(object, "", state_fields, s, reterr);
        if (r < 0)
                return fail_prefix(reterr, r, "state file %s", name);
        if (!streq(s->app, app))
                return fail(reterr, -EBADMSG, "state file %s is about app %s", name, s->app);
        if (s->phase != PHASE_IDLE && !s->pending.release)
                return fail(reterr, -EBADMSG, "state file %s says %s, but not what", name,
                            phase_to_string(s->phase));
        *ret = TAKE_PTR(s);
        return 0;
}

int state_set_aside(int dir_fd, const char *app)
{
        char name[NAME_MAX + 1], hex[17], aside[NAME_MAX + 32];
        int r = random_hex(hex);

        if (r < 0)
                return r;
        (void) file_name(app, name);
        (void) snprintf(aside, sizeof(aside), "%s.damaged-%s", name, hex);
        if (renameat(dir_fd, name, dir_fd, aside) < 0)
                return -errno;
        return fsync(dir_fd) < 0 ? -errno : 0;
}

/* Writing */

static bool add_text(cJSON *o, const char *name, const char *value)
{
        return !value || cJSON_AddStringToObject(o, name, value);
}

static bool add_time(cJSON *o, const char *name, uint64_t sec)
{
        char text[TIME_TEXT_SIZE];

        return cJSON_AddStringToObject(o, name, time_format_utc(sec, text));
}

static bool add_sha256(cJSON *o, const char *name, const Sha256 *d)
{
        char hex[SHA256_HEX_SIZE];

        return cJSON_AddStringToObject(o, name, sha256_to_hex(d, hex));
}

/* A new object as member `name` of an object, or as element of an array (name NULL). */
static cJSON *add_object(cJSON *parent, const char *name)
{
        cJSON *o = cJSON_CreateObject();

        if (o &&
            !(name ? cJSON_AddItemToObject(parent, name, o) : cJSON_AddItemToArray(parent, o))) {
                cJSON_Delete(o);
                return NULL;
        }
        return o;
}

static bool add_phase_times(cJSON *o, const PhaseTimes *times)
{
        cJSON *v = add_object(o, "phases_ms");

        for (int i = 0; v && i < _PHASE_MAX; i++)
                if (times->msec[i] > 0 &&
                    !cJSON_AddNumberToObject(v, phase_to_string(i), times->msec[i]))
                        return false;
        return v;
}

static bool add_confirmation(cJSON *o, const Pending *p)
{
        return p->confirm_until_msec == 0 ||
               (cJSON_AddNumberToObject(o, "confirm_ms", p->confirm_msec) &&
                cJSON_AddNumberToObject(o, "confirm_until_ms", p->confirm_until_msec) &&
                cJSON_AddNumberToObject(o, "confirm_boot_ms", p->confirm_boot_msec) &&
                add_text(o, "confirmed_by", p->confirmed_by));
}

static bool add_ran(cJSON *o, const Pending *p)
{
        cJSON *names = p->ran ? cJSON_AddArrayToObject(o, "ran") : NULL;

        for (char **n = p->ran; names && *n; n++)
                if (!cJSON_AddItemToArray(names, cJSON_CreateString(*n)))
                        return false;
        return names || !p->ran;
}

static bool add_pending(cJSON *o, const Pending *p)
{
        cJSON *v;

        if (!p->release)
                return true;
        v = add_object(o, "pending");
        return v && add_text(v, "release", p->release) && add_text(v, "from", p->from) &&
               add_text(v, "by", p->by) && add_text(v, "reason", p->reason) &&
               cJSON_AddNumberToObject(v, "deployment", p->deployment) &&
               cJSON_AddNumberToObject(v, "serial", p->serial) && add_confirmation(v, p) &&
               add_ran(v, p) && add_text(v, "action", action_to_string(p->action)) &&
               cJSON_AddNumberToObject(v, "started_ms", p->started_msec) &&
               cJSON_AddNumberToObject(v, "phase_since_ms", p->phase_msec) &&
               add_phase_times(v, &p->took) && cJSON_AddNumberToObject(v, "attempts", p->attempts);
}

static bool add_staged(cJSON *o, const Staged *s)
{
        cJSON *v;

        if (!s->release)
                return true;
        v = add_object(o, "staged");
        return v && add_text(v, "release", s->release) && add_text(v, "by", s->by) &&
               cJSON_AddNumberToObject(v, "deployment", s->deployment) &&
               cJSON_AddNumberToObject(v, "serial", s->serial) &&
               add_time(v, "since", s->since_sec);
}

static bool add_pinned(cJSON *o, const State *s)
{
        cJSON *v;

        if (!s->pinned)
                return true;
        v = add_object(o, "pinned");
        return v && add_text(v, "release", s->pinned) && add_text(v, "by", s->pinned_by) &&
               cJSON_AddNumberToObject(v, "deployment", s->pinned_deployment) &&
               add_time(v, "since", s->pinned_sec);
}

static bool add_hold(cJSON *o, const State *s)
{
        cJSON *v;

        if (!s->hold.by)
                return true;
        if (hold_format(&s->hold, &v) < 0)
                return false;
        if (cJSON_AddItemToObject(o, "held", v))
                return true;
        cJSON_Delete(v);
        return false;
}

static bool add_failed(cJSON *o, const State *s)
{
        cJSON *v;

        if (!s->failed)
                return true;
        v = add_object(o, "failed");
        return v && add_text(v, "release", s->failed) &&
               add_text(v, "reason", strempty(s->failed_reason)) &&
               cJSON_AddNumberToObject(v, "deployment", s->failed_deployment) &&
               add_time(v, "at", s->failed_sec);
}

static bool add_floors(cJSON *o, const State *s)
{
        cJSON *list = cJSON_AddArrayToObject(o, "channels");

        for (size_t i = 0; list && i < s->n_floors; i++) {
                cJSON *v = add_object(list, NULL);
                if (!v || !add_text(v, "channel", s->floors[i].channel) ||
                    !cJSON_AddNumberToObject(v, "serial", s->floors[i].serial) ||
                    !cJSON_AddNumberToObject(v, "deployment", s->floors[i].deployment) ||
                    !add_sha256(v, "sha256", &s->floors[i].sha256))
                        return false;
        }
        return list;
}

static bool add_installed(cJSON *list, const Installed *i)
{
        cJSON *v = add_object(list, NULL), *activate;

        if (!v || !add_text(v, "release", i->release) ||
            !cJSON_AddNumberToObject(v, "deployment", i->deployment) ||
            !cJSON_AddNumberToObject(v, "serial", i->serial) ||
            !add_time(v, "installed", i->installed_sec) ||
            !add_sha256(v, "index", &i->index_sha256) ||
            (i->size_bytes > 0 && !cJSON_AddNumberToObject(v, "size", i->size_bytes)) ||
            (i->own_bytes > 0 && !cJSON_AddNumberToObject(v, "own", i->own_bytes)) ||
            activate_format(&i->activate, &activate) < 0)
                return false;
        if (cJSON_AddItemToObject(v, "activate", activate))
                return true;
        cJSON_Delete(activate);
        return false;
}

static bool add_event(cJSON *list, const Event *e)
{
        cJSON *v = add_object(list, NULL);

        return v && add_time(v, "at", e->at_sec) &&
               add_text(v, "action", action_to_string(e->action)) &&
               add_text(v, "release", e->release) && add_text(v, "from", e->from) &&
               cJSON_AddNumberToObject(v, "deployment", e->deployment) &&
               add_text(v, "result", result_to_string(e->result)) &&
               add_text(v, "reason", e->reason) && add_text(v, "by", e->by) &&
               cJSON_AddNumberToObject(v, "took_ms", e->took_msec) && add_phase_times(v, &e->took);
}

static bool add_lists(cJSON *o, const State *s)
{
        cJSON *releases = cJSON_AddArrayToObject(o, "releases");
        cJSON *history = cJSON_AddArrayToObject(o, "history");

        if (!releases || !history)
                return false;
        for (size_t i = 0; i < s->n_releases; i++)
                if (!add_installed(releases, &s->releases[i]))
                        return false;
        for (size_t i = 0; i < s->n_events; i++)
                if (!add_event(history, &s->events[i]))
                        return false;
        return true;
}

int state_format(const State *s, cJSON **ret)
{
        _cleanup_json_ cJSON *o = cJSON_CreateObject();

        if (!o || !add_text(o, "schema", STATE_SCHEMA) || !add_text(o, "app", s->app) ||
            !add_text(o, "channel", s->channel) || !add_text(o, "root", s->root) ||
            !add_text(o, "phase", phase_to_string(s->phase)) ||
            !add_text(o, "current", s->current) || !add_text(o, "last_good", s->last_good) ||
            !cJSON_AddBoolToObject(o, "down", s->down) || !add_pending(o, &s->pending) ||
            !add_staged(o, &s->staged) ||
            !cJSON_AddNumberToObject(o, "deployment", s->deployment) || !add_pinned(o, s) ||
            !add_hold(o, s) || !add_failed(o, s) || hook_log_format(&s->hooks, o) < 0 ||
            !add_floors(o, s) || !add_lists(o, s))
                return -ENOMEM;
        *ret = TAKE_PTR(o);
        return 0;
}

int state_save(const State *s, int dir_fd)
{
        _cleanup_json_ cJSON *o = NULL;
        _cleanup_free_ char *text = NULL;
        char name[NAME_MAX + 1];
        int r = state_format(s, &o);

        if (r < 0)
                return r;
        text = json_print(o, true);
        if (!text)
                return -ENOMEM;
        (void) file_name(s->app, name);
        return file_write_atomic_at(dir_fd, name, text, strlen(text), 0600);
}
