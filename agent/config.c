/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include <dirent.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <limits.h>
#include <stdio.h>
#include <unistd.h>

#include "err.h"
#include "fd.h"
#include "fetch.h"
#include "json-read.h"
#include "name.h"
#include "placeholder.h"
#include "room.h"
#include "size-text.h"
#include "store.h"

#define POLL_INTERVAL_DEFAULT_USEC (UINT64_C(15) * 1000000)
#define POLL_INTERVAL_MIN_USEC     (UINT64_C(1) * 1000000)
#define POLL_INTERVAL_MAX_USEC     (UINT64_C(24) * 3600 * 1000000)
#define HALT_WAIT_DEFAULT_USEC     (UINT64_C(600) * 1000000)
#define HALT_WAIT_MAX_USEC         (UINT64_C(24) * 3600 * 1000000)
#define JITTER_DEFAULT_PERCENT     20
#define READY_LIMIT_DEFAULT_USEC   (UINT64_C(300) * 1000000)
#define READY_LIMIT_MIN_USEC       (UINT64_C(1) * 1000000)
#define READY_LIMIT_MAX_USEC       (UINT64_C(3600) * 1000000)
#define KEEP_DEFAULT               5
#define UPDATE_LOCK_DEFAULT_USEC   (UINT64_C(3600) * 1000000)
#define UPDATE_LOCK_MAX_USEC       (UINT64_C(24) * 3600 * 1000000)
#define KEEP_MIN                   2
#define KEEP_MAX                   100
#define BUDGET_MIN_BYTES           (UINT64_C(1) << 20)
#define METADATA_INTERVAL_USEC     (UINT64_C(60) * 1000000)
#define TAG_STORE                  "slipway:store"
#define TAG_APP                    "slipway:app"
#define TAG_CHANNEL                "slipway:channel"
#define TRUST_PATH_DEFAULT         "/etc/slipway/trust/root.json"
#define ROOT_DEFAULT               "/srv/{app}"
#define MANIFEST_DEFAULT           "{app}/channels/{channel}/manifest.json"

#define UNIT_PATTERN_CHARACTERS                                \
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz" \
        "0123456789:-_.\\@*?[]!^"

/* A file that was read: kept until all is checked, to name lines. */
typedef struct ConfigFile {
        char *path, *text;
        size_t size;
} ConfigFile;

/* Where an app was written down. */
typedef struct AppOrigin {
        const ConfigFile *file; /* NULL: in a tag */
        size_t index;
} AppOrigin;

/* What is read so far: the configuration, its apps still with their placeholders. */
typedef struct Loader {
        Config config;
        const ConfigFile *file; /* that is being read */
        AppOrigin origins[CONFIG_APPS_MAX];
} Loader;

struct ConfigSource {
        char *path;
        ConfigFile *files;
        size_t n_files;
        Config settings;
};

/* --- freeing --- */

static void strings_free(char **strings, size_t n)
{
        for (size_t i = 0; i < n; i++)
                free(strings[i]);
        free(strings);
}

static void app_done(AppConfig *a)
{
        free(a->app);
        free(a->channel);
        free(a->root);
        free(a->manifest_path);
        strings_free(a->units, a->n_units);
        strings_free(a->unit_files, a->n_unit_files);
        strings_free(a->hook_users, a->n_hook_users);
        strings_free(a->provenance.builders, a->provenance.n_builders);
        strings_free(a->provenance.repositories, a->provenance.n_repositories);
}

static void tags_done(Config *c)
{
        for (size_t i = 0; i < c->n_tags; i++) {
                free(c->tags[i].key);
                free(c->tags[i].value);
        }
        free(c->tags);
        c->tags = NULL;
        c->n_tags = 0;
}

static void config_done(Config *c)
{
        free(c->store);
        free(c->instance);
        free(c->region);
        free(c->zone);
        free(c->account);
        free(c->tags_error);
        free(c->trust_path);
        tags_done(c);
        for (size_t i = 0; i < c->n_apps; i++)
                app_done(&c->apps[i]);
        free(c->apps);
}

Config *config_free(Config *c)
{
        if (c)
                config_done(c);
        free(c);
        return NULL;
}

static void loader_done(Loader *l)
{
        config_done(&l->config);
}

ConfigSource *config_source_free(ConfigSource *s)
{
        if (!s)
                return NULL;
        for (size_t i = 0; i < s->n_files; i++) {
                free(s->files[i].path);
                free(s->files[i].text);
        }
        free(s->files);
        free(s->path);
        config_done(&s->settings);
        free(s);
        return NULL;
}

const Config *config_source_settings(const ConfigSource *s)
{
        return &s->settings;
}

/* --- the grammar --- */

static int parse_store(const cJSON *v, const char *path, void *target, char **reterr)
{
        int r = json_parse_string(v, path, target, reterr);

        if (r < 0)
                return r;
        return store_url_check(v->valuestring, reterr) < 0
                       ? fail_prefix(reterr, -EBADMSG, "%s", path)
                       : 0;
}

static int parse_tag(const cJSON *v, const char *path, void *target, char **reterr)
{
        Config *c = target;
        Tag *tags;
        int r = json_check_text(v, path, 0, TAG_VALUE_SIZE_MAX, reterr);

        if (r < 0)
                return r;
        if (!v->string[0] || strlen(v->string) > TAG_KEY_SIZE_MAX)
                return fail(reterr, -EBADMSG, "%s: a tag's key has 1 to %d bytes", path,
                            TAG_KEY_SIZE_MAX);
        tags = reallocarray(c->tags, c->n_tags + 1, sizeof(Tag));
        if (!tags)
                return -ENOMEM;
        c->tags = tags;
        tags[c->n_tags] = (Tag){ strdup(v->string), strdup(v->valuestring) };
        c->n_tags++;
        return tags[c->n_tags - 1].key && tags[c->n_tags - 1].value ? 0 : -ENOMEM;
}

