/* SPDX-License-Identifier: Apache-2.0 */
#include "test.h"

#include "activate.h"
#include "json-read.h"

/* Every member, as activate_format() writes it. */
static const char whole[] =
        "{\"links\":{\"shared\":[\"var/uploads\",{\"path\":\"config/local.env\",\"create\":\"file\","
        "\"user\":\"web\",\"group\":\"www-data\",\"mode\":\"0640\"}]},"
        "\"unit_files\":[\"systemd/web.service\"],"
        "\"units\":[{\"name\":\"worker.service\",\"action\":\"stop\"},"
        "{\"name\":\"web@1.service\",\"action\":\"reload-or-restart\"},"
        "{\"name\":\"worker.service\",\"action\":\"start\"}],"
        "\"hooks\":{\"pre\":[{\"command\":[\"bin/migrate\",\"--up\",\"\"],\"user\":\"web\","
        "\"directory\":\"app\",\"timeout\":\"30s\",\"memory\":\"512M\"}],"
        "\"post\":[{\"command\":[\"/usr/bin/true\"],\"timeout\":\"2min\"}],"
        "\"revert\":[{\"command\":[\"bin/down\"],\"timeout\":\"2min\"}]},"
        "\"health\":{\"bake\":\"1500ms\",\"deadline\":\"1min\","
        "\"http\":[{\"url\":\"http://127.0.0.1:8080/healthz\",\"status\":204,\"interval\":\"2s\","
        "\"timeout\":\"500ms\"}],"
        "\"commands\":[{\"command\":[\"bin/probe\"],\"timeout\":\"10s\"}],"
        "\"confirm\":\"30min\"},"
        "\"variables\":{\"LANG\":\"C.UTF-8\",\"EMPTY\":\"\"}}";

static int parse(const char *text, Activate *ret, char **reterr)
{
        _cleanup_json_ cJSON *object = NULL;

        assert_int_equal(json_parse(text, strlen(text), &object, reterr), 0);
        return activate_parse(object, "activate", ret, reterr);
}

static void assert_is_whole(const Activate *a)
{
        _cleanup_json_ cJSON *object = NULL;
        _cleanup_free_ char *text = NULL;

        assert_int_equal(activate_format(a, &object), 0);
        text = cJSON_PrintUnformatted(object);
        assert_string_equal(text, whole);
}

static void values(void **state)
{
        _cleanup_(activate_done) Activate a = {}, copy = {};

        (void) state;
        assert_int_equal(parse(whole, &a, NULL), 0);
        assert_int_equal(a.shared[0].create, SHARED_NONE);
        assert_int_equal(a.shared[1].create, SHARED_FILE);
        assert_int_equal(a.shared[1].mode, 0640);
        assert_string_equal(a.shared[1].group, "www-data");
        assert_int_equal(a.units[0].action, UNIT_STOP);
        assert_int_equal(a.pre[0].n_argv, 3);
        assert_null(a.pre[0].argv[3]);
        assert_int_equal(a.pre[0].memory_bytes, 512 << 20);
        assert_int_equal(a.pre[0].timeout_usec, 30000000);
        assert_int_equal(a.post[0].timeout_usec, 120000000);
        assert_int_equal(a.http[0].status, 204);
        assert_int_equal(a.confirm_usec, UINT64_C(1800) * 1000000);
        assert_string_equal(a.variables[1].value, "");
        assert_is_whole(&a);
        assert_int_equal(activate_copy(&a, &copy), 0);
        assert_ptr_not_equal(copy.pre[0].argv[0], a.pre[0].argv[0]);
        assert_is_whole(&copy);
}

