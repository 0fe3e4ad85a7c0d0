/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <netinet/in.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>

#include "priority.h"
#include "sandbox.h"
#include "test.h"

/* Sandboxes are for good, so each test runs in a child. It says where it failed by its exit status:
 * a line number, as far as that fits. */
#define CHECK(x)                                   \
        do {                                       \
                if (!(x))                          \
                        _exit(1 + __LINE__ % 200); \
        } while (0)

static void run_child(void (*test)(const char *dir), const char *dir)
{
        int status;
        pid_t pid = fork();

        assert_true(pid >= 0);
        if (pid == 0) {
                test(dir);
                _exit(0);
        }
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_true(WIFEXITED(status));
        assert_int_equal(WEXITSTATUS(status), 0);
}

static void check_basics(const char *dir)
{
        _cleanup_free_ char *score = NULL;
        struct rlimit limit;

        (void) dir;
        CHECK(sandbox_basics(20, NULL) == 0);
        CHECK(prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1);
        CHECK(prctl(PR_GET_DUMPABLE, 0, 0, 0, 0) == 0);
        CHECK(getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_max == 20);
        CHECK(getrlimit(RLIMIT_CORE, &limit) == 0 && limit.rlim_max == 0);
        CHECK(file_read_at(AT_FDCWD, "/proc/self/oom_score_adj", 16, &score, NULL) >= 0);
        CHECK(streq(score, SANDBOX_OOM_SCORE "\n"));
}

static void basics(void **state)
{
        run_child(check_basics, *state);
}

#define IO_CLASS_SHIFT 13
#define IO_BEST_EFFORT 2
#define IO_IDLE        3

static long io_priority(void)
{
        return syscall(SYS_ioprio_get, 1, 0);
}

static void *check_priority_of_thread(void *userdata)
{
        (void) userdata;
        CHECK(getpriority(PRIO_PROCESS, syscall(SYS_gettid)) == PRIORITY_UNPACK_NICE);
        CHECK(sched_getscheduler(0) == SCHED_BATCH);
        CHECK(io_priority() == (IO_BEST_EFFORT << IO_CLASS_SHIFT | 7));
        return NULL;
}

static void check_priority(const char *dir)
{
        pthread_t thread;

        (void) dir;
        priority_lower(PRIORITY_UNPACK_NICE, true);
        (void) check_priority_of_thread(NULL);
        CHECK(pthread_create(&thread, NULL, check_priority_of_thread, NULL) == 0);
        CHECK(pthread_join(thread, NULL) == 0);
}

static void check_priority_of_unit(const char *dir)
{
        const struct sched_param none = {};

        (void) dir;
        CHECK(setpriority(PRIO_PROCESS, 0, 19) == 0);
        CHECK(sched_setscheduler(0, SCHED_IDLE, &none) == 0);
        CHECK(syscall(SYS_ioprio_set, 1, 0, IO_IDLE << IO_CLASS_SHIFT) == 0);
        priority_lower(PRIORITY_UNPACK_NICE, true);
        CHECK(getpriority(PRIO_PROCESS, 0) == 19);
        CHECK(sched_getscheduler(0) == SCHED_IDLE);
        CHECK(io_priority() >> IO_CLASS_SHIFT == IO_IDLE);
}

static void priority(void **state)
{
        run_child(check_priority, *state);
        run_child(check_priority_of_unit, *state);
}

static void *set_flag(void *userdata)
{
        *(int *) userdata = 1;
        return NULL;
}

static long landlock_version(void)
{
        return syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION);
}

