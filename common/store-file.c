/* SPDX-License-Identifier: Apache-2.0 */

/*
 * file:///directory: a store in a directory, for trying out, tests and hosts without a network. The
 * rest of the URL is the directory's name, taken as it is.
 *
 * - Objects are files. They are replaced whole and durably; readers take no lock and see the old or
 *   the new one.
 * - An ETag is made from the content of a file of up to 1 MiB, else from inode, time and size: a
 *   writer makes a new inode for every object, and large objects are not replaced.
 * - Writers hold an OFD lock on ".#lock" in the directory while they compare and rename, so that of
 *   two conditional PUTs one gets STORE_CONFLICT.
 * - Symlinks below the directory are not followed. Names that no object can have (".#...") are
 * ours.
 * - The directory is made by the first PUT. Reading without it is -ENOENT, not STORE_ABSENT.
 */

#include <dirent.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#include "err.h"
#include "fd.h"
#include "name.h"
#include "store-backend.h"

#define SCHEME           STORE_FILE_SCHEME
#define LOCK_NAME        ".#lock"
#define LOCK_TRIES       1000
#define LOCK_WAIT_NSEC   (10 * 1000 * 1000)
#define CONTENT_ETAG_MAX (1024 * 1024)
#define COPY_SIZE        65536

static const char *store_root(const Store *s)
{
        return s->url + STRLEN(SCHEME);
}

static int file_open(Store *s, char **reterr)
{
        if (store_root(s)[0] != '/')
                return fail(
                        reterr, -EINVAL,
                        "'%s' does not name a directory by its full path: use file:///directory",
                        s->url);
        return 0;
}

static void file_free(Store *s)
{
        (void) s;
}

static int file_start(StoreCall *c)
{
        (void) c;
        return 0;
}

static void file_drop(StoreCall *c)
{
        (void) c;
}

static int root_open(const Store *s, char **reterr)
{
        int fd = open(store_root(s), O_RDONLY | O_DIRECTORY | O_CLOEXEC);

        if (fd >= 0)
                return fd;
        if (errno == ENOENT)
                return fail(reterr, -ENOENT, "the store's directory %s does not exist",
                            store_root(s));
        return fail_errno(reterr, -errno, "can't open the store's directory %s", store_root(s));
}

/* What opening a part of an object's path says: an outcome or an error. */
static int judge_open(int error, const char *path, char **reterr)
{
        if (error == -ENOENT)
                return STORE_ABSENT;
        if (error == -ELOOP || error == -ENOTDIR)
                return fail(reterr, -ENOTDIR,
                            "'%s' leads through a symlink or a file, which a store does not follow",
                            path);
        if (error == -EACCES) {
                (void) fail(reterr, error, "no permission to open '%s'", path);
                return STORE_UNKNOWN;
        }
        return fail_errno(reterr, error, "can't open '%s'", path);
}

/* As with objects, whatever the umask is: others read here. */
static int open_to_others(int dir_fd)
{
        struct stat st;

        if (fstat(dir_fd, &st) < 0)
                return -errno;
        return fchmod(dir_fd, (st.st_mode & 07777) | 0755) < 0 ? -errno : 0;
}

/* Enters one directory, making it first if asked to. */
static int enter(int parent_fd, const char *name, bool make)
{
        _cleanup_close_ int fd = dir_open_at(parent_fd, name);
        bool made;
        int r;

        if (fd != -ENOENT || !make)
                return TAKE_FD(fd);
        made = mkdirat(parent_fd, name, 0755) >= 0;
        if (!made && errno != EEXIST)
                return -errno;
        if (fsync(parent_fd) < 0)
                return -errno;
        fd = dir_open_at(parent_fd, name);
        r = made && fd >= 0 ? open_to_others(fd) : 0;
        return r < 0 ? r : TAKE_FD(fd);
}

/* Opens the directory that `path` lies in, without following symlinks. *ret_name points into
 * `path`. A negative errno of the open that failed. */
