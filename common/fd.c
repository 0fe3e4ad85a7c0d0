/* SPDX-License-Identifier: Apache-2.0 */
#include "fd.h"

#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <unistd.h>

#define TEMPORARY_TRIES 16

int fd_close(int fd)
{
        if (fd >= 0) {
                int saved_errno = errno;

                /* On Linux the descriptor is gone whatever close() says, EINTR included. */
                (void) close(fd);
                errno = saved_errno;
        }
        return -EBADF;
}

int fd_read_all(int fd, size_t size_max, char **ret, size_t *ret_size)
{
        _cleanup_free_ char *data = NULL;
        size_t size = 0, allocated = 0;

        for (;;) {
                if (allocated - size < 2) {
                        allocated = MIN(allocated ? allocated * 2 : 4096, size_max + 2);
                        char *larger = realloc(data, allocated);
                        if (!larger)
                                return -ENOMEM;
                        data = larger;
                }
                ssize_t n = read(fd, data + size, allocated - size - 1);
                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0)
                        return -errno;
                if (n == 0)
                        break;
                size += n;
                if (size > size_max)
                        return -EFBIG;
        }
        data[size] = '\0';
        *ret = TAKE_PTR(data);
        if (ret_size)
                *ret_size = size;
        return 0;
}

int fd_pread_exactly(int fd, void *data, size_t size, uint64_t offset)
{
        while (size > 0) {
                ssize_t n = pread(fd, data, size, offset);
                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0)
                        return -errno;
                if (n == 0)
                        return -ENODATA;
                data = (uint8_t *) data + n;
                size -= n;
                offset += n;
        }
        return 0;
}

int fd_write_all(int fd, const void *data, size_t size)
{
        while (size > 0) {
                ssize_t n = write(fd, data, size);
                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0)
                        return -errno;
                data = (const uint8_t *) data + n;
                size -= n;
        }
        return 0;
}

int fd_pwrite_all(int fd, const void *data, size_t size, uint64_t offset)
{
        while (size > 0) {
                ssize_t n = pwrite(fd, data, size, offset);
                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0)
                        return -errno;
                data = (const uint8_t *) data + n;
                size -= n;
                offset += n;
        }
        return 0;
}

