/* SPDX-License-Identifier: Apache-2.0 */
#include "test.h"

#include <dirent.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>

#include "ssm-memory.h"
#include "ssm-reply.h"

#define A         "d33816ed-cfc8-47f1-9f7f-153dcebcfd87"
#define B         "566ddc11-108b-4240-8a75-7bbd36cad7ac"
#define R1        "d0520b8f-ef6b-41de-85ee-2da6aced70b0"
#define R2        "39b53062-6bc4-4c07-9a57-b8f785fba28b"
#define REPLY     "{\"documentStatus\":\"Success\",\"o\":\"a\\n\\\"b\\\" \xc3\xa4\"}"
#define WEEK_MSEC (UINT64_C(1000) * SSM_MEMORY_AGE_MAX_SEC)

static char *print(const char *format, ...) _printf_(1, 2);

static char *print(const char *format, ...)
{
        char *s = NULL;
        va_list args;

        va_start(args, format);
        assert_true(vasprintf(&s, format, args) >= 0);
        va_end(args);
        return s;
}

static uint64_t now_msec(void)
{
        return (uint64_t) time(NULL) * 1000;
}

static SsmRecord record(const char *command)
{
        SsmRecord r = { .command = strdup(command),
                        .message = print("aws.ssm.%s.i-0123456789abcdef0", command),
                        .document = strdup("Slipway-Deploy"),
                        .order = print("%s hold web - 2h the fair, \xc3\xa4", command),
                        .received_msec = now_msec() };

        assert_int_equal(ssm_steps_add(&r.steps, &r.n_steps, "slipway", "aws:runShellScript"), 0);
        return r;
}

static SsmMemory *open_memory(const char *dir)
{
        _cleanup_free_ char *err = NULL;
        SsmMemory *m = NULL;

        if (ssm_memory_open(dir, &m, &err) < 0)
                fail_msg("%s", err);
        return m;
}

static SsmRecord *add_record(SsmMemory *m, const char *command)
{
        SsmRecord r = record(command), *added = NULL;

        assert_int_equal(ssm_memory_add(m, &r, &added), 0);
        assert_null(r.command);
        assert_null(r.steps);
        assert_ptr_equal(added, ssm_memory_find(m, command));
        return added;
}

static size_t count(SsmMemory *m)
{
        size_t n = 0;

        while (ssm_memory_get(m, n))
                n++;
        return n;
}

/* All names but "." and "..". */
static size_t count_files(const char *dir)
{
        DIR *d = opendir(dir);
        size_t n = 0;

        assert_non_null(d);
        for (struct dirent *e; (e = readdir(d));)
                n += !streq(e->d_name, ".") && !streq(e->d_name, "..");
        closedir(d);
        return n;
}

static void put(const char *dir, const char *name, const char *text)
{
        _cleanup_close_ int fd = dir_open_at(AT_FDCWD, dir);

        assert_int_equal(file_write_atomic_at(fd, name, text, strlen(text), 0600), 0);
}

static char *get(const char *dir, const char *name)
{
        _cleanup_close_ int fd = dir_open_at(AT_FDCWD, dir);
        char *text = NULL;

        if (file_read_at(fd, name, 1 << 20, &text, NULL) < 0)
                return NULL;
        return text;
}

static void what_goes_on_survives(void **dir)
{
        _cleanup_(ssm_memory_freep) SsmMemory *m = open_memory(*dir), *again = NULL;
        _cleanup_free_ char *reply = NULL, *path = print("%s/" A ".json", (char *) *dir);
        struct stat st;
        SsmRecord *r;

        assert_null(ssm_memory_find(m, A));
        assert_null(ssm_memory_get(m, 0));
        (void) add_record(m, A);
        assert_int_equal(stat(path, &st), 0);
        assert_int_equal(st.st_mode & 07777, 0600);
        again = open_memory(*dir);
        assert_int_equal(count(again), 1);
        r = ssm_memory_find(again, A);
        assert_string_equal(r->command, A);
        assert_string_equal(r->message, "aws.ssm." A ".i-0123456789abcdef0");
        assert_string_equal(r->document, "Slipway-Deploy");
        assert_string_equal(r->order, A " hold web - 2h the fair, \xc3\xa4");
        assert_true(r->received_msec > 0);
        assert_int_equal(r->n_steps, 1);
        assert_string_equal(r->steps[0].name, "slipway");
        assert_string_equal(r->steps[0].plugin, "aws:runShellScript");
        assert_null(r->reply_id);
        assert_null(r->reply);
        assert_false(r->delivered);
        assert_int_equal(ssm_memory_load_reply(again, r, &reply), -ENOENT);
}

