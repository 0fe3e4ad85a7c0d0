/* SPDX-License-Identifier: Apache-2.0 */
#include "test.h"

#include <sys/stat.h>

#include "check.h"
#include "json-read.h"

/* The finding whose text (or mend) has these words. */
static const Finding *find(const Check *c, const char *words)
{
        for (size_t i = 0; i < c->findings.n; i++) {
                const Finding *f = &c->findings.items[i];

                if (strstr(f->text, words) || (f->mend && strstr(f->mend, words)))
                        return f;
        }
        fail_msg("nothing was found that says '%s'", words);
        return NULL;
}

static void findings_have_a_form_for_programs_and_people(void **state)
{
        _cleanup_(findings_done) Findings f = {};
        _cleanup_free_ char *lines = NULL, *text = NULL;
        _cleanup_json_ cJSON *o = NULL;
        size_t size;
        FILE *file;

        (void) state;
        assert_int_equal(findings_worst(&f), FINDING_OK);
        findings_add(&f, FINDING_OK, "disk", "%s: %d MiB free", "/srv", 5);
        findings_add(&f, FINDING_FAIL, "store", "no\nbucket");
        findings_mend(&f, "make %s", "it");
        findings_add(&f, FINDING_NOTE, "units", "another agent");
        assert_int_equal(findings_worst(&f), FINDING_FAIL);
        assert_int_equal(f.error, 0);
        assert_return_code(findings_format(&f, &o), 0);
        text = cJSON_PrintUnformatted(o);
        assert_string_equal(text,
                            "{\"worst\":\"fail\",\"findings\":["
                            "{\"level\":\"ok\",\"area\":\"disk\",\"text\":\"/srv: 5 MiB free\"},"
                            "{\"level\":\"fail\",\"area\":\"store\",\"text\":\"no\\nbucket\","
                            "\"mend\":\"make it\"},"
                            "{\"level\":\"note\",\"area\":\"units\",\"text\":\"another agent\"}]}");
        file = open_memstream(&lines, &size);
        findings_print(&f, file);
        assert_int_equal(fclose(file), 0);
        assert_string_equal(lines, "ok    disk    /srv: 5 MiB free\n"
                                   "fail  store   no?bucket. To mend it: make it\n"
                                   "note  units   another agent\n");
}

static void write_config(const char *dir, const char *text, char **ret_path)
{
        _cleanup_close_ int fd = dir_open_at(AT_FDCWD, dir);

        assert_return_code(file_write_atomic_at(fd, "agent.json", text, strlen(text), 0644), 0);
        assert_true(asprintf(ret_path, "%s/agent.json", dir) > 0);
}

static void a_broken_configuration_is_named(void **state)
{
        _cleanup_(check_done) Check c = { .user = true };
        _cleanup_free_ char *path = NULL;

        write_config(*state, "{\n\"stoer\": 1 }", &path);
        c.config_path = path;
        check_config(&c);
        assert_null(c.config);
        assert_int_equal(find(&c, "agent.json:2: stoer")->level, FINDING_FAIL);
        /* Nothing is said about what can't be known then. */
        check_keys(&c);
        check_store(&c);
        assert_int_equal(findings_worst(&c.findings), FINDING_FAIL);
}

static void files_that_others_may_change_are_named(void **state)
{
        _cleanup_(check_done) Check c = { .user = true };
        _cleanup_free_ char *path = NULL, *drop_ins = NULL, *wanted = NULL;

        write_config(*state,
                     "{\"store\":\"file:///s\",\"apps\":[{\"app\":\"a\",\"channel\":\"c\"}]}",
                     &path);
        assert_true(asprintf(&drop_ins, "%s/agent.d", (char *) *state) > 0);
        assert_int_equal(mkdir(drop_ins, 0755), 0);
        assert_int_equal(chmod(drop_ins, 0777), 0);
        assert_int_equal(chmod(path, 0664), 0);
        c.config_path = path;
        check_config(&c);
        assert_int_equal(find(&c, "1 application, store file:///s")->level, FINDING_OK);
        assert_true(asprintf(&wanted, "chmod go-w %s", path) > 0);
        assert_int_equal(find(&c, wanted)->level, FINDING_FAIL);
        assert_int_equal(find(&c, "agent.d (mode 0777)")->level, FINDING_FAIL);
        assert_int_equal(chmod(drop_ins, 0755), 0);
}

static void a_clock_before_the_program_is_wrong(void **state)
{
        _cleanup_(check_done) Check c = { .now_sec = 1000000000 };

        (void) state;
        c.paths.state_dir = strdup("/nonexistent");
        check_clock(&c);
        assert_int_equal(
                find(&c, "the clock says 2001-09-09T01:46:40Z, but this program is from")->level,
                FINDING_FAIL);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(findings_have_a_form_for_programs_and_people),
                test_in_dir(a_broken_configuration_is_named),
                test_in_dir(files_that_others_may_change_are_named),
                cmocka_unit_test(a_clock_before_the_program_is_wrong),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