static int parse_tags(const cJSON *v, const char *path, void *target, char **reterr)
{
        Config *c = target;

        tags_done(c);
        c->has_tags = true;
        return json_each_member(v, path, CONFIG_TAGS_MAX, parse_tag, target, reterr);
}

static int parse_interval(const cJSON *v, const char *path, void *target, char **reterr)
{
        uint64_t *usec = target;
        int r = json_parse_duration(v, path, usec, reterr);

        if (r < 0)
                return r;
        if (*usec < POLL_INTERVAL_MIN_USEC || *usec > POLL_INTERVAL_MAX_USEC)
                return fail(reterr, -EBADMSG, "%s: must be 1s to 24h", path);
        return 0;
}

static int parse_jitter(const cJSON *v, const char *path, void *target, char **reterr)
{
        const char *s = cJSON_IsString(v) ? v->valuestring : "";
        size_t n_digits = strspn(s, "0123456789");
        unsigned percent = 0;

        for (size_t i = 0; i < n_digits && percent <= 100; i++)
                percent = percent * 10 + (unsigned) (s[i] - '0');
        if (n_digits == 0 || !streq(s + n_digits, "%") || percent > 100)
                return fail(reterr, -EBADMSG, "%s: must be \"0%%\" to \"100%%\"", path);
        *(unsigned *) target = percent;
        return 0;
}

static int parse_halt_wait(const cJSON *v, const char *path, void *target, char **reterr)
{
        uint64_t *usec = target;
        int r = json_parse_duration(v, path, usec, reterr);

        if (r < 0)
                return r;
        if (*usec > HALT_WAIT_MAX_USEC)
                return fail(reterr, -EBADMSG, "%s: must be 0s to 24h", path);
        return 0;
}

static int parse_ready(const cJSON *v, const char *path, void *target, char **reterr)
{
        const char *s = cJSON_IsString(v) ? v->valuestring : "";

        if (!streq(s, "started") && !streq(s, "deployed"))
                return fail(reterr, -EBADMSG, "%s: must be \"started\" or \"deployed\"", path);
        *(bool *) target = streq(s, "deployed");
        return 0;
}

static int parse_ready_limit(const cJSON *v, const char *path, void *target, char **reterr)
{
        uint64_t *usec = target;
        int r = json_parse_duration(v, path, usec, reterr);

        if (r < 0)
                return r;
        if (*usec < READY_LIMIT_MIN_USEC || *usec > READY_LIMIT_MAX_USEC)
                return fail(reterr, -EBADMSG, "%s: must be 1s to 1h", path);
        return 0;
}

static const JsonField poll_fields[] = {
        {"interval",       parse_interval, offsetof(Config, poll_interval_usec) },
        { "jitter", parse_jitter, offsetof(Config, jitter_percent) },
        { "halt_wait",               parse_halt_wait, offsetof(Config, halt_wait_usec) },
        {},
};

static int parse_poll(const cJSON *v, const char *path, void *target, char **reterr)
{
        Config *c = target;

        c->poll_interval_usec = POLL_INTERVAL_DEFAULT_USEC;
        c->jitter_percent = JITTER_DEFAULT_PERCENT;
        c->halt_wait_usec = HALT_WAIT_DEFAULT_USEC;
        return json_dispatch(v, path, poll_fields, c, reterr);
}

static const JsonField metadata_fields[] = {
        {"interval",       parse_interval, offsetof(Config, metadata_interval_usec) },
        {       },
};

static int parse_metadata(const cJSON *v, const char *path, void *target, char **reterr)
{
        return json_dispatch(v, path, metadata_fields, target, reterr);
}

static int parse_channel(const cJSON *v, const char *path, void *target, char **reterr)
{
        SsmChannel c =
                cJSON_IsString(v) ? ssm_channel_from_string(v->valuestring) : _SSM_CHANNEL_INVALID;

        if (c == _SSM_CHANNEL_INVALID)
                return fail(reterr, -EBADMSG,
                            "%s: must be \"auto\", \"ec2messages\" or \"ssmmessages\"", path);
        *(SsmChannel *) target = c;
        return 0;
}

static int parse_allowed(const cJSON *v, const char *path, void *target, char **reterr)
{
        SsmConfig *c = target;
        OrderAction a = cJSON_IsString(v) ? order_action_from_string(v->valuestring)
                                          : _ORDER_ACTION_INVALID;

        if (a == _ORDER_ACTION_INVALID)
                return fail(reterr, -EBADMSG,
                            "%s: must be \"poll\", \"deploy\", \"rollback\", \"hold\", \"resume\", "
                            "\"confirm\" or \"status\"",
                            path);
        if (c->allowed[a])
                return fail(reterr, -EBADMSG, "%s: %s stands there twice", path,
                            order_action_to_string(a));
        c->allowed[a] = true;
        return 0;
}

static int parse_allow(const cJSON *v, const char *path, void *target, char **reterr)
{
        SsmConfig *c = target;

        memset(c->allowed, 0, sizeof(c->allowed));
        return json_each(v, path, _ORDER_ACTION_MAX, parse_allowed, c, reterr);
}

