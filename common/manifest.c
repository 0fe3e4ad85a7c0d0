/* SPDX-License-Identifier: Apache-2.0 */
#include "manifest.h"

#include <inttypes.h>

#include "err.h"
#include "json-print.h"
#include "json-read.h"
#include "name.h"

#define MANIFEST_SCHEMA "slipway/manifest/1"

/* --- targets --- */

static int parse_tag_value(const cJSON *v, const char *path, void *target, char **reterr)
{
        TargetTag *tag = target;
        char **values;
        int r = json_check_text(v, path, 0, TAG_VALUE_SIZE_MAX, reterr);

        if (r < 0)
                return r;
        values = array_extend(tag->values, tag->n_values, sizeof(char *));
        if (!values)
                return -ENOMEM;
        tag->values = values;
        values[tag->n_values] = strdup(v->valuestring);
        if (!values[tag->n_values])
                return -ENOMEM;
        tag->n_values++;
        return 0;
}

/* One member of a tag set: the key, and the values of which one must be there. */
static int parse_target_tag(const cJSON *v, const char *path, void *target, char **reterr)
{
        TargetSet *set = target;
        TargetTag *tags, *tag;
        int r;

        if (!v->string[0] || strlen(v->string) > TAG_KEY_SIZE_MAX)
                return fail(reterr, -EBADMSG, "%s: a tag's key has 1 to %d bytes", path,
                            TAG_KEY_SIZE_MAX);
        tags = array_extend(set->tags, set->n_tags, sizeof(TargetTag));
        if (!tags)
                return -ENOMEM;
        set->tags = tags;
        tag = &tags[set->n_tags++];
        tag->key = strdup(v->string);
        if (!tag->key)
                return -ENOMEM;
        r = json_each(v, path, TARGET_VALUES_MAX, parse_tag_value, tag, reterr);
        if (r < 0)
                return r;
        if (tag->n_values == 0)
                return fail(reterr, -EBADMSG, "%s: must name at least one value", path);
        return 0;
}

static int parse_target_set(const cJSON *v, const char *path, void *target, char **reterr)
{
        Targets *t = target;
        TargetSet *any, *set;
        int r;

        any = array_extend(t->any, t->n_any, sizeof(TargetSet));
        if (!any)
                return -ENOMEM;
        t->any = any;
        set = &any[t->n_any++];
        r = json_each_member(v, path, TARGET_TAGS_MAX, parse_target_tag, set, reterr);
        if (r < 0)
                return r;
        if (set->n_tags == 0)
                return fail(reterr, -EBADMSG, "%s: must name at least one tag", path);
        return 0;
}

static int parse_any(const cJSON *v, const char *path, void *target, char **reterr)
{
        Targets *t = target;
        int r = json_each(v, path, TARGET_SETS_MAX, parse_target_set, t, reterr);

        if (r < 0)
                return r;
        if (t->n_any == 0)
                return fail(reterr, -EBADMSG,
                            "%s: must hold at least one tag set (leave out \"targets\" to mean "
                            "every instance)",
                            path);
        return 0;
}

static const JsonField targets_fields[] = {
        {"any",     parse_any, 0, true },
        {},
};

int targets_parse(const cJSON *object, const char *path, Targets *ret, char **reterr)
{
        _cleanup_(targets_done) Targets t = {};
        int r;

        if (object) {
                r = json_dispatch(object, path, targets_fields, &t, reterr);
                if (r < 0)
                        return r;
        }
        *ret = t;
        t = (Targets){};
        return 0;
}

static void target_set_done(TargetSet *set)
{
        for (size_t i = 0; i < set->n_tags; i++) {
                for (size_t k = 0; k < set->tags[i].n_values; k++)
                        free(set->tags[i].values[k]);
                free(set->tags[i].values);
                free(set->tags[i].key);
        }
        free(set->tags);
}

void targets_done(Targets *t)
{
        for (size_t i = 0; i < t->n_any; i++)
                target_set_done(&t->any[i]);
        free(t->any);
        *t = (Targets){};
}

static bool tag_matches(const TargetTag *wanted, const Tag *tags, size_t n_tags)
{
        for (size_t i = 0; i < n_tags; i++)
                if (streq(tags[i].key, wanted->key))
                        for (size_t k = 0; k < wanted->n_values; k++)
                                if (streq(tags[i].value, wanted->values[k]))
                                        return true;
        return false;
}