static void expect_reply(SsmMemory *m, const char *id, bool delivered)
{
        _cleanup_free_ char *reply = NULL;
        SsmRecord *r = ssm_memory_find(m, A);

        assert_string_equal(r->reply_id, id);
        assert_null(r->reply);
        assert_int_equal(r->delivered, delivered);
        assert_int_equal(ssm_memory_load_reply(m, r, &reply), 0);
        assert_string_equal(reply, REPLY);
}

static void an_answer_survives(void **dir)
{
        _cleanup_(ssm_memory_freep) SsmMemory *m = open_memory(*dir), *ended = NULL,
                                              *delivered = NULL;
        SsmRecord *r = add_record(m, A);

        assert_int_equal(ssm_memory_end(m, r, R1, REPLY), 0);
        expect_reply(m, R1, false);
        ended = open_memory(*dir);
        expect_reply(ended, R1, false);
        assert_int_equal(ssm_memory_delivered(ended, ssm_memory_find(ended, A)), 0);
        expect_reply(ended, R1, true);
        delivered = open_memory(*dir);
        expect_reply(delivered, R1, true);
        assert_int_equal(count_files(*dir), 1);
}

static void a_refusal_has_no_order(void **dir)
{
        _cleanup_(ssm_memory_freep) SsmMemory *m = open_memory(*dir), *again = NULL;
        SsmRecord r = record(A), *added;

        free(r.order);
        r.order = NULL;
        ssm_steps_free(r.steps, r.n_steps);
        r.steps = NULL;
        r.n_steps = 0;
        assert_int_equal(ssm_memory_add(m, &r, &added), 0);
        again = open_memory(*dir);
        assert_null(ssm_memory_find(again, A)->order);
        assert_int_equal(ssm_memory_find(again, A)->n_steps, 0);
}

static void the_longest_reply_survives(void **dir)
{
        _cleanup_(ssm_memory_freep) SsmMemory *m = open_memory(*dir), *again = NULL;
        _cleanup_free_ char *longest = malloc(SSM_REPLY_MAX + 1), *reply = NULL;
        SsmRecord *r = add_record(m, A);

        assert_non_null(longest);
        memset(longest, '"', SSM_REPLY_MAX);
        longest[SSM_REPLY_MAX] = '\0';
        assert_int_equal(ssm_memory_end(m, r, R1, longest), 0);
        again = open_memory(*dir);
        assert_int_equal(ssm_memory_load_reply(again, ssm_memory_find(again, A), &reply), 0);
        assert_string_equal(reply, longest);
}

static void the_same_command_is_known(void **dir)
{
        _cleanup_(ssm_memory_freep) SsmMemory *m = open_memory(*dir);
        _cleanup_(ssm_record_done) SsmRecord r = record(A);
        SsmRecord *added = NULL;

        (void) add_record(m, A);
        assert_int_equal(ssm_memory_add(m, &r, &added), -EEXIST);
        assert_null(added);
        assert_string_equal(r.command, A);
        assert_int_equal(count(m), 1);
}

