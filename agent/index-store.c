/* SPDX-License-Identifier: Apache-2.0 */
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "err.h"
#include "fd.h"
#include "index-store.h"
#include "manifest.h"
#include "name.h"

#define COPY_SIZE (64 * 1024)

static void directory_name(const char *app, char ret[static NAME_MAX + 1])
{
        (void) snprintf(ret, NAME_MAX + 1, "%s.index", app);
}

/* A descriptor, or -ENOENT. */
static int open_directory(int state_dir_fd, const char *app)
{
        char name[NAME_MAX + 1];

        directory_name(app, name);
        return dir_open_at(state_dir_fd, name);
}

static int make_directory(int state_dir_fd, const char *app)
{
        char name[NAME_MAX + 1];

        directory_name(app, name);
        if (mkdirat(state_dir_fd, name, 0700) < 0)
                return errno == EEXIST ? 0 : -errno;
        return fsync(state_dir_fd) < 0 ? -errno : 0;
}

static int copy_checked(int from, int to, uint64_t size, const Sha256 *sha256)
{
        _cleanup_(hasher_freep) Hasher *hasher = NULL;
        char buffer[COPY_SIZE];
        Sha256 digest;
        int r = hasher_new(&hasher);

        for (uint64_t offset = 0; r >= 0 && offset < size; offset += COPY_SIZE) {
                size_t n = MIN(size - offset, (uint64_t) COPY_SIZE);

                r = fd_pread_exactly(from, buffer, n, offset);
                if (r >= 0)
                        r = hasher_add(hasher, buffer, n);
                if (r >= 0)
                        r = fd_write_all(to, buffer, n);
        }
        if (r >= 0)
                r = hasher_finish(hasher, &digest);
        if (r < 0)
                return r;
        if (!sha256_equal(&digest, sha256))
                return -EKEYREJECTED;
        return fsync(to) < 0 ? -errno : 0;
}

/* Writes it aside under a name that no release can have, which a crash leaves to
 * index_store_prune(). */
static int store(int dir_fd, const char *release, int fd, uint64_t size, const Sha256 *sha256)
{
        _cleanup_close_ int to = -EBADF;
        char hex[17], aside[32];
        int r = random_hex(hex);

        if (r < 0)
                return r;
        (void) snprintf(aside, sizeof(aside), ".%s", hex);
        to = openat(dir_fd, aside, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
        if (to < 0)
                return -errno;
        r = copy_checked(fd, to, size, sha256);
        if (r >= 0 && renameat(dir_fd, aside, dir_fd, release) < 0)
                r = -errno;
        if (r < 0) {
                (void) unlinkat(dir_fd, aside, 0);
                return r;
        }
        return fsync(dir_fd) < 0 ? -errno : 0;
}

int index_store_take(int state_dir_fd, const char *app, const char *release, int fd, uint64_t size,
                     const Sha256 *sha256, char **reterr)
{
        _cleanup_close_ int dir_fd = -EBADF;
        int r = make_directory(state_dir_fd, app);

        if (r >= 0)
                r = dir_fd = open_directory(state_dir_fd, app);
        if (r >= 0)
                r = store(dir_fd, release, fd, size, sha256);
        if (r == -EKEYREJECTED)
                return fail(reterr, r, "release %s: its index is not the one that was signed",
                            release);
        return r < 0 ? fail_errno(reterr, r, "can't keep the index of release %s", release) : 0;
}

/* The file, if it is what it has to be. */
static int read_checked(int state_dir_fd, const char *app, const char *release, const Sha256 *sha,
                        char **ret, size_t *ret_size)
{
        _cleanup_close_ int dir_fd = open_directory(state_dir_fd, app);
        _cleanup_free_ char *data = NULL;
        Sha256 digest;
        size_t size;
        int r;

        if (dir_fd < 0)
                return dir_fd;
        r = file_read_at(dir_fd, release, INDEX_SIZE_MAX, &data, &size);
        if (r >= 0)
                r = sha256(data, size, &digest);
        if (r < 0)
                return r;
        if (!sha256_equal(&digest, sha))
                return -ENOENT;
        *ret = TAKE_PTR(data);
        *ret_size = size;
        return 0;
}

/* A link to what the release has already is not made a second time by rename(2), and stays. */
static int link_as(int dir_fd, const char *from, const char *release)
{
        char hex[17], aside[32];
        int r = random_hex(hex);

        if (r < 0)
                return r;
        (void) snprintf(aside, sizeof(aside), ".%s", hex);
        if (linkat(dir_fd, from, dir_fd, aside, 0) < 0)
                return -errno;
        if (renameat(dir_fd, aside, dir_fd, release) < 0)
                r = -errno;
        (void) unlinkat(dir_fd, aside, 0);
        return r < 0 ? r : fsync(dir_fd) < 0 ? -errno : 0;
}

int index_store_share(int state_dir_fd, const char *app, const char *from, const char *release,
                      const Sha256 *sha256)
{
        _cleanup_close_ int dir_fd = open_directory(state_dir_fd, app);
        _cleanup_free_ char *data = NULL;
        size_t size;
        int r = dir_fd < 0 ? dir_fd : read_checked(state_dir_fd, app, from, sha256, &data, &size);

        return r < 0 ? r : link_as(dir_fd, from, release);
}

int index_store_load(int state_dir_fd, const char *app, const char *release, const Sha256 *sha256,
                     Index **ret, char **reterr)
{
        _cleanup_free_ char *data = NULL;
        size_t size;
        int r = read_checked(state_dir_fd, app, release, sha256, &data, &size);

        if (r == -ENOENT)
                return fail(reterr, r, "the index of release %s is not kept on this host", release);
        if (r < 0)
                return fail_errno(reterr, r, "can't read the index of release %s", release);
        r = index_parse(data, size, ret, reterr);
        return r < 0 ? fail_prefix(reterr, r, "the index of release %s", release) : 0;
}

int index_store_open(int state_dir_fd, const char *app, const char *release)
{
        _cleanup_close_ int dir_fd = open_directory(state_dir_fd, app);
        int fd;

        if (dir_fd < 0)
                return dir_fd;
        fd = openat(dir_fd, release, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
        return fd < 0 ? -errno : fd;
}

static bool is_needed(const char *name, const State *s)
{
        return streq(name, ".") || streq(name, "..") || streq_ptr(name, s->pending.release) ||
               state_find_release(s, name);
}

int index_store_prune(int state_dir_fd, const State *state)
{
        int dir_fd = open_directory(state_dir_fd, state->app), r = 0;
        struct dirent *entry;
        DIR *dir;

        if (dir_fd < 0)
                return dir_fd == -ENOENT ? 0 : dir_fd;
        dir = fdopendir(dir_fd);
        if (!dir) {
                r = -errno;
                fd_close(dir_fd);
                return r;
        }
        while (r >= 0 && (errno = 0, entry = readdir(dir)))
                if (!is_needed(entry->d_name, state) && unlinkat(dir_fd, entry->d_name, 0) < 0)
                        r = -errno;
        if (r >= 0)
                r = -errno;
        (void) closedir(dir);
        return r;
}
