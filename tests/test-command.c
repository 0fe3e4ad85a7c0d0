/* SPDX-License-Identifier: Apache-2.0 */
#include "test.h"

#include "command.h"

static char *users[] = { (char *) "root", (char *) "no-such-user" };
static AppConfig config = { .app = (char *) "web", .hook_users = users, .n_hook_users = 2 };
static char *argv[] = { (char *) "bin/x", NULL };

/* What a site with this configuration says of a command with that user. */
static int check(bool as_root, char *user, char **reterr)
{
        Command command = { .argv = argv, .n_argv = 1, .user = user };
        Activate activate = { .revert = &command, .n_revert = 1 };
        Site site = { .config = &config, .unpack = { .change = as_root } };

        return command_check_users(&site, &activate, reterr);
}

static void users_must_exist(void **state)
{
        _cleanup_free_ char *err = NULL;

        (void) state;
        assert_return_code(check(true, NULL, NULL), 0);
        assert_return_code(check(true, (char *) "root", NULL), 0);
        assert_int_equal(check(true, (char *) "no-such-user", &err), -ENOENT);
        assert_non_null(strstr(err, "no user no-such-user"));
        assert_non_null(strstr(err, "bin/x"));
        assert_return_code(check(false, (char *) "no-such-user", NULL), 0);
}

/* The configuration may have changed since the release came. */
static void users_must_be_allowed(void **state)
{
        _cleanup_free_ char *err = NULL;

        (void) state;
        assert_int_equal(check(true, (char *) "daemon", &err), -EKEYREJECTED);
        assert_non_null(strstr(err, "hook_users"));
        assert_int_equal(check(false, (char *) "daemon", NULL), -EKEYREJECTED);
        config.n_hook_users = 0;
        assert_int_equal(check(true, NULL, NULL), -EKEYREJECTED);
        config.n_hook_users = 2;
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(users_must_exist),
                cmocka_unit_test(users_must_be_allowed),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
