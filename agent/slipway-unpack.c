/* SPDX-License-Identifier: Apache-2.0 */
#include <locale.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include "build-config.h"
#include "err.h"
#include "log.h"
#include "message.h"
#include "name.h"
#include "parallel.h"
#include "priority.h"
#include "sandbox.h"
#include "take-over.h"
#include "unpack.h"

/* Each thread has a directory open for each component of two paths; and some for the rest. */
#define N_FDS_MAX \
        (PARALLEL_THREADS_MAX * 2 * TREE_DEPTH_MAX + TAKE_OVER_PIECE_FDS_MAX + SEEDS_MAX + 64)

/* Newer architectures have ppoll() alone. */
#ifndef SYS_poll
#define SYS_poll (-1)
#endif

/* From the beginning, when it faces nothing but signed data and names, and has its own user's
 * rights over all releases. */
static const int denied_calls[] = { SYS_socket,  SYS_socketpair, SYS_connect,
                                    SYS_bind,    SYS_listen,     SYS_accept,
                                    SYS_accept4, SYS_sendto,     SYS_sendmmsg };

/* What reading frames and writing, syncing and removing a tree needs. No sockets, no programs, no
 * change of mode, owner or name by path, no writing to what is there (sandbox.h): other releases
 * belong to this user, too, and the new one has links to their files. */
static const int allowed_calls[] = {
        /* files */
        SYS_openat, SYS_close, SYS_read, SYS_pread64, SYS_write, SYS_lseek, SYS_fcntl, SYS_fstat,
        SYS_newfstatat, SYS_statx, SYS_getdents64, SYS_mkdirat, SYS_symlinkat, SYS_unlinkat,
        SYS_fchmod, SYS_utimensat, SYS_fsync, SYS_syncfs, SYS_sync_file_range,
        /* slipwayd's socket and the reader's stop signal */
        SYS_recvmsg, SYS_sendmsg, SYS_poll, SYS_ppoll, SYS_eventfd2,
        /* memory, threads, signals, the end */
        SYS_mmap, SYS_munmap, SYS_mremap, SYS_mprotect, SYS_madvise, SYS_brk, SYS_futex,
        SYS_set_robust_list, SYS_rseq, SYS_sched_yield, SYS_getrandom, SYS_clock_gettime,
        SYS_rt_sigprocmask, SYS_rt_sigaction, SYS_rt_sigreturn, SYS_sigaltstack,
        SYS_restart_syscall, SYS_getpid, SYS_gettid, SYS_tgkill, SYS_exit, SYS_exit_group
};

/* Staging is all that can be reached, besides the seeds' files that are open for reading. Below the
 * other releases only empty directories could be removed: the right to remove staging itself, after
 * a failure, can't be given more narrowly. */
static int tighten(int releases_fd, int staging_fd, char **reterr)
{
        const SandboxRule rules[] = {
                {staging_fd,   LANDLOCK_ACCESS_FS_WRITE_FILE | LANDLOCK_ACCESS_FS_READ_DIR |
                                      LANDLOCK_ACCESS_FS_MAKE_REG | LANDLOCK_ACCESS_FS_MAKE_DIR |
                                      LANDLOCK_ACCESS_FS_MAKE_SYM | LANDLOCK_ACCESS_FS_REMOVE_FILE |
                                      LANDLOCK_ACCESS_FS_REMOVE_DIR},
                { releases_fd, LANDLOCK_ACCESS_FS_REMOVE_DIR                                   },
        };
        int r = sandbox_files(rules, ELEMENTSOF(rules), reterr);

        return r < 0 ? r : sandbox_system_calls(allowed_calls, ELEMENTSOF(allowed_calls), reterr);
}

int main(int argc, char **argv)
{
        _cleanup_free_ char *err = NULL;
        int r;

        if (argc == 2 && streq(argv[1], "--version")) {
                printf("slipway-unpack %s\n", SLIPWAY_VERSION);
                return EXIT_SUCCESS;
        }
        if (argc > 1) {
                fprintf(stderr, "slipway-unpack is started by slipwayd and takes no arguments.\n");
                return EXIT_FAILURE;
        }
        /* pax headers are UTF-8, and libarchive gives names in the locale's encoding: others than
         * ASCII would not be there in "C". */
        (void) setlocale(LC_CTYPE, "C.UTF-8");
        log_open("slipway-unpack");
        umask(0077);
        priority_lower(PRIORITY_UNPACK_NICE, true);
        r = sandbox_basics(N_FDS_MAX, &err);
        if (r >= 0)
                r = sandbox_system_calls_except(denied_calls, ELEMENTSOF(denied_calls), &err);
        if (r >= 0)
                r = unpack_run(MESSAGE_FD, tighten, &err);
        if (r < 0) {
                log_error("%s", err_text(r, err));
                return EXIT_FAILURE;
        }
        return EXIT_SUCCESS;
}