/* What a start could not read is not written. */
static void a_bad_record_is_refused(void **dir)
{
        _cleanup_(ssm_memory_freep) SsmMemory *m = open_memory(*dir);
        static const char *const commands[] = { "", "x", "../../../../../../../../../../etc/passwd",
                                                "../../../../../../../../../../tmp/pa" };
        SsmRecord *added = NULL;

        for (size_t i = 0; i < ELEMENTSOF(commands); i++) {
                _cleanup_(ssm_record_done) SsmRecord r = record(commands[i]);
                assert_int_equal(ssm_memory_add(m, &r, &added), -EINVAL);
        }
        for (int i = 0; i < 5; i++) {
                _cleanup_(ssm_record_done) SsmRecord r = record(A);
                char **const texts[] = { &r.message, &r.document, &r.order, &r.order,
                                         &r.steps[0].name };
                static const char *const bad[] = { "a\nb", "\xff", "poll", B " poll - - - -", "" };

                free(*texts[i]);
                *texts[i] = strdup(bad[i]);
                assert_int_equal(ssm_memory_add(m, &r, &added), -EINVAL);
        }
        _cleanup_(ssm_record_done) SsmRecord late = record(A);
        late.received_msec = UINT64_MAX;
        assert_int_equal(ssm_memory_add(m, &late, &added), -EINVAL);
        assert_null(added);
        assert_int_equal(count_files(*dir), 0);
        assert_int_equal(count(m), 0);
}

static void a_bad_reply_is_refused(void **dir)
{
        _cleanup_(ssm_memory_freep) SsmMemory *m = open_memory(*dir);
        _cleanup_free_ char *reply = NULL;
        SsmRecord *r = add_record(m, A);

        assert_int_equal(ssm_memory_end(m, r, "x", REPLY), -EINVAL);
        assert_int_equal(ssm_memory_end(m, r, R1, ""), -EINVAL);
        assert_int_equal(ssm_memory_end(m, r, R1, "\xff"), -EINVAL);
        assert_null(r->reply_id);
        assert_int_equal(ssm_memory_load_reply(m, r, &reply), -ENOENT);
}

/* Every write of more than so many bytes fails; they are fewer than a file has. */
static void limit_files(rlim_t size)
{
        struct rlimit limit;

        assert_int_equal(getrlimit(RLIMIT_FSIZE, &limit), 0);
        limit.rlim_cur = size;
        assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
}

static void a_full_disk_leaves_nothing_half_made(void **dir)
{
        _cleanup_(ssm_memory_freep) SsmMemory *m = open_memory(*dir), *again = NULL, *after = NULL;
        _cleanup_(ssm_record_done) SsmRecord b = record(B);
        _cleanup_free_ char *before = NULL, *now = NULL, *reply = NULL;
        SsmRecord *a = add_record(m, A), *added = NULL;

        before = get(*dir, A ".json");
        (void) signal(SIGXFSZ, SIG_IGN);
        limit_files(32);
        int r_add = ssm_memory_add(m, &b, &added);
        a = ssm_memory_find(m, A);
        int r_end = ssm_memory_end(m, a, R1, REPLY);
        int r_delivered = ssm_memory_delivered(m, a);
        limit_files(RLIM_INFINITY);
        now = get(*dir, A ".json");

        assert_int_equal(r_add, -EFBIG);
        assert_null(added);
        assert_string_equal(b.command, B);
        assert_null(ssm_memory_find(m, B));
        assert_int_equal(r_end, -EFBIG);
        assert_int_equal(r_delivered, -EFBIG);
        assert_string_equal(now, before);
        assert_int_equal(count_files(*dir), 1);
        /* In this life it is known. */
        assert_true(a->delivered);
        assert_string_equal(a->reply_id, R1);
        assert_int_equal(ssm_memory_load_reply(m, a, &reply), 0);
        assert_string_equal(reply, REPLY);
        /* In the next one it went on. */
        again = open_memory(*dir);
        assert_null(ssm_memory_find(again, A)->reply_id);
        /* There is room again. */
        assert_int_equal(ssm_memory_add(m, &b, &added), 0);
        a = ssm_memory_find(m, A);
        assert_int_equal(ssm_memory_delivered(m, a), 0);
        assert_null(a->reply);
        after = open_memory(*dir);
        assert_int_equal(count(after), 2);
        expect_reply(after, R1, true);
}