static bool set_matches(const TargetSet *set, const Tag *tags, size_t n_tags)
{
        for (size_t i = 0; i < set->n_tags; i++)
                if (!tag_matches(&set->tags[i], tags, n_tags))
                        return false;
        return true;
}

bool targets_match(const Targets *t, const Tag *tags, size_t n_tags)
{
        for (size_t i = 0; i < t->n_any; i++)
                if (set_matches(&t->any[i], tags, n_tags))
                        return true;
        return t->n_any == 0;
}

static bool target_set_format(const TargetSet *set, cJSON *any)
{
        cJSON *object = cJSON_CreateObject();

        if (!object || !cJSON_AddItemToArray(any, object))
                return false;
        for (size_t i = 0; i < set->n_tags; i++) {
                const TargetTag *tag = &set->tags[i];
                cJSON *values = cJSON_CreateStringArray((const char *const *) tag->values,
                                                        (int) tag->n_values);
                if (!values || !cJSON_AddItemToObject(object, tag->key, values))
                        return false;
        }
        return true;
}

static bool targets_format(const Targets *t, cJSON *manifest)
{
        cJSON *object, *any;

        if (t->n_any == 0)
                return true;
        object = cJSON_AddObjectToObject(manifest, "targets");
        any = object ? cJSON_AddArrayToObject(object, "any") : NULL;
        for (size_t i = 0; any && i < t->n_any; i++)
                if (!target_set_format(&t->any[i], any))
                        return false;
        return any;
}

/* --- the manifest itself --- */

static int parse_schema(const cJSON *v, const char *path, _unused_ void *target, char **reterr)
{
        if (!cJSON_IsString(v))
                return json_fail_type(v, path, "a string", reterr);
        if (!streq(v->valuestring, MANIFEST_SCHEMA))
                return fail(reterr, -EBADMSG,
                            "%s: this version knows \"" MANIFEST_SCHEMA "\" only; what made this "
                            "manifest may be newer",
                            path);
        return 0;
}

static int parse_store_path(const cJSON *v, const char *path, void *target, char **reterr)
{
        int r = json_parse_string(v, path, target, reterr);

        if (r < 0)
                return r;
        if (!store_path_is_valid(v->valuestring))
                return fail(reterr, -EBADMSG,
                            "%s: \"%s\" is not a path in a store (relative, letters, digits, "
                            "\".\", \"_\", \"-\" and \"/\", no \"..\")",
                            path, v->valuestring);
        return 0;
}

static const JsonField object_fields[] = {
        {"path",                 parse_store_path, offsetof(StoredObject, path), true },
        { "size", json_parse_uint, offsetof(StoredObject, size_bytes), true },
        { "sha256",                  json_parse_sha256, offsetof(StoredObject, sha256), true },
        {},
};

static int parse_object(const cJSON *v, const char *path, StoredObject *o, uint64_t size_max,
                        char **reterr)
{
        int r = json_dispatch(v, path, object_fields, o, reterr);

        if (r < 0)
                return r;
        if (o->size_bytes == 0 || o->size_bytes > size_max)
                return fail(reterr, -EBADMSG, "%s.size: must be 1 to %" PRIu64 " bytes", path,
                            size_max);
        return 0;
}

static int parse_artifact(const cJSON *v, const char *path, void *target, char **reterr)
{
        return parse_object(v, path, target, ARTIFACT_SIZE_MAX, reterr);
}

static int parse_index(const cJSON *v, const char *path, void *target, char **reterr)
{
        return parse_object(v, path, target, INDEX_SIZE_MAX, reterr);
}

static int parse_provenance(const cJSON *v, const char *path, void *target, char **reterr)
{
        return parse_object(v, path, target, PROVENANCE_SIZE_MAX, reterr);
}

static const JsonField source_fields[] = {
        {"repository",       json_parse_string, offsetof(Source, repository) },
        { "commit",   json_parse_string, offsetof(Source, commit) },
        { "ref",                 json_parse_string, offsetof(Source, ref) },
        { "build",json_parse_string, offsetof(Source, build) },
        { "by",           json_parse_string, offsetof(Source, by) },
        {  },
};

static int parse_source(const cJSON *v, const char *path, void *target, char **reterr)
{
        return json_dispatch(v, path, source_fields, target, reterr);
}

