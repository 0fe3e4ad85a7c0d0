/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include <linux/landlock.h>

#include "macro.h"

/*
 * How a child gives up what it does not need. Each step is for good, and inherited by threads that
 * are started later: call them before starting any. What the kernel or an outer sandbox does not
 * offer is passed over without an error, these are second lines of defence: the first are the
 * child's user and what it is handed.
 */

/* Not in the headers of older kernels (Landlock ABI 2, 3 and 5). */
#ifndef LANDLOCK_ACCESS_FS_REFER
#define LANDLOCK_ACCESS_FS_REFER (UINT64_C(1) << 13)
#endif
#ifndef LANDLOCK_ACCESS_FS_TRUNCATE
#define LANDLOCK_ACCESS_FS_TRUNCATE (UINT64_C(1) << 14)
#endif
#ifndef LANDLOCK_ACCESS_FS_IOCTL_DEV
#define LANDLOCK_ACCESS_FS_IOCTL_DEV (UINT64_C(1) << 15)
#endif

/* For /proc/PID/oom_score_adj (proc_pid_oom_score_adj(5)): when memory runs out, a child goes
 * before slipwayd and before applications. It is started again, and loses least. */
#define SANDBOX_OOM_SCORE "500"

/* No new privileges, not dumpable (so no ptrace by its own user), no core files, at most
 * n_fds_max descriptors, SANDBOX_OOM_SCORE. */
_must_check_ int sandbox_basics(size_t n_fds_max, char **reterr);

/* What stays allowed below a directory, of LANDLOCK_ACCESS_FS_*. */
typedef struct SandboxRule {
        int dir_fd;
        uint64_t allowed;
} SandboxRule;

/* Landlock: files can be reached by the rules only, or through descriptors that are already open;
 * and, from version 6 on, no process outside by signals or abstract sockets: not even one of the
 * same user. Needs no_new_privs. ENOSYS, EOPNOTSUPP and EPERM all mean that Landlock is not here.
 */
_must_check_ int sandbox_files(const SandboxRule *rules, size_t n_rules, char **reterr);

/* seccomp: only these system calls (negative numbers, of calls that an architecture lacks, are
 * passed over), and clone() for threads. Of openat() reading and the making of files, so that none
 * that is there can be written to by any of its names; of fchmod() 0644 and 0755. Others fail with
 * ENOSYS, so that libc falls back to an older call where it has one; those of another architecture
 * kill. Needs no_new_privs. */
_must_check_ int sandbox_system_calls(const int *allowed, size_t n_allowed, char **reterr);

/* seccomp for a program whose libraries call what they like: all but those that run programs, reach
 * other processes, change identity, name spaces or mounts, or open the larger surfaces of the
 * kernel, and but these system calls (negative numbers are passed over). They fail with EPERM.
 * clone() is for threads, clone3() fails with
 * ENOSYS, so that no process can outlive this one; SO_LINGER can't be set, so that nobody who is
 * handed a socket waits when he closes it; prlimit64() is for the process itself. Needs
 * no_new_privs. */
_must_check_ int sandbox_system_calls_except(const int *denied, size_t n_denied, char **reterr);