static const JsonField ssm_fields[] = {
        {"enabled",           json_parse_bool, offsetof(SsmConfig, enabled) },
        { "channel", parse_channel, offsetof(SsmConfig, channel) },
        { "allow",                  parse_allow, 0 },
        {          },
};

static void set_ssm_defaults(SsmConfig *c)
{
        *c = (SsmConfig){ .channel = SSM_CHANNEL_AUTO };
        for (OrderAction a = 0; a < _ORDER_ACTION_MAX; a++)
                c->allowed[a] = true;
}

static int parse_ssm(const cJSON *v, const char *path, void *target, char **reterr)
{
        set_ssm_defaults(target);
        return json_dispatch(v, path, ssm_fields, target, reterr);
}

static bool absolute_path_is_clean(const char *s)
{
        return s[0] == '/' && tree_path_is_valid(s + 1);
}

static int parse_trust(const cJSON *v, const char *path, void *target, char **reterr)
{
        int r = json_parse_string(v, path, target, reterr);

        if (r < 0)
                return r;
        if (!absolute_path_is_clean(v->valuestring))
                return fail(reterr, -EBADMSG, "%s: must be an absolute path", path);
        return 0;
}

static int parse_keep(const cJSON *v, const char *path, void *target, char **reterr)
{
        uint64_t n;
        int r = json_parse_uint(v, path, &n, reterr);

        if (r < 0)
                return r;
        if (n < KEEP_MIN || n > KEEP_MAX)
                return fail(reterr, -EBADMSG, "%s: must be %d to %d", path, KEEP_MIN, KEEP_MAX);
        *(unsigned *) target = (unsigned) n;
        return 0;
}

static int parse_update_lock(const cJSON *v, const char *path, void *target, char **reterr)
{
        uint64_t usec;
        int r = json_parse_duration(v, path, &usec, reterr);

        if (r < 0)
                return r;
        if (usec > UPDATE_LOCK_MAX_USEC)
                return fail(reterr, -EBADMSG, "%s: must be at most 24h", path);
        *(uint64_t *) target = usec;
        return 0;
}

static int parse_activate(const cJSON *v, const char *path, void *target, char **reterr)
{
        const char *s = cJSON_IsString(v) ? v->valuestring : "";

        if (!streq(s, "auto") && !streq(s, "manual"))
                return fail(reterr, -EBADMSG, "%s: must be \"auto\" or \"manual\"", path);
        *(bool *) target = streq(s, "manual");
        return 0;
}

static int add_text(char ***list, size_t *n, const char *text)
{
        char **larger = reallocarray(*list, *n + 1, sizeof(char *));

        if (!larger)
                return -ENOMEM;
        *list = larger;
        larger[*n] = strdup(text);
        if (!larger[*n])
                return -ENOMEM;
        (*n)++;
        return 0;
}

static int add_unit(AppConfig *a, const char *pattern)
{
        return add_text(&a->units, &a->n_units, pattern);
}

static int add_hook_user(AppConfig *a, const char *user)
{
        return add_text(&a->hook_users, &a->n_hook_users, user);
}

static int parse_unit(const cJSON *v, const char *path, void *target, char **reterr)
{
        int r = json_check_text(v, path, 1, JSON_STRING_SIZE_MAX, reterr);

        return r < 0 ? r : add_unit(target, v->valuestring);
}

static int parse_units(const cJSON *v, const char *path, void *target, char **reterr)
{
        AppConfig *a = target;

        /* An empty list is not the default, but that no unit may be named. */
        a->units = calloc(1, sizeof(char *));
        if (!a->units)
                return -ENOMEM;
        return json_each(v, path, CONFIG_UNITS_MAX, parse_unit, a, reterr);
}

static int parse_unit_file(const cJSON *v, const char *path, void *target, char **reterr)
{
        AppConfig *a = target;
        int r = json_check_text(v, path, 1, JSON_STRING_SIZE_MAX, reterr);

        return r < 0 ? r : add_text(&a->unit_files, &a->n_unit_files, v->valuestring);
}

static int parse_unit_files(const cJSON *v, const char *path, void *target, char **reterr)
{
        return json_each(v, path, CONFIG_UNITS_MAX, parse_unit_file, target, reterr);
}

static int parse_size(const cJSON *v, const char *path, uint64_t min, uint64_t *ret, char **reterr)
{
        char text[SIZE_TEXT_SIZE];

        if (!cJSON_IsString(v) || size_text_parse(v->valuestring, ret) < 0 || *ret < min)
                return fail(reterr, -EBADMSG, "%s: must be a size like \"512M\", \"%s\" or more",
                            path, size_text_format(min, text));
        return 0;
}

static int parse_budget(const cJSON *v, const char *path, void *target, char **reterr)
{
        return parse_size(v, path, BUDGET_MIN_BYTES, target, reterr);
}

static int parse_reserve(const cJSON *v, const char *path, void *target, char **reterr)
{
        return parse_size(v, path, 0, target, reterr);
}

static const JsonField disk_fields[] = {
        {"budget",            parse_budget, offsetof(AppConfig, budget_bytes) },
        { "reserve", parse_reserve, offsetof(AppConfig, reserve_bytes) },
        {     }
};

static int parse_disk(const cJSON *v, const char *path, void *target, char **reterr)
{
        return json_dispatch(v, path, disk_fields, target, reterr);
}

