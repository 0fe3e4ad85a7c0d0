/* SPDX-License-Identifier: Apache-2.0 */
#include "manifest.h"

#include "json-read.h"
#include "test.h"

#define HEX_A "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
#define HEX_B "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"

#define SPANS_4 "\"Mon 09:00-16:00\",\"Tue 09:00-16:00\",\"Wed 09:00-16:00\",\"Thu 09:00-16:00\""
#define SPANS_8 SPANS_4 "," SPANS_4

/* Every member that there is, in the order in which they are written. */
static const char whole[] =
        "{\"schema\":\"slipway/manifest/1\",\"app\":\"web\",\"channel\":\"prod\",\"serial\":57,"
        "\"deployment\":42,\"published\":\"2026-11-22T14:00:00Z\","
        "\"expires\":\"2026-12-22T14:00:00Z\",\"release\":{\"id\":\"2026.11.22-1f3a9c2\","
        "\"artifact\":{\"path\":\"web/releases/1/artifact.tar.zst\",\"size\":1099511627776,"
        "\"sha256\":\"" HEX_A "\"},"
        "\"index\":{\"path\":\"web/releases/1/index\",\"size\":67108864,\"sha256\":\"" HEX_B "\"},"
        "\"provenance\":{\"path\":\"web/releases/1/provenance.json\",\"size\":65536,"
        "\"sha256\":\"" HEX_A "\"},"
        "\"source\":{\"repository\":\"r\",\"commit\":\"c\",\"ref\":\"refs/heads/main\","
        "\"build\":\"https://ci.example/1\",\"by\":\"b\"}},"
        "\"targets\":{\"any\":[{\"Role\":[\"web\",\"api\"],\"Stage\":[\"prod\"]},"
        "{\"Canary\":[\"\"]}]},"
        "\"activate\":{\"units\":[{\"name\":\"web.service\",\"action\":\"restart\"},"
        "{\"name\":\"web@1.service\",\"action\":\"reload-or-restart\"}],"
        "\"health\":{\"bake\":\"1500ms\",\"deadline\":\"2min\"}},"
        "\"rollout\":{\"window\":[\"Mon-Thu 09:00-16:00\",\"Sat,Sun 22:00-04:00\"]}}";

static int parse(const char *text, char **reterr)
{
        _cleanup_(manifest_freep) Manifest *m = NULL;

        return manifest_parse(text, strlen(text), &m, reterr);
}

/* A place in the tree of `whole`. */
typedef struct Place {
        cJSON *parent, *item;
        char path[256];
} Place;

/* Finds the n-th item below `parent`, parents first; false if there are not so many. */
static bool find_place(cJSON *parent, const char *path, size_t *n, Place *ret)
{
        size_t index = 0;
        cJSON *item;

        cJSON_ArrayForEach(item, parent)
        {
                Place p = { .parent = parent, .item = item };
                if (item->string)
                        snprintf(p.path, sizeof(p.path), "%s%s%s", path, *path ? "." : "",
                                 item->string);
                else
                        snprintf(p.path, sizeof(p.path), "%s[%zu]", path, index++);
                if ((*n)-- == 0) {
                        *ret = p;
                        return true;
                }
                if (find_place(item, p.path, n, ret))
                        return true;
        }
        return false;
}

static void replace(const Place *p, cJSON *value)
{
        if (p->item->string)
                value->string = strdup(p->item->string);
        assert_true(cJSON_ReplaceItemViaPointer(p->parent, p->item, value));
}

/* What the tree with the change at a place must give: 0, or an error with this path. */
static void assert_judged(const cJSON *tree, bool good, const char *path)
{
        _cleanup_free_ char *text = cJSON_PrintUnformatted(tree), *err = NULL;
        int r = parse(text, &err);
        size_t size = strlen(path);

        if (good ? r != 0
                 : r != -EBADMSG || !err || strncmp(err, path, size) != 0 || err[size] != ':')
                fail_msg("%s: %d %s\n%s", path, r, strempty(err), text);
}

/* Whatever it has besides. */
static void newer_format(void **state)
{
        static const char *const newer[] = {
                "{\"later\":{},\"schema\":\"slipway/manifest/2\"}",
                "{\"serial\":\"57\",\"app\":{},\"schema\":\"slipway/manifest/10\"}",
        };

        (void) state;
        for (size_t i = 0; i < ELEMENTSOF(newer); i++) {
                _cleanup_free_ char *err = NULL;
                assert_int_equal(parse(newer[i], &err), -EBADMSG);
                assert_string_equal(err, "schema: this version knows \"slipway/manifest/1\" only; "
                                         "what made this manifest may be newer");
        }
}

