/* SPDX-License-Identifier: Apache-2.0 */
#include "test.h"

#include "host-address.h"
#include "os-release.h"

static void texts(void **state)
{
        static const struct {
                const char *text, *name, *version;
        } table[] = {
                {"",                                                "Linux",            ""    },
                { "NAME=\"Debian GNU/Linux\"\nVERSION_ID=\"12\"\n", "Debian GNU/Linux", "12"  },
                { "NAME='Amazon Linux'\nVERSION_ID=2023",           "Amazon Linux",     "2023"},
                { "\n\n# NAME=x\nMY_NAME=y\nNAME=z\nVERSION_ID=\n", "z",                ""    },
                { "NAME=\"a \\\"b\\\" \\\\ \\$\"\n",                "a \"b\" \\ $",     ""    },
                { "NAME='a\\b'\nVERSION_ID=1\\ 2\n",                "a\\b",             "1 2" },
                { "NAME=\"open\nVERSION_ID='1\n",                   "open",             "1"   },
                { "NAME\nNAME =x\nVERSION_ID\n",                    "Linux",            ""    },
                { "NAME=a\tb\x80\nVERSION_ID=\\\n",                 "a b?",             "\\"  },
                { "NAME=\"\"\n",                                    "Linux",            ""    },
                { "NAME=a\\",                                       "a\\",              ""    },
        };

        (void) state;
        for (size_t i = 0; i < ELEMENTSOF(table); i++) {
                OsRelease os;
                os_release_parse(table[i].text, &os);
                if (!streq(os.name, table[i].name) || !streq(os.version, table[i].version))
                        fail_msg("%zu: '%s', '%s'", i, os.name, os.version);
        }
}

static void long_ones(void **state)
{
        char text[1000] = "NAME=";
        OsRelease os;

        (void) state;
        memset(text + 5, 'x', sizeof(text) - 6);
        os_release_parse(text, &os);
        assert_int_equal(strlen(os.name), sizeof(os.name) - 1);
        assert_string_equal(os.version, "");
}

/* Whatever this host is, it has a name, and an address is none of this host's alone. */
static void this_host(void **state)
{
        char address[INET6_ADDRSTRLEN];
        OsRelease os;

        (void) state;
        os_release_read(&os);
        assert_true(*os.name);
        if (host_address_find(address)) {
                assert_true(strchr(address, '.') || strchr(address, ':'));
                assert_int_not_equal(strncmp(address, "127.", 4), 0);
                assert_int_not_equal(strncmp(address, "169.254.", 8), 0);
        } else
                assert_string_equal(address, "");
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(texts),
                cmocka_unit_test(long_ones),
                cmocka_unit_test(this_host),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
