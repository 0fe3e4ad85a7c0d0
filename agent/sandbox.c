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

/* landlock_ruleset_attr of version 6; an older kernel takes as much of it as it knows. */
typedef struct RulesetAttr {
        uint64_t handled_access_fs, handled_access_net, scoped;
} RulesetAttr;

#define SCOPE_ABSTRACT_UNIX_SOCKET (UINT64_C(1) << 0)
#define SCOPE_SIGNAL               (UINT64_C(1) << 1)

int sandbox_files(const SandboxRule *rules, size_t n_rules, char **reterr)
{
        RulesetAttr attr = {};
        long abi = syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION);

        if (abi < 0)
                return not_here(errno) ? 0 : fail_errno(reterr, -errno, "cannot use Landlock");
        attr.handled_access_fs = handled_rights(abi);
        if (abi >= 6)
                attr.scoped = SCOPE_ABSTRACT_UNIX_SOCKET | SCOPE_SIGNAL;
        /* Version 1's struct is its first field, which every later kernel takes. */
        _cleanup_close_ int fd =
                syscall(SYS_landlock_create_ruleset, &attr,
                        abi >= 6 ? sizeof(attr) : sizeof(attr.handled_access_fs), 0);
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

/* After filter_head: what openat() and fchmod() may not do, even where they are allowed. */
static const struct sock_filter filter_files_head[] = {
        SKIP_UNLESS_EQUAL(SYS_openat, 6),
        LOAD(args[2]),
        BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, O_ACCMODE | O_TRUNC, 0, 3),
        BPF_STMT(BPF_ALU | BPF_AND | BPF_K, O_CREAT | O_EXCL),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, O_CREAT | O_EXCL, 1, 0),
        RETURN(SECCOMP_RET_ERRNO | EPERM),
        LOAD(nr),
        SKIP_UNLESS_EQUAL(SYS_fchmod, 5),
        LOAD(args[1]),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 0644, 2, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 0755, 1, 0),
        RETURN(SECCOMP_RET_ERRNO | EPERM),
        LOAD(nr),
};

int sandbox_system_calls(const int *allowed, size_t n_allowed, char **reterr)
{
        size_t n = ELEMENTSOF(filter_head) + ELEMENTSOF(filter_files_head);
        _cleanup_free_ struct sock_filter *filter =
                calloc(n + 2 * n_allowed + 1, sizeof(struct sock_filter));

        if (!filter)
                return -ENOMEM;
        memcpy(filter, filter_head, sizeof(filter_head));
        memcpy(filter + ELEMENTSOF(filter_head), filter_files_head, sizeof(filter_files_head));
        for (size_t i = 0; i < n_allowed; i++) {
                if (allowed[i] < 0)
                        continue;
                filter[n++] = (struct sock_filter) SKIP_UNLESS_EQUAL((unsigned) allowed[i], 1);
                filter[n++] = (struct sock_filter) RETURN(SECCOMP_RET_ALLOW);
        }
        filter[n++] = (struct sock_filter) RETURN(SECCOMP_RET_ERRNO | ENOSYS);
        return filter_set(filter, n, reterr);
}

/* Newer architectures have clone() and the calls with directories alone; older headers lack what is
 * new, and has the same number on all. */
#ifndef SYS_fork
#define SYS_fork  (-1)
#define SYS_vfork (-1)
#define SYS_mknod (-1)
#endif
#ifndef SYS_memfd_secret
#define SYS_memfd_secret 447
#endif
#ifndef SYS_process_mrelease
#define SYS_process_mrelease 448
#endif

/* What no library needs for our work, and a process that was taken over would like: programs, other
 * processes, the kernel's larger surfaces. */