static int parse_hook_user(const cJSON *v, const char *path, void *target, char **reterr)
{
        int r = json_check_text(v, path, 1, JSON_STRING_SIZE_MAX, reterr);

        return r < 0 ? r : add_hook_user(target, v->valuestring);
}

static int parse_hook_users(const cJSON *v, const char *path, void *target, char **reterr)
{
        AppConfig *a = target;

        /* Here an empty list means that no command may be run. */
        a->hook_users = calloc(1, sizeof(char *));
        if (!a->hook_users)
                return -ENOMEM;
        return json_each(v, path, CONFIG_HOOK_USERS_MAX, parse_hook_user, a, reterr);
}

static int parse_builder(const cJSON *v, const char *path, void *target, char **reterr)
{
        ProvenancePolicy *p = target;
        int r = json_check_text(v, path, 1, JSON_STRING_SIZE_MAX, reterr);

        return r < 0 ? r : add_text(&p->builders, &p->n_builders, v->valuestring);
}

static int parse_repository(const cJSON *v, const char *path, void *target, char **reterr)
{
        ProvenancePolicy *p = target;
        int r = json_check_text(v, path, 1, JSON_STRING_SIZE_MAX, reterr);

        return r < 0 ? r : add_text(&p->repositories, &p->n_repositories, v->valuestring);
}

/* Nobody means an empty list: it would allow nothing at all, or everything. */
static int parse_origins(const cJSON *v, const char *path, json_parse_t each, void *target,
                         char **reterr)
{
        if (cJSON_IsArray(v) && cJSON_GetArraySize(v) == 0)
                return fail(reterr, -EBADMSG,
                            "%s: must hold at least one pattern (leave it out to mean any)", path);
        return json_each(v, path, CONFIG_PROVENANCE_MAX, each, target, reterr);
}

static int parse_builders(const cJSON *v, const char *path, void *target, char **reterr)
{
        return parse_origins(v, path, parse_builder, target, reterr);
}

static int parse_repositories(const cJSON *v, const char *path, void *target, char **reterr)
{
        return parse_origins(v, path, parse_repository, target, reterr);
}

static const JsonField provenance_fields[] = {
        {"builders",      parse_builders, 0 },
        { "repositories",              parse_repositories, 0 },
        {             },
};

static int parse_provenance(const cJSON *v, const char *path, void *target, char **reterr)
{
        ProvenancePolicy *p = target;

        p->required = true;
        return json_dispatch(v, path, provenance_fields, p, reterr);
}

static const JsonField app_fields[] = {
        {"app",               json_parse_name, offsetof(AppConfig, app), true },
        { "channel", json_parse_string, offsetof(AppConfig, channel), true },
        { "root",               json_parse_string, offsetof(AppConfig, root) },
        { "manifest",          json_parse_string, offsetof(AppConfig, manifest_path) },
        { "units", parse_units, 0 },
        { "unit_files",               parse_unit_files, 0 },
        { "disk",             parse_disk, 0 },
        { "hook_users", parse_hook_users, 0 },
        { "provenance",                  parse_provenance, offsetof(AppConfig, provenance) },
        { "keep",parse_keep, offsetof(AppConfig, keep) },
        { "update_lock",     parse_update_lock, offsetof(AppConfig, update_lock_usec) },
        { "activate",            parse_activate, offsetof(AppConfig, activate_by_hand) },
        {      },
};

static const AppConfig app_defaults = { .keep = KEEP_DEFAULT,
                                        .reserve_bytes = ROOM_RESERVE_DEFAULT,
                                        .update_lock_usec = UPDATE_LOCK_DEFAULT_USEC };

static int parse_app(const cJSON *v, const char *path, void *target, char **reterr)
{
        Loader *l = target;
        Config *c = &l->config;
        size_t index = 0;
        AppConfig *apps;

        if (c->n_apps >= CONFIG_APPS_MAX)
                return fail(reterr, -EBADMSG, "%s: there are more than %d apps", path,
                            CONFIG_APPS_MAX);
        apps = reallocarray(c->apps, c->n_apps + 1, sizeof(AppConfig));
        if (!apps)
                return -ENOMEM;
        c->apps = apps;
        if (c->n_apps > 0 && l->origins[c->n_apps - 1].file == l->file)
                index = l->origins[c->n_apps - 1].index + 1;
        l->origins[c->n_apps] = (AppOrigin){ l->file, index };
        apps[c->n_apps] = app_defaults;
        return json_dispatch(v, path, app_fields, &apps[c->n_apps++], reterr);
}

static int parse_bandwidth(const cJSON *v, const char *path, void *target, char **reterr)
{
        return parse_size(v, path, FETCH_BANDWIDTH_MIN_BYTES, target, reterr);
}

static const JsonField fetch_fields[] = {
        {"bandwidth",      parse_bandwidth, offsetof(Config, bandwidth_bytes) },
        {       },
};

static int parse_fetch(const cJSON *v, const char *path, void *target, char **reterr)
{
        Config *c = target;

        c->bandwidth_bytes = 0;
        return json_dispatch(v, path, fetch_fields, c, reterr);
}

static int parse_apps(const cJSON *v, const char *path, void *target, char **reterr)
{
        return json_each(v, path, CONFIG_APPS_MAX, parse_app, target, reterr);
}