static void defaults(void **state)
{
        _cleanup_(activate_done) Activate none = {}, http = {};

        (void) state;
        assert_int_equal(activate_parse(NULL, "activate", &none, NULL), 0);
        assert_int_equal(none.n_units + none.n_shared + none.n_pre + none.n_http, 0);
        assert_int_equal(none.bake_usec, BAKE_DEFAULT_USEC);
        assert_int_equal(none.deadline_usec, DEADLINE_DEFAULT_USEC);
        assert_int_equal(none.confirm_usec, 0);
        assert_int_equal(
                parse("{\"health\":{\"http\":[{\"url\":\"http://localhost\"}]}}", &http, NULL), 0);
        assert_int_equal(http.http[0].status, 200);
        assert_int_equal(http.http[0].interval_usec, 1000000);
        assert_int_equal(http.http[0].timeout_usec, 5000000);
}

#define SHARED(list)  "{\"links\":{\"shared\":[" list "]}}"
#define FILES(list)   "{\"unit_files\":[" list "]}"
#define PRE(members)  "{\"hooks\":{\"pre\":[{" members "}]}}"
#define HTTP(members) "{\"health\":{\"http\":[{" members "}]}}"
#define URL(url)      HTTP("\"url\":\"" url "\"")
#define TRUE          "\"command\":[\"/bin/true\"]"

static void good(void **state)
{
        static const char *const cases[] = {
                "{}",
                SHARED(""),
                SHARED("\"a/b\",\"a/bc\",\"ab\""),
                SHARED("{\"path\":\"a\"}"),
                SHARED("{\"path\":\"a\",\"create\":\"directory\",\"mode\":\"0700\"}"),
                PRE(TRUE ",\"memory\":\"1M\",\"timeout\":\"24h\""),
                URL("https://[::1]:8443/?q=1"),
                URL("http://127.0.0.1"),
                "{\"health\":{\"confirm\":\"1s\"}}",
                "{\"variables\":{\"_a1\":\"\"}}",
        };

        (void) state;
        for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
                _cleanup_(activate_done) Activate a = {};
                _cleanup_free_ char *err = NULL;
                if (parse(cases[i], &a, &err) < 0)
                        fail_msg("%s: %s", cases[i], err);
        }
}