static bool is_optional(const char *path)
{
        static const char *const optional[] = {
                "targets",
                "activate",
                "rollout",
                "activate.units",
                "activate.health",
                "release.source",
                "release.provenance",
                "activate.health.bake",
                "activate.health.deadline",
        };

        for (size_t i = 0; i < ELEMENTSOF(optional); i++)
                if (streq(path, optional[i]))
                        return true;
        return strncmp(path, "release.source.", strlen("release.source.")) == 0;
}

/* Members of tag sets have free names; what is in arrays has none. */
static bool is_named(const char *path)
{
        return strncmp(path, "targets.any[", strlen("targets.any[")) != 0 &&
               path[strlen(path) - 1] != ']';
}

static void every_member(void **state)
{
        Place p;

        (void) state;
        for (size_t i = 0;; i++) {
                _cleanup_json_ cJSON *missing = cJSON_Parse(whole), *twice = cJSON_Parse(whole),
                                     *other = cJSON_Parse(whole);
                size_t n = i;
                if (!find_place(missing, "", &n, &p)) {
                        assert_int_equal(i, 53);
                        break;
                }
                if (is_named(p.path)) {
                        cJSON_Delete(cJSON_DetachItemViaPointer(p.parent, p.item));
                        assert_judged(missing, is_optional(p.path), p.path);

                        n = i;
                        assert_true(find_place(twice, "", &n, &p));
                        cJSON_AddItemToObject(p.parent, p.item->string,
                                              cJSON_Duplicate(p.item, true));
                        assert_judged(twice, false, p.path);
                }
                /* No member may be null, true, or an array in an array. */
                for (size_t k = 0; k < 3; k++) {
                        n = i;
                        assert_true(find_place(other, "", &n, &p));
                        cJSON *value = k == 0   ? cJSON_CreateNull()
                                       : k == 1 ? cJSON_CreateTrue()
                                                : cJSON_Parse("[[]]");
                        if (k == 2 && cJSON_IsArray(p.item))
                                snprintf(p.path + strlen(p.path), 4, "[0]");
                        replace(&p, value);
                        assert_judged(other, false, p.path);
                        cJSON_Delete(other);
                        other = cJSON_Parse(whole);
                }
        }
}

static void unknown_members(void **state)
{
        Place p;
        size_t n_objects = 0;

        (void) state;
        for (size_t i = 0;; i++) {
                _cleanup_json_ cJSON *tree = cJSON_Parse(whole);
                size_t n = i;
                if (!find_place(tree, "", &n, &p))
                        break;
                if (!cJSON_IsObject(p.item) || strstr(p.path, "any["))
                        continue;
                cJSON_AddNumberToObject(p.item, "zzz", 1);
                snprintf(p.path + strlen(p.path), 5, ".zzz");
                assert_judged(tree, false, p.path);
                n_objects++;
        }
        assert_int_equal(n_objects, 11);
}

/* Replaces the value at a path of `whole` by JSON text. */
static cJSON *with(const char *path, const char *value)
{
        cJSON *tree = cJSON_Parse(whole);
        Place p = {};

        for (size_t i = 0; !streq(p.path, path); i++) {
                size_t n = i;
                if (!find_place(tree, "", &n, &p))
                        fail_msg("no such path: %s", path);
        }
        replace(&p, cJSON_CreateRaw(value));
        return tree;
}

