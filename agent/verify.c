/* SPDX-License-Identifier: Apache-2.0 */
#include "verify.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "beneath.h"
#include "err.h"
#include "fd.h"
#include "name.h"
#include "shared-link.h"

typedef struct Verify {
        const Index *index;
        const VerifyOptions *options;
        Beneath *beneath;
        int tree_fd;
        size_t n_files;
        uint64_t n_bytes;
        char **reterr;
} Verify;

const char *drift_kind_to_string(DriftKind k)
{
        static const char *const names[_DRIFT_KIND_MAX] = {
                [DRIFT_MISSING] = "missing", [DRIFT_EXTRA] = "extra", [DRIFT_TYPE] = "type",
                [DRIFT_CONTENT] = "content", [DRIFT_MODE] = "mode",   [DRIFT_OWNER] = "owner",
                [DRIFT_LINK] = "link",
        };

        return names[k];
}

static void differ(const Verify *v, DriftKind kind, const char *path, const char *expected,
                   const char *found)
{
        const Drift d = { kind, path, expected, found };

        v->options->drift(&d, v->options->userdata);
}

static int failed(const Verify *v, int error, const char *path)
{
        return fail_errno(v->reterr, error, "can't read '%s'", path);
}

/* An ancestor is no directory any more, or gone: that was said at its own entry. */
static bool is_lost(int error)
{
        return error == -ENOENT || error == -ENOTDIR || error == -ELOOP;
}

static const char *type_name(mode_t mode)
{
        switch (mode & S_IFMT) {
        case S_IFREG:
                return "a file";
        case S_IFDIR:
                return "a directory";
        case S_IFLNK:
                return "a link";
        case S_IFIFO:
                return "a fifo";
        case S_IFSOCK:
                return "a socket";
        default:
                return "a device";
        }
}

static mode_t type_of(const IndexFile *f)
{
        return f->type == FILE_REGULAR ? S_IFREG : f->type == FILE_DIRECTORY ? S_IFDIR : S_IFLNK;
}

static void check_mode(const Verify *v, const char *path, const struct stat *st, mode_t mode)
{
        char expected[16], found[16];

        if (S_ISLNK(st->st_mode) || (st->st_mode & 07777) == mode)
                return;
        (void) snprintf(expected, sizeof(expected), "%04o", (unsigned) mode);
        (void) snprintf(found, sizeof(found), "%04o", (unsigned) st->st_mode & 07777);
        differ(v, DRIFT_MODE, path, expected, found);
}

static void check_owner(const Verify *v, const char *path, const struct stat *st)
{
        const VerifyOptions *o = v->options;
        char expected[32], found[32];

        if (st->st_uid == o->uid && st->st_gid == o->gid)
                return;
        (void) snprintf(expected, sizeof(expected), "%u:%u", o->uid, o->gid);
        (void) snprintf(found, sizeof(found), "%u:%u", st->st_uid, st->st_gid);
        differ(v, DRIFT_OWNER, path, expected, found);
}

static int check_link(const Verify *v, int parent_fd, const char *name, const char *path,
                      const char *expected)
{
        _cleanup_free_ char *target = NULL;
        int r = readlink_at(parent_fd, name, &target);

        if (r < 0)
                return failed(v, r, path);
        if (!streq(target, expected))
                differ(v, DRIFT_LINK, path, expected, target);
        return 0;
}

/* Content */

/* Not blocked by a fifo that took the file's place meanwhile. */
static int open_file(int parent_fd, const char *name, const struct stat *expected)
{
        int fd = openat(parent_fd, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
        struct stat st;

        if (fd < 0)
                return -errno;
        if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) || st.st_ino != expected->st_ino ||
            st.st_dev != expected->st_dev) {
                fd_close(fd);
                return -ESTALE;
        }
        return fd;
}

static int check_content(const Verify *v, const IndexFile *f, int parent_fd, const char *name,
                         const struct stat *st)
{
        _cleanup_close_ int fd = -EBADF;
        char expected[48], found[48];
        Sha256 digest;
        int r;

        if ((uint64_t) st->st_size != f->size_bytes) {
                (void) snprintf(expected, sizeof(expected), "%llu bytes",
                                (unsigned long long) f->size_bytes);
                (void) snprintf(found, sizeof(found), "%llu bytes",
                                (unsigned long long) st->st_size);
                differ(v, DRIFT_CONTENT, f->path, expected, found);
                return 0;
        }
        fd = open_file(parent_fd, name, st);
        r = fd < 0 ? fd : sha256_fd(fd, 0, f->size_bytes, &digest);
        if (r < 0)
                return failed(v, r, f->path);
        if (!sha256_equal(&digest, &f->sha256))
                differ(v, DRIFT_CONTENT, f->path, "what was signed", "other bytes");
        return 0;
}

/* What should not be there */

/* 1: `path` is a shared link; 2: a directory on the way to one; 0: neither. */
static int shared_role(const Verify *v, const char *path)
{
        const Activate *a = v->options->activate;
        size_t size = strlen(path);

        for (size_t i = 0; i < a->n_shared; i++) {
                if (streq(a->shared[i].path, path))
                        return 1;
                if (strncmp(a->shared[i].path, path, size) == 0 && a->shared[i].path[size] == '/')
                        return 2;
        }
        return 0;
}

