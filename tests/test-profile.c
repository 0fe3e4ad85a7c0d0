/* SPDX-License-Identifier: Apache-2.0 */
#include "test.h"

#include "profile.h"

static void write_file(const char *dir, const char *name, const char *text)
{
        _cleanup_close_ int fd = dir_open_at(AT_FDCWD, dir);

        assert_return_code(file_write_atomic_at(fd, name, text, strlen(text), 0600), 0);
}

static void use_files(const char *dir)
{
        char path[256];

        (void) snprintf(path, sizeof(path), "%s/credentials", dir);
        assert_int_equal(setenv("AWS_SHARED_CREDENTIALS_FILE", path, 1), 0);
        (void) snprintf(path, sizeof(path), "%s/config", dir);
        assert_int_equal(setenv("AWS_CONFIG_FILE", path, 1), 0);
        assert_int_equal(unsetenv("AWS_PROFILE"), 0);
}

static void both_files_count(void **state)
{
        _cleanup_(profile_freep) Profile *p = NULL, *named = NULL;

        use_files(*state);
        write_file(*state, "credentials",
                   "# keys\n[default]\naws_access_key_id = A\r\nAWS_SECRET_ACCESS_KEY=s/+=\n"
                   "[ci]\n  aws_access_key_id=B # the CI's\n  aws_secret_access_key=t;#\n"
                   "  region =\n");
        write_file(*state, "config",
                   "[default]\nregion = eu-west-1\naws_access_key_id = not-this\n"
                   "s3 =\n  addressing_style = path\n  a\nsource_profile=x\n\n"
                   "[profile \"ci\"] ; quoted\nregion=eu-central-1\n[services x]\nregion=none\n"
                   "[profile other]\nregion=none\n");
        assert_int_equal(profile_load(NULL, &p, NULL), 0);
        assert_string_equal(p->name, "default");
        assert_string_equal(p->key_id, "A");
        assert_string_equal(p->secret, "s/+=");
        assert_string_equal(p->region, "eu-west-1");
        assert_string_equal(p->source_profile, "x");
        assert_null(p->session_token);

        assert_int_equal(setenv("AWS_PROFILE", "ci", 1), 0);
        assert_int_equal(profile_load(NULL, &named, NULL), 0);
        assert_string_equal(named->key_id, "B");
        assert_string_equal(named->secret, "t;#");
        assert_string_equal(named->region, "eu-central-1");
}

static void home_is_where_they_are(void **state)
{
        _cleanup_(profile_freep) Profile *p = NULL, *none = NULL;
        char path[256];

        (void) snprintf(path, sizeof(path), "%s/.aws", (char *) *state);
        assert_return_code(mkdir_parents(path, 0700), 0);
        write_file(path, "credentials", "[default]\naws_access_key_id=A\n");
        write_file(path, "elsewhere", "[default]\nregion=r\n");
        assert_int_equal(unsetenv("AWS_SHARED_CREDENTIALS_FILE"), 0);
        assert_int_equal(setenv("AWS_CONFIG_FILE", "~/.aws/elsewhere", 1), 0);
        assert_int_equal(unsetenv("AWS_PROFILE"), 0);
        assert_int_equal(setenv("HOME", *state, 1), 0);
        assert_int_equal(profile_load(NULL, &p, NULL), 0);
        assert_string_equal(p->key_id, "A");
        assert_string_equal(p->region, "r");
        assert_int_equal(unsetenv("HOME"), 0);
        assert_int_equal(profile_load(NULL, &none, NULL), 0);
        assert_null(none->key_id);
}

static void missing_ones(void **state)
{
        _cleanup_(profile_freep) Profile *p = NULL;
        _cleanup_free_ char *err = NULL;

        use_files(*state);
        assert_int_equal(profile_load("ci", &p, &err), -ENOENT);
        assert_non_null(strstr(err, "'ci' is neither in"));
        assert_int_equal(profile_load(NULL, &p, NULL), 0);
        assert_null(p->key_id);
}

static void the_rest_is_refused(void **state)
{
        static const char *const bad[] = {
                "[default]\nSECRET",
                "[default]\n=SECRET",
                "\nregion = SECRET",
                "[default]\n[SECRET",
                "[default]\n[SECRET]x",
                "[default]\n[default] # again",
                "[default]\nregion=SECRET\nREGION=SECRET",
                "[default]\nregion=\n  SECRET",
                "[default]\nregion=SECRET\n\tSECRET",
                "[default]\nregion=SECRET\x01",
        };

        for (size_t i = 0; i < ELEMENTSOF(bad); i++) {
                _cleanup_(profile_freep) Profile *p = NULL;
                _cleanup_free_ char *err = NULL;
                unsigned line = 1;

                for (const char *c = bad[i]; *c; c++)
                        line += *c == '\n';
                use_files(*state);
                write_file(*state, "config", bad[i]);
                assert_int_equal(profile_load(NULL, &p, &err), -EBADMSG);
                char where[32];
                (void) snprintf(where, sizeof(where), "/config:%u: ", line);
                if (!strstr(err, where) || strstr(err, "SECRET"))
                        fail_msg("%zu: '%s'", i, err);
        }
}