static void limits(void **state)
{
        static const struct {
                const char *path, *value;
                bool good;
                const char *error_path; /* if it is not the path */
        } cases[] = {
                {"schema",                    "\"slipway/manifest/2\""          },
                { "app",                      "\"..\""                          },
                { "app",                      "\"a/b\""                         },
                { "channel",                  "\"\""                            },
                { "serial",                   "0"                               },
                { "serial",                   "1",                                true },
                { "serial",                          "-1"                                                   },
                { "serial",                          "9007199254740991",  true },
                { "serial",                       "\"57\""                                                      },
                { "deployment","0"},
                { "published",                            "\"2026-11-22\""                                                                                     },
                { "expires","\"2026-11-22T14:00:00Z\""},
                { "expires",                  "\"2026-11-22T14:00:01Z\"",                                                                                                                        true },
                { "release.id","\"a b\""},
                { "release.artifact.path",               "\"/web/artifact\""                                                        },
                { "release.artifact.path",    "\"web/../../etc/passwd\""    },
                { "release.artifact.path",    "\"web/a?b\""        },
                { "release.artifact.size",    "0"                     },
                { "release.artifact.size",    "1",                                true },
                { "release.artifact.size",    "1099511627777"                               },
                { "release.artifact.sha256",                          "\"" HEX_A "a\""                                    },
                { "release.index.path",                          "\"\""    },
                { "release.index.size",                          "67108865"    },
                { "release.index.size",                          "-1"                                    },
                { "release.index.sha256",                          "\"" HEX_A "\"",                                     true },
                { "release.source",                          "{}",   true },
                { "release.source.ref",                       "\"\""                   },
                { "release.source.ref","\"a\\u001bb\""                         },
                { "targets",       "{}",             false, "targets.any" },
                { "targets.any",       "[]"                            },
                { "targets.any[1]",                  "{}"                                         },
                { "targets.any[0].Role",              "[]"                                              },
                { "targets.any[0].Role",                 "\"web\""                      },
                { "targets.any[0].Role[1]",      "\"a\\nb\""},
                { "targets.any[1]",          "{\"\":[\"a\"]}",false, "targets.any[1][\"\"]" },
                { "targets.any[1]",  "{\"a\":[\"b\"],\"a\":[\"c\"]}",              false, "targets.any[1].a" },
                { "activate",           "{}",                                               true },
                { "activate.units",  "[]",                                  true },
                { "activate.units[1].name",                          "\"web.mount\""                                           },
                { "activate.units[1].name",                      "\"../web.service\""                        },
                { "activate.units[1].action",                 "\"freeze\""                                    },
                { "activate.health",                          "{}",                                            true },
                { "activate.health",                       "{\"bake\":\"2min\"}",                       false, "activate.health.deadline" },
                { "activate.health","{\"deadline\":\"10s\"}",false, "activate.health.deadline" },
                { "activate.health.bake","\"0s\"",true },
                { "activate.health.bake","\"10\""},
                { "activate.health.deadline","\"1500ms\""},
                { "activate.health.deadline",          "\"24h\"", true },
                { "rollout", "{}",                                  false, "rollout.window" },
                { "rollout",                 "{\"max_error\":1}",                                                                     false, "rollout.max_error" },
                { "rollout.window",                          "[]"                                     },
                { "rollout.window",                       "\"daily 00:00-24:00\""                                                            },
                { "rollout.window",                     "[" SPANS_8 "," SPANS_8 "]",                                                           true },
                { "rollout.window",                  "[" SPANS_8 "," SPANS_8 ",\"Sun 00:00-24:00\"]"                                                                   },
                { "rollout.window[0]",         "\"Mon-Thu\""                                      },
                { "rollout.window[1]",                  "\"Sat 09:00-09:00\""                                               },
                { "activate.health.deadline",           "\"86400001ms\""                                           },
        };

        (void) state;
        for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
                _cleanup_json_ cJSON *tree = with(cases[i].path, cases[i].value);
                assert_judged(tree, cases[i].good,
                              cases[i].error_path ? cases[i].error_path : cases[i].path);
        }
}

/* `count` times `element`, in brackets; "%zu" in it becomes the number. */
static char *repeat(const char *open, const char *head, const char *tail, const char *close,
                    size_t count)
{
        char *text = NULL;
        size_t size;
        FILE *f = open_memstream(&text, &size);

        assert_non_null(f);
        fputs(open, f);
        for (size_t i = 0; i < count; i++)
                fprintf(f, "%s%s%zu%s", i > 0 ? "," : "", head, i, tail);
        fputs(close, f);
        assert_int_equal(fclose(f), 0);
        return text;
}

static void counts(void **state)
{
        static const struct {
                const char *path, *open, *head, *tail, *close;
                size_t max;
        } cases[] = {
                {"activate.units",       "[", "{\"action\":\"reload\",\"name\":\"u", ".service\"}", "]",
                 ACTIVATE_UNITS_MAX                                                                                       },
                { "targets.any",         "[", "{\"k",                                "\":[\"v\"]}", "]", TARGET_SETS_MAX  },
                { "targets.any[0]",      "{", "\"k",                                 "\":[\"v\"]",  "}", TARGET_TAGS_MAX  },
                { "targets.any[0].Role", "[", "\"v",                                 "\"",          "]", TARGET_VALUES_MAX},
        };

        (void) state;
        for (size_t i = 0; i < ELEMENTSOF(cases); i++)
                for (size_t more = 0; more < 2; more++) {
                        _cleanup_free_ char *value =
                                repeat(cases[i].open, cases[i].head, cases[i].tail, cases[i].close,
                                       cases[i].max + more);
                        _cleanup_json_ cJSON *tree = with(cases[i].path, value);
                        assert_judged(tree, more == 0, cases[i].path);
                }
}