int file_read_at(int dir_fd, const char *path, size_t size_max, char **ret, size_t *ret_size)
{
        /* O_NONBLOCK: a fifo in this place must not hang us before it is refused. */
        _cleanup_close_ int fd = openat(dir_fd, path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
        struct stat st;

        if (fd < 0)
                return -errno;
        if (fstat(fd, &st) < 0)
                return -errno;
        if (!S_ISREG(st.st_mode))
                return S_ISDIR(st.st_mode) ? -EISDIR : -EINVAL;
        return fd_read_all(fd, size_max, ret, ret_size);
}

int random_hex(char s[static 17])
{
        uint64_t x;

        if (getrandom(&x, sizeof(x), 0) != sizeof(x))
                return errno > 0 ? -errno : -EIO;
        (void) snprintf(s, 17, "%016llx", (unsigned long long) x);
        return 0;
}

static int temporary_name(const char *name, char ret[static NAME_MAX + 1])
{
        char hex[17];
        int r = random_hex(hex);

        if (r < 0)
                return r;
        if (snprintf(ret, NAME_MAX + 1, ".%s.%s", name, hex) > NAME_MAX)
                return -ENAMETOOLONG;
        return 0;
}

static int temporary_open_at(int dir_fd, const char *name, mode_t mode,
                             char ret_temporary[static NAME_MAX + 1])
{
        for (int i = 0; i < TEMPORARY_TRIES; i++) {
                int r = temporary_name(name, ret_temporary);
                if (r < 0)
                        return r;
                int fd = openat(dir_fd, ret_temporary,
                                O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, mode);
                if (fd >= 0)
                        return fd;
                if (errno != EEXIST)
                        return -errno;
        }
        return -EEXIST;
}

static int write_and_rename(int fd, int dir_fd, const char *temporary, const char *name,
                            const void *data, size_t size, mode_t mode)
{
        int r = fd_write_all(fd, data, size);

        if (r < 0)
                return r;
        /* The umask has no say in what others may read of ours. */
        if (fchmod(fd, mode) < 0)
                return -errno;
        if (fsync(fd) < 0)
                return -errno;
        if (renameat(dir_fd, temporary, dir_fd, name) < 0)
                return -errno;
        return 0;
}

int file_write_atomic_at(int dir_fd, const char *name, const void *data, size_t size, mode_t mode)
{
        char temporary[NAME_MAX + 1];
        _cleanup_close_ int fd = temporary_open_at(dir_fd, name, mode, temporary);
        int r;

        if (fd < 0)
                return fd;
        r = write_and_rename(fd, dir_fd, temporary, name, data, size, mode);
        if (r < 0) {
                (void) unlinkat(dir_fd, temporary, 0);
                return r;
        }
        return fsync(dir_fd) < 0 ? -errno : 0;
}

static int temporary_symlink_at(const char *target, int dir_fd, const char *name,
                                char ret_temporary[static NAME_MAX + 1])
{
        for (int i = 0; i < TEMPORARY_TRIES; i++) {
                int r = temporary_name(name, ret_temporary);
                if (r < 0)
                        return r;
                if (symlinkat(target, dir_fd, ret_temporary) == 0)
                        return 0;
                if (errno != EEXIST)
                        return -errno;
        }
        return -EEXIST;
}

int symlink_replace_at(const char *target, int dir_fd, const char *name)
{
        char temporary[NAME_MAX + 1];
        int r = temporary_symlink_at(target, dir_fd, name, temporary);

        if (r < 0)
                return r;
        if (renameat(dir_fd, temporary, dir_fd, name) < 0) {
                r = -errno;
                (void) unlinkat(dir_fd, temporary, 0);
                return r;
        }
        return fsync(dir_fd) < 0 ? -errno : 0;
}

/* As temporary_name() makes them. */
static bool is_temporary_of(const char *entry, const char *name)
{
        size_t size = strlen(name);

        return entry[0] == '.' && strncmp(entry + 1, name, size) == 0 && entry[1 + size] == '.' &&
               strspn(entry + size + 2, "0123456789abcdef") == 16 && entry[size + 18] == '\0';
}

int replace_leftovers_remove_at(int dir_fd, const char *name)
{
        int fd = openat(dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC), r = 0;
        DIR *dir = fd < 0 ? NULL : fdopendir(fd);
        struct dirent *entry;

        if (!dir) {
                r = -errno;
                fd_close(fd);
                return r;
        }
        while (r >= 0 && (errno = 0, entry = readdir(dir)))
                if (is_temporary_of(entry->d_name, name) && unlinkat(dir_fd, entry->d_name, 0) < 0)
                        r = -errno;
        if (r >= 0)
                r = -errno;
        (void) closedir(dir);
        return r;
}

int readlink_at(int dir_fd, const char *path, char **ret)
{
        char target[PATH_MAX];
        ssize_t n = readlinkat(dir_fd, path, target, sizeof(target));

        if (n < 0)
                return -errno;
        if ((size_t) n == sizeof(target))
                return -ENAMETOOLONG;
        char *s = strndup(target, n);
        if (!s)
                return -ENOMEM;
        *ret = s;
        return 0;
}

int dir_open_at(int dir_fd, const char *path)
{
        int fd = openat(dir_fd, path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

        return fd < 0 ? -errno : fd;
}

static int mkdir_one(const char *path, mode_t mode)
{
        struct stat st;

        if (mkdir(path, mode) == 0)
                return 0;
        if (errno != EEXIST)
                return -errno;
        if (stat(path, &st) < 0)
                return -errno;
        return S_ISDIR(st.st_mode) ? 0 : -ENOTDIR;
}

int mkdir_parents(const char *path, mode_t mode)
{
        _cleanup_free_ char *prefix = strdup(path);

        if (!prefix)
                return -ENOMEM;
        for (char *slash = strchr(prefix + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
                *slash = '\0';
                int r = mkdir_one(prefix, mode);
                if (r < 0 && r != -EROFS)
                        return r;
                *slash = '/';
        }
        return mkdir_one(prefix, mode);
}

/* One open directory of the path that remove_tree_at() stands in. */
typedef struct Level {
        DIR *dir;
        char name[NAME_MAX + 1];
} Level;

typedef struct Walk {
        Level *levels;
        size_t n_levels, n_allocated;
        dev_t device;
} Walk;

static void walk_done(Walk *w)
{
        for (size_t i = 0; i < w->n_levels; i++)
                (void) closedir(w->levels[i].dir);
        free(w->levels);
}

static int walk_enter(Walk *w, int parent_fd, const char *name)
{
        _cleanup_close_ int fd = dir_open_at(parent_fd, name);
        struct stat st;

        if (fd == -EACCES && fchmodat(parent_fd, name, 0700, 0) == 0)
                fd = dir_open_at(parent_fd, name);
        if (fd < 0)
                return fd;
        if (fstat(fd, &st) < 0)
                return -errno;
        if (w->n_levels == 0)
                w->device = st.st_dev;
        else if (st.st_dev != w->device)
                return -EXDEV;
        /* Entries can be deleted only from a directory that its owner may write. */
        if ((st.st_mode & 0700) != 0700 && fchmod(fd, 0700) < 0)
                return -errno;
        if (w->n_levels == w->n_allocated) {
                size_t n = w->n_allocated ? w->n_allocated * 2 : 16;
                Level *larger = reallocarray(w->levels, n, sizeof(Level));
                if (!larger)
                        return -ENOMEM;
                w->levels = larger;
                w->n_allocated = n;
        }
        Level *level = &w->levels[w->n_levels];
        (void) snprintf(level->name, sizeof(level->name), "%s", name);
        level->dir = fdopendir(fd);
        if (!level->dir)
                return -errno;
        (void) TAKE_FD(fd);
        w->n_levels++;
        return 0;
}

/* Removes what can be removed at once. 1: it is a directory that has to be entered. */
static int unlink_or_enter(int parent_fd, const char *name)
{
        if (unlinkat(parent_fd, name, 0) == 0 || errno == ENOENT)
                return 0;
        int r = -errno;
        /* EACCES: under Landlock, also for a directory that may be removed where files may not. */
        if (r != -EISDIR && r != -EPERM && r != -EACCES)
                return r;
        if (unlinkat(parent_fd, name, AT_REMOVEDIR) == 0 || errno == ENOENT)
                return 0;
        if (errno == ENOTDIR)
                return r;
        return errno == ENOTEMPTY || errno == EEXIST || errno == EACCES ? 1 : -errno;
}

static int walk_leave(Walk *w, int root_fd)
{
        Level *level = &w->levels[--w->n_levels];
        int parent_fd = w->n_levels > 0 ? dirfd(w->levels[w->n_levels - 1].dir) : root_fd;

        (void) closedir(level->dir);
        return unlinkat(parent_fd, level->name, AT_REMOVEDIR) < 0 ? -errno : 0;
}

static int walk_step(Walk *w, int root_fd)
{
        Level *level = &w->levels[w->n_levels - 1];

        errno = 0;
        struct dirent *entry = readdir(level->dir);
        if (!entry)
                return errno > 0 ? -errno : walk_leave(w, root_fd);
        if (streq(entry->d_name, ".") || streq(entry->d_name, ".."))
                return 0;
        int r = unlink_or_enter(dirfd(level->dir), entry->d_name);
        return r == 1 ? walk_enter(w, dirfd(level->dir), entry->d_name) : r;
}

int remove_tree_at(int dir_fd, const char *name)
{
        _cleanup_(walk_done) Walk w = {};
        int r = unlink_or_enter(dir_fd, name);

        if (r <= 0)
                return r;
        r = walk_enter(&w, dir_fd, name);
        while (r >= 0 && w.n_levels > 0)
                r = walk_step(&w, dir_fd);
        return r;
}

int memfd_sealed(const char *name, const void *data, size_t size)
{
        _cleanup_close_ int fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
        int r;

        if (fd < 0)
                return -errno;
        r = fd_pwrite_all(fd, data, size, 0);
        if (r < 0)
                return r;
        if (fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL) < 0)
                return -errno;
        return TAKE_FD(fd);
}