/* Killed between writing aside and renaming: what was there is there. */
static void what_a_crash_left_is_removed(void **dir)
{
        _cleanup_(ssm_memory_freep) SsmMemory *m = open_memory(*dir), *again = NULL;

        (void) add_record(m, A);
        put(*dir, "." A ".json.0123456789abcdef", "{\"schema\":");
        put(*dir, "." B ".json.0123456789abcdef", "");
        put(*dir, ".other", "");
        put(*dir, ".x.json.0123456789abcdef", "");
        put(*dir, "README", "");
        again = open_memory(*dir);
        assert_int_equal(count(again), 1);
        assert_int_equal(count_files(*dir), 4);
        assert_non_null(ssm_memory_find(again, A));
}

#define GOOD(more)                                                                   \
        "{\"schema\":\"slipway/command/1\",\"command\":\"" A "\",\"message\":\"m\"," \
        "\"document\":\"d\",\"received\":1,\"steps\":[]" more "}"
#define STEP(name) "{\"name\":\"" name "\",\"plugin\":\"p\"}"

static void damaged_files_are_set_aside(void **dir)
{
        static const char *const damaged[] = {
                "",
                "{",
                "null",
                "{}",
                GOOD("") "x",
                GOOD(",\"odd\":1"),
                GOOD(",\"received\":1"),
                GOOD(",\"order\":null"),
                GOOD(",\"order\":\"\""),
                GOOD(",\"order\":\"" A " poll\""),
                GOOD(",\"order\":\"" A " reboot - - - -\""),
                GOOD(",\"order\":\"" B " poll - - - -\""),
                GOOD(",\"reply\":null"),
                GOOD(",\"reply\":{}"),
                GOOD(",\"reply\":{\"id\":\"x\",\"payload\":\"{}\",\"delivered\":false}"),
                GOOD(",\"reply\":{\"id\":\"" R1 "\",\"payload\":\"\",\"delivered\":false}"),
                GOOD(",\"reply\":{\"id\":\"" R1 "\",\"payload\":{},\"delivered\":false}"),
                GOOD(",\"reply\":{\"id\":\"" R1 "\",\"payload\":\"{}\",\"delivered\":0}"),
                GOOD(",\"reply\":{\"id\":\"" R1 "\",\"payload\":\"{}\"}"),
                GOOD(",\"reply\":{\"id\":\"" R1
                     "\",\"payload\":\"{}\",\"delivered\":true,\"odd\":1}"),
                "{\"schema\":\"slipway/commands/2\",\"command\":\"" A "\",\"message\":\"m\","
                "\"document\":\"d\",\"received\":1,\"steps\":[]}",
                "{\"schema\":\"slipway/command/1\",\"command\":\"" B "\",\"message\":\"m\","
                "\"document\":\"d\",\"received\":1,\"steps\":[]}",
                "{\"schema\":\"slipway/command/1\",\"command\":\"x\",\"message\":\"m\","
                "\"document\":\"d\",\"received\":1,\"steps\":[]}",
                "{\"schema\":\"slipway/command/1\",\"command\":\"" A "\",\"message\":\"m\","
                "\"document\":\"d\",\"received\":-1,\"steps\":[]}",
                "{\"schema\":\"slipway/command/1\",\"command\":\"" A "\",\"message\":\"m\","
                "\"document\":\"d\",\"received\":1,\"steps\":[" STEP("a") "," STEP("a") "]}",
                "{\"schema\":\"slipway/command/1\",\"command\":\"" A "\",\"message\":\"m\","
                "\"document\":\"d\",\"received\":1,\"steps\":[{\"name\":\"a\"}]}",
                "{\"schema\":\"slipway/command/1\",\"command\":\"" A "\",\"message\":\"m\","
                "\"document\":\"d\",\"received\":1}",
        };

        for (size_t i = 0; i < ELEMENTSOF(damaged); i++) {
                _cleanup_(ssm_memory_freep) SsmMemory *m = NULL;
                _cleanup_free_ char *aside = NULL;

                put(*dir, A ".json", damaged[i]);
                put(*dir, B ".json",
                    "{\"schema\":\"slipway/command/1\",\"command\":\"" B "\",\"message\":\"m\","
                    "\"document\":\"d\",\"received\":1,\"steps\":[]}");
                m = open_memory(*dir);
                if (ssm_memory_find(m, A))
                        fail_msg("taken: %s", damaged[i]);
                assert_non_null(ssm_memory_find(m, B));
                aside = get(*dir, A ".json.damaged");
                assert_string_equal(aside, damaged[i]);
                assert_int_equal(count_files(*dir), 2);
        }
}