static void sizes(void **state)
{
        _cleanup_free_ char *text = malloc(MANIFEST_SIZE_MAX + 2);
        _cleanup_(manifest_freep) Manifest *m = NULL;

        (void) state;
        memset(text, ' ', MANIFEST_SIZE_MAX + 1);
        text[MANIFEST_SIZE_MAX + 1] = '\0';
        memcpy(text, whole, strlen(whole));
        assert_int_equal(manifest_parse(text, MANIFEST_SIZE_MAX + 1, &m, NULL), -EFBIG);
        text[MANIFEST_SIZE_MAX] = '\0';
        assert_int_equal(manifest_parse(text, MANIFEST_SIZE_MAX, &m, NULL), 0);
}

static void every_truncation(void **state)
{
        (void) state;
        for (size_t size = 0; size < strlen(whole); size++) {
                _cleanup_free_ char *text = strndup(whole, size);
                assert_int_equal(parse(text, NULL), -EBADMSG);
        }
}

static void expires_soon(void **state)
{
        enum { DAY = 86400 };
        static const struct {
                uint64_t lifetime, left;
                bool soon;
        } cases[] = {
                {30 * DAY,  7 * DAY + 1, false},
                { 30 * DAY, 7 * DAY,     true },
                { 20 * DAY, 5 * DAY + 1, false},
                { 20 * DAY, 5 * DAY,     true },
                { 28 * DAY, 7 * DAY,     true },
                { 3600,     901,         false},
                { 3600,     900,         true },
                { 3600,     0,           true },
                { 1,        1,           false},
        };

        (void) state;
        for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
                Manifest m = { .published_sec = 1795356000,
                               .expires_sec = 1795356000 + cases[i].lifetime };
                assert_int_equal(manifest_expires_soon(&m, m.expires_sec - cases[i].left),
                                 cases[i].soon);
        }
        /* It stays so; a clock that is far behind does not matter. */
        Manifest m = { .published_sec = 1795356000, .expires_sec = 1795356000 + DAY };
        assert_true(manifest_expires_soon(&m, UINT64_MAX / 2));
        assert_false(manifest_expires_soon(&m, 0));
}

static void values(void **state)
{
        _cleanup_(manifest_freep) Manifest *m = NULL;

        (void) state;
        assert_int_equal(manifest_parse(whole, strlen(whole), &m, NULL), 0);
        assert_string_equal(m->app, "web");
        assert_string_equal(m->channel, "prod");
        assert_int_equal(m->serial, 57);
        assert_int_equal(m->deployment, 42);
        assert_int_equal(m->published_sec, 1795356000);
        assert_int_equal(m->expires_sec, 1795356000 + 30 * 86400);
        assert_string_equal(m->release, "2026.11.22-1f3a9c2");
        assert_string_equal(m->artifact.path, "web/releases/1/artifact.tar.zst");
        assert_int_equal(m->artifact.size_bytes, ARTIFACT_SIZE_MAX);
        assert_int_equal(m->artifact.sha256.bytes[0], 0xaa);
        assert_int_equal(m->index.sha256.bytes[31], 0xbb);
        assert_string_equal(m->source.by, "b");
        assert_int_equal(m->targets.n_any, 2);
        assert_string_equal(m->targets.any[0].tags[1].key, "Stage");
        assert_int_equal(m->activate.n_units, 2);
        assert_int_equal(m->activate.units[1].action, UNIT_RELOAD_OR_RESTART);
        assert_int_equal(m->activate.bake_usec, 1500000);
        assert_int_equal(m->activate.deadline_usec, 120000000);
        assert_int_equal(m->window.n_spans, 2);
        assert_int_equal(m->window.spans[1].begin_min, 22 * 60);
}

static void formatted_again(void **state)
{
        _cleanup_(manifest_freep) Manifest *m = NULL;
        _cleanup_free_ char *text = NULL, *err = NULL;
        size_t size;

        (void) state;
        assert_int_equal(manifest_parse(whole, strlen(whole), &m, NULL), 0);
        assert_int_equal(manifest_format(m, &text, &size, &err), 0);
        assert_string_equal(text, whole);
        assert_int_equal(size, strlen(whole));

        m->serial = SERIAL_MAX;
        free(text);
        text = NULL;
        assert_int_equal(manifest_format(m, &text, &size, &err), 0);
        assert_non_null(strstr(text, "\"serial\":9007199254740991,"));
}

