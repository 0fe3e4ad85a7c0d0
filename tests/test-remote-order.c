/* SPDX-License-Identifier: Apache-2.0 */
#include "test.h"

#include "remote-order.h"

#define ID   "d33816ed-cfc8-47f1-9f7f-153dcebcfd87"
#define A64  "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
#define A256 A64 A64 A64 A64

static void actions_have_names(void **state)
{
        (void) state;
        for (OrderAction a = 0; a < _ORDER_ACTION_MAX; a++)
                assert_int_equal(order_action_from_string(order_action_to_string(a)), a);
        assert_int_equal(order_action_from_string("Poll"), _ORDER_ACTION_INVALID);
        assert_int_equal(order_action_from_string(""), _ORDER_ACTION_INVALID);
}

static void commands_are_uuids_in_lower_case(void **state)
{
        static const char *const bad[] = {
                "",
                "-",
                "d33816ed-cfc8-47f1-9f7f-153dcebcfd8",
                "d33816ed-cfc8-47f1-9f7f-153dcebcfd877",
                "D33816ED-cfc8-47f1-9f7f-153dcebcfd87",
                "d33816edacfc8-47f1-9f7f-153dcebcfd87",
                "d33816ed-cfc8-47f1-9f7f-153dcebcfd8g",
                "d33816ed-cfc8-47f1-9f7f-153dcebc/../",
                "{33816ed-cfc8-47f1-9f7f-153dcebcfd8}",
        };

        (void) state;
        assert_true(order_command_is_valid(ID));
        for (size_t i = 0; i < ELEMENTSOF(bad); i++)
                assert_false(order_command_is_valid(bad[i]));
}

/* Each is the only line of its order. */
static void lines_come_back_as_they_were(void **state)
{
        static const char *const lines[] = {
                ID " poll - - - -",
                ID " poll web - - -",
                ID " deploy web 2026.11.22-1f3a9c2 - -",
                ID " deploy - " A64 " - -",
                ID " rollback - - - -",
                ID " rollback web 1 - -",
                ID " hold web - - -",
                ID " hold web - 2h -",
                ID " hold web - 2026-11-22T15:00:00Z the fair, until it closes",
                ID " hold - - 2026-11-22T15:00:00+01:00  - -  ",
                ID " hold - - - " A256,
                ID " hold - - - %n$(reboot);`id`|\"'<>&\\ \xc3\xa4",
                ID " resume web - - -",
                ID " confirm web - - -",
                ID " status - - - -",
        };

        (void) state;
        for (size_t i = 0; i < ELEMENTSOF(lines); i++) {
                _cleanup_(remote_order_done) RemoteOrder o = {};
                _cleanup_free_ char *line = NULL, *err = NULL;

                assert_int_equal(remote_order_unpack(lines[i], &o, &err), 0);
                assert_null(err);
                assert_string_equal(o.command, ID);
                assert_int_equal(remote_order_pack(&o, &line), 0);
                assert_string_equal(line, lines[i]);
        }
}

static void members_are_where_they_belong(void **state)
{
        _cleanup_(remote_order_done) RemoteOrder deploy = {}, hold = {};

        (void) state;
        assert_int_equal(remote_order_unpack(ID " deploy web 1.2 - -", &deploy, NULL), 0);
        assert_int_equal(deploy.action, ORDER_DEPLOY);
        assert_string_equal(deploy.app, "web");
        assert_string_equal(deploy.release, "1.2");
        assert_null(deploy.until);
        assert_null(deploy.reason);
        assert_int_equal(remote_order_unpack(ID " hold - - 2h a b", &hold, NULL), 0);
        assert_int_equal(hold.action, ORDER_HOLD);
        assert_null(hold.app);
        assert_null(hold.release);
        assert_string_equal(hold.until, "2h");
        assert_string_equal(hold.reason, "a b");
}