/* Text, and how the error begins. */
static const char *const bad_cases[][2] = {
        {"[]",                                                              "activate: "                        },
        { "{\"unit\":[]}",                                                  "activate.unit: "                   },
        { "{\"links\":{\"public\":[]}}",                                    "activate.links.public: "           },
        { SHARED("\"/etc/passwd\""),                                        "activate.links.shared[0]: "        },
        { SHARED("\"../etc\""),                                             "activate.links.shared[0]: "        },
        { SHARED("\"a/b\",\"a\""),                                          "activate.links.shared[1]: "        },
        { SHARED("\"a\",\"a/b\""),                                          "activate.links.shared[1]: "        },
        { SHARED("\"a\",\"a\""),                                            "activate.links.shared[1]: "        },
        { SHARED("{\"create\":\"file\"}"),                                  "activate.links.shared[0].path: "   },
        { SHARED("{\"path\":\"a\",\"create\":\"fifo\"}"),                   "activate.links.shared[0].create: " },
        { SHARED("{\"path\":\"a\",\"user\":\"web\"}"),                      "activate.links.shared[0]: "        },
        { SHARED("{\"path\":\"a\",\"create\":\"file\",\"mode\":\"640\"}"),
         "activate.links.shared[0].mode: "                                                                      },
        { SHARED("{\"path\":\"a\",\"create\":\"file\",\"mode\":\"4755\"}"),
         "activate.links.shared[0].mode: "                                                                      },
        { SHARED("{\"path\":\"a\",\"create\":\"file\",\"mode\":416}"),
         "activate.links.shared[0].mode: "                                                                      },
        { SHARED("{\"path\":\"a\",\"create\":\"file\",\"user\":\"-r\"}"),
         "activate.links.shared[0].user: "                                                                      },
        { SHARED("{\"path\":\"a\",\"create\":\"file\",\"user\":\"a:b\"}"),
         "activate.links.shared[0].user: "                                                                      },
        { FILES("\"a/b.mount\""),                                           "activate.unit_files[0]: "          },
        { FILES("\"../a.service\""),                                        "activate.unit_files[0]: "          },
        { FILES("\"a/x.service\",\"b/x.service\""),                         "activate.unit_files[1]: "          },
        { PRE("\"user\":\"web\""),                                          "activate.hooks.pre[0].command: "   },
        { PRE("\"command\":[]"),                                            "activate.hooks.pre[0].command: "   },
        { PRE("\"command\":\"rm -rf /\""),                                  "activate.hooks.pre[0].command: "   },
        { PRE("\"command\":[\"../../bin/sh\"]"),                            "activate.hooks.pre[0].command[0]: "},
        { PRE("\"command\":[\"\"]"),                                        "activate.hooks.pre[0].command[0]: "},
        { PRE("\"command\":[\"a\",7]"),                                     "activate.hooks.pre[0].command[1]: "},
        { PRE("\"command\":[\"a\",\"\\u000a\"]"),                           "activate.hooks.pre[0].command[1]: "},
        { PRE("\"command\":[\"a\"],\"command\":[\"b\"]"),                   "activate.hooks.pre[0].command: "   },
        { PRE(TRUE ",\"directory\":\"/tmp\""),                              "activate.hooks.pre[0].directory: " },
        { PRE(TRUE ",\"timeout\":\"0s\""),                                  "activate.hooks.pre[0].timeout: "   },
        { PRE(TRUE ",\"timeout\":\"25h\""),                                 "activate.hooks.pre[0].timeout: "   },
        { PRE(TRUE ",\"memory\":\"1023K\""),                                "activate.hooks.pre[0].memory: "    },
        { PRE(TRUE ",\"memory\":1048576"),                                  "activate.hooks.pre[0].memory: "    },
        { PRE(TRUE ",\"shell\":true"),                                      "activate.hooks.pre[0].shell: "     },
        { HTTP("\"status\":200"),                                           "activate.health.http[0].url: "     },
        { URL("http://127.0.0.1.evil.test/"),                               "activate.health.http[0].url: "     },
        { URL("http://localhost@evil.test/"),                               "activate.health.http[0].url: "     },
        { URL("http://169.254.169.254/"),                                   "activate.health.http[0].url: "     },
        { URL("file:///etc/passwd"),                                        "activate.health.http[0].url: "     },
        { URL("http://localhost/a b"),                                      "activate.health.http[0].url: "     },
        { HTTP("\"url\":\"http://localhost\",\"status\":99"),               "activate.health.http[0].status: "  },
        { HTTP("\"url\":\"http://localhost\",\"status\":600"),              "activate.health.http[0].status: "  },
        { HTTP("\"url\":\"http://localhost\",\"interval\":\"1ms\""),
         "activate.health.http[0].interval: "                                                                   },
        { HTTP("\"url\":\"http://localhost\",\"timeout\":\"6min\""),
         "activate.health.http[0].timeout: "                                                                    },
        { "{\"health\":{\"confirm\":true}}",                                "activate.health.confirm: "         },
        { "{\"health\":{\"confirm\":\"0s\"}}",                              "activate.health.confirm: "         },
        { "{\"variables\":{\"1A\":\"\"}}",                                  "activate.variables"                },
        { "{\"variables\":{\"A=B\":\"\"}}",                                 "activate.variables"                },
        { "{\"variables\":{\"SLIPWAY_APP\":\"x\"}}",                        "activate.variables.SLIPWAY_APP: "  },
        { "{\"variables\":{\"A\":\"x\\u0000\"}}",                           NULL                                },
        { "{\"variables\":{\"A\":1}}",                                      "activate.variables.A: "            },
        { "{\"variables\":{\"A\":\"1\",\"A\":\"2\"}}",                      "activate.variables.A: "            },
};