/* What an agent would refuse is never written. */
static void refused_when_formatted(void **state)
{
        _cleanup_(manifest_freep) Manifest *m = NULL, *empty = calloc(1, sizeof(Manifest));
        _cleanup_free_ char *text = NULL, *err = NULL;
        size_t size;

        (void) state;
        assert_int_equal(manifest_format(empty, &text, &size, &err), -EBADMSG);
        assert_int_equal(manifest_parse(whole, strlen(whole), &m, NULL), 0);
        m->serial = SERIAL_MAX + 1;
        assert_int_equal(manifest_format(m, &text, &size, &err), -EBADMSG);
        m->serial = 0;
        assert_int_equal(manifest_format(m, &text, &size, &err), -EBADMSG);
        assert_non_null(strstr(err, "serial: "));
        m->serial = 1;
        m->activate.bake_usec = 1;
        assert_int_equal(manifest_format(m, &text, &size, &err), -EBADMSG);
        assert_non_null(strstr(err, "activate.health.bake: "));
        m->activate.bake_usec = 0;
        m->source.by[0] = '\xff';
        assert_int_equal(manifest_format(m, &text, &size, &err), -EBADMSG);
        assert_null(text);
}

static void defaults(void **state)
{
        _cleanup_(activate_done) Activate a = {};
        _cleanup_(targets_done) Targets t = {};

        (void) state;
        assert_int_equal(activate_parse(NULL, "activate", &a, NULL), 0);
        assert_int_equal(a.n_units, 0);
        assert_int_equal(a.bake_usec, BAKE_DEFAULT_USEC);
        assert_int_equal(a.deadline_usec, DEADLINE_DEFAULT_USEC);
        assert_int_equal(targets_parse(NULL, "targets", &t, NULL), 0);
        assert_int_equal(t.n_any, 0);
}

static void activate_alone(void **state)
{
        _cleanup_(manifest_freep) Manifest *m = NULL;
        _cleanup_(activate_done) Activate copy = {}, again = {};
        _cleanup_json_ cJSON *object = NULL;

        (void) state;
        assert_int_equal(manifest_parse(whole, strlen(whole), &m, NULL), 0);
        assert_int_equal(activate_copy(&m->activate, &copy), 0);
        assert_int_equal(copy.n_units, 2);
        assert_ptr_not_equal(copy.units[0].name, m->activate.units[0].name);
        assert_int_equal(activate_format(&copy, &object), 0);
        assert_int_equal(activate_parse(object, "activate", &again, NULL), 0);
        assert_string_equal(again.units[1].name, "web@1.service");
        assert_int_equal(again.units[1].action, UNIT_RELOAD_OR_RESTART);
        assert_int_equal(again.bake_usec, 1500000);
}

static void matching(void **state)
{
        _cleanup_(manifest_freep) Manifest *m = NULL;
        const Tag web[] = {
                {(char *) "Stage", (char *) "prod"},
                { (char *) "Role", (char *) "api" }
        };
        const Tag test[] = {
                {(char *) "Stage", (char *) "test"},
                { (char *) "Role", (char *) "api" }
        };
        const Tag cased[] = {
                {(char *) "stage", (char *) "prod"},
                { (char *) "Role", (char *) "api" }
        };
        const Tag canary[] = {
                {(char *) "Canary", (char *) ""}
        };
        const Targets none = {};

        (void) state;
        assert_int_equal(manifest_parse(whole, strlen(whole), &m, NULL), 0);
        assert_true(targets_match(&m->targets, web, 2));
        assert_false(targets_match(&m->targets, web, 1));
        assert_false(targets_match(&m->targets, test, 2));
        assert_false(targets_match(&m->targets, cased, 2));
        assert_true(targets_match(&m->targets, canary, 1));
        assert_false(targets_match(&m->targets, NULL, 0));
        assert_true(targets_match(&none, NULL, 0));
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(newer_format),
                cmocka_unit_test(every_member),
                cmocka_unit_test(unknown_members),
                cmocka_unit_test(limits),
                cmocka_unit_test(counts),
                cmocka_unit_test(sizes),
                cmocka_unit_test(every_truncation),
                cmocka_unit_test(expires_soon),
                cmocka_unit_test(values),
                cmocka_unit_test(formatted_again),
                cmocka_unit_test(refused_when_formatted),
                cmocka_unit_test(defaults),
                cmocka_unit_test(activate_alone),
                cmocka_unit_test(matching),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
