/* SPDX-License-Identifier: Apache-2.0 */
#include "sandbox.h"

#include <fcntl.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>

#include "err.h"
#include "fd.h"
#include "log.h"
#include "secret.h"

/* A parent that is spared when memory runs out hands that down. Where it can't be taken back, this
 * process is spared as well. */
static void go_first(void)
{
        static const char score[] = SANDBOX_OOM_SCORE;
        _cleanup_close_ int fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
        int r = fd < 0 ? -errno : fd_write_all(fd, score, strlen(score));

        if (r < 0)
                log_debug("can't write /proc/self/oom_score_adj: %s", strerror(-r));
}

int sandbox_basics(size_t n_fds_max, char **reterr)
{
        const struct rlimit fds = { n_fds_max, n_fds_max };

        /* Before it is not dumpable: then its files in /proc are root's. */
        go_first();
        if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
                return fail_errno(reterr, -errno, "cannot give up privileges");
        if (setrlimit(RLIMIT_NOFILE, &fds) < 0)
                return fail_errno(reterr, -errno, "cannot set resource limits");
        return secret_process(reterr);
}

static bool not_here(int error)
{
        return error == ENOSYS || error == EOPNOTSUPP || error == EPERM;
}

/* The rights that a version of Landlock knows (landlock(7), "VERSIONS"): all of them are handled,
 * that is: denied where no rule allows them. */
static uint64_t handled_rights(long abi)
{
        uint64_t all = LANDLOCK_ACCESS_FS_MAKE_SYM * 2 - 1; /* the first 13, of version 1 */

        if (abi >= 2)
                all |= LANDLOCK_ACCESS_FS_REFER;
        if (abi >= 3)
                all |= LANDLOCK_ACCESS_FS_TRUNCATE;
        if (abi >= 5)
                all |= LANDLOCK_ACCESS_FS_IOCTL_DEV;
        return all;
}

int sandbox_files(const SandboxRule *rules, size_t n_rules, char **reterr)
{
        struct landlock_ruleset_attr attr = {};
        long abi = syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION);

        if (abi < 0)
                return not_here(errno) ? 0 : fail_errno(reterr, -errno, "cannot use Landlock");
        attr.handled_access_fs = handled_rights(abi);
        /* Version 1's struct is this one field, which every later kernel takes. */
        _cleanup_close_ int fd =
                syscall(SYS_landlock_create_ruleset, &attr, sizeof(attr.handled_access_fs), 0);
        if (fd < 0)
                return not_here(errno) ? 0 : fail_errno(reterr, -errno, "cannot use Landlock");
        for (size_t n = 0; n < n_rules; n++) {
                struct landlock_path_beneath_attr rule = {
                        .allowed_access = rules[n].allowed & attr.handled_access_fs,
                        .parent_fd = rules[n].dir_fd,
                };
                if (syscall(SYS_landlock_add_rule, fd, LANDLOCK_RULE_PATH_BENEATH, &rule, 0) < 0)
                        return fail_errno(reterr, -errno, "cannot add a Landlock rule");
        }
        if (syscall(SYS_landlock_restrict_self, fd, 0) < 0 && !not_here(errno))
                return fail_errno(reterr, -errno, "cannot enter the Landlock sandbox");
        return 0;
}

#if defined(__x86_64__)
#define NATIVE_ARCHITECTURE AUDIT_ARCH_X86_64
#elif defined(__aarch64__)
#define NATIVE_ARCHITECTURE AUDIT_ARCH_AARCH64
#else
#error "add this architecture's AUDIT_ARCH_* here"
#endif

#define LOAD(field)    BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, field))
#define RETURN(action) BPF_STMT(BPF_RET | BPF_K, (action))
#define SKIP_UNLESS_EQUAL(value, n_skipped) \
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (value), 0, (n_skipped))

/* The architecture must be ours, then: clone() with CLONE_THREAD passes (the flags are in the low
 * half of the first argument on both architectures, little-endian; those of clone3() lie in memory,
 * where a filter can't look, so it is not in any list and libc falls back). */
static const struct sock_filter filter_head[] = {
        LOAD(arch),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, NATIVE_ARCHITECTURE, 1, 0),
        RETURN(SECCOMP_RET_KILL_PROCESS),
        LOAD(nr),
        SKIP_UNLESS_EQUAL(SYS_clone, 4),
        LOAD(args[0]),
        BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, CLONE_THREAD, 0, 1),
        RETURN(SECCOMP_RET_ALLOW),
        RETURN(SECCOMP_RET_ERRNO | EPERM),
};

static int filter_set(const struct sock_filter *filter, size_t n, char **reterr)
{
        const struct sock_fprog program = { .len = n, .filter = (struct sock_filter *) filter };

        /* EINVAL: a kernel without seccomp filters. */
        if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program, 0, 0) < 0 && errno != EINVAL &&
            !not_here(errno))
                return fail_errno(reterr, -errno, "cannot set the system call filter");
        return 0;
}

int sandbox_system_calls(const int *allowed, size_t n_allowed, char **reterr)
{
        size_t n = ELEMENTSOF(filter_head);
        _cleanup_free_ struct sock_filter *filter =
                calloc(n + 2 * n_allowed + 1, sizeof(struct sock_filter));

        if (!filter)
                return -ENOMEM;
        memcpy(filter, filter_head, sizeof(filter_head));
        for (size_t i = 0; i < n_allowed; i++) {
                if (allowed[i] < 0)
                        continue;
                filter[n++] = (struct sock_filter) SKIP_UNLESS_EQUAL((unsigned) allowed[i], 1);
                filter[n++] = (struct sock_filter) RETURN(SECCOMP_RET_ALLOW);
        }
        filter[n++] = (struct sock_filter) RETURN(SECCOMP_RET_ERRNO | ENOSYS);
        return filter_set(filter, n, reterr);
}

/* After filter_head. The x32 calls have the same architecture and other numbers. */
static const struct sock_filter filter_lenient_head[] = {
        BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, 0x40000000, 0, 1),
        RETURN(SECCOMP_RET_ERRNO | EPERM),
        SKIP_UNLESS_EQUAL(SYS_clone3, 1),
        RETURN(SECCOMP_RET_ERRNO | ENOSYS),
        SKIP_UNLESS_EQUAL(SYS_setsockopt, 6),
        LOAD(args[1]),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SOL_SOCKET, 0, 2),
        LOAD(args[2]),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SO_LINGER, 1, 0),
        RETURN(SECCOMP_RET_ALLOW),
        RETURN(SECCOMP_RET_ERRNO | EPERM),
};

int sandbox_system_calls_except(const int *denied, size_t n_denied, char **reterr)
{
        size_t n = ELEMENTSOF(filter_head) + ELEMENTSOF(filter_lenient_head);
        _cleanup_free_ struct sock_filter *filter =
                calloc(n + 2 * n_denied + 1, sizeof(struct sock_filter));

        if (!filter)
                return -ENOMEM;
        memcpy(filter, filter_head, sizeof(filter_head));
        memcpy(filter + ELEMENTSOF(filter_head), filter_lenient_head, sizeof(filter_lenient_head));
        for (size_t i = 0; i < n_denied; i++) {
                if (denied[i] < 0)
                        continue;
                filter[n++] = (struct sock_filter) SKIP_UNLESS_EQUAL((unsigned) denied[i], 1);
                filter[n++] = (struct sock_filter) RETURN(SECCOMP_RET_ERRNO | EPERM);
        }
        filter[n++] = (struct sock_filter) RETURN(SECCOMP_RET_ALLOW);
        return filter_set(filter, n, reterr);
}
