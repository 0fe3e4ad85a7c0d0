/* SPDX-License-Identifier: Apache-2.0 */
#include "repack.h"

#include <archive.h>
#include <archive_entry.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "err.h"
#include "fd.h"
#include "index.h"
#include "name.h"

#define BLOCK_SIZE (128 * 1024)

static inline void archive_donep(struct archive **a)
{
        if (*a)
                (void) archive_read_free(*a);
}

static int enable_formats(struct archive *a)
{
        /* Only what is promised: each parser that is not there has no bugs. */
        if (archive_read_support_filter_gzip(a) != ARCHIVE_OK ||
            archive_read_support_filter_xz(a) != ARCHIVE_OK ||
            archive_read_support_filter_zstd(a) != ARCHIVE_OK ||
            archive_read_support_format_tar(a) != ARCHIVE_OK ||
            archive_read_support_format_zip(a) != ARCHIVE_OK)
                return -EOPNOTSUPP;
        return 0;
}

static int fail_archive(char **reterr, struct archive *a, const char *path)
{
        const char *why = archive_error_string(a);

        if (archive_errno(a) == ENOMEM)
                return -ENOMEM;
        return fail(reterr, -EBADMSG, "%s%s%s", strempty(path), path ? ": " : "",
                    why ? why : "the archive is damaged");
}

/* The entry's path without leading "./" and trailing "/"; "" for the top directory itself. */
static int clean_path(const char *raw, char **ret, char **reterr)
{
        while (raw[0] == '.' && raw[1] == '/')
                raw += 1 + strspn(raw + 1, "/");
        size_t size = strlen(raw);
        while (size > 1 && raw[size - 1] == '/')
                size--;
        char *path = size == 1 && raw[0] == '.' ? strdup("") : strndup(raw, size);
        if (!path)
                return -ENOMEM;
        if (*path && !tree_path_is_valid(path)) {
                int r = fail(reterr, -EBADMSG,
                             "%s: the path is absolute, has '..' or control characters, or is too "
                             "long",
                             path);
                free(path);
                return r;
        }
        *ret = path;
        return 0;
}

/* Opens the directory that `path` lies in, making what is missing, never through a symlink.
 * *ret_name points to the last component. */
static int open_parent(int tree_fd, const char *path, const char **ret_name)
{
        _cleanup_close_ int fd = dir_open_at(tree_fd, ".");

        if (fd < 0)
                return fd;
        for (const char *slash; (slash = strchr(path, '/')); path = slash + 1) {
                _cleanup_free_ char *component = strndup(path, slash - path);
                if (!component)
                        return -ENOMEM;
                if (mkdirat(fd, component, 0755) < 0 && errno != EEXIST)
                        return -errno;
                int next_fd = dir_open_at(fd, component);
                if (next_fd < 0)
                        return next_fd;
                fd_close(fd);
                fd = next_fd;
        }
        *ret_name = path;
        return TAKE_FD(fd);
}

static int copy_content(struct archive *a, int fd, const char *path, char **reterr)
{
        const void *block;
        size_t size;
        la_int64_t offset;

        for (;;) {
                int r = archive_read_data_block(a, &block, &size, &offset);
                if (r == ARCHIVE_EOF)
                        return 0;
                if (r != ARCHIVE_OK)
                        return fail_archive(reterr, a, path);
                r = fd_pwrite_all(fd, block, size, offset);
                if (r < 0)
                        return fail_errno(reterr, r, "%s", path);
        }
}

