/* SPDX-License-Identifier: Apache-2.0 */
#include "breakout.h"

#include <fcntl.h>
#include <grp.h>
#include <netinet/in.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <linux/capability.h>

#include "fd.h"
#include "macro.h"

#define RELEASES "/srv/web/releases"
#define RELEASE  RELEASES "/r1"
#define VICTIM   RELEASE "/victim"
#define SPOOL    "/var/cache/slipway"
#define PORT     50999

static const char *phase;
static bool ordered;
static pid_t parent, sibling;
static char architecture[8];

/* No stdio: a system call that is not allowed would hide behind it. */
__attribute__((format(printf, 1, 2))) static void say(const char *format, ...)
{
        char line[512];
        va_list ap;
        int n = snprintf(line, sizeof(line), "breakout %s ", phase);

        va_start(ap, format);
        n += vsnprintf(line + n, sizeof(line) - n, format, ap);
        va_end(ap);
        if (fd_write_all(STDERR_FILENO, line, MIN((size_t) n, sizeof(line) - 1)) < 0)
                abort();
}

static bool tell(const char *what, long result)
{
        say("%s = %d\n", what, result < 0 ? errno : 0);
        return result >= 0;
}

static void tell_fd(const char *what, int fd)
{
        if (tell(what, fd))
                fd_close(fd);
}

/* What was inherited, before this program has opened anything. */
__attribute__((constructor)) static void list_descriptors(void)
{
        phase = program_invocation_short_name;
        for (int fd = 0; fd < 1024; fd++) {
                struct stat st;
                if (fstat(fd, &st) >= 0)
                        say("inherited %d %o\n", fd, (unsigned) st.st_mode & S_IFMT);
        }
}

void breakout_prepare(void)
{
        FILE *f = fopen(BREAKOUT_ORDERS, "re");
        int n = 0;

        if (!f)
                return;
        parent = getppid();
        ordered = fscanf(f, "%d %7s", &n, architecture) == 2;
        sibling = n;
        (void) fclose(f);
}

/* What it is */

static void describe(void)
{
        struct __user_cap_header_struct head = { .version = _LINUX_CAPABILITY_VERSION_3 };
        struct __user_cap_data_struct caps[2] = {};
        long r = syscall(SYS_capget, &head, caps);

        say("uid %d\n", (int) getuid());
        say("groups %d\n", getgroups(0, NULL));
        say("no_new_privs %d\n", prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0));
        say("dumpable %d\n", prctl(PR_GET_DUMPABLE, 0, 0, 0, 0));
        say("seccomp %d\n", prctl(PR_GET_SECCOMP, 0, 0, 0, 0));
        say("capabilities %ld %x %x %x %x %x %x\n", r, caps[0].effective, caps[0].permitted,
            caps[0].inheritable, caps[1].effective, caps[1].permitted, caps[1].inheritable);
        say("landlock %ld\n", syscall(SYS_landlock_create_ruleset, NULL, 0, 1));
        for (char **e = environ; *e; e++)
                say("environment %.*s\n", (int) strcspn(*e, "="), *e);
}

/* Files */

static void try_open(const char *what, const char *path, int flags)
{
        tell_fd(what, open(path, flags | O_CLOEXEC | O_NONBLOCK));
}

static void try_create(const char *what, const char *path)
{
        int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);

        tell_fd(what, fd);
        if (fd >= 0)
                (void) unlinkat(AT_FDCWD, path, 0);
}

static void try_process_file(const char *what, pid_t pid, const char *name)
{
        char path[64];

        (void) snprintf(path, sizeof(path), "/proc/%d/%s", (int) pid, name);
        try_open(what, path, O_RDONLY);
}