static void sizes_have_limits(void **state)
{
        _cleanup_(profile_freep) Profile *p = NULL;
        _cleanup_free_ char *text = malloc(PROFILE_FILE_SIZE_MAX + 2), *err = NULL;

        assert_non_null(text);
        memset(text, '#', PROFILE_FILE_SIZE_MAX + 1);
        text[PROFILE_FILE_SIZE_MAX + 1] = '\0';
        use_files(*state);
        write_file(*state, "config", text);
        assert_int_equal(profile_load(NULL, &p, NULL), -EFBIG);
        memset(text, 'x', PROFILE_VALUE_SIZE_MAX + 20);
        memcpy(text, "[default]\nregion=", 17);
        text[PROFILE_VALUE_SIZE_MAX + 20] = '\0';
        write_file(*state, "config", text);
        assert_int_equal(profile_load(NULL, &p, &err), -EBADMSG);
        assert_int_equal(profile_parse("[default]\n\0", 11, PROFILE_CONFIG, "x",
                                       &(Profile){ .name = (char *) "default" }, &err),
                         -EBADMSG);
}

static const char services_file[] =
        "[services other]\ns3 =\n  endpoint_url = http://127.0.0.1:9\n"
        "[profile ci]\nendpoint_url=http://127.0.0.1:1\nservices = local\n"
        "[services local]\n# here\ndynamodb =\n  endpoint_url = http://127.0.0.1:9\n  x\n"
        "S3=\n\tendpoint_url = http://127.0.0.1:2 # a server\n\taddressing_style = path\n"
        "  kms = ; none\n      max_attempts = 3\n"
        "sts =\n  endpoint_url =\n"
        "[local]\nec2 =\n  endpoint_url = http://127.0.0.1:9\n";

static void services_have_endpoints(void **state)
{
        _cleanup_(profile_freep) Profile *p = NULL, *plain = NULL;

        use_files(*state);
        write_file(*state, "config", services_file);
        assert_int_equal(profile_load("ci", &p, NULL), 0);
        assert_string_equal(profile_endpoint_url(p, "s3"), "http://127.0.0.1:2");
        assert_string_equal(profile_endpoint_url(p, "kms"), "http://127.0.0.1:1");
        assert_string_equal(profile_endpoint_url(p, "sts"), "http://127.0.0.1:1");
        assert_string_equal(profile_endpoint_url(p, "ec2"), "http://127.0.0.1:1");

        /* In the other file they are members of profiles named so. */
        write_file(*state, "credentials", "[services]\na=b\n[default]\nregion=r\n");
        assert_int_equal(profile_load(NULL, &plain, NULL), 0);
        assert_null(profile_endpoint_url(plain, "s3"));
}

static void services_refused(void **state)
{
        static const struct {
                const char *text;
                unsigned line; /* 0: the section is missing */
        } table[] = {
                {"",                                                               0},
                { "[services]\n[services y]\n[service x]\n",                       0},
                { "[services x]\ns3 = SECRET\n",                                   4},
                { "[services x]\ns3 =\n  SECRET\n",                                5},
                { "[services x]\ns3 =\n  = SECRET\n",                              5},
                { "[services x]\ns3 =\n  endpoint_url=a\n  endpoint_url=SECRET\n", 6},
                { "[services x]\ns3 =\nkms =\nS3 =\n",                             6},
                { "[services x]\nSECRET\n",                                        4},
                { "[services x]\ns3 =\n  endpoint_url = SECRET\x01\n",             5},
                { "[services x]\n[services 'x']\n",                                4},
        };

        for (size_t i = 0; i < ELEMENTSOF(table); i++) {
                _cleanup_(profile_freep) Profile *p = NULL;
                _cleanup_free_ char *err = NULL;
                char text[256], where[64] = "'x', which are not in ";

                use_files(*state);
                (void) snprintf(text, sizeof(text), "[default]\nservices = x\n%s", table[i].text);
                write_file(*state, "config", text);
                assert_int_equal(profile_load(NULL, &p, &err), table[i].line ? -EBADMSG : -ENOENT);
                if (table[i].line)
                        (void) snprintf(where, sizeof(where), "/config:%u: ", table[i].line);
                if (!strstr(err, where) || strstr(err, "SECRET"))
                        fail_msg("%zu: '%s'", i, err);
        }
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                test_in_dir(both_files_count),  test_in_dir(home_is_where_they_are),
                test_in_dir(missing_ones),      test_in_dir(the_rest_is_refused),
                test_in_dir(sizes_have_limits), test_in_dir(services_have_endpoints),
                test_in_dir(services_refused),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