/* What a slipway-fetch that somebody took over may send. */
static void hostile_lines_are_refused(void **state)
{
        static const struct {
                const char *line, *why;
        } cases[] = {
                {"",                                "too few words"},
                { " ",                              "too few words"},
                { "     ",                          "command: "    },
                { "- - - - - -",                    "command: "    },
                { ID,                               "too few words"},
                { ID " poll",                       "too few words"},
                { ID " poll - - -",                 "too few words"},
                { ID " poll - - - ",                "reason: "     },
                { ID "  poll - - - -",              "action: "     },
                { " " ID " poll - - - -",           "command: "    },
                { ID "\tpoll\t-\t-\t-\t-",          "too few words"},
                { "../../etc/passwd poll - - - -",  "command: "    },
                { ID " - - - - -",                  "action: "     },
                { ID " reboot - - - -",             "action: "     },
                { ID " POLL - - - -",               "action: "     },
                { ID " poll\n - - - -",             "action: "     },
                { ID " poll ../web - - -",          "app: "        },
                { ID " poll -web - - -",            "app: "        },
                { ID " poll -- - - -",              "app: "        },
                { ID " poll web\n - - -",           "app: "        },
                { ID " poll %s%n - - -",            "app: "        },
                { ID " poll " A64 "a - - -",        "app: "        },
                { ID " poll w\xc3\xa4 - - -",       "app: "        },
                { ID " poll - 1 - -",               "release: "    },
                { ID " deploy web - - -",           "release: "    },
                { ID " deploy web /etc/passwd - -", "release: "    },
                { ID " deploy web .. - -",          "release: "    },
                { ID " deploy web 1;reboot - -",    "release: "    },
                { ID " rollback web $(reboot) - -", "release: "    },
                { ID " resume web 1 - -",           "release: "    },
                { ID " confirm web 1 - -",          "release: "    },
                { ID " status web 1 - -",           "release: "    },
                { ID " hold web 1 - -",             "release: "    },
                { ID " poll - - 2h -",              "until: "      },
                { ID " deploy web 1 2h -",          "until: "      },
                { ID " hold - - -2h -",             "until: "      },
                { ID " hold - - tomorrow -",        "until: "      },
                { ID " hold - - 2h;reboot -",       "until: "      },
                { ID " hold - - 2h\n -",            "until: "      },
                { ID " hold - - 1" A64 " -",        "until: "      },
                { ID " poll - - - why",             "reason: "     },
                { ID " deploy web 1 - why",         "reason: "     },
                { ID " poll - - - - ",              "reason: "     },
                { ID " hold - - - ",                "reason: "     },
                { ID " hold - - - a\nb",            "reason: "     },
                { ID " hold - - - a\x1b[2J",        "reason: "     },
                { ID " hold - - - a\x7f",           "reason: "     },
                { ID " hold - - - \xc2\x9b"
                     "2J",         "reason: "     },
                { ID " hold - - - \xff",            "reason: "     },
                { ID " hold - - - \xc3",            "reason: "     },
                { ID " hold - - - " A256 "a",       "reason: "     },
        };

        (void) state;
        for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
                RemoteOrder o = { .action = _ORDER_ACTION_MAX };
                _cleanup_free_ char *err = NULL;

                assert_int_equal(remote_order_unpack(cases[i].line, &o, &err), -EINVAL);
                assert_non_null(err);
                if (!strstr(err, cases[i].why))
                        fail_msg("'%s': %s", cases[i].line, err);
                assert_null(o.command);
                assert_int_equal(o.action, _ORDER_ACTION_MAX);
        }
}

static void a_long_line_is_refused_in_few_words(void **state)
{
        static const char *const heads[] = {
                "", ID " ", ID " poll ", ID " deploy web ", ID " hold web - ", ID " hold web - - "
        };

        (void) state;
        for (size_t i = 0; i < ELEMENTSOF(heads); i++) {
                size_t size = 1024 * 1024, n = strlen(heads[i]);
                _cleanup_free_ char *line = malloc(size + 1), *err = NULL;
                RemoteOrder o = {};

                assert_non_null(line);
                memset(line, 'x', size);
                line[size] = '\0';
                memcpy(line, heads[i], n);
                assert_int_equal(remote_order_unpack(line, &o, &err), -EINVAL);
                assert_true(strlen(err) < 200);
        }
}

static void orders_are_checked(void **state)
{
        const RemoteOrder good = { .command = (char *) ID, .action = ORDER_POLL };
        RemoteOrder o = good;
        _cleanup_free_ char *err = NULL;

        (void) state;
        assert_int_equal(remote_order_check(&o, NULL), 0);
        o.command = NULL;
        assert_int_equal(remote_order_check(&o, NULL), -EINVAL);
        o = good;
        o.action = _ORDER_ACTION_MAX;
        assert_int_equal(remote_order_check(&o, NULL), -EINVAL);
        o.action = _ORDER_ACTION_INVALID;
        assert_int_equal(remote_order_check(&o, NULL), -EINVAL);
        o.action = ORDER_STATUS;
        o.release = (char *) "1";
        assert_int_equal(remote_order_check(&o, &err), -EINVAL);
        assert_string_equal(err, "release: status takes none");
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(actions_have_names),
                cmocka_unit_test(commands_are_uuids_in_lower_case),
                cmocka_unit_test(lines_come_back_as_they_were),
                cmocka_unit_test(members_are_where_they_belong),
                cmocka_unit_test(hostile_lines_are_refused),
                cmocka_unit_test(a_long_line_is_refused_in_few_words),
                cmocka_unit_test(orders_are_checked),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