static void read_files(void)
{
        try_open("read passwd", "/etc/passwd", O_RDONLY);
        try_open("read shadow", "/etc/shadow", O_RDONLY);
        try_open("read environment", "/etc/slipway/environment", O_RDONLY);
        try_open("read state", "/var/lib/slipway/web.json", O_RDONLY);
        try_open("list state", "/var/lib/slipway", O_RDONLY);
        try_open("list spool", SPOOL, O_RDONLY);
        try_open("list orders", "/var/lib/slipway-fetch", O_RDONLY);
        try_open("list runtime", "/run/slipway", O_RDONLY);
        try_open("read release", RELEASE "/name", O_RDONLY);
        try_process_file("read memory of slipwayd", parent, "mem");
        try_process_file("read environment of slipwayd", parent, "environ");
        try_process_file("list descriptors of slipwayd", parent, "fd");
        try_process_file("read memory of sibling", sibling, "mem");
        try_process_file("read environment of sibling", sibling, "environ");
        try_process_file("read environment of 1", 1, "environ");
        try_open("open ptmx", "/dev/ptmx", O_RDWR | O_NOCTTY);
        try_open("open mem", "/dev/mem", O_RDONLY);
}

static void create_files(void)
{
        try_create("create in release", RELEASE "/new");
        try_create("create in releases", RELEASES "/new");
        try_create("create beside current", "/srv/web/new");
        try_create("create in spool", SPOOL "/new");
        try_create("create in orders", "/var/lib/slipway-fetch/new");
        try_create("create in state", "/var/lib/slipway/new");
        try_create("create in tmp", "/tmp/breakout");
        try_create("create in var-tmp", "/var/tmp/breakout");
        try_create("create in shm", "/dev/shm/breakout");
        try_create("create in run", "/run/breakout.new");
        try_create("create in etc", "/etc/breakout");
        try_create("create beside programs", "/usr/lib/slipway/breakout");
        if (tell("mkdir in releases", mkdirat(AT_FDCWD, RELEASES "/dir", 0700)))
                (void) unlinkat(AT_FDCWD, RELEASES "/dir", AT_REMOVEDIR);
        if (tell("mkdir in spool", mkdirat(AT_FDCWD, SPOOL "/dir", 0700)))
                (void) unlinkat(AT_FDCWD, SPOOL "/dir", AT_REMOVEDIR);
        if (tell("symlink in releases", symlinkat("r1", AT_FDCWD, RELEASES "/link")))
                (void) unlinkat(AT_FDCWD, RELEASES "/link", 0);
        if (tell("symlink in spool", symlinkat("/etc/shadow", AT_FDCWD, SPOOL "/link")))
                (void) unlinkat(AT_FDCWD, SPOOL "/link", 0);
        if (tell("mkfifo in spool", mkfifo(SPOOL "/fifo", 0600)))
                (void) unlinkat(AT_FDCWD, SPOOL "/fifo", 0);
        if (tell("mknod in release", mknod(RELEASE "/null", S_IFCHR | 0666, 0x103)))
                (void) unlinkat(AT_FDCWD, RELEASE "/null", 0);
}

static void change_owned(void)
{
        const struct timespec now[2] = { { .tv_nsec = UTIME_NOW }, { .tv_nsec = UTIME_NOW } };
        _cleanup_close_ int fd = open(VICTIM, O_RDONLY | O_CLOEXEC);

        tell("chmod in release", chmod(VICTIM, 0644));
        tell("fchmod in release", fd < 0 ? -1 : fchmod(fd, 0644));
        tell("setuid bit in release", fd < 0 ? -1 : fchmod(fd, 04755));
        tell("chown in release", chown(VICTIM, 0, 0));
        tell("utimes in release", utimensat(AT_FDCWD, VICTIM, now, 0));
        tell("truncate in release", truncate(VICTIM, 0));
        tell("setxattr in release", setxattr(VICTIM, "user.breakout", "x", 1, 0));
        tell("chmod of spool", chmod(SPOOL, 0700));
        tell("chmod of current", fchmodat(AT_FDCWD, "/srv/web", 0777, 0));
}

static void change_files(void)
{
        try_open("write release", VICTIM, O_WRONLY);
        change_owned();
        if (tell("rename in release", rename(VICTIM, RELEASE "/other")))
                (void) rename(RELEASE "/other", VICTIM);
        if (tell("link in release", link(VICTIM, RELEASES "/linked")))
                (void) unlinkat(AT_FDCWD, RELEASES "/linked", 0);
        if (tell("unlink in release", unlinkat(AT_FDCWD, VICTIM, 0)))
                fd_close(open(VICTIM, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644));
        tell("unlink current", unlinkat(AT_FDCWD, "/srv/web/current", 0));
        tell("rename current", rename("/srv/web/current", "/srv/web/other"));
        tell("rename release", rename(RELEASE, "/srv/web/r1"));
}

