/* SPDX-License-Identifier: Apache-2.0 */
#include "test.h"

#include <signal.h>
#include <sys/wait.h>

#include "lock.h"

static void one_holder(void **state)
{
        _cleanup_close_ int dir_fd = dir_open_at(AT_FDCWD, *state);
        int fd = -EBADF, other = -EBADF;
        pid_t holder = 0;

        assert_return_code(lock_take(dir_fd, "web", &fd, NULL), 0);
        assert_int_equal(lock_take(dir_fd, "web", &other, &holder), -EAGAIN);
        assert_int_equal(holder, getpid());
        assert_int_equal(other, -EBADF);
        assert_return_code(lock_take(dir_fd, "api", &other, NULL), 0);
        assert_int_equal(lock_release(other), -EBADF);
        assert_int_equal(lock_release(fd), -EBADF);
        assert_return_code(lock_take(dir_fd, "web", &fd, NULL), 0);
        fd = lock_release(fd);
        assert_int_equal(lock_release(fd), -EBADF);
}

static void a_forked_copy_does_not_keep_it(void **state)
{
        _cleanup_close_ int dir_fd = dir_open_at(AT_FDCWD, *state);
        int fd = -EBADF;
        pid_t pid;

        assert_return_code(lock_take(dir_fd, "web", &fd, NULL), 0);
        pid = fork();
        assert_true(pid >= 0);
        if (pid == 0)
                for (;;)
                        (void) pause();
        fd = lock_release(fd);
        int r = lock_take(dir_fd, "web", &fd, NULL);
        assert_return_code(kill(pid, SIGKILL), 0);
        assert_int_equal(waitpid(pid, NULL, 0), pid);
        assert_return_code(r, 0);
        lock_release(fd);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                test_in_dir(one_holder),
                test_in_dir(a_forked_copy_does_not_keep_it),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
