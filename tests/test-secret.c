/* SPDX-License-Identifier: Apache-2.0 */
#include "test.h"

#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include "secret.h"

/* For good, so in another process. */
static void a_process_leaves_no_core(void **state)
{
        int status = 0;
        pid_t pid = fork();

        (void) state;
        assert_true(pid >= 0);
        if (pid == 0) {
                struct rlimit core = { 1, 1 };
                bool good = prctl(PR_GET_DUMPABLE, 0, 0, 0, 0) == 1 && secret_process(NULL) == 0 &&
                            prctl(PR_GET_DUMPABLE, 0, 0, 0, 0) == 0 &&
                            getrlimit(RLIMIT_CORE, &core) == 0 && core.rlim_cur == 0 &&
                            core.rlim_max == 0;
                _exit(good ? 0 : 1);
        }
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_int_equal(status, 0);
}

static void nothing_is_fine(void **state)
{
        (void) state;
        secret_free(NULL);
        secret_free(strdup(""));
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(a_process_leaves_no_core),
                cmocka_unit_test(nothing_is_fine),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