static void newer_ones_are_no_damage(void **dir)
{
        static const char newer[] = "{\"later\":{},\"schema\":\"slipway/command/2\",\"command\":7}";
        _cleanup_(ssm_memory_freep) SsmMemory *m = NULL;
        _cleanup_free_ char *left = NULL;

        put(*dir, A ".json", newer);
        m = open_memory(*dir);
        assert_null(ssm_memory_find(m, A));
        left = get(*dir, A ".json");
        assert_string_equal(left, newer);
        assert_int_equal(count_files(*dir), 1);
}

static void other_things_in_its_place_are_set_aside(void **dir)
{
        _cleanup_free_ char *path = print("%s/" A ".json", (char *) *dir),
                            *fifo = print("%s/" B ".json", (char *) *dir),
                            *large = malloc(SSM_MEMORY_FILE_SIZE_MAX + 2);
        _cleanup_(ssm_memory_freep) SsmMemory *m = NULL;

        assert_int_equal(mkdir(path, 0700), 0);
        assert_int_equal(mkfifo(fifo, 0600), 0);
        memset(large, ' ', SSM_MEMORY_FILE_SIZE_MAX + 1);
        large[SSM_MEMORY_FILE_SIZE_MAX + 1] = '\0';
        put(*dir, R1 ".json", large);
        m = open_memory(*dir);
        assert_int_equal(count(m), 0);
        assert_int_equal(count_files(*dir), 3);
        assert_int_not_equal(access(path, F_OK), 0);
        assert_int_not_equal(access(fifo, F_OK), 0);
}

static void a_reply_that_was_damaged_meanwhile(void **dir)
{
        _cleanup_(ssm_memory_freep) SsmMemory *m = open_memory(*dir);
        SsmRecord *r = add_record(m, A);
        char *reply = NULL;

        assert_int_equal(ssm_memory_end(m, r, R1, REPLY), 0);
        put(*dir, A ".json", GOOD(""));
        assert_int_equal(ssm_memory_load_reply(m, r, &reply), -EBADMSG);
        put(*dir, A ".json", "{");
        assert_int_equal(ssm_memory_load_reply(m, r, &reply), -EBADMSG);
        assert_int_equal(ssm_memory_delivered(m, r), -EBADMSG);
        assert_true(r->delivered);
}

/* What goes on is kept however old it is. */
static void old_answers_are_forgotten(void **dir)
{
        _cleanup_(ssm_memory_freep) SsmMemory *m = open_memory(*dir), *again = NULL;
        uint64_t received;
        SsmRecord *r;

        (void) add_record(m, A);
        (void) add_record(m, B);
        r = ssm_memory_find(m, A);
        received = r->received_msec;
        assert_int_equal(ssm_memory_end(m, r, R1, REPLY), 0);
        ssm_memory_forget_old(m, 0);
        ssm_memory_forget_old(m, received + WEEK_MSEC);
        assert_int_equal(count(m), 2);
        ssm_memory_forget_old(m, received + WEEK_MSEC + 1);
        assert_int_equal(count(m), 1);
        assert_null(ssm_memory_find(m, A));
        assert_non_null(ssm_memory_find(m, B));
        assert_int_equal(count_files(*dir), 1);

        put(*dir, A ".json",
            GOOD(",\"reply\":{\"id\":\"" R1 "\",\"payload\":\"{}\",\"delivered\":false}"));
        again = open_memory(*dir);
        assert_null(ssm_memory_find(again, A));
        assert_int_equal(count_files(*dir), 1);
}