static const JsonField release_fields[] = {
        {"id",               json_parse_name, offsetof(Manifest, release), true },
        { "artifact", parse_artifact, offsetof(Manifest, artifact), true },
        { "index",              parse_index, offsetof(Manifest, index), true },
        { "provenance",        parse_provenance, offsetof(Manifest, provenance) },
        { "source", parse_source, offsetof(Manifest, source) },
        {          },
};

static int parse_release(const cJSON *v, const char *path, void *target, char **reterr)
{
        return json_dispatch(v, path, release_fields, target, reterr);
}

static int parse_targets(const cJSON *v, const char *path, void *target, char **reterr)
{
        return targets_parse(v, path, target, reterr);
}

static int parse_activate(const cJSON *v, const char *path, void *target, char **reterr)
{
        return activate_parse(v, path, target, reterr);
}

static int parse_span(const cJSON *v, const char *path, void *target, char **reterr)
{
        int r = json_check_text(v, path, 1, WINDOW_SPAN_TEXT_SIZE - 1, reterr);

        if (r < 0)
                return r;
        r = window_add(target, v->valuestring, reterr);
        return r < 0 ? fail_prefix(reterr, r, "%s", path) : 0;
}

static int parse_window(const cJSON *v, const char *path, void *target, char **reterr)
{
        Window *w = target;
        int r = json_each(v, path, WINDOW_SPANS_MAX, parse_span, w, reterr);

        if (r < 0)
                return r;
        if (w->n_spans == 0)
                return fail(reterr, -EBADMSG,
                            "%s: must hold at least one span (leave out \"rollout\" to mean any "
                            "time)",
                            path);
        return 0;
}

static const JsonField rollout_fields[] = {
        {"window",           parse_window, offsetof(Manifest, window), true },
        {             },
};

static int parse_rollout(const cJSON *v, const char *path, void *target, char **reterr)
{
        return json_dispatch(v, path, rollout_fields, target, reterr);
}

static const JsonField manifest_fields[] = {
        {"schema",            parse_schema, 0, true },
        { "app",                  json_parse_name, offsetof(Manifest, app), true },
        { "channel",                  json_parse_name, offsetof(Manifest, channel), true },
        { "serial",json_parse_counter, offsetof(Manifest, serial), true },
        { "deployment",               json_parse_counter, offsetof(Manifest, deployment), true },
        { "published",                  json_parse_time, offsetof(Manifest, published_sec), true },
        { "expires",json_parse_time, offsetof(Manifest, expires_sec), true },
        { "release",           parse_release, 0, true },
        { "targets",                  parse_targets, offsetof(Manifest, targets) },
        { "activate",               parse_activate, offsetof(Manifest, activate) },
        { "rollout",            parse_rollout, 0 },
        {},
};

int manifest_parse(const char *payload, size_t size, Manifest **ret, char **reterr)
{
        _cleanup_(manifest_freep) Manifest *m = NULL;
        _cleanup_json_ cJSON *tree = NULL;
        int r;

        if (size > MANIFEST_SIZE_MAX)
                return fail(reterr, -EFBIG, "the manifest has %zu bytes, more than %d", size,
                            MANIFEST_SIZE_MAX);
        r = json_parse(payload, size, &tree, reterr);
        if (r < 0)
                return r;
        m = calloc(1, sizeof(Manifest));
        if (!m)
                return -ENOMEM;
        r = activate_parse(NULL, "activate", &m->activate, reterr);
        if (r < 0)
                return r;
        r = json_dispatch(tree, "", manifest_fields, m, reterr);
        if (r < 0)
                return r;
        if (m->expires_sec <= m->published_sec)
                return fail(reterr, -EBADMSG, "expires: must be after \"published\"");
        *ret = TAKE_PTR(m);
        return 0;
}

static void source_done(Source *s)
{
        free(s->repository);
        free(s->commit);
        free(s->ref);
        free(s->build);
        free(s->by);
}

bool manifest_expires_soon(const Manifest *m, uint64_t now_sec)
{
        uint64_t quarter_sec = (m->expires_sec - m->published_sec) / 4;

        return m->expires_sec <= now_sec + MIN(quarter_sec, MANIFEST_SOON_SEC_MAX);
}

Manifest *manifest_ref(Manifest *m)
{
        m->n_more_refs++;
        return m;
}

Manifest *manifest_free(Manifest *m)
{
        if (!m)
                return NULL;
        if (m->n_more_refs > 0) {
                m->n_more_refs--;
                return NULL;
        }
        free(m->app);
        free(m->channel);
        free(m->release);
        free(m->artifact.path);
        free(m->index.path);
        free(m->provenance.path);
        source_done(&m->source);
        targets_done(&m->targets);
        activate_done(&m->activate);
        free(m);
        return NULL;
}