static const JsonField config_fields[] = {
        {"store",           parse_store, offsetof(Loader, config.store) },
        { "instance",  json_parse_name, offsetof(Loader, config.instance) },
        { "region",                json_parse_name, offsetof(Loader, config.region) },
        { "zone", json_parse_name, offsetof(Loader, config.zone) },
        { "tags", parse_tags, offsetof(Loader, config) },
        { "poll",         parse_poll, offsetof(Loader, config) },
        { "fetch",  parse_fetch, offsetof(Loader, config) },
        { "report",                json_parse_bool, offsetof(Loader, config.report) },
        { "ready",  parse_ready, offsetof(Loader, config.ready_when_deployed) },
        { "ready_limit",     parse_ready_limit, offsetof(Loader, config.ready_limit_usec) },
        { "metadata",           parse_metadata, offsetof(Loader, config) },
        { "ssm",  parse_ssm, offsetof(Loader, config.ssm) },
        { "trust",                parse_trust, offsetof(Loader, config.trust_path) },
        { "apps",parse_apps, 0 },
        {         },
};

/* --- files --- */

/* Puts "FILE:LINE: " before an error text that starts with a JSON path of this file. */
static int fail_in_file(const ConfigFile *f, int error, char **reterr)
{
        unsigned line = reterr && *reterr ? json_line_of(f->text, f->size, *reterr) : 0;

        return fail_prefix(reterr, error, "%s:%u", f->path, line);
}

static int add_file(ConfigSource *s, const char *path, char **reterr)
{
        ConfigFile *files = reallocarray(s->files, s->n_files + 1, sizeof(ConfigFile));
        ConfigFile *f;
        int r;

        if (!files)
                return -ENOMEM;
        s->files = files;
        f = &files[s->n_files++];
        *f = (ConfigFile){ .path = strdup(path) };
        if (!f->path)
                return -ENOMEM;
        r = file_read_at(AT_FDCWD, path, CONFIG_SIZE_MAX, &f->text, &f->size);
        return r < 0 ? fail_errno(reterr, r, "can't read %s", path) : 0;
}

static int parse_file(Loader *l, const ConfigFile *f, char **reterr)
{
        _cleanup_json_ cJSON *tree = NULL;
        int r = json_parse(f->text, f->size, &tree, reterr);

        if (r < 0)
                return fail_prefix(reterr, r, "%s", f->path);
        l->file = f;
        r = json_dispatch(tree, "", config_fields, l, reterr);
        return r < 0 ? fail_in_file(f, r, reterr) : 0;
}

static int parse_files(const ConfigSource *s, Loader *l, char **reterr)
{
        int r = 0;

        l->config = (Config){
                .poll_interval_usec = POLL_INTERVAL_DEFAULT_USEC,
                .jitter_percent = JITTER_DEFAULT_PERCENT,
                .halt_wait_usec = HALT_WAIT_DEFAULT_USEC,
                .metadata_interval_usec = METADATA_INTERVAL_USEC,
                .report = true,
                .ready_limit_usec = READY_LIMIT_DEFAULT_USEC,
        };
        set_ssm_defaults(&l->config.ssm);
        for (size_t i = 0; i < s->n_files && r == 0; i++)
                r = parse_file(l, &s->files[i], reterr);
        return r;
}

static int is_drop_in(const struct dirent *d)
{
        size_t size = strlen(d->d_name);

        return d->d_name[0] != '.' && size > STRLEN(".json") &&
               streq(d->d_name + size - STRLEN(".json"), ".json");
}

static int compare_names(const struct dirent **a, const struct dirent **b)
{
        return strcmp((*a)->d_name, (*b)->d_name);
}

static int add_drop_ins(ConfigSource *s, const char *path, char **reterr)
{
        _cleanup_free_ char *dir = NULL;
        struct dirent **entries = NULL;
        size_t size = strlen(path);
        int n, r = 0;

        if (size > STRLEN(".json") && streq(path + size - STRLEN(".json"), ".json"))
                size -= STRLEN(".json");
        if (asprintf(&dir, "%.*s.d", (int) size, path) < 0) {
                dir = NULL;
                return -ENOMEM;
        }
        n = scandir(dir, &entries, is_drop_in, compare_names);
        if (n < 0)
                return errno == ENOENT ? 0 : fail_errno(reterr, -errno, "can't read %s", dir);
        for (int i = 0; i < n; i++) {
                _cleanup_free_ char *file = NULL;
                if (r == 0 && asprintf(&file, "%s/%s", dir, entries[i]->d_name) < 0) {
                        file = NULL;
                        r = -ENOMEM;
                }
                if (r == 0)
                        r = add_file(s, file, reterr);
                free(entries[i]);
        }
        free(entries);
        return r;
}

/* --- what can be judged only when all files are read --- */

static int set_default(char **s, const char *value)
{
        if (!*s)
                *s = strdup(value);
        return *s ? 0 : -ENOMEM;
}

static int set_app_defaults(AppConfig *a)
{
        int r = set_default(&a->root, ROOT_DEFAULT);

        if (r == 0)
                r = set_default(&a->manifest_path, MANIFEST_DEFAULT);
        if (r == 0 && !a->units) {
                r = add_unit(a, "{app}.service");
                if (r == 0)
                        r = add_unit(a, "{app}@*.service");
        }
        if (r == 0 && !a->hook_users)
                r = add_hook_user(a, "{app}");
        return r;
}

static int expand(const Loader *l, const AppConfig *a, const char *channel, char **template,
                  char **reterr)
{
        const Placeholders p = {
                .app = a->app,
                .channel = channel,
                .instance = l->config.instance,
                .region = l->config.region,
                .zone = l->config.zone,
                .tags = l->config.tags,
                .n_tags = l->config.n_tags,
        };

        return placeholders_expand(&p, template, reterr);
}

