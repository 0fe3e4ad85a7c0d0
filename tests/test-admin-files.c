/* SPDX-License-Identifier: Apache-2.0 */
#include "test.h"

#include <cJSON.h>

#include "admin-files.h"
#include "admin-view.h"
#include "json-read.h"
#include "state-file.h"

static void save(int dir_fd, const char *app)
{
        _cleanup_(state_freep) State *s = NULL;

        assert_int_equal(state_new(app, "prod", &s), 0);
        assert_int_equal(state_set(&s->current, "r1"), 0);
        assert_int_equal(state_save(s, dir_fd), 0);
}

static void test_read(void **state)
{
        _cleanup_close_ int dir_fd = dir_open_at(AT_FDCWD, *state);
        _cleanup_json_ cJSON *document = NULL;
        _cleanup_free_ char *err = NULL;
        static const char *const others[] = { "web.json.damaged-0123", "notes.txt", ".json",
                                              ".hidden.json" };

        save(dir_fd, "web");
        save(dir_fd, "api.v2");
        for (size_t i = 0; i < ELEMENTSOF(others); i++)
                assert_int_equal(file_write_atomic_at(dir_fd, others[i], "{", 1, 0600), 0);
        assert_int_equal(admin_files_describe(*state, &document, &err), 0);
        assert_int_equal(cJSON_GetArraySize(cJSON_GetObjectItem(document, "apps")), 2);
        assert_non_null(view_find_app(document, "web"));
        assert_non_null(view_find_app(document, "api.v2"));
        assert_null(view_find_app(document, "api"));
}

static void test_damaged(void **state)
{
        _cleanup_close_ int dir_fd = dir_open_at(AT_FDCWD, *state);
        _cleanup_json_ cJSON *document = NULL;
        _cleanup_free_ char *err = NULL;

        assert_int_equal(file_write_atomic_at(dir_fd, "web.json", "{", 1, 0600), 0);
        assert_int_equal(admin_files_describe(*state, &document, &err), -EBADMSG);
        assert_null(document);
        assert_non_null(strstr(err, "web"));
}

static void test_missing(void **state)
{
        _cleanup_json_ cJSON *document = NULL;
        _cleanup_free_ char *err = NULL;

        (void) state;
        assert_int_equal(admin_files_describe("/nonexistent/slipway", &document, &err), -ENOENT);
        assert_string_equal(err, "/nonexistent/slipway: No such file or directory");
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                test_in_dir(test_read),
                test_in_dir(test_damaged),
                cmocka_unit_test(test_missing),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
