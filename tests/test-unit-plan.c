/* SPDX-License-Identifier: Apache-2.0 */
#include "test.h"

#include "unit-plan.h"

/* "restart web.service, reload nginx.service" as units of an `activate` part; `files` are its unit
 * files. */
static Activate parse(const char *units, const char *files)
{
        Activate a = { .bake_usec = 1, .deadline_usec = 2 };
        char action[32], name[64];
        int n;

        for (; units && sscanf(units, " %31s %63[^,]%n", action, name, &n) == 2;
             units += n + (units[n] == ',')) {
                a.units = array_extend(a.units, a.n_units, sizeof(ActivateUnit));
                a.units[a.n_units++] =
                        (ActivateUnit){ strdup(name), unit_action_from_string(action) };
                assert_true(a.units[a.n_units - 1].action >= 0);
        }
        for (; files && sscanf(files, " %63[^,]%n", name, &n) == 1;
             files += n + (files[n] == ',')) {
                a.unit_files = array_extend(a.unit_files, a.n_unit_files, sizeof(char *));
                a.unit_files[a.n_unit_files++] = strdup(name);
        }
        return a;
}

/* The plan as text: its steps, then what is watched. */
static char *format(const UnitPlan *p)
{
        char *text = NULL;
        size_t size;
        FILE *f = open_memstream(&text, &size);

        assert_non_null(f);
        for (size_t i = 0; i < p->n_steps; i++)
                (void) fprintf(f, "%s%s %s", i ? ", " : "",
                               unit_action_to_string(p->steps[i].action), p->steps[i].name);
        (void) fprintf(f, ":");
        for (size_t i = 0; i < p->n_watched; i++)
                (void) fprintf(f, " %s", p->watched[i]);
        assert_int_equal(fclose(f), 0);
        return text;
}

static void split(char *text, char **ret, size_t size)
{
        size_t n = 0;

        for (char *p = strtok(text, " "); p; p = strtok(NULL, " ")) {
                assert_true(n + 1 < size);
                ret[n++] = p;
        }
        ret[n] = NULL;
}

typedef struct Case {
        const char *old, *now; /* units; old NULL: no release before */
        const char *ran;
        const char *forward, *back; /* NULL: not looked at */
} Case;

static const Case cases[] = {
  /* the plain one */
        {"restart w",            "restart w",                  "w",   "restart w: w",                    "restart w: w"             },
 /* the first release: what it brought up is stopped, what others run is not */
        { NULL,                  "restart w, reload n",        "n",   "restart w, reload n: w n",
         "stop w, reload-or-restart n: n"                                                                                           },
        { NULL,                  "start a, restart b",         "",    "start a, restart b: a b",         "stop b, stop a:"          },
 /* old did not run, though it was to: it is tried all the same */
        { "restart w",           "restart w",                  "",    "restart w: w",                    "restart w: w"             },
 /* a unit that is new */
        { "restart w",           "restart w, start v",         "w",   "restart w, start v: w v",
         "stop v, restart w: w"                                                                                                     },
        { "restart w",           "restart w, start v",         "w v", "restart w, start v: w v",         "restart w: w"             },
        { "restart w",           "restart w, restart v",       "w v", NULL,                              "restart w, restart v: w v"},
        { "restart w",           "restart w, stop v",          "w v", "restart w, stop v: w",
         "restart w, restart v: w v"                                                                                                },
        { "restart w",           "restart w, stop v",          "w",   "restart w, stop v: w",            "restart w: w"             },
 /* stopped by the new release, used by the old one */
        { "reload w",            "stop w",                     "w",   "stop w:",                         "restart w: w"             },
        { "start w",             "stop w",                     "w",   "stop w:",                         "restart w: w"             },
        { "try-restart w",       "stop w",                     "w",   "stop w:",                         "restart w: w"             },
        { "try-restart w",       "stop w",                     "",    "stop w:",                         ":"                        },
 /* stopped by the old release */
        { "stop w",              "restart w",                  "",    "restart w: w",                    "stop w:"                  },
 /* stop first, start at the end */
        { "stop w, start w",     "stop w, restart x, start w", "w x", "stop w, restart x, start w: w x",
         "stop w, restart w, restart x: w x"                                                                                        },
        { "start w, stop w",     "restart w",                  "",    NULL,                              "restart w, stop w:"       },
 /* reload against what replaces the process */
        { "reload w",            "restart w",                  "w",   NULL,                              "restart w: w"             },
        { "reload w",            "reload w",                   "w",   "reload w: w",                     "reload-or-restart w: w"   },
        { "reload w",            "start w",                    "w",   NULL,                              "reload-or-restart w: w"   },
        { "reload w",            "start w",                    "",    NULL,                              "stop w:"                  },
        { "reload-or-restart w", "restart w",                  "w",   NULL,                              "restart w: w"             },
        { "reload-or-restart w", "reload-or-restart w",        "w",   NULL,                              "reload-or-restart w: w"   },
        { "start w",             "restart w",                  "w",   NULL,                              "restart w: w"             },
        { "start w",             "start w",                    "w",   NULL,                              "start w: w"               },
        { "start w",             "start w",                    "",    NULL,                              "restart w: w"             },
 /* try-restart */
        { "try-restart w",       "try-restart w",              "w",   "try-restart w: w",                "restart w: w"             },
        { "try-restart w",       "try-restart w",              "",    "try-restart w:",                  ":"                        },
        { "try-restart w",       "start w",                    "",    NULL,                              "stop w:"                  },
        { NULL,                  "start w, try-restart w",     "",    "start w, try-restart w: w",       "stop w:"                  },
        { NULL,                  "",                           "",    ":",                               ":"                        },
};