static int expand_channel(const Loader *l, AppConfig *a, char **reterr)
{
        int r = expand(l, a, NULL, &a->channel, reterr);

        if (r < 0)
                return r;
        if (!name_is_valid(a->channel))
                return fail(reterr, -EBADMSG, "\"%s\" is not a name", a->channel);
        return 0;
}

static int expand_root(const Loader *l, AppConfig *a, char **reterr)
{
        int r = expand(l, a, a->channel, &a->root, reterr);

        if (r < 0)
                return r;
        if (!absolute_path_is_clean(a->root))
                return fail(reterr, -EBADMSG,
                            "\"%s\" is not an absolute path without \".\", \"..\" and \"//\"",
                            a->root);
        return 0;
}

static int expand_manifest(const Loader *l, AppConfig *a, char **reterr)
{
        int r = expand(l, a, a->channel, &a->manifest_path, reterr);

        if (r < 0)
                return r;
        if (!store_path_is_valid(a->manifest_path))
                return fail(reterr, -EBADMSG, "\"%s\" is not a path in a store", a->manifest_path);
        return 0;
}

static int expand_patterns(const Loader *l, const AppConfig *a, char **patterns, size_t n,
                           char **reterr)
{
        for (size_t i = 0; i < n; i++) {
                int r = expand(l, a, a->channel, &patterns[i], reterr);
                if (r < 0)
                        return r;
                const char *s = patterns[i];
                if (strlen(s) > NAME_MAX || strspn(s, UNIT_PATTERN_CHARACTERS) != strlen(s))
                        return fail(reterr, -EBADMSG, "\"%s\" is not a pattern of unit names", s);
        }
        return 0;
}

static int expand_units(const Loader *l, AppConfig *a, char **reterr)
{
        return expand_patterns(l, a, a->units, a->n_units, reterr);
}

static int expand_unit_files(const Loader *l, AppConfig *a, char **reterr)
{
        return expand_patterns(l, a, a->unit_files, a->n_unit_files, reterr);
}

static int expand_texts(const Loader *l, const AppConfig *a, char **texts, size_t n, char **reterr)
{
        for (size_t i = 0; i < n; i++) {
                int r = expand(l, a, a->channel, &texts[i], reterr);
                if (r < 0)
                        return r;
        }
        return 0;
}

static int expand_hook_users(const Loader *l, AppConfig *a, char **reterr)
{
        return expand_texts(l, a, a->hook_users, a->n_hook_users, reterr);
}

static int expand_provenance(const Loader *l, AppConfig *a, char **reterr)
{
        const ProvenancePolicy *p = &a->provenance;
        int r = expand_texts(l, a, p->builders, p->n_builders, reterr);

        return r < 0 ? r : expand_texts(l, a, p->repositories, p->n_repositories, reterr);
}

static bool path_is_in(const char *path, const char *dir)
{
        size_t size = strlen(dir);

        return strncmp(path, dir, size) == 0 && (path[size] == '/' || path[size] == '\0');
}

static int check_app_once(const Loader *l, AppConfig *a, char **reterr)
{
        for (const AppConfig *b = l->config.apps; b < a; b++)
                if (streq(a->app, b->app))
                        return fail(reterr, -EBADMSG, "%s stands there twice", a->app);
        return 0;
}

static int check_root_apart(const Loader *l, AppConfig *a, char **reterr)
{
        for (const AppConfig *b = l->config.apps; b < a; b++)
                if (path_is_in(a->root, b->root) || path_is_in(b->root, a->root))
                        return fail(reterr, -EBADMSG, "%s is not apart from %s, the root of app %s",
                                    a->root, b->root, b->app);
        return 0;
}

static int finish_app(const Loader *l, size_t n, char **reterr)
{
        static const struct {
                const char *member;
                int (*run)(const Loader *l, AppConfig *a, char **reterr);
        } steps[] = {
                {"app",         check_app_once   },
                { "channel",    expand_channel   },
                { "root",       expand_root      },
                { "manifest",   expand_manifest  },
                { "units",      expand_units     },
                { "unit_files", expand_unit_files},
                { "hook_users", expand_hook_users},
                { "provenance", expand_provenance},
                { "root",       check_root_apart },
        };
        AppConfig *a = &l->config.apps[n];
        const AppOrigin *origin = &l->origins[n];
        const char *member = "app";
        int r = set_app_defaults(a);

        for (size_t i = 0; i < ELEMENTSOF(steps) && r == 0; i++) {
                member = steps[i].member;
                r = steps[i].run(l, a, reterr);
        }
        if (r < 0) {
                if (!origin->file)
                        return fail_prefix(reterr, r, "the app of tag " TAG_APP ": %s", member);
                (void) fail_prefix(reterr, r, "apps[%zu].%s", origin->index, member);
                return fail_in_file(origin->file, r, reterr);
        }
        return 0;
}

static int set_copy(char **s, const char *value)
{
        return value ? set_default(s, value) : 0;
}

static int copy_tags(Config *c, const Instance *i)
{
        c->tags = calloc(MAX(i->n_tags, (size_t) 1), sizeof(Tag));
        if (!c->tags)
                return -ENOMEM;
        for (; c->n_tags < i->n_tags; c->n_tags++) {
                Tag *t = &c->tags[c->n_tags];
                *t = (Tag){ strdup(i->tags[c->n_tags].key), strdup(i->tags[c->n_tags].value) };
                if (!t->key || !t->value)
                        return -ENOMEM;
        }
        return 0;
}