static bool object_format(const StoredObject *o, const char *name, cJSON *release)
{
        cJSON *object = cJSON_AddObjectToObject(release, name);
        char hex[SHA256_HEX_SIZE];

        return object && cJSON_AddStringToObject(object, "path", strempty(o->path)) &&
               json_add_uint(object, "size", o->size_bytes) == 0 &&
               cJSON_AddStringToObject(object, "sha256", sha256_to_hex(&o->sha256, hex));
}

static bool source_format(const Source *s, cJSON *release)
{
        const char *const values[] = { s->repository, s->commit, s->ref, s->build, s->by };
        cJSON *object = NULL;

        for (size_t i = 0; i < ELEMENTSOF(values); i++) {
                if (!values[i])
                        continue;
                if (!object)
                        object = cJSON_AddObjectToObject(release, "source");
                if (!object || !cJSON_AddStringToObject(object, source_fields[i].name, values[i]))
                        return false;
        }
        return true;
}

static bool head_format(const Manifest *m, cJSON *tree)
{
        char published[TIME_TEXT_SIZE], expires[TIME_TEXT_SIZE];

        return cJSON_AddStringToObject(tree, "schema", MANIFEST_SCHEMA) &&
               cJSON_AddStringToObject(tree, "app", strempty(m->app)) &&
               cJSON_AddStringToObject(tree, "channel", strempty(m->channel)) &&
               json_add_uint(tree, "serial", m->serial) == 0 &&
               json_add_uint(tree, "deployment", m->deployment) == 0 &&
               cJSON_AddStringToObject(tree, "published",
                                       time_format_utc(m->published_sec, published)) &&
               cJSON_AddStringToObject(tree, "expires", time_format_utc(m->expires_sec, expires));
}

static bool release_format(const Manifest *m, cJSON *tree)
{
        cJSON *release = cJSON_AddObjectToObject(tree, "release");

        return release && cJSON_AddStringToObject(release, "id", strempty(m->release)) &&
               object_format(&m->artifact, "artifact", release) &&
               object_format(&m->index, "index", release) &&
               (!m->provenance.path || object_format(&m->provenance, "provenance", release)) &&
               source_format(&m->source, release);
}

static bool rollout_format(const Manifest *m, cJSON *tree)
{
        cJSON *rollout, *list;

        if (m->window.n_spans == 0)
                return true;
        rollout = cJSON_AddObjectToObject(tree, "rollout");
        list = rollout ? cJSON_AddArrayToObject(rollout, "window") : NULL;
        for (size_t i = 0; list && i < m->window.n_spans; i++) {
                char span[WINDOW_SPAN_TEXT_SIZE];
                cJSON *item = cJSON_CreateString(window_span_format(&m->window.spans[i], span));

                if (!cJSON_AddItemToArray(list, item))
                        return false;
        }
        return list;
}

static bool manifest_build(const Manifest *m, cJSON *tree)
{
        cJSON *activate = NULL;

        return head_format(m, tree) && release_format(m, tree) &&
               targets_format(&m->targets, tree) && activate_format(&m->activate, &activate) == 0 &&
               cJSON_AddItemToObject(tree, "activate", activate) && rollout_format(m, tree);
}

int manifest_format(const Manifest *m, char **ret, size_t *ret_size, char **reterr)
{
        _cleanup_(manifest_freep) Manifest *again = NULL;
        _cleanup_json_ cJSON *tree = cJSON_CreateObject();
        _cleanup_free_ char *text = NULL;
        int r;

        if (m->serial > SERIAL_MAX || m->deployment > SERIAL_MAX ||
            m->artifact.size_bytes > ARTIFACT_SIZE_MAX || m->index.size_bytes > INDEX_SIZE_MAX ||
            m->provenance.size_bytes > PROVENANCE_SIZE_MAX)
                return fail(reterr, -EBADMSG, "a serial or a size is over its limit");
        if (!tree || !manifest_build(m, tree))
                return -ENOMEM;
        text = json_print(tree, false);
        if (!text)
                return -ENOMEM;
        r = manifest_parse(text, strlen(text), &again, reterr);
        if (r < 0)
                return r;
        *ret_size = strlen(text);
        *ret = TAKE_PTR(text);
        return 0;
}