static void check_files(const char *dir)
{
        int parent_fd = dir_open_at(AT_FDCWD, dir);

        CHECK(mkdirat(parent_fd, "in", 0700) == 0 && mkdirat(parent_fd, "out", 0700) == 0);
        CHECK(mkdirat(parent_fd, "out/empty", 0700) == 0);
        int in_fd = dir_open_at(parent_fd, "in");
        int file_fd = openat(parent_fd, "out/file", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
        CHECK(in_fd >= 0 && file_fd >= 0);
        CHECK(sandbox_basics(20, NULL) == 0);
        const SandboxRule rule = { in_fd,
                                   LANDLOCK_ACCESS_FS_MAKE_REG | LANDLOCK_ACCESS_FS_WRITE_FILE };
        CHECK(sandbox_files(&rule, 1, NULL) == 0);
        CHECK(openat(in_fd, "new", O_WRONLY | O_CREAT | O_CLOEXEC, 0600) >= 0);
        CHECK(pwrite(file_fd, "x", 1, 0) == 1);
        CHECK(openat(in_fd, "new", O_RDONLY | O_CLOEXEC) < 0 && errno == EACCES);
        CHECK(mkdirat(in_fd, "dir", 0700) < 0 && errno == EACCES);
        CHECK(openat(parent_fd, "out/file", O_RDWR | O_CLOEXEC) < 0 && errno == EACCES);
        CHECK(openat(parent_fd, "out/new", O_WRONLY | O_CREAT | O_CLOEXEC, 0600) < 0 &&
              errno == EACCES);
        CHECK(unlinkat(parent_fd, "out/file", 0) < 0 && errno == EACCES);
        CHECK(unlinkat(parent_fd, "out/empty", AT_REMOVEDIR) < 0 && errno == EACCES);
        CHECK(truncate("/etc/passwd", 0) < 0);
}

/* Of the parent, which is of the same user. */
static struct sockaddr_un abstract;
static socklen_t abstract_size = sizeof(abstract);

static int connect_abstract(void)
{
        _cleanup_close_ int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

        return fd < 0 ? -1 : connect(fd, (const struct sockaddr *) &abstract, abstract_size);
}

static void check_scope(const char *dir)
{
        const pid_t parent = getppid();
        pthread_t thread;
        int flag = 0;

        (void) dir;
        CHECK(kill(parent, 0) == 0);
        CHECK(connect_abstract() == 0);
        CHECK(sandbox_basics(20, NULL) == 0);
        CHECK(sandbox_files(NULL, 0, NULL) == 0);
        CHECK(kill(parent, 0) < 0 && errno == EPERM);
        CHECK(syscall(SYS_tgkill, parent, parent, 0) < 0 && errno == EPERM);
        CHECK(connect_abstract() < 0 && errno == EPERM);
        CHECK(pthread_create(&thread, NULL, set_flag, &flag) == 0);
        CHECK(pthread_join(thread, NULL) == 0 && flag == 1);
        CHECK(raise(SIGCONT) == 0);
}

static void scope(void **state)
{
        static const struct sockaddr_un any = { .sun_family = AF_UNIX };
        _cleanup_close_ int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

        if (landlock_version() < 6)
                skip();
        assert_return_code(fd, errno);
        assert_return_code(bind(fd, (const struct sockaddr *) &any, sizeof(sa_family_t)), errno);
        assert_return_code(getsockname(fd, (struct sockaddr *) &abstract, &abstract_size), errno);
        assert_return_code(listen(fd, 4), errno);
        run_child(check_scope, *state);
}

static void files(void **state)
{
        if (landlock_version() <= 0)
                skip();
        run_child(check_files, *state);
}

/* The sanitizers' own needs are in this list, too. */
#define HARMLESS                                                                                 \
        -1, SYS_read, SYS_close, SYS_mmap, SYS_munmap, SYS_mprotect, SYS_madvise, SYS_futex,     \
                SYS_rseq, SYS_exit, SYS_set_robust_list, SYS_exit_group, SYS_getpid, SYS_gettid, \
                SYS_rt_sigprocmask, SYS_sigaltstack, SYS_prctl, SYS_write, SYS_sched_yield,      \
                SYS_sched_getaffinity

static void check_system_calls(const char *dir)
{
        static const int allowed[] = { HARMLESS };
        pthread_t thread;
        int flag = 0;

        (void) dir;
        CHECK(sandbox_basics(20, NULL) == 0);
        CHECK(sandbox_system_calls(allowed, ELEMENTSOF(allowed), NULL) == 0);
        CHECK(socket(AF_INET, SOCK_STREAM, 0) < 0 && errno == ENOSYS);
        CHECK(socket(AF_UNIX, SOCK_STREAM, 0) < 0 && errno == ENOSYS);
        CHECK(open("/etc/passwd", O_RDONLY) < 0 && errno == ENOSYS);
        CHECK(execl("/bin/true", "true", (char *) NULL) < 0 && errno == ENOSYS);
        CHECK(chmod("/etc/passwd", 0644) < 0 && errno == ENOSYS);
        CHECK(syscall(SYS_clone, 17 /* SIGCHLD */, 0, 0, 0, 0) < 0 && errno == EPERM);
        CHECK(pthread_create(&thread, NULL, set_flag, &flag) == 0);
        CHECK(pthread_join(thread, NULL) == 0 && flag == 1);
}

static void system_calls(void **state)
{
        run_child(check_system_calls, *state);
}

static void check_files_that_are_there(const char *dir)
{
        static const int allowed[] = { HARMLESS, SYS_openat, SYS_fchmod };
        static const int writing[] = { O_WRONLY,
                                       O_RDWR,
                                       O_ACCMODE,
                                       O_RDONLY | O_TRUNC,
                                       O_WRONLY | O_CREAT,
                                       O_WRONLY | O_EXCL,
                                       O_WRONLY | O_APPEND,
                                       O_RDWR | O_TMPFILE,
                                       O_WRONLY | O_CREAT | O_TRUNC };
        const int dir_fd = dir_open_at(AT_FDCWD, dir);
        int fd = openat(dir_fd, "there", O_WRONLY | O_CREAT | O_CLOEXEC, 0644);

        CHECK(fd >= 0 && sandbox_basics(20, NULL) == 0);
        CHECK(sandbox_system_calls(allowed, ELEMENTSOF(allowed), NULL) == 0);
        for (size_t i = 0; i < ELEMENTSOF(writing); i++)
                CHECK(openat(dir_fd, "there", writing[i] | O_CLOEXEC, 0600) < 0 && errno == EPERM);
        CHECK(openat(dir_fd, "there", O_RDONLY | O_CLOEXEC) >= 0);
        CHECK(openat(dir_fd, "there", O_RDONLY | O_DIRECTORY) < 0 && errno == ENOTDIR);
        CHECK(openat(dir_fd, "there", O_WRONLY | O_CREAT | O_EXCL, 0600) < 0 && errno == EEXIST);
        fd = openat(dir_fd, "new", O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
        CHECK(fd >= 0 && write(fd, "x", 1) == 1);
        CHECK(fchmod(fd, 0644) == 0 && fchmod(fd, 0755) == 0);
        CHECK(fchmod(fd, 04755) < 0 && errno == EPERM);
        CHECK(fchmod(fd, 0) < 0 && errno == EPERM);
}

static void files_that_are_there(void **state)
{
        run_child(check_files_that_are_there, *state);
}

static void check_system_calls_except(const char *dir)
{
        static const int denied[] = { -1, SYS_listen };
        const struct rlimit limit = { 10, 10 };
        const pid_t parent = getppid();
        const struct linger linger = { .l_onoff = 1, .l_linger = 60 };
        const int on = 1;
        pthread_t thread;
        int flag = 0, fd;

        (void) dir;
        CHECK(sandbox_basics(20, NULL) == 0);
        CHECK(sandbox_system_calls_except(denied, ELEMENTSOF(denied), NULL) == 0);
        CHECK(execl("/bin/true", "true", (char *) NULL) < 0 && errno == EPERM);
        CHECK(syscall(SYS_clone, 17 /* SIGCHLD */, 0, 0, 0, 0) < 0 && errno == EPERM);
        CHECK(syscall(SYS_clone3, NULL, 0) < 0 && errno == ENOSYS);
        CHECK(pthread_create(&thread, NULL, set_flag, &flag) == 0);
        CHECK(pthread_join(thread, NULL) == 0 && flag == 1);
        CHECK((fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) >= 0);
        CHECK(listen(fd, 1) < 0 && errno == EPERM);
        CHECK(prlimit(parent, RLIMIT_CORE, NULL, (struct rlimit *) &limit) < 0 && errno == EPERM);
        CHECK(setrlimit(RLIMIT_NOFILE, &limit) == 0);
        CHECK(kill(parent, 0) < 0 && errno == EPERM);
        CHECK(mknod("/dev/shm/slipway-test", S_IFIFO | 0600, 0) < 0 && errno == EPERM);
        CHECK(setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger)) < 0);
        CHECK(errno == EPERM);
        CHECK(setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on)) == 0);
        CHECK(setsockopt(fd, IPPROTO_TCP, SO_LINGER, &on, sizeof(on)) == 0 || errno != EPERM);