static void plans(void **state)
{
        (void) state;
        for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
                const Case *c = &cases[i];
                Activate old = parse(c->old, NULL), now = parse(c->now, NULL);
                char names[64], *ran[8];
                UnitPlan p;

                (void) snprintf(names, sizeof(names), "%s", c->ran);
                split(names, ran, ELEMENTSOF(ran));
                assert_return_code(unit_plan_forward(&now, c->old ? &old : NULL, ran, &p), 0);
                if (c->forward) {
                        _cleanup_free_ char *text = format(&p);
                        assert_string_equal(text, c->forward);
                }
                unit_plan_done(&p);
                assert_return_code(unit_plan_back(c->old ? &old : NULL, &now, ran, &p), 0);
                if (c->back) {
                        _cleanup_free_ char *text = format(&p);
                        assert_string_equal(text, c->back);
                }
                assert_int_equal(p.bake_usec, 1);
                assert_int_equal(p.deadline_usec, 2);
                unit_plan_done(&p);
                activate_done(&old);
                activate_done(&now);
        }
}

/* A unit whose file goes with the release before is stopped first. */
static void orphans(void **state)
{
        Activate old =
                parse("stop a.service, start a.service, restart w@1.service, restart k.service",
                      "units/a.service, w@.service");
        Activate now = parse("restart k.service", NULL);
        _cleanup_free_ char *text = NULL, *text2 = NULL;
        UnitPlan p;

        (void) state;
        assert_return_code(unit_plan_forward(&now, &old, NULL, &p), 0);
        text = format(&p);
        assert_string_equal(text, "stop a.service, stop w@1.service, restart k.service: k.service");
        assert_int_equal(p.n_before_files, 2);
        unit_plan_done(&p);
        assert_return_code(unit_plan_forward(&old, &now, NULL, &p), 0);
        text2 = format(&p);
        assert_string_equal(text2, "stop a.service, start a.service, restart w@1.service, restart "
                                   "k.service: a.service w@1.service k.service");
        assert_int_equal(p.n_before_files, 0);
        unit_plan_done(&p);
        /* On the way back what only the bad release has stops before its file goes. */
        assert_return_code(unit_plan_back(&now, &old, NULL, &p), 0);
        assert_int_equal(p.n_before_files, 2);
        unit_plan_done(&p);
        activate_done(&old);
        activate_done(&now);
}

static void provides(void **state)
{
        Activate a = parse(NULL, "systemd/web.service, w@.service");

        (void) state;
        assert_true(unit_files_provide(&a, "web.service"));
        assert_true(unit_files_provide(&a, "w@1.service"));
        assert_true(unit_files_provide(&a, "w@.service"));
        assert_false(unit_files_provide(&a, "w@1.timer"));
        assert_false(unit_files_provide(&a, "w.service"));
        assert_false(unit_files_provide(&a, "systemd/web.service"));
        assert_false(unit_files_provide(&a, "eb.service"));
        assert_false(unit_files_provide(NULL, "web.service"));
        activate_done(&a);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(plans),
                cmocka_unit_test(orphans),
                cmocka_unit_test(provides),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