static void bad(void **state)
{
        (void) state;
        for (size_t i = 0; i < ELEMENTSOF(bad_cases); i++) {
                const char *text = bad_cases[i][0], *begins = bad_cases[i][1];
                _cleanup_(activate_done) Activate a = {};
                _cleanup_json_ cJSON *object = NULL;
                _cleanup_free_ char *err = NULL;
                int r = json_parse(text, strlen(text), &object, &err);
                if (r == 0)
                        r = activate_parse(object, "activate", &a, &err);
                if (r != -EBADMSG || !err || (begins && strncmp(err, begins, strlen(begins)) != 0))
                        fail_msg("%s: %d, %s", text, r, strempty(err));
                assert_null(a.shared);
        }
}

/* `count` times `element`, in which "#" becomes the number. */
static char *repeat(const char *open, const char *element, const char *close, size_t count)
{
        char *text = NULL;
        size_t size;
        FILE *f = open_memstream(&text, &size);

        assert_non_null(f);
        fputs(open, f);
        for (size_t i = 0; i < count; i++) {
                fputs(i > 0 ? "," : "", f);
                for (const char *p = element; *p; p++)
                        (void) (*p == '#' ? fprintf(f, "%zu", i) : fputc(*p, f));
        }
        fputs(close, f);
        assert_int_equal(fclose(f), 0);
        return text;
}

static void counts(void **state)
{
        static const struct {
                const char *open, *element, *close;
                size_t max;
        } cases[] = {
                {"{\"links\":{\"shared\":[",             "\"p#\"",                                        "]}}",   ACTIVATE_SHARED_MAX    },
                { "{\"unit_files\":[",                   "\"u#.service\"",                                "]}",    ACTIVATE_UNIT_FILES_MAX},
                { "{\"units\":[",                        "{\"name\":\"u#.service\",\"action\":\"stop\"}", "]}",
                 ACTIVATE_UNITS_MAX                                                                                                       },
                { "{\"hooks\":{\"revert\":[",            "{\"command\":[\"c#\"]}",                        "]}}",
                 ACTIVATE_COMMANDS_MAX                                                                                                    },
                { "{\"health\":{\"commands\":[",         "{\"command\":[\"c#\"]}",                        "]}}",
                 ACTIVATE_COMMANDS_MAX                                                                                                    },
                { "{\"health\":{\"http\":[",             "{\"url\":\"http://localhost/#\"}",              "]}}",
                 ACTIVATE_HTTP_MAX                                                                                                        },
                { "{\"hooks\":{\"pre\":[{\"command\":[", "\"a#\"",                                        "]}]}}",
                 ACTIVATE_ARGUMENTS_MAX                                                                                                   },
                { "{\"variables\":{",                    "\"V#\":\"\"",                                   "}}",    ACTIVATE_VARIABLES_MAX },
        };

        (void) state;
        for (size_t i = 0; i < ELEMENTSOF(cases); i++)
                for (size_t more = 0; more < 2; more++) {
                        _cleanup_(activate_done) Activate a = {};
                        _cleanup_free_ char *text = repeat(cases[i].open, cases[i].element,
                                                           cases[i].close, cases[i].max + more);
                        assert_int_equal(parse(text, &a, NULL), more == 0 ? 0 : -EBADMSG);
                }
}

static void unit_action_names(void **state)
{
        (void) state;
        for (UnitAction a = 0; a < _UNIT_ACTION_MAX; a++)
                assert_int_equal(unit_action_from_string(unit_action_to_string(a)), a);
        assert_true(unit_action_from_string("freeze") < 0);
        assert_null(unit_action_to_string(_UNIT_ACTION_MAX));
        assert_null(unit_action_to_string(_UNIT_ACTION_INVALID));
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(values), cmocka_unit_test(defaults),
                cmocka_unit_test(good),   cmocka_unit_test(bad),
                cmocka_unit_test(counts), cmocka_unit_test(unit_action_names),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