static int unpack_file(struct archive *a, struct archive_entry *e, int parent_fd, const char *name,
                       const char *path, char **reterr)
{
        mode_t mode = archive_entry_perm(e);
        const struct timespec times[2] = { { .tv_nsec = UTIME_OMIT },
                                           { .tv_sec = archive_entry_mtime(e) } };
        _cleanup_close_ int fd = -EBADF;
        int r;

        if (mode & (S_ISUID | S_ISGID | S_ISVTX))
                return fail(reterr, -EBADMSG, "%s: has a setuid, setgid or sticky bit", path);
        if (archive_entry_is_encrypted(e))
                return fail(reterr, -EBADMSG, "%s: is encrypted", path);
        fd = openat(parent_fd, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
        if (fd < 0)
                return errno == EEXIST ? fail(reterr, -EBADMSG, "%s: comes twice", path) : -errno;
        r = copy_content(a, fd, path, reterr);
        if (r < 0)
                return r;
        if (archive_entry_size_is_set(e) && ftruncate(fd, archive_entry_size(e)) < 0)
                return -errno; /* sparse at its end */
        if (fchmod(fd, mode & 0100 ? 0755 : 0644) < 0 || futimens(fd, times) < 0)
                return -errno;
        return 0;
}

static int judge_link(const char *path, const char *target, char **reterr)
{
        if (target && tree_link_is_inside(path, target))
                return 0;
        return fail(reterr, -EBADMSG, "%s: is a symlink to %s, which is outside of the tree", path,
                    target ? target : "something unreadable");
}

static int unpack_link(const struct archive_entry *e, int parent_fd, const char *name,
                       const char *path, char **reterr)
{
        const char *target = archive_entry_symlink((struct archive_entry *) e);
        int r = judge_link(path, target, reterr);

        if (r < 0)
                return r;
        if (symlinkat(target, parent_fd, name) < 0)
                return errno == EEXIST ? fail(reterr, -EBADMSG, "%s: comes twice", path) : -errno;
        return 0;
}

/* A symlink by a second path leads elsewhere. */
static int judge_linked(int dir_fd, const char *name, mode_t mode, const char *path, char **reterr)
{
        char target[TREE_PATH_SIZE_MAX + 1];
        ssize_t n;

        if (!S_ISLNK(mode))
                return 0;
        n = readlinkat(dir_fd, name, target, sizeof(target) - 1);
        if (n < 0)
                return -errno;
        target[n] = '\0';
        return judge_link(path, target, reterr);
}

static int unpack_hardlink(struct archive_entry *e, int tree_fd, int parent_fd, const char *name,
                           const char *path, char **reterr)
{
        const char *raw = archive_entry_hardlink(e), *target_name = NULL;
        _cleanup_free_ char *target = NULL;
        _cleanup_close_ int target_fd = -EBADF;
        struct stat st;
        int r = clean_path(raw, &target, reterr);

        if (r < 0)
                return fail_prefix(reterr, r, "%s: is a hard link", path);
        if (!*target)
                return fail(reterr, -EBADMSG, "%s: is a hard link to a directory", path);
        target_fd = open_parent(tree_fd, target, &target_name);
        if (target_fd < 0 || fstatat(target_fd, target_name, &st, AT_SYMLINK_NOFOLLOW) < 0 ||
            S_ISDIR(st.st_mode))
                return fail(reterr, -EBADMSG,
                            "%s: is a hard link to %s, which is no file in the archive before it",
                            path, target);
        r = judge_linked(target_fd, target_name, st.st_mode, path, reterr);
        if (r < 0)
                return r;
        if (linkat(target_fd, target_name, parent_fd, name, 0) < 0)
                return errno == EEXIST ? fail(reterr, -EBADMSG, "%s: comes twice", path) : -errno;
        return 0;
}

static int unpack_directory(int parent_fd, const char *name, const char *path, char **reterr)
{
        struct stat st;

        if (mkdirat(parent_fd, name, 0755) == 0)
                return 0;
        if (errno != EEXIST)
                return -errno;
        if (fstatat(parent_fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
                return -errno;
        return S_ISDIR(st.st_mode) ? 0 : fail(reterr, -EBADMSG, "%s: comes twice", path);
}

static int unpack_typed(struct archive *a, struct archive_entry *e, int tree_fd, int parent_fd,
                        const char *name, const char *path, char **reterr)
{
        if (archive_entry_hardlink(e))
                return unpack_hardlink(e, tree_fd, parent_fd, name, path, reterr);
        switch (archive_entry_filetype(e)) {
        case AE_IFREG:
                return unpack_file(a, e, parent_fd, name, path, reterr);
        case AE_IFDIR:
                return unpack_directory(parent_fd, name, path, reterr);
        case AE_IFLNK:
                return unpack_link(e, parent_fd, name, path, reterr);
        default:
                return fail(reterr, -EBADMSG,
                            "%s: is a device, fifo or socket, which a release can't hold", path);
        }
}

static int unpack_entry(struct archive *a, struct archive_entry *e, int tree_fd, char **reterr)
{
        const char *raw = archive_entry_pathname(e), *name = NULL;
        _cleanup_free_ char *path = NULL;
        _cleanup_close_ int parent_fd = -EBADF;
        int r;

        if (!raw)
                return fail(reterr, -EBADMSG, "an entry's name can't be read");
        r = clean_path(raw, &path, reterr);
        if (r < 0)
                return r;
        if (!*path)
                return 0;
        parent_fd = open_parent(tree_fd, path, &name);
        if (parent_fd == -ENOTDIR || parent_fd == -ELOOP)
                return fail(reterr, -EBADMSG, "%s: lies in something that is not a directory",
                            path);
        if (parent_fd < 0)
                return fail_errno(reterr, parent_fd, "%s", path);
        _cleanup_free_ char *err = NULL;
        r = unpack_typed(a, e, tree_fd, parent_fd, name, path, &err);
        if (r < 0)
                return err ? fail(reterr, r, "%s", err) : fail_errno(reterr, r, "%s", path);
        return 0;
}

static int unpack_all(struct archive *a, int tree_fd, char **reterr)
{
        for (size_t n = 0;; n++) {
                struct archive_entry *e;
                int r = archive_read_next_header(a, &e);
                if (r == ARCHIVE_EOF)
                        return 0;
                if (r != ARCHIVE_OK)
                        return fail_archive(reterr, a,
                                            r == ARCHIVE_WARN ? archive_entry_pathname(e) : NULL);
                if (n == FILES_MAX)
                        return fail(reterr, -EBADMSG, "more than %u entries", FILES_MAX);
                r = unpack_entry(a, e, tree_fd, reterr);
                if (r < 0)
                        return r;
        }
}

int repack_unpack(int archive_fd, int tree_fd, const char *name, char **reterr)
{
        _cleanup_(archive_donep) struct archive *a = archive_read_new();
        int r = a ? enable_formats(a) : -ENOMEM;

        if (r < 0)
                return fail(reterr, r, "%s: libarchive lacks a format", name);
        if (archive_read_open_fd(a, archive_fd, BLOCK_SIZE) != ARCHIVE_OK) {
                r = fail_archive(reterr, a, NULL);
                return fail_prefix(reterr, r, "%s is no .tar, .tar.gz, .tar.xz, .tar.zst or .zip",
                                   name);
        }
        r = unpack_all(a, tree_fd, reterr);
        return r < 0 ? fail_prefix(reterr, r, "%s", name) : 0;
}