static int set_tags(Config *c, const Instance *i)
{
        if (c->has_tags)
                c->tags_from = CONFIG_FROM_FILES;
        if (c->has_tags || !i)
                return 0;
        /* A constant: it must outlive the instance. */
        c->tags_from = !i->tags_from || i->tags_error           ? NULL
                       : streq(i->tags_from, INSTANCE_TAGS_API) ? INSTANCE_TAGS_API
                                                                : INSTANCE_TAGS_METADATA;
        int r = set_copy(&c->tags_error, i->tags_error);
        return r < 0 ? r : copy_tags(c, i);
}

static int set_host_name(Config *c, char **reterr)
{
        char name[HOST_NAME_MAX + 1] = {};

        if (gethostname(name, sizeof(name) - 1) < 0)
                return -errno;
        if (!name_is_valid(name))
                return fail(reterr, -ENODATA,
                            "the host's name \"%s\" can't serve as the instance's name: set "
                            "\"instance\"",
                            name);
        return set_default(&c->instance, name);
}

static int set_identity(Config *c, const Instance *i, char **reterr)
{
        int r = i ? set_copy(&c->region, i->region) : 0;

        c->instance_from = c->instance ? CONFIG_FROM_FILES
                           : i         ? CONFIG_FROM_METADATA
                                       : CONFIG_FROM_HOST_NAME;
        if (r == 0 && i)
                r = set_copy(&c->zone, i->zone);
        if (r == 0 && i)
                r = set_copy(&c->account, i->account);
        if (r == 0 && i)
                r = set_copy(&c->instance, i->id);
        if (r == 0)
                r = set_tags(c, i);
        return r == 0 && !c->instance ? set_host_name(c, reterr) : r;
}

static const char *find_tag(const Config *c, const char *key)
{
        for (size_t i = 0; i < c->n_tags; i++)
                if (streq(c->tags[i].key, key))
                        return c->tags[i].value;
        return NULL;
}

static int set_store(Config *c, char **reterr)
{
        const char *tag = find_tag(c, TAG_STORE);

        if (c->store)
                return 0;
        if (!tag)
                return fail(
                        reterr, -ENODATA,
                        "store: missing; set it to where releases are published, such as "
                        "\"s3://BUCKET\" or \"file:///DIRECTORY\", or tag the EC2 instance " TAG_STORE);
        if (store_url_check(tag, reterr) < 0)
                return fail_prefix(reterr, -EBADMSG, "tag " TAG_STORE);
        /* What slipway-fetch may read and write here must not be up to what it brings. */
        if (strncmp(tag, "s3://", 5) != 0 && strncmp(tag, "https://", 8) != 0)
                return fail(reterr, -EBADMSG,
                            "tag " TAG_STORE
                            " is \"%s\": a tag can name an s3:// or https:// store "
                            "only; set \"store\"",
                            tag);
        return set_default(&c->store, tag);
}

static int add_app_of_tags(Loader *l, char **reterr)
{
        Config *c = &l->config;
        const char *app = find_tag(c, TAG_APP), *channel = find_tag(c, TAG_CHANNEL);

        if (!app || !channel)
                return fail(reterr, -ENODATA,
                            "apps: missing; name at least one, such as { \"app\": \"web\", "
                            "\"channel\": \"prod\" }, or tag the EC2 instance %s%s%s",
                            app ? "" : TAG_APP, app || channel ? "" : " and ",
                            channel ? "" : TAG_CHANNEL);
        if (!name_is_valid(app) || !name_is_valid(channel))
                return fail(reterr, -EBADMSG, "tag %s is \"%s\", which is not a name",
                            name_is_valid(app) ? TAG_CHANNEL : TAG_APP,
                            name_is_valid(app) ? channel : app);
        free(c->apps);
        c->apps = malloc(sizeof(AppConfig));
        if (!c->apps)
                return -ENOMEM;
        c->apps[0] = app_defaults;
        c->n_apps = 1;
        l->origins[0] = (AppOrigin){};
        c->apps[0].app = strdup(app);
        c->apps[0].channel = strdup(channel);
        return c->apps[0].app && c->apps[0].channel ? 0 : -ENOMEM;
}

static int finish(Loader *l, const char *path, const Instance *instance, char **reterr)
{
        Config *c = &l->config;
        int r = set_identity(c, instance, reterr);

        if (r == 0)
                r = set_store(c, reterr);
        if (r == 0 && c->n_apps == 0)
                r = add_app_of_tags(l, reterr);
        if (r < 0)
                return fail_prefix(reterr, r, "%s", path);
        c->report = c->report && !store_url_is_read_only(c->store);
        r = set_default(&c->trust_path, TRUST_PATH_DEFAULT);
        for (size_t i = 0; i < c->n_apps && r == 0; i++)
                r = finish_app(l, i, reterr);
        return r;
}

/* --- the whole --- */

int config_read(const char *path, bool optional, ConfigSource **ret, char **reterr)
{
        _cleanup_(config_source_freep) ConfigSource *s = calloc(1, sizeof(ConfigSource));
        _cleanup_(loader_done) Loader l = {};
        int r;

        if (!s)
                return -ENOMEM;
        s->path = strdup(path);
        if (!s->path)
                return -ENOMEM;
        r = optional && access(path, F_OK) < 0 && errno == ENOENT ? 0 : add_file(s, path, reterr);
        if (r == 0)
                r = add_drop_ins(s, path, reterr);
        if (r == 0)
                r = parse_files(s, &l, reterr);
        if (r == 0)
                r = set_default(&l.config.trust_path, TRUST_PATH_DEFAULT);
        if (r < 0)
                return r;
        s->settings = l.config;
        l.config = (Config){};
        *ret = TAKE_PTR(s);
        return 0;
}