static int parent_open(int root_fd, const char *path, bool make, const char **ret_name)
{
        _cleanup_close_ int fd = fcntl(root_fd, F_DUPFD_CLOEXEC, 0);
        const char *slash;

        if (fd < 0)
                return -errno;
        for (; (slash = strchr(path, '/')); path = slash + 1) {
                char name[NAME_MAX + 1];
                if (snprintf(name, sizeof(name), "%.*s", (int) (slash - path), path) > NAME_MAX)
                        return -ENAMETOOLONG;
                int child = enter(fd, name, make);
                if (child < 0)
                        return child;
                fd_close(fd);
                fd = child;
        }
        *ret_name = path;
        return TAKE_FD(fd);
}

static int object_open(int dir_fd, const char *name)
{
        int fd = openat(dir_fd, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);

        return fd < 0 ? -errno : fd;
}

static int object_etag(int fd, const struct stat *st, char **ret)
{
        char hex[SHA256_HEX_SIZE];
        Sha256 digest;
        int r;

        if (st->st_size <= CONTENT_ETAG_MAX) {
                r = sha256_fd(fd, 0, st->st_size, &digest);
                if (r < 0)
                        return r;
                r = asprintf(ret, "\"%.32s\"", sha256_to_hex(&digest, hex));
        } else
                r = asprintf(ret, "\"%" PRIx64 "-%" PRIx64 "-%lx-%" PRIx64 "\"",
                             (uint64_t) st->st_ino, (uint64_t) st->st_mtim.tv_sec,
                             st->st_mtim.tv_nsec, (uint64_t) st->st_size);
        if (r < 0) {
                *ret = NULL;
                return -ENOMEM;
        }
        return 0;
}

/* What writes a GET's bytes: to the sink, telling how far it is, or to memory. */
static int copy_to_sink(const StoreCall *c, int fd, uint64_t offset, uint64_t size)
{
        const StoreRequest *q = &c->request;
        char buffer[COPY_SIZE];

        for (uint64_t at = 0; at < size;) {
                size_t n = MIN(size - at, sizeof(buffer));
                int r = fd_pread_exactly(fd, buffer, n, offset + at);
                if (r >= 0)
                        r = fd_pwrite_all(q->sink_fd, buffer, n, q->sink_offset + at);
                if (r < 0)
                        return r;
                at += n;
                if (q->progress)
                        q->progress(at, size, c->userdata);
        }
        return 0;
}

static int copy_to_memory(int fd, uint64_t offset, uint64_t size, StoreReply *reply)
{
        _cleanup_free_ char *data = malloc(size + 1);
        int r;

        if (!data)
                return -ENOMEM;
        r = fd_pread_exactly(fd, data, size, offset);
        if (r < 0)
                return r;
        data[size] = '\0';
        reply->data = TAKE_PTR(data);
        return 0;
}

static int get_bytes(const StoreCall *c, int fd, uint64_t file_size, StoreReply *reply,
                     char **reterr)
{
        const StoreRequest *q = &c->request;
        uint64_t offset = 0, size = file_size;
        int r;

        if (q->range_size > 0) {
                offset = q->range_offset;
                size = q->range_size;
                if (offset > file_size || size > file_size - offset)
                        return fail(reterr, -EPROTO,
                                    "'%s' has only %" PRIu64 " bytes, so not the part that was "
                                    "asked for",
                                    q->path, file_size);
        }
        if (size > q->size_max)
                return fail(reterr, -EFBIG,
                            "'%s' has %" PRIu64 " bytes, more than the limit of %" PRIu64, q->path,
                            size, q->size_max);
        r = q->to_fd ? copy_to_sink(c, fd, offset, size) : copy_to_memory(fd, offset, size, reply);
        if (r < 0)
                return fail_errno(reterr, r, "can't read '%s'", q->path);
        reply->size = size;
        return 0;
}