static void check_name(const Verify *v, const char *dir, const char *name)
{
        char path[TREE_PATH_SIZE_MAX + 1];
        int n;

        if (streq(name, ".") || streq(name, ".."))
                return;
        n = streq(dir, ".") ? snprintf(path, sizeof(path), "%s", name)
                            : snprintf(path, sizeof(path), "%s/%s", dir, name);
        if (n < 0 || (size_t) n >= sizeof(path) ||
            (!index_find(v->index, path) && shared_role(v, path) == 0))
                differ(v, DRIFT_EXTRA, path, NULL, NULL);
}

static int check_extra(const Verify *v, int parent_fd, const char *name, const char *path)
{
        int fd = dir_open_at(parent_fd, name), r = 0;
        DIR *dir = fd < 0 ? NULL : fdopendir(fd);
        struct dirent *entry;

        if (!dir) {
                r = fd < 0 ? fd : -errno;
                fd_close(fd);
                return is_lost(r) ? 0 : failed(v, r, path);
        }
        while ((errno = 0, entry = readdir(dir)))
                check_name(v, path, entry->d_name);
        if (errno > 0)
                r = failed(v, -errno, path);
        (void) closedir(dir);
        return r;
}

/* Entries */

/* Common to all: 1 if there is something of this type, which *ret is. */
static int check_entry(const Verify *v, const char *path, mode_t type, mode_t mode, int *ret_parent,
                       const char **ret_name, struct stat *ret)
{
        int fd = beneath_parent(v->beneath, path, ret_name);

        if (fd < 0)
                return is_lost(fd) ? 0 : failed(v, fd, path);
        if (fstatat(fd, *ret_name, ret, AT_SYMLINK_NOFOLLOW) < 0) {
                if (errno != ENOENT)
                        return failed(v, -errno, path);
                differ(v, DRIFT_MISSING, path, NULL, NULL);
                return 0;
        }
        if ((ret->st_mode & S_IFMT) != type) {
                differ(v, DRIFT_TYPE, path, type_name(type), type_name(ret->st_mode));
                return 0;
        }
        check_owner(v, path, ret);
        check_mode(v, path, ret, mode);
        *ret_parent = fd;
        return 1;
}

static int check_file(Verify *v, const IndexFile *f)
{
        const char *name = NULL;
        struct stat st;
        int fd = -EBADF, r;

        if (f->type == FILE_DIRECTORY && shared_role(v, f->path) == 1)
                return 0;
        r = check_entry(v, f->path, type_of(f), f->mode, &fd, &name, &st);
        if (r <= 0)
                return r;
        if (f->type == FILE_SYMLINK)
                return check_link(v, fd, name, f->path, f->link);
        if (f->type == FILE_DIRECTORY)
                return check_extra(v, fd, name, f->path);
        v->n_bytes += f->size_bytes;
        return check_content(v, f, fd, name, &st);
}

/* Made for a shared link, where the release has none. */
static int check_made_directory(const Verify *v, const char *path)
{
        const char *name = NULL;
        struct stat st;
        int fd = -EBADF, r;

        if (index_find(v->index, path))
                return 0;
        r = check_entry(v, path, S_IFDIR, 0755, &fd, &name, &st);
        return r <= 0 ? r : check_extra(v, fd, name, path);
}

/* Several links may have it in common. */
static bool is_first_below(const Activate *a, size_t n, const char *dir, size_t size)
{
        for (size_t i = 0; i < n; i++)
                if (strncmp(a->shared[i].path, dir, size) == 0 && a->shared[i].path[size] == '/')
                        return false;
        return true;
}

static int check_shared_link(const Verify *v, size_t n)
{
        const Activate *a = v->options->activate;
        char dir[TREE_PATH_SIZE_MAX + 1], target[PATH_MAX];
        const char *path = a->shared[n].path, *name = NULL;
        struct stat st;
        int fd = -EBADF, r = shared_link_target(path, target);

        if (r < 0)
                return failed(v, r, path);
        for (const char *slash = strchr(path, '/'); slash; slash = strchr(slash + 1, '/')) {
                size_t size = slash - path;

                memcpy(dir, path, size);
                dir[size] = '\0';
                r = is_first_below(a, n, dir, size) ? check_made_directory(v, dir) : 0;
                if (r < 0)
                        return r;
        }
        r = check_entry(v, path, S_IFLNK, 0777, &fd, &name, &st);
        return r <= 0 ? r : check_link(v, fd, name, path, target);
}

static int check_top(const Verify *v)
{
        struct stat st;

        if (fstat(v->tree_fd, &st) < 0)
                return failed(v, -errno, ".");
        check_owner(v, ".", &st);
        check_mode(v, ".", &st, 0755);
        return check_extra(v, v->tree_fd, ".", ".");
}

static int check_all(Verify *v)
{
        const VerifyOptions *o = v->options;
        int r = check_top(v);

        for (size_t n = 0; r >= 0 && n < index_n_files(v->index); n++) {
                r = check_file(v, index_file(v->index, n));
                v->n_files++;
                if (o->progress)
                        o->progress(v->n_files, v->n_bytes, o->userdata);
        }
        for (size_t n = 0; r >= 0 && n < o->activate->n_shared; n++)
                r = check_shared_link(v, n);
        return r;
}

int verify_tree(int tree_fd, const Index *index, const VerifyOptions *options, char **reterr)
{
        _cleanup_(beneath_freep) Beneath *beneath = NULL;
        Verify v = { .index = index, .options = options, .tree_fd = tree_fd, .reterr = reterr };
        int r = beneath_new(tree_fd, &beneath);

        if (r < 0)
                return r;
        v.beneath = beneath;
        return check_all(&v);
}