int config_resolve(const ConfigSource *s, const Instance *instance, Config **ret, char **reterr)
{
        _cleanup_(loader_done) Loader l = {};
        _cleanup_free_ char *err = NULL;
        Config *c;
        int r = parse_files(s, &l, &err);

        if (r == 0)
                r = finish(&l, s->path, instance, &err);
        if (r == -ENODATA && l.config.tags_error)
                return fail(reterr, r, "%s; %s", err, l.config.tags_error);
        if (r < 0)
                return err ? fail(reterr, r, "%s", err) : r;
        c = malloc(sizeof(Config));
        if (!c)
                return -ENOMEM;
        *c = l.config;
        l.config = (Config){};
        *ret = c;
        return 0;
}

int config_load(const char *path, Config **ret, char **reterr)
{
        _cleanup_(config_source_freep) ConfigSource *s = NULL;
        int r = config_read(path, false, &s, reterr);

        return r < 0 ? r : config_resolve(s, NULL, ret, reterr);
}

/* --- comparing --- */

static bool lists_equal(char *const *a, size_t n_a, char *const *b, size_t n_b)
{
        if (n_a != n_b)
                return false;
        for (size_t i = 0; i < n_a; i++)
                if (!streq(a[i], b[i]))
                        return false;
        return true;
}

/* What stands in the files without placeholders is the same in both. */
static bool apps_equal(const AppConfig *a, const AppConfig *b)
{
        return streq(a->app, b->app) && streq(a->channel, b->channel) && streq(a->root, b->root) &&
               streq(a->manifest_path, b->manifest_path) &&
               lists_equal(a->units, a->n_units, b->units, b->n_units) &&
               lists_equal(a->unit_files, a->n_unit_files, b->unit_files, b->n_unit_files) &&
               lists_equal(a->hook_users, a->n_hook_users, b->hook_users, b->n_hook_users) &&
               lists_equal(a->provenance.builders, a->provenance.n_builders, b->provenance.builders,
                           b->provenance.n_builders) &&
               lists_equal(a->provenance.repositories, a->provenance.n_repositories,
                           b->provenance.repositories, b->provenance.n_repositories);
}

bool config_deploys_equal(const Config *a, const Config *b)
{
        if (!streq(a->store, b->store) || !streq(a->instance, b->instance) ||
            a->n_apps != b->n_apps)
                return false;
        for (size_t i = 0; i < a->n_apps; i++)
                if (!apps_equal(&a->apps[i], &b->apps[i]))
                        return false;
        return true;
}

static bool tags_equal(const Config *a, const Config *b)
{
        if (!streq_ptr(a->tags_from, b->tags_from) ||
            !err_text_equal(strempty(a->tags_error), strempty(b->tags_error)) ||
            a->n_tags != b->n_tags)
                return false;
        for (size_t i = 0; i < a->n_tags; i++)
                if (!streq(a->tags[i].key, b->tags[i].key) ||
                    !streq(a->tags[i].value, b->tags[i].value))
                        return false;
        return true;
}

bool config_identity_equal(const Config *a, const Config *b)
{
        return streq(a->instance, b->instance) && streq(a->instance_from, b->instance_from) &&
               streq_ptr(a->region, b->region) && streq_ptr(a->zone, b->zone) &&
               streq_ptr(a->account, b->account) && tags_equal(a, b);
}

static void take(char **to, char **from)
{
        free(*to);
        *to = TAKE_PTR(*from);
}

void config_take_identity(Config *c, Config *from)
{
        c->instance_from = from->instance_from;
        take(&c->region, &from->region);
        take(&c->zone, &from->zone);
        take(&c->account, &from->account);
        tags_done(c);
        c->tags_from = from->tags_from;
        take(&c->tags_error, &from->tags_error);
        c->tags = TAKE_PTR(from->tags);
        c->n_tags = from->n_tags;
        from->n_tags = 0;
}

static bool matches_any(char *const *patterns, size_t n, const char *text)
{
        for (size_t i = 0; i < n; i++)
                if (fnmatch(patterns[i], text, FNM_NOESCAPE) == 0)
                        return true;
        return false;
}

bool config_allows_unit(const AppConfig *a, const char *unit)
{
        return matches_any(a->units, a->n_units, unit);
}

bool config_allows_unit_file(const AppConfig *a, const char *unit)
{
        return matches_any(a->unit_files, a->n_unit_files, unit);
}

bool config_allows_builder(const AppConfig *a, const char *builder)
{
        const ProvenancePolicy *p = &a->provenance;

        return p->n_builders == 0 || matches_any(p->builders, p->n_builders, builder);
}

bool config_allows_repository(const AppConfig *a, const char *repository)
{
        const ProvenancePolicy *p = &a->provenance;

        return p->n_repositories == 0 ||
               (repository && matches_any(p->repositories, p->n_repositories, repository));
}

const char *config_command_user(const AppConfig *a, const Command *c)
{
        const char *user = c->user ? c->user : a->n_hook_users > 0 ? a->hook_users[0] : NULL;

        for (size_t i = 0; user && i < a->n_hook_users; i++)
                if (streq(a->hook_users[i], user))
                        return a->hook_users[i];
        return NULL;
}