#if defined(__x86_64__)
        CHECK(syscall(0x40000000 | SYS_getpid) < 0 && errno == EPERM);
#endif
}

static void system_calls_except(void **state)
{
        run_child(check_system_calls_except, *state);
}

#if defined(__x86_64__)
static void check_other_architecture(void (*filter)(void))
{
        int status;
        pid_t pid = fork();

        assert_true(pid >= 0);
        if (pid == 0) {
                long r = 20; /* getpid() of i386 */
                CHECK(sandbox_basics(20, NULL) == 0);
                filter();
                __asm__ volatile("int $0x80" : "+a"(r) : : "memory");
                _exit(0);
        }
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_true(WIFSIGNALED(status));
        assert_int_equal(WTERMSIG(status), SIGSYS);
}

static void allow_exit(void)
{
        static const int allowed[] = { SYS_exit_group };

        CHECK(sandbox_system_calls(allowed, ELEMENTSOF(allowed), NULL) == 0);
}

static void deny_little(void)
{
        CHECK(sandbox_system_calls_except(NULL, 0, NULL) == 0);
}

static void other_architectures(void **state)
{
        (void) state;
        check_other_architecture(allow_exit);
        check_other_architecture(deny_little);
}
#endif

int main(void)
{
        const struct CMUnitTest tests[] = {
                test_in_dir(basics),
                test_in_dir(priority),
                test_in_dir(files),
                test_in_dir(scope),
                test_in_dir(system_calls),
                test_in_dir(files_that_are_there),
                test_in_dir(system_calls_except),
#if defined(__x86_64__)
                test_in_dir(other_architectures),
#endif
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