static char *nth(size_t i)
{
        return print("%08zx-cfc8-47f1-9f7f-153dcebcfd87", i);
}

/* As many as there may be, that go on; without waiting for the disk. */
static void fill(const char *dir)
{
        for (size_t i = 0; i < SSM_MEMORY_MAX; i++) {
                _cleanup_free_ char *command = nth(i), *path = print("%s/%s.json", dir, command);
                FILE *f = fopen(path, "we");

                assert_non_null(f);
                assert_true(fprintf(f,
                                    "{\"schema\":\"slipway/command/1\",\"command\":\"%s\","
                                    "\"message\":\"m\",\"document\":\"d\",\"received\":%zu,"
                                    "\"steps\":[]}",
                                    command, i) > 0);
                assert_int_equal(fclose(f), 0);
        }
}

static void it_holds_so_many(void **dir)
{
        static const size_t answered[] = { 9, 3, 5, 7 };
        _cleanup_(ssm_memory_freep) SsmMemory *m = NULL, *again = NULL;
        _cleanup_(ssm_record_done) SsmRecord one_more = record(A);
        SsmRecord *added = NULL;

        fill(*dir);
        m = open_memory(*dir);
        assert_int_equal(count(m), SSM_MEMORY_MAX);
        assert_int_equal(ssm_memory_add(m, &one_more, &added), -EBUSY);
        assert_string_equal(one_more.command, A);
        assert_int_equal(count_files(*dir), SSM_MEMORY_MAX);
        for (size_t i = 0; i < ELEMENTSOF(answered); i++) {
                _cleanup_free_ char *command = nth(answered[i]);
                SsmRecord *r = ssm_memory_find(m, command);

                assert_int_equal(ssm_memory_end(m, r, R1, REPLY), 0);
                if (answered[i] >= 7)
                        assert_int_equal(ssm_memory_delivered(m, r), 0);
        }
        static const size_t goes[] = { 7, 9, 3, 5 };
        for (size_t i = 0; i < ELEMENTSOF(goes); i++) {
                _cleanup_free_ char *new = nth(1000 + i), *gone = nth(goes[i]);

                assert_non_null(ssm_memory_find(m, gone));
                (void) add_record(m, new);
                assert_null(ssm_memory_find(m, gone));
                assert_int_equal(count(m), SSM_MEMORY_MAX);
                assert_int_equal(count_files(*dir), SSM_MEMORY_MAX);
        }
        assert_int_equal(ssm_memory_add(m, &one_more, &added), -EBUSY);
        again = open_memory(*dir);
        assert_int_equal(count(again), SSM_MEMORY_MAX);
}

static void the_directory_must_exist(void **dir)
{
        _cleanup_free_ char *missing = print("%s/missing", (char *) *dir),
                            *file = print("%s/file", (char *) *dir), *err = NULL;
        SsmMemory *m = NULL;

        put(*dir, "file", "");
        assert_int_equal(ssm_memory_open(missing, &m, &err), -ENOENT);
        assert_non_null(strstr(err, missing));
        assert_int_equal(ssm_memory_open(file, &m, NULL), -ENOTDIR);
        assert_null(m);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                test_in_dir(what_goes_on_survives),
                test_in_dir(an_answer_survives),
                test_in_dir(a_refusal_has_no_order),
                test_in_dir(the_longest_reply_survives),
                test_in_dir(the_same_command_is_known),
                test_in_dir(a_bad_record_is_refused),
                test_in_dir(a_bad_reply_is_refused),
                test_in_dir(a_full_disk_leaves_nothing_half_made),
                test_in_dir(what_a_crash_left_is_removed),
                test_in_dir(damaged_files_are_set_aside),
                test_in_dir(newer_ones_are_no_damage),
                test_in_dir(other_things_in_its_place_are_set_aside),
                test_in_dir(a_reply_that_was_damaged_meanwhile),
                test_in_dir(old_answers_are_forgotten),
                test_in_dir(it_holds_so_many),
                test_in_dir(the_directory_must_exist),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
