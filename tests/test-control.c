/* SPDX-License-Identifier: Apache-2.0 */
#include "test.h"

#include <sys/file.h>
#include <sys/stat.h>

#include "control.h"

typedef struct Bench {
        int root, control;
} Bench;

static Bench bench_open(const char *root)
{
        Bench b = { .root = dir_open_at(AT_FDCWD, root) };

        assert_return_code(b.root, 0);
        assert_return_code(mkdirat(b.root, "control", 0700), 0);
        b.control = dir_open_at(b.root, "control");
        assert_return_code(b.control, 0);
        return b;
}

static void bench_close(Bench *b)
{
        fd_close(b->root);
        fd_close(b->control);
}

static void say(Bench *b, const char *text)
{
        assert_return_code(file_write_atomic_at(b->control, "confirm", text, strlen(text), 0600),
                           0);
}

/* `call` sets err. */
#define expect_wrong(call, expected, err, part)                               \
        do {                                                                  \
                assert_int_equal(call, expected);                             \
                if (!(err) || !strstr(err, part))                             \
                        fail_msg("'%s' is not in '%s'", part, strempty(err)); \
        } while (false)

static void nothing_is_said_without_a_directory(void **state)
{
        _cleanup_close_ int root = dir_open_at(AT_FDCWD, *state);

        assert_int_equal(control_is_confirmed(root, "r1", NULL), 0);
        assert_int_equal(control_is_locked(root, NULL), 0);
        assert_int_equal(control_forget_confirmation(root, NULL), 0);
}

static void a_confirmation_names_its_release(void **state)
{
        static const struct {
                const char *text;
                int result;
        } table[] = {
                {"r2",                                                                         1},
                { "r2\n",                                                                      1},
                { "",                                                                          0},
                { "\n",                                                                        0},
                { "r",                                                                         0},
                { "r2 ",                                                                       0},
                { "r2\n\n",                                                                    0},
                { "r1\n",                                                                      0},
                { "r2xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx", 0},
        };
        Bench b = bench_open(*state);

        assert_int_equal(control_is_confirmed(b.root, "r2", NULL), 0);
        for (size_t i = 0; i < ELEMENTSOF(table); i++) {
                say(&b, table[i].text);
                if (control_is_confirmed(b.root, "r2", NULL) != table[i].result)
                        fail_msg("'%s'", table[i].text);
        }
        say(&b, "r2");
        assert_int_equal(control_forget_confirmation(b.root, NULL), 0);
        assert_int_equal(control_is_confirmed(b.root, "r2", NULL), 0);
        assert_int_equal(control_forget_confirmation(b.root, NULL), 0);
        bench_close(&b);
}

static void others_may_not_come_in(void **state)
{
        static const mode_t modes[] = { 0755, 0701, 0707, 0770, 01777 };
        Bench b = bench_open(*state);

        say(&b, "r2");
        for (size_t i = 0; i < ELEMENTSOF(modes); i++) {
                _cleanup_free_ char *err = NULL, *lock_err = NULL;
                assert_return_code(fchmod(b.control, modes[i]), 0);
                expect_wrong(control_is_confirmed(b.root, "r2", &err), -EPERM, err, "others");
                expect_wrong(control_is_locked(b.root, &lock_err), -EPERM, lock_err, "others");
                assert_int_equal(control_forget_confirmation(b.root, NULL), 0);
        }
        assert_return_code(fchmod(b.control, 0750), 0);
        assert_int_equal(control_is_confirmed(b.root, "r2", NULL), 1);
        bench_close(&b);
}

static void only_files_count_and_nobody_is_waited_for(void **state)
{
        _cleanup_free_ char *err = NULL;
        Bench b = bench_open(*state);

        assert_return_code(mkfifoat(b.control, "confirm", 0600), 0);
        expect_wrong(control_is_confirmed(b.root, "r2", &err), -EINVAL, err, "not a regular file");
        assert_int_equal(control_forget_confirmation(b.root, NULL), 0);
        assert_return_code(symlinkat("elsewhere", b.control, "confirm"), 0);
        expect_wrong(control_is_confirmed(b.root, "r2", &err), -ELOOP, err, "control/confirm");
        assert_int_equal(control_forget_confirmation(b.root, NULL), 0);
        /* One that can't go would confirm the wrong release. */
        assert_return_code(mkdirat(b.control, "confirm", 0700), 0);
        expect_wrong(control_forget_confirmation(b.root, &err), -EISDIR, err, "control/confirm");
        assert_return_code(mkfifoat(b.control, "update.lock", 0600), 0);
        expect_wrong(control_is_locked(b.root, &err), -EINVAL, err, "not a regular file");
        bench_close(&b);
}

static int lock_flock(int fd, bool shared)
{
        return flock(fd, (shared ? LOCK_SH : LOCK_EX) | LOCK_NB);
}

static int lock_fcntl(int fd, bool shared)
{
        struct flock l = { .l_type = shared ? F_RDLCK : F_WRLCK, .l_start = 10, .l_len = 1 };

        return fcntl(fd, F_OFD_SETLK, &l);
}

static void every_lock_holds(void **state)
{
        int (*const locks[])(int fd, bool shared) = { lock_flock, lock_fcntl };
        Bench b = bench_open(*state);

        assert_int_equal(control_is_locked(b.root, NULL), 0);
        for (size_t i = 0; i < 2 * ELEMENTSOF(locks); i++) {
                int fd = openat(b.control, "update.lock", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
                assert_return_code(fd, 0);
                assert_int_equal(control_is_locked(b.root, NULL), 0);
                assert_return_code(locks[i / 2](fd, i % 2), 0);
                assert_int_equal(control_is_locked(b.root, NULL), 1);
                fd_close(fd);
                assert_int_equal(control_is_locked(b.root, NULL), 0);
        }
        bench_close(&b);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                test_in_dir(nothing_is_said_without_a_directory),
                test_in_dir(a_confirmation_names_its_release),
                test_in_dir(others_may_not_come_in),
                test_in_dir(only_files_count_and_nobody_is_waited_for),
                test_in_dir(every_lock_holds),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