/* What the artifact's writer may do, and what not. */
static void fill_staging(int staging_fd)
{
        int fd;

        if (staging_fd < 0)
                return;
        fd = openat(staging_fd, "new", O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
        if (tell("create in staging", fd)) {
                tell("write in staging", write(fd, "x", 1));
                tell("chmod in staging", fchmod(fd, 0644));
                tell("setuid bit in staging", fchmod(fd, 04755));
                tell("chown in staging", fchown(fd, 0, 0));
                fd_close(fd);
        }
        tell_fd("write what is in staging", openat(staging_fd, "new", O_WRONLY | O_CLOEXEC));
        tell_fd("read in staging", openat(staging_fd, "new", O_RDONLY | O_CLOEXEC));
        tell("link in staging", linkat(staging_fd, "new", staging_fd, "linked", 0));
        tell("rename in staging", renameat(staging_fd, "new", staging_fd, "renamed"));
        tell("mkfifo in staging", mkfifoat(staging_fd, "fifo", 0600));
        tell("unlink in staging", unlinkat(staging_fd, "new", 0));
        if (tell("symlink in staging", symlinkat("/etc/shadow", staging_fd, "link")))
                (void) unlinkat(staging_fd, "link", 0);
}

/* Network */

static void try_socket(const char *what, int family, int type, int protocol)
{
        tell_fd(what, socket(family, type | SOCK_CLOEXEC, protocol));
}

/* What refuses was reached. */
static void try_connect(const char *what, int type, const void *address, size_t size)
{
        _cleanup_close_ int fd =
                socket(*(const sa_family_t *) address, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        int r = fd < 0 ? -1 : connect(fd, address, size);

        if (fd >= 0 && r < 0 && (errno == ECONNREFUSED || errno == EINPROGRESS))
                r = 0;
        tell(what, r);
}

static void try_unix(const char *what, int type, const char *path)
{
        struct sockaddr_un address = { .sun_family = AF_UNIX };

        (void) stpncpy(address.sun_path, path, sizeof(address.sun_path) - 1);
        try_connect(what, type, &address, sizeof(address));
}

/* As slipwayd: only its own process may. */
static void try_notify(void)
{
        static const struct sockaddr_un address = { .sun_family = AF_UNIX,
                                                    .sun_path = "/run/systemd/notify" };
        static const char words[] = "STATUS=taken over\nMAINPID=1\nSTOPPING=1";
        _cleanup_close_ int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);

        tell("notify systemd",
             fd < 0 ? -1
                    : sendto(fd, words, sizeof(words) - 1, 0, (const struct sockaddr *) &address,
                             sizeof(address)));
}

static void try_listen(void)
{
        const struct sockaddr_in any = { .sin_family = AF_INET, .sin_port = htons(PORT) };
        _cleanup_close_ int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        int r = fd < 0 ? -1 : bind(fd, (const struct sockaddr *) &any, sizeof(any));

        tell("listen", r < 0 ? -1 : listen(fd, 1));
        tell("accept", fd < 0 ? -1 : accept4(fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC));
}

static void use_network(void)
{
        const struct sockaddr_in here = { .sin_family = AF_INET,
                                          .sin_port = htons(1),
                                          .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
        static const struct sockaddr_un spool = { .sun_family = AF_UNIX,
                                                  .sun_path = SPOOL "/socket" };
        _cleanup_close_ int fd = -EBADF;

        try_connect("connect by TCP", SOCK_STREAM, &here, sizeof(here));
        try_connect("connect by UDP", SOCK_DGRAM, &here, sizeof(here));
        try_unix("connect to bus", SOCK_STREAM, "/run/dbus/system_bus_socket");
        try_unix("connect to systemd", SOCK_STREAM, "/run/systemd/private");
        try_unix("connect to journal", SOCK_DGRAM, "/run/systemd/journal/socket");
        try_notify();
        try_socket("netlink socket", AF_NETLINK, SOCK_RAW, 0);
        try_socket("packet socket", AF_PACKET, SOCK_RAW, 0);
        try_socket("vsock socket", AF_VSOCK, SOCK_STREAM, 0);
        try_socket("alg socket", 38 /* AF_ALG */, SOCK_SEQPACKET, 0);
        try_socket("raw socket", AF_INET, SOCK_RAW, IPPROTO_ICMP);
        try_listen();
        fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (tell("bind in spool",
                 fd < 0 ? -1 : bind(fd, (const struct sockaddr *) &spool, sizeof(spool))))
                (void) unlinkat(AT_FDCWD, spool.sun_path, 0);
}

/* Programs and memory */

static void *do_nothing(void *userdata)
{
        return userdata;
}

static void try_fork(const char *what, unsigned long flags)
{
        long pid = syscall(SYS_clone, flags | SIGCHLD, 0, 0, 0, 0);

        if (pid == 0)
                _exit(EXIT_SUCCESS);
        tell(what, pid);
}

static void run_programs(void)
{
        static char *const shell[] = { (char *) "sh", (char *) "-c", (char *) "exit 1", NULL };
        static char *const none[] = { NULL };
        _cleanup_close_ int fd = memfd_create("breakout", MFD_CLOEXEC);
        pthread_t thread;
        int r;

        if (tell("memfd", fd))
                tell("write to memfd", write(fd, "#!/bin/sh\n", 10));
        tell("run shell", execve("/bin/sh", shell, none));
        tell("run itself", execve("/proc/self/exe", shell, none));
        tell("run memfd", syscall(SYS_execveat, fd, "", shell, none, AT_EMPTY_PATH));
        try_fork("fork", 0);
        tell("clone3", syscall(SYS_clone3, NULL, 0));
        r = pthread_create(&thread, NULL, do_nothing, NULL);
        errno = r;
        if (tell("thread", r == 0 ? 0 : -1))
                (void) pthread_join(thread, NULL);
}

static void use_memory(void)
{
        const size_t size = 4096;
        void *p = mmap(NULL, size, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS,
                       -1, 0);

        tell("writable code", p == MAP_FAILED ? -1 : 0);
        p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        tell("memory becomes code",
             p == MAP_FAILED ? -1 : mprotect(p, size, PROT_READ | PROT_EXEC));
}

/* Other processes */

static void try_process(const char *whose, pid_t pid)
{
        const struct sched_param parameters = {};
        const struct rlimit limit = { 1, 1 };
        char byte, what[64];
        const struct iovec local = { &byte, 1 }, remote = { (void *) &phase, 1 };
        cpu_set_t cpus;

#define OF(verb) ((void) snprintf(what, sizeof(what), "%s %s", (verb), whose), what)
        tell(OF("signal"), syscall(SYS_kill, pid, 0));
        tell(OF("tgkill"), syscall(SYS_tgkill, pid, pid, 0));
        tell_fd(OF("pidfd of"), syscall(SYS_pidfd_open, pid, 0));
        tell(OF("trace"), ptrace(PTRACE_ATTACH, pid, NULL, NULL));
        tell(OF("read memory by call of"), process_vm_readv(pid, &local, 1, &remote, 1, 0));
        tell(OF("limit"), prlimit(pid, RLIMIT_CORE, &limit, NULL));
        tell(OF("schedule"), sched_setscheduler(pid, SCHED_BATCH, &parameters));
        CPU_ZERO(&cpus);
        CPU_SET(0, &cpus);
        tell(OF("place"), sched_setaffinity(pid, sizeof(cpus), &cpus));
        tell(OF("reprioritize"), setpriority(PRIO_PROCESS, pid, 19));
#undef OF
}

/* Identity, name spaces, the kernel */

static void change_identity(void)
{
        struct __user_cap_header_struct head = { .version = _LINUX_CAPABILITY_VERSION_3 };
        struct __user_cap_data_struct caps[2] = {
                {.effective = 1, .permitted = 1}
        };
        const struct rlimit more = { 4096, 4096 };
        const gid_t root = 0;

        tell("setuid", syscall(SYS_setuid, 0));
        tell("setresuid", syscall(SYS_setresuid, 0, 0, 0));
        tell("setgid", syscall(SYS_setgid, 0));
        tell("setgroups", syscall(SYS_setgroups, 1, &root));
        tell("capset", syscall(SYS_capset, &head, caps));
        tell("unshare users", unshare(CLONE_NEWUSER));
        tell("unshare mounts", unshare(CLONE_NEWNS));
        tell("unshare network", unshare(CLONE_NEWNET));
        try_fork("clone users", CLONE_NEWUSER);
        tell("setns", setns(STDIN_FILENO, 0));
        tell("chroot", chroot("/tmp"));
        tell("more descriptors", setrlimit(RLIMIT_NOFILE, &more));
        tell("realtime", syscall(SYS_sched_setscheduler, 0, SCHED_FIFO,
                                 &(struct sched_param){ .sched_priority = 1 }));
        if (tell("dumpable", prctl(PR_SET_DUMPABLE, 1, 0, 0, 0)))
                (void) prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
        tell("new privileges", prctl(PR_SET_NO_NEW_PRIVS, 0, 0, 0, 0));
        tell("type into terminal", ioctl(STDIN_FILENO, TIOCSTI, "x"));
}

/* With arguments that could do no harm, where the call itself is let through. */
static void ask_kernel(void)
{
        char buffer[256] = {};
        int mount_id;

        tell("io_uring", syscall(SYS_io_uring_setup, 1, buffer));
        tell("bpf", syscall(SYS_bpf, 0, buffer, 0));
        tell("perf", syscall(SYS_perf_event_open, buffer, 0, -1, -1, 0));
        tell("keyctl", syscall(SYS_keyctl, 0, -3, 1));
        tell("add_key", syscall(SYS_add_key, "user", "breakout", "x", 1, -2));
        tell("userfaultfd", syscall(SYS_userfaultfd, O_CLOEXEC));
        tell("memfd_secret", syscall(447 /* memfd_secret */, O_CLOEXEC));
        tell("name_to_handle_at",
             syscall(SYS_name_to_handle_at, AT_FDCWD, "/", buffer, &mount_id, 0));
        tell("open_by_handle_at", syscall(SYS_open_by_handle_at, AT_FDCWD, buffer, O_RDONLY));
        tell("personality", syscall(SYS_personality, 0x0040000));
        tell("mount", mount("tmpfs", "/tmp", "tmpfs", 0, NULL));
        tell("remount", mount(NULL, "/", NULL, MS_REMOUNT | MS_BIND, NULL));
        tell("umount", umount2("/srv", MNT_DETACH));
        tell("open_tree", syscall(SYS_open_tree, AT_FDCWD, "/", 1 /* OPEN_TREE_CLONE */));
        tell("fsopen", syscall(SYS_fsopen, "tmpfs", 0));
        tell("swapon", syscall(SYS_swapon, "/none", 0));
        tell("fanotify", syscall(SYS_fanotify_init, 0, O_RDONLY));
        tell("syslog", syscall(SYS_syslog, 3, buffer, sizeof(buffer)));
        tell("init_module", syscall(SYS_init_module, buffer, 0, ""));
        tell("kexec", syscall(SYS_kexec_load, 0, 0, NULL, 0));
        tell("reboot", syscall(SYS_reboot, 0, 0, 0, NULL));
        tell("set clock", syscall(SYS_settimeofday, NULL, buffer));
}

/* The calls of other architectures. One that does not answer has ended us. */
static void try_architecture(void)
{
#if defined(__x86_64__)
        long r = 0;

        say("begins with %s\n", architecture);
        if (strcmp(architecture, "x32") == 0)
                r = syscall(0x40000000 | SYS_getpid);
        else
                __asm__ volatile("int $0x80" : "=a"(r) : "a"(20L /* getpid */) : "memory");
        say("ends with %s: %ld\n", architecture, r);
#endif
}

void breakout_try(const char *phase_, int staging_fd)
{
        phase = phase_;
        if (!ordered)
                return;
        if (strcmp(architecture, "-") != 0) {
                try_architecture();
                return;
        }
        describe();
        read_files();
        create_files();
        change_files();
        fill_staging(staging_fd);
        use_network();
        run_programs();
        use_memory();
        try_process("slipwayd", parent);
        try_process("sibling", sibling);
        try_process("1", 1);
        change_identity();
        ask_kernel();
        say("is done\n");
}