static int do_get(StoreCall *c, StoreReply *reply, char **reterr)
{
        const StoreRequest *q = &c->request;
        const char *name;
        struct stat st;
        int r;

        _cleanup_close_ int root_fd = root_open(c->store, reterr);
        if (root_fd < 0)
                return root_fd;
        _cleanup_close_ int dir_fd = parent_open(root_fd, q->path, false, &name);
        if (dir_fd < 0)
                return judge_open(dir_fd, q->path, reterr);
        _cleanup_close_ int fd = object_open(dir_fd, name);
        if (fd < 0)
                return judge_open(fd, q->path, reterr);
        if (fstat(fd, &st) < 0)
                return fail_errno(reterr, -errno, "can't look at '%s'", q->path);
        if (!S_ISREG(st.st_mode))
                return S_ISDIR(st.st_mode)
                               ? STORE_ABSENT
                               : fail(reterr, -EINVAL, "'%s' is not a regular file", q->path);
        r = object_etag(fd, &st, &reply->etag);
        if (r < 0)
                return fail_errno(reterr, r, "can't read '%s'", q->path);
        if (q->if_match && !streq(q->if_match, reply->etag))
                return STORE_CONFLICT;
        if (q->if_none_match && streq(q->if_none_match, reply->etag))
                return STORE_NOT_MODIFIED;
        return get_bytes(c, fd, st.st_size, reply, reterr);
}

static int lock_take(int root_fd)
{
        const struct timespec pause = { .tv_nsec = LOCK_WAIT_NSEC };
        struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
        _cleanup_close_ int fd =
                openat(root_fd, LOCK_NAME, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0666);

        if (fd < 0)
                return -errno;
        for (int i = 0; i < LOCK_TRIES; i++) {
                if (fcntl(fd, F_OFD_SETLK, &lock) == 0)
                        return TAKE_FD(fd);
                if (errno != EAGAIN && errno != EACCES)
                        return -errno;
                (void) nanosleep(&pause, NULL);
        }
        return -ETIMEDOUT;
}

/* 0: the condition of a PUT holds for what is there now. */
static int check_condition(const StoreRequest *q, int dir_fd, const char *name)
{
        _cleanup_free_ char *etag = NULL;
        struct stat st;
        int r;

        if (!q->if_match && !q->if_none_match)
                return 0;
        _cleanup_close_ int fd = object_open(dir_fd, name);
        if (fd == -ENOENT)
                return q->if_match ? STORE_ABSENT : 0;
        if (fd < 0)
                return fd;
        if (q->if_none_match)
                return STORE_CONFLICT;
        if (fstat(fd, &st) < 0)
                return -errno;
        r = object_etag(fd, &st, &etag);
        if (r < 0)
                return r;
        return streq(q->if_match, etag) ? 0 : STORE_CONFLICT;
}

static int copy_body(const StoreCall *c, int fd)
{
        const StoreRequest *q = &c->request;
        char buffer[COPY_SIZE];

        if (!q->from_fd)
                return fd_write_all(fd, strempty(q->body), q->body_size);
        for (uint64_t at = 0; at < q->body_size;) {
                size_t n = MIN(q->body_size - at, sizeof(buffer));
                int r = fd_pread_exactly(q->body_fd, buffer, n, q->body_offset + at);
                if (r >= 0)
                        r = fd_write_all(fd, buffer, n);
                if (r < 0)
                        return r;
                at += n;
                if (q->progress)
                        q->progress(at, q->body_size, c->userdata);
        }
        return 0;
}

static int write_aside(const StoreCall *c, int fd, char **ret_etag)
{
        struct stat st;
        int r = copy_body(c, fd);

        if (r < 0)
                return r;
        if (fchmod(fd, 0644) < 0 || fsync(fd) < 0 || fstat(fd, &st) < 0)
                return -errno;
        return object_etag(fd, &st, ret_etag);
}