static const int never_needed[] = {
        /* programs and processes */
        SYS_execve, SYS_execveat, SYS_fork, SYS_vfork, SYS_ptrace, SYS_process_vm_readv,
        SYS_process_vm_writev, SYS_process_madvise, SYS_process_mrelease, SYS_move_pages,
        SYS_migrate_pages, SYS_kcmp, SYS_kill, SYS_tkill, SYS_rt_sigqueueinfo,
        SYS_rt_tgsigqueueinfo, SYS_pidfd_open, SYS_pidfd_send_signal, SYS_pidfd_getfd,
        SYS_setpriority, SYS_ioprio_set, SYS_sched_setscheduler, SYS_sched_setparam,
        SYS_sched_setattr, SYS_sched_setaffinity, SYS_personality,
        /* identity and name spaces */
        SYS_setuid, SYS_setgid, SYS_setreuid, SYS_setregid, SYS_setresuid, SYS_setresgid,
        SYS_setgroups, SYS_capset, SYS_unshare, SYS_setns, SYS_chroot, SYS_pivot_root,
        /* mounts and devices */
        SYS_mount, SYS_umount2, SYS_move_mount, SYS_open_tree, SYS_fsopen, SYS_fsconfig,
        SYS_fsmount, SYS_fspick, SYS_mount_setattr, SYS_name_to_handle_at, SYS_open_by_handle_at,
        SYS_mknod, SYS_mknodat, SYS_swapon, SYS_swapoff, SYS_quotactl, SYS_acct, SYS_fanotify_init,
        /* the kernel */
        SYS_bpf, SYS_perf_event_open, SYS_userfaultfd, SYS_io_uring_setup, SYS_io_uring_enter,
        SYS_io_uring_register, SYS_keyctl, SYS_add_key, SYS_request_key, SYS_init_module,
        SYS_finit_module, SYS_delete_module, SYS_kexec_load, SYS_kexec_file_load, SYS_reboot,
        SYS_syslog, SYS_memfd_secret, SYS_vmsplice, SYS_settimeofday, SYS_clock_settime,
        SYS_adjtimex, SYS_clock_adjtime
};

/* After filter_head. The x32 calls have the same architecture and other numbers. */
static const struct sock_filter filter_lenient_head[] = {
        BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, 0x40000000, 0, 1),
        RETURN(SECCOMP_RET_ERRNO | EPERM),
        SKIP_UNLESS_EQUAL(SYS_clone3, 1),
        RETURN(SECCOMP_RET_ERRNO | ENOSYS),
        SKIP_UNLESS_EQUAL(SYS_prlimit64, 4),
        LOAD(args[0]),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 0, 0, 1),
        RETURN(SECCOMP_RET_ALLOW),
        RETURN(SECCOMP_RET_ERRNO | EPERM),
        SKIP_UNLESS_EQUAL(SYS_setsockopt, 6),
        LOAD(args[1]),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SOL_SOCKET, 0, 2),
        LOAD(args[2]),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SO_LINGER, 1, 0),
        RETURN(SECCOMP_RET_ALLOW),
        RETURN(SECCOMP_RET_ERRNO | EPERM),
};

static size_t deny(struct sock_filter *filter, size_t n, const int *calls, size_t n_calls)
{
        for (size_t i = 0; i < n_calls; i++) {
                if (calls[i] < 0)
                        continue;
                filter[n++] = (struct sock_filter) SKIP_UNLESS_EQUAL((unsigned) calls[i], 1);
                filter[n++] = (struct sock_filter) RETURN(SECCOMP_RET_ERRNO | EPERM);
        }
        return n;
}

int sandbox_system_calls_except(const int *denied, size_t n_denied, char **reterr)
{
        size_t n = ELEMENTSOF(filter_head) + ELEMENTSOF(filter_lenient_head);
        _cleanup_free_ struct sock_filter *filter = calloc(
                n + 2 * (ELEMENTSOF(never_needed) + n_denied) + 1, sizeof(struct sock_filter));

        if (!filter)
                return -ENOMEM;
        memcpy(filter, filter_head, sizeof(filter_head));
        memcpy(filter + ELEMENTSOF(filter_head), filter_lenient_head, sizeof(filter_lenient_head));
        n = deny(filter, n, never_needed, ELEMENTSOF(never_needed));
        n = deny(filter, n, denied, n_denied);
        filter[n++] = (struct sock_filter) RETURN(SECCOMP_RET_ALLOW);
        return filter_set(filter, n, reterr);
}
