/* SPDX-License-Identifier: Apache-2.0 */
#include "crash-point.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <linux/fs.h>
#include <systemd/sd-bus.h>
#include <systemd/sd-id128.h>

/* The real functions and those that take their place; the linker makes these names. */
#define WRAP(type, name, ...)            \
        type __real_##name(__VA_ARGS__); \
        type __wrap_##name(__VA_ARGS__); \
        type __wrap_##name(__VA_ARGS__)

static CrashFile *shared = NULL;
static dev_t proc_device; /* asked at the start: later a sandbox may forbid it */

/* Before main(): the sandboxes that it enters would not let us open the file. */
__attribute__((constructor)) static void open_crash_file(void)
{
        int fd = open(CRASH_FILE, O_RDWR | O_CLOEXEC);
        struct stat st;
        void *p;

        if (fd < 0)
                return;
        p = mmap(NULL, CRASH_FILE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        (void) close(fd);
        if (p != MAP_FAILED)
                shared = p;
        if (stat("/proc/self", &st) == 0)
                proc_device = st.st_dev;
}

static void die(const char *what)
{
        (void) dprintf(STDERR_FILENO, "crash-point: %s\n", what);
        abort();
}

/* Records */

static size_t padded(size_t n)
{
        return (n + 7) & ~(size_t) 7;
}

/* Takes room in the log and fills it; `like` has what is fixed. */
static void record(const CrashRecord *like, CrashOperation operation, const char *name,
                   const void *text, size_t text_size)
{
        size_t name_size = name ? strlen(name) : 0;
        size_t size = padded(sizeof(CrashRecord) + name_size + text_size);
        uint64_t at = sizeof(CrashFile) + atomic_fetch_add(&shared->log_size, size);
        CrashRecord *r = (CrashRecord *) ((uint8_t *) shared + at);

        if (at + size > CRASH_FILE_SIZE)
                die("the log is full");
        memcpy(r, like, sizeof(*r));
        r->size = size;
        r->name_size = name_size;
        r->text_size = text_size;
        if (name_size > 0)
                memcpy(r + 1, name, name_size);
        if (text_size > 0)
                memcpy((uint8_t *) (r + 1) + name_size, text, text_size);
        atomic_store(&r->operation, operation);
}

static void set_node(CrashRecord *r, const struct stat *st)
{
        r->node = (CrashNode){ .device = st->st_dev,
                               .inode = st->st_ino,
                               .mode = st->st_mode,
                               .uid = st->st_uid,
                               .gid = st->st_gid,
                               .mtime_sec = st->st_mtim.tv_sec,
                               .mtime_nsec = st->st_mtim.tv_nsec };
}

static void set_node_fd(CrashRecord *r, int fd)
{
        struct stat st;

        if (fstat(fd, &st) == 0)
                set_node(r, &st);
}

static void set_node_at(CrashRecord *r, int dir_fd, const char *path)
{
        struct stat st;

        if (fstatat(dir_fd, path, &st, AT_SYMLINK_NOFOLLOW) == 0)
                set_node(r, &st);
}

/* The directory that an entry lies in; gives the entry's name. */
static const char *find_dir(int dir_fd, const char *path, uint64_t *ret_device, uint64_t *ret_inode)
{
        const char *slash = strrchr(path, '/');
        char parent[PATH_MAX] = ".";
        struct stat st;

        if (slash)
                (void) snprintf(parent, sizeof(parent), "%.*s",
                                slash == path ? 1 : (int) (slash - path), path);
        if (fstatat(dir_fd, parent, &st, 0) == 0) {
                *ret_device = st.st_dev;
                *ret_inode = st.st_ino;
        }
        return slash ? slash + 1 : path;
}

static const char *set_dir(CrashRecord *r, int dir_fd, const char *path)
{
        return find_dir(dir_fd, path, &r->dir_device, &r->dir_inode);
}

/* Points */

static const char *program(void)
{
        return program_invocation_short_name;
}

/* No process goes on from here; all are killed. */
_Noreturn static void stop(uint64_t point, const char *call)
{
        CrashRecord r = { .point = point };
        char text[256];

        if (point == shared->armed) {
                (void) snprintf(text, sizeof(text), "%s: %s", program(), call);
                record(&r, CRASH_STOP, NULL, text, strlen(text));
        }
        (void) atomic_fetch_sub(&shared->n_under_way, 1);
        if (point == shared->armed)
                atomic_store(&shared->stopped, 1);
        for (;;)
                (void) poll(NULL, 0, -1);
}

/* Counts a point and stops at it if it is the one. 0: nothing is counted here. */
static uint64_t point_begin(const char *call)
{
        uint64_t point;

        if (!shared)
                return 0;
        (void) atomic_fetch_add(&shared->n_under_way, 1);
        point = atomic_fetch_add(&shared->n_points, 1) + 1;
        if (shared->armed > 0 && point >= shared->armed)
                stop(point, call);
        return point;
}

static void point_end(uint64_t point)
{
        if (point > 0)
                (void) atomic_fetch_sub(&shared->n_under_way, 1);
}

/* Sockets, pipes, memory and /proc are no files that a crash leaves behind. */
static bool is_file(int fd)
{
        struct stat st;

        return shared && fstat(fd, &st) == 0 && (S_ISREG(st.st_mode) || S_ISDIR(st.st_mode)) &&
               st.st_nlink > 0 && st.st_dev != proc_device;
}

/* An operation by descriptor, which is recorded when it has succeeded. */
#define BY_FD(fd, call, operation_, value_)                                    \
        do {                                                                   \
                uint64_t point_ = is_file(fd) ? point_begin(__func__ + 7) : 0; \
                CrashRecord record_ = { .point = point_ };                     \
                int result_ = (call), error_ = errno;                          \
                if (point_ > 0 && result_ >= 0) {                              \
                        set_node_fd(&record_, fd);                             \
                        record_.value = (value_);                              \
                        record(&record_, operation_, NULL, NULL, 0);           \
                }                                                              \
                point_end(point_);                                             \
                errno = error_;                                                \
                return result_;                                                \
        } while (0)

/* Contents */

static ssize_t written(uint64_t point, int fd, uint64_t offset, const void *data, ssize_t n)
{
        CrashRecord r = { .point = point, .value = offset };
        int error = errno;

        if (point > 0 && n > 0) {
                set_node_fd(&r, fd);
                record(&r, CRASH_WRITE, NULL, data, n);
        }
        point_end(point);
        errno = error;
        return n;
}

WRAP(ssize_t, write, int fd, const void *data, size_t size)
{
        uint64_t point = is_file(fd) ? point_begin("write") : 0;
        off_t offset = point > 0 ? lseek(fd, 0, SEEK_CUR) : 0;

        return written(point, fd, offset, data, __real_write(fd, data, size));
}

WRAP(ssize_t, pwrite64, int fd, const void *data, size_t size, off_t offset)
{
        uint64_t point = is_file(fd) ? point_begin("pwrite") : 0;

        return written(point, fd, offset, data, __real_pwrite64(fd, data, size, offset));
}

WRAP(int, ftruncate64, int fd, off_t size)
{
        BY_FD(fd, __real_ftruncate64(fd, size), CRASH_TRUNCATE, size);
}

WRAP(int, fallocate64, int fd, int mode, off_t offset, off_t size)
{
        if (mode != 0)
                die("fallocate: this mode is not counted yet");
        BY_FD(fd, __real_fallocate64(fd, mode, offset, size), CRASH_ALLOCATE, offset + size);
}

/* A hint: nothing can be relied on after it. */
WRAP(int, sync_file_range, int fd, off_t offset, off_t size, unsigned flags)
{
        return __real_sync_file_range(fd, offset, size, flags);
}

/* Durability */

static bool loses_sync(int fd)
{
        struct stat st;

        return shared && shared->flags & CRASH_LOSE_FILE_SYNCS && fstat(fd, &st) == 0 &&
               S_ISREG(st.st_mode);
}

WRAP(int, fsync, int fd)
{
        if (loses_sync(fd))
                return 0;
        BY_FD(fd, __real_fsync(fd), CRASH_SYNC, 0);
}

WRAP(int, fdatasync, int fd)
{
        if (loses_sync(fd))
                return 0;
        BY_FD(fd, __real_fdatasync(fd), CRASH_SYNC, 0);
}

WRAP(int, syncfs, int fd)
{
        BY_FD(fd, __real_syncfs(fd), CRASH_SYNCFS, 0);
}

/* Owner, mode, times */

WRAP(int, fchmod, int fd, mode_t mode)
{
        BY_FD(fd, __real_fchmod(fd, mode), CRASH_META, 0);
}

WRAP(int, fchown, int fd, uid_t uid, gid_t gid)
{
        BY_FD(fd, __real_fchown(fd, uid, gid), CRASH_META, 0);
}

WRAP(int, futimens, int fd, const struct timespec times[2])
{
        BY_FD(fd, __real_futimens(fd, times), CRASH_META, 0);
}

/* The same by path. */
#define META_AT(dir_fd, path, call)                                  \
        do {                                                         \
                uint64_t point_ = point_begin(__func__ + 7);         \
                CrashRecord record_ = { .point = point_ };           \
                int result_ = (call), error_ = errno;                \
                if (point_ > 0 && result_ >= 0) {                    \
                        set_node_at(&record_, dir_fd, path);         \
                        record(&record_, CRASH_META, NULL, NULL, 0); \
                }                                                    \
                point_end(point_);                                   \
                errno = error_;                                      \
                return result_;                                      \
        } while (0)

WRAP(int, fchmodat, int dir_fd, const char *path, mode_t mode, int flags)
{
        META_AT(dir_fd, path, __real_fchmodat(dir_fd, path, mode, flags));
}

WRAP(int, fchownat, int dir_fd, const char *path, uid_t uid, gid_t gid, int flags)
{
        META_AT(dir_fd, path, __real_fchownat(dir_fd, path, uid, gid, flags));
}

WRAP(int, utimensat, int dir_fd, const char *path, const struct timespec times[2], int flags)
{
        META_AT(dir_fd, path, __real_utimensat(dir_fd, path, times, flags));
}

/* Entries */

static int opened(uint64_t point, int dir_fd, const char *path, int flags, int fd)
{
        CrashRecord r = { .point = point, .value = flags };
        int error = errno;

        if (point > 0 && fd >= 0) {
                const char *name = set_dir(&r, dir_fd, path);
                set_node_fd(&r, fd);
                record(&r, CRASH_OPEN, name, NULL, 0);
        }
        point_end(point);
        errno = error;
        return fd;
}

static mode_t take_mode(int flags, va_list ap)
{
        return flags & O_CREAT ? va_arg(ap, mode_t) : 0;
}

WRAP(int, openat64, int dir_fd, const char *path, int flags, ...)
{
        uint64_t point = flags & (O_CREAT | O_TRUNC) ? point_begin("openat") : 0;
        va_list ap;
        mode_t mode;

        va_start(ap, flags);
        mode = take_mode(flags, ap);
        va_end(ap);
        return opened(point, dir_fd, path, flags, __real_openat64(dir_fd, path, flags, mode));
}

WRAP(int, open64, const char *path, int flags, ...)
{
        uint64_t point = flags & (O_CREAT | O_TRUNC) ? point_begin("open") : 0;
        va_list ap;
        mode_t mode;

        va_start(ap, flags);
        mode = take_mode(flags, ap);
        va_end(ap);
        return opened(point, AT_FDCWD, path, flags, __real_open64(path, flags, mode));
}

static int made(uint64_t point, CrashOperation operation, int dir_fd, const char *path,
                const char *text, int result)
{
        CrashRecord r = { .point = point };
        int error = errno;

        if (point > 0 && result >= 0) {
                const char *name = set_dir(&r, dir_fd, path);
                set_node_at(&r, dir_fd, path);
                record(&r, operation, name, text, text ? strlen(text) : 0);
        }
        point_end(point);
        errno = error;
        return result;
}

WRAP(int, mkdirat, int dir_fd, const char *path, mode_t mode)
{
        uint64_t point = point_begin("mkdirat");

        return made(point, CRASH_MKDIR, dir_fd, path, NULL, __real_mkdirat(dir_fd, path, mode));
}

WRAP(int, mkdir, const char *path, mode_t mode)
{
        uint64_t point = point_begin("mkdir");

        return made(point, CRASH_MKDIR, AT_FDCWD, path, NULL, __real_mkdir(path, mode));
}

WRAP(int, symlinkat, const char *target, int dir_fd, const char *path)
{
        uint64_t point = point_begin("symlinkat");

        return made(point, CRASH_SYMLINK, dir_fd, path, target,
                    __real_symlinkat(target, dir_fd, path));
}

WRAP(int, linkat, int from_fd, const char *from, int dir_fd, const char *path, int flags)
{
        uint64_t point = point_begin("linkat");

        return made(point, CRASH_LINK, dir_fd, path, NULL,
                    __real_linkat(from_fd, from, dir_fd, path, flags));
}

WRAP(int, unlinkat, int dir_fd, const char *path, int flags)
{
        uint64_t point = point_begin("unlinkat");

        return made(point, CRASH_UNLINK, dir_fd, path, NULL, __real_unlinkat(dir_fd, path, flags));
}

static int renamed(uint64_t point, int dir_fd, const char *path, int target_fd, const char *target,
                   unsigned flags, int result)
{
        CrashRecord r = { .point = point, .value = flags };
        int error = errno;

        if (point > 0 && result >= 0) {
                const char *to = find_dir(target_fd, target, &r.target_device, &r.target_inode);
                const char *name = set_dir(&r, dir_fd, path);
                record(&r, CRASH_RENAME, name, to, strlen(to));
        }
        point_end(point);
        errno = error;
        return result;
}

WRAP(int, renameat2, int dir_fd, const char *path, int target_fd, const char *target,
     unsigned flags)
{
        uint64_t point = point_begin("renameat2");

        if (flags & ~(unsigned) RENAME_NOREPLACE)
                die("renameat2: these flags are not counted yet");
        return renamed(point, dir_fd, path, target_fd, target, flags,
                       __real_renameat2(dir_fd, path, target_fd, target, flags));
}

WRAP(int, renameat, int dir_fd, const char *path, int target_fd, const char *target)
{
        uint64_t point = point_begin("renameat");

        return renamed(point, dir_fd, path, target_fd, target, 0,
                       __real_renameat(dir_fd, path, target_fd, target));
}

/* Calls without a function of libc's: none of those that are made changes a file. */
WRAP(long, syscall, long number, ...)
{
        static const long harmless[] = {
                SYS_close_range,       SYS_pidfd_open,
                SYS_pidfd_send_signal, SYS_landlock_create_ruleset,
                SYS_landlock_add_rule, SYS_landlock_restrict_self,
                SYS_ioprio_get,        SYS_ioprio_set,
        };
        long a[6];
        size_t i;
        va_list ap;

        for (i = 0; i < sizeof(harmless) / sizeof(harmless[0]) && harmless[i] != number; i++)
                ;
        if (i == sizeof(harmless) / sizeof(harmless[0]))
                die("syscall: say in crash-point.c whether this one changes files");
        va_start(ap, number);
        for (i = 0; i < 6; i++)
                a[i] = va_arg(ap, long);
        va_end(ap);
        return __real_syscall(number, a[0], a[1], a[2], a[3], a[4], a[5]);
}

WRAP(int, ioctl, int fd, unsigned long request, ...)
{
        va_list ap;
        void *argument;

        /* What it writes nobody would see: it is copied byte by byte here. */
        if (request == FICLONE) {
                errno = EOPNOTSUPP;
                return -1;
        }
        if (request != TIOCGWINSZ)
                die("ioctl: say in crash-point.c whether this one changes files");
        va_start(ap, request);
        argument = va_arg(ap, void *);
        va_end(ap);
        return __real_ioctl(fd, request, argument);
}

/* The bus */

static void bus_point(const char *call, const char *what)
{
        uint64_t point = point_begin(call);
        CrashRecord r = { .point = point };
        char text[256];

        if (point == 0)
                return;
        (void) snprintf(text, sizeof(text), "%s %s", call, what ? what : "");
        record(&r, CRASH_BUS, NULL, text, strlen(text));
        point_end(point);
}

WRAP(int, sd_bus_call, sd_bus *bus, sd_bus_message *m, uint64_t usec, sd_bus_error *ret_error,
     sd_bus_message **reply)
{
        bus_point("sd_bus_call", sd_bus_message_get_member(m));
        return __real_sd_bus_call(bus, m, usec, ret_error, reply);
}

WRAP(int, sd_bus_call_async, sd_bus *bus, sd_bus_slot **slot, sd_bus_message *m,
     sd_bus_message_handler_t callback, void *userdata, uint64_t usec)
{
        bus_point("sd_bus_call_async", sd_bus_message_get_member(m));
        return __real_sd_bus_call_async(bus, slot, m, callback, userdata, usec);
}

WRAP(int, sd_bus_call_method, sd_bus *bus, const char *destination, const char *path,
     const char *interface, const char *member, sd_bus_error *ret_error, sd_bus_message **reply,
     const char *types, ...)
{
        va_list ap;
        int r;

        bus_point("sd_bus_call_method", member);
        va_start(ap, types);
        r = sd_bus_call_methodv(bus, destination, path, interface, member, ret_error, reply, types,
                                ap);
        va_end(ap);
        return r;
}

WRAP(int, sd_bus_call_method_async, sd_bus *bus, sd_bus_slot **slot, const char *destination,
     const char *path, const char *interface, const char *member, sd_bus_message_handler_t callback,
     void *userdata, const char *types, ...)
{
        va_list ap;
        int r;

        bus_point("sd_bus_call_method_async", member);
        va_start(ap, types);
        r = sd_bus_call_method_asyncv(bus, slot, destination, path, interface, member, callback,
                                      userdata, types, ap);
        va_end(ap);
        return r;
}

WRAP(int, sd_bus_send, sd_bus *bus, sd_bus_message *m, uint64_t *cookie)
{
        bus_point("sd_bus_send", sd_bus_message_get_member(m));
        return __real_sd_bus_send(bus, m, cookie);
}

WRAP(int, sd_bus_message_send, sd_bus_message *m)
{
        bus_point("sd_bus_message_send", sd_bus_message_get_member(m));
        return __real_sd_bus_message_send(m);
}

WRAP(int, sd_bus_emit_properties_changed_strv, sd_bus *bus, const char *path, const char *interface,
     char **names)
{
        bus_point("sd_bus_emit_properties_changed", interface);
        return __real_sd_bus_emit_properties_changed_strv(bus, path, interface, names);
}

#define N_NAMES_MAX 32

WRAP(int, sd_bus_emit_properties_changed, sd_bus *bus, const char *path, const char *interface,
     const char *name, ...)
{
        char *names[N_NAMES_MAX + 1] = { (char *) name };
        va_list ap;

        bus_point("sd_bus_emit_properties_changed", interface);
        va_start(ap, name);
        for (size_t n = 1; n <= N_NAMES_MAX && names[n - 1]; n++)
                names[n] = va_arg(ap, char *);
        va_end(ap);
        if (names[N_NAMES_MAX])
                die("sd_bus_emit_properties_changed: more names than there is room for");
        return __real_sd_bus_emit_properties_changed_strv(bus, path, interface, names);
}

WRAP(int, sd_bus_reply_method_return, sd_bus_message *call, const char *types, ...)
{
        va_list ap;
        int r;

        bus_point("sd_bus_reply_method_return", sd_bus_message_get_member(call));
        va_start(ap, types);
        r = sd_bus_reply_method_returnv(call, types, ap);
        va_end(ap);
        return r;
}

WRAP(int, sd_bus_reply_method_errorf, sd_bus_message *call, const char *name, const char *format,
     ...)
{
        va_list ap;
        int r;

        bus_point("sd_bus_reply_method_errorf", sd_bus_message_get_member(call));
        va_start(ap, format);
        r = sd_bus_reply_method_errorfv(call, name, format, ap);
        va_end(ap);
        return r;
}

WRAP(int, sd_bus_reply_method_error, sd_bus_message *call, const sd_bus_error *e)
{
        bus_point("sd_bus_reply_method_error", sd_bus_message_get_member(call));
        return __real_sd_bus_reply_method_error(call, e);
}

WRAP(int, sd_bus_reply_method_errno, sd_bus_message *call, int error, const sd_bus_error *e)
{
        bus_point("sd_bus_reply_method_errno", sd_bus_message_get_member(call));
        return __real_sd_bus_reply_method_errno(call, error, e);
}

WRAP(int, sd_bus_emit_signal, sd_bus *bus, const char *path, const char *interface,
     const char *member, const char *types, ...)
{
        va_list ap;
        int r;

        bus_point("sd_bus_emit_signal", member);
        va_start(ap, types);
        r = sd_bus_emit_signalv(bus, path, interface, member, types, ap);
        va_end(ap);
        return r;
}

WRAP(int, sd_bus_get_property, sd_bus *bus, const char *destination, const char *path,
     const char *interface, const char *member, sd_bus_error *ret_error, sd_bus_message **reply,
     const char *type)
{
        bus_point("sd_bus_get_property", member);
        return __real_sd_bus_get_property(bus, destination, path, interface, member, ret_error,
                                          reply, type);
}

WRAP(int, sd_bus_get_property_string, sd_bus *bus, const char *destination, const char *path,
     const char *interface, const char *member, sd_bus_error *ret_error, char **ret)
{
        bus_point("sd_bus_get_property_string", member);
        return __real_sd_bus_get_property_string(bus, destination, path, interface, member,
                                                 ret_error, ret);
}

WRAP(int, sd_bus_get_property_strv, sd_bus *bus, const char *destination, const char *path,
     const char *interface, const char *member, sd_bus_error *ret_error, char ***ret)
{
        bus_point("sd_bus_get_property_strv", member);
        return __real_sd_bus_get_property_strv(bus, destination, path, interface, member, ret_error,
                                               ret);
}

WRAP(int, sd_bus_request_name, sd_bus *bus, const char *name, uint64_t flags)
{
        bus_point("sd_bus_request_name", name);
        return __real_sd_bus_request_name(bus, name, flags);
}

WRAP(int, sd_bus_request_name_async, sd_bus *bus, sd_bus_slot **slot, const char *name,
     uint64_t flags, sd_bus_message_handler_t callback, void *userdata)
{
        bus_point("sd_bus_request_name_async", name);
        return __real_sd_bus_request_name_async(bus, slot, name, flags, callback, userdata);
}

WRAP(int, sd_bus_add_match, sd_bus *bus, sd_bus_slot **slot, const char *match,
     sd_bus_message_handler_t callback, void *userdata)
{
        bus_point("sd_bus_add_match", match);
        return __real_sd_bus_add_match(bus, slot, match, callback, userdata);
}

WRAP(int, sd_bus_add_match_async, sd_bus *bus, sd_bus_slot **slot, const char *match,
     sd_bus_message_handler_t callback, sd_bus_message_handler_t install_callback, void *userdata)
{
        bus_point("sd_bus_add_match_async", match);
        return __real_sd_bus_add_match_async(bus, slot, match, callback, install_callback,
                                             userdata);
}

WRAP(int, sd_bus_match_signal, sd_bus *bus, sd_bus_slot **slot, const char *sender,
     const char *path, const char *interface, const char *member, sd_bus_message_handler_t callback,
     void *userdata)
{
        bus_point("sd_bus_match_signal", member);
        return __real_sd_bus_match_signal(bus, slot, sender, path, interface, member, callback,
                                          userdata);
}

WRAP(int, sd_bus_match_signal_async, sd_bus *bus, sd_bus_slot **slot, const char *sender,
     const char *path, const char *interface, const char *member, sd_bus_message_handler_t callback,
     sd_bus_message_handler_t install_callback, void *userdata)
{
        bus_point("sd_bus_match_signal_async", member);
        return __real_sd_bus_match_signal_async(bus, slot, sender, path, interface, member,
                                                callback, install_callback, userdata);
}

WRAP(int, sd_bus_query_sender_creds, sd_bus_message *m, uint64_t mask, sd_bus_creds **ret)
{
        bus_point("sd_bus_query_sender_creds", sd_bus_message_get_member(m));
        return __real_sd_bus_query_sender_creds(m, mask, ret);
}

WRAP(int, sd_bus_query_sender_privilege, sd_bus_message *m, int capability)
{
        bus_point("sd_bus_query_sender_privilege", sd_bus_message_get_member(m));
        return __real_sd_bus_query_sender_privilege(m, capability);
}

/* After a loss of power it is another boot. */
WRAP(int, sd_id128_get_boot, sd_id128_t *ret)
{
        if (!shared || !shared->boot_id_set)
                return __real_sd_id128_get_boot(ret);
        memcpy(ret, shared->boot_id, sizeof(*ret));
        return 0;
}