/* The file stands complete under a name aside; makes it the object if the condition holds. */
static int put_in_place(const StoreRequest *q, int root_fd, int dir_fd, const char *aside,
                        const char *name)
{
        int r;

        _cleanup_close_ int lock_fd = lock_take(root_fd);
        if (lock_fd < 0)
                return lock_fd;
        r = check_condition(q, dir_fd, name);
        if (r != 0)
                return r;
        if (renameat(dir_fd, aside, dir_fd, name) < 0)
                return -errno;
        return fsync(dir_fd) < 0 ? -errno : 0;
}

static int put_at(const StoreCall *c, int root_fd, int dir_fd, const char *name, StoreReply *reply)
{
        char hex[17], aside[NAME_MAX + 1];
        int r = random_hex(hex);

        if (r < 0)
                return r;
        (void) snprintf(aside, sizeof(aside), ".#%s", hex);
        _cleanup_close_ int fd =
                openat(dir_fd, aside, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
        if (fd < 0)
                return -errno;
        r = write_aside(c, fd, &reply->etag);
        if (r >= 0)
                r = put_in_place(&c->request, root_fd, dir_fd, aside, name);
        if (r != 0)
                (void) unlinkat(dir_fd, aside, 0);
        return r;
}

static int do_put(StoreCall *c, StoreReply *reply, char **reterr)
{
        const StoreRequest *q = &c->request;
        const char *name;
        int r = mkdir_parents(store_root(c->store), 0755);

        if (r < 0)
                return fail_errno(reterr, r, "can't make the store's directory %s",
                                  store_root(c->store));
        _cleanup_close_ int root_fd = root_open(c->store, reterr);
        if (root_fd < 0)
                return root_fd;
        _cleanup_close_ int dir_fd = parent_open(root_fd, q->path, true, &name);
        r = dir_fd < 0 ? dir_fd : put_at(c, root_fd, dir_fd, name, reply);
        if (r == -ETIMEDOUT)
                return fail(reterr, r, "somebody else holds the lock of the store %s for too long",
                            store_root(c->store));
        if (r < 0)
                return fail_errno(reterr, r, "can't write '%s' to the store %s", q->path,
                                  store_root(c->store));
        return r;
}

/* Texts that are collected: keys found, directories still to read. */
typedef struct Names {
        char **names;
        size_t n;
} Names;

static void names_done(Names *l)
{
        for (size_t i = 0; i < l->n; i++)
                free(l->names[i]);
        free(l->names);
}

/* Takes `name` over. The array grows at powers of two. */
static int names_add(Names *l, char *name)
{
        if ((l->n & (l->n - 1)) == 0) {
                char **larger = reallocarray(l->names, l->n ? 2 * l->n : 1, sizeof(char *));
                if (!larger) {
                        free(name);
                        return -ENOMEM;
                }
                l->names = larger;
        }
        l->names[l->n++] = name;
        return 0;
}

static int list_entry(int dir_fd, const char *parent, const char *name, Names *directories,
                      Names *keys)
{
        char *path = NULL;
        struct stat st;

        if (asprintf(&path, "%s%s%s", parent, *parent ? "/" : "", name) < 0)
                return -ENOMEM;
        if (!store_path_is_valid(path)) {
                free(path);
                return 0;
        }
        if (fstatat(dir_fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0) {
                int r = errno == ENOENT ? 0 : -errno;
                free(path);
                return r;
        }
        if (S_ISDIR(st.st_mode))
                return names_add(directories, path);
        if (S_ISREG(st.st_mode))
                return names_add(keys, path);
        free(path);
        return 0;
}

static int directory_open(int root_fd, const char *path)
{
        const char *name;

        if (!*path)
                return fcntl(root_fd, F_DUPFD_CLOEXEC, 0);
        _cleanup_close_ int parent_fd = parent_open(root_fd, path, false, &name);
        return parent_fd < 0 ? parent_fd : dir_open_at(parent_fd, name);
}

static int list_directory(int root_fd, const char *path, Names *directories, Names *keys)
{
        int fd = directory_open(root_fd, path), r = 0;

        /* Gone meanwhile, or no directory: no keys below it, as in S3. */
        if (fd == -ENOENT || fd == -ENOTDIR)
                return 0;
        if (fd < 0)
                return fd;
        DIR *dir = fdopendir(fd);
        if (!dir) {
                r = -errno;
                fd_close(fd);
                return r;
        }
        /* The descriptor may share its position with the root's. */
        rewinddir(dir);
        for (;;) {
                errno = 0;
                struct dirent *entry = readdir(dir);
                if (!entry) {
                        r = -errno;
                        break;
                }
                if (streq(entry->d_name, ".") || streq(entry->d_name, ".."))
                        continue;
                r = list_entry(dirfd(dir), path, entry->d_name, directories, keys);
                if (r < 0)
                        break;
        }
        (void) closedir(dir);
        return r;
}

static int name_compare(const void *a, const void *b)
{
        return strcmp(*(char *const *) a, *(char *const *) b);
}

static int names_join(const Names *keys, uint64_t size_max, StoreReply *reply)
{
        size_t size = 0;

        for (size_t i = 0; i < keys->n; i++)
                size += strlen(keys->names[i]) + 1;
        if (size > size_max)
                return -EFBIG;
        char *data = malloc(size + 1), *p = data;
        if (!data)
                return -ENOMEM;
        *p = '\0';
        for (size_t i = 0; i < keys->n; i++)
                p = stpcpy(stpcpy(p, keys->names[i]), "\n");
        reply->data = data;
        reply->size = size;
        return 0;
}

static int list_all(int root_fd, const char *path, uint64_t size_max, StoreReply *reply)
{
        _cleanup_(names_done) Names directories = {}, keys = {};
        char *first = strdup(path);
        int r = first ? names_add(&directories, first) : -ENOMEM;

        for (size_t i = 0; r >= 0 && i < directories.n; i++)
                r = list_directory(root_fd, directories.names[i], &directories, &keys);
        if (r < 0)
                return r;
        if (keys.n > 0)
                qsort(keys.names, keys.n, sizeof(char *), name_compare);
        return names_join(&keys, size_max, reply);
}

static int do_list(StoreCall *c, StoreReply *reply, char **reterr)
{
        const StoreRequest *q = &c->request;
        int r;

        _cleanup_close_ int root_fd = root_open(c->store, reterr);
        if (root_fd < 0)
                return root_fd;
        r = list_all(root_fd, q->path, q->size_max, reply);
        if (r == -EFBIG)
                return fail(reterr, r, "the list of '%s' has more than %" PRIu64 " bytes", q->path,
                            q->size_max);
        if (r < 0)
                return fail_errno(reterr, r, "can't list '%s' in the store %s", q->path,
                                  store_root(c->store));
        return r;
}

static void run_call(StoreCall *c)
{
        StoreReply reply = {};
        _cleanup_free_ char *err = NULL;
        int r;

        switch (c->request.method) {
        case STORE_GET:
                r = do_get(c, &reply, &err);
                break;
        case STORE_PUT:
                r = do_put(c, &reply, &err);
                break;
        case STORE_LIST:
                r = do_list(c, &reply, &err);
                break;
        default:
                r = -EINVAL;
        }
        store_call_finish(c, r, &reply, err);
}

/* One call a step: a caller with many gets its descriptor looked at between them. */
static int file_step(Store *s, int extra_fd, uint64_t timeout_usec)
{
        struct pollfd p = { .fd = extra_fd, .events = POLLIN };
        StoreCall *c = TAILQ_FIRST(&s->calls);
        int timeout_msec = -1;

        if (c)
                timeout_msec = 0;
        else if (timeout_usec != UINT64_MAX)
                timeout_msec = (int) MIN((timeout_usec + 999) / 1000, (uint64_t) INT_MAX);
        int r = poll(&p, 1, timeout_msec);
        if (r < 0 && errno != EINTR)
                return -errno;
        if (c)
                run_call(c);
        return r > 0;
}

const StoreBackend store_file_backend = {
        .scheme = SCHEME,
        .open = file_open,
        .free = file_free,
        .start = file_start,
        .drop = file_drop,
        .step = file_step,
};
