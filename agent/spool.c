/* SPDX-License-Identifier: Apache-2.0 */
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#include "err.h"
#include "fd.h"
#include "log.h"
#include "spool.h"

#define NAME_SIZE (SHA256_HEX_SIZE + STRLEN(".part"))

struct Spool {
        int dir_fd;
};

struct SpoolFile {
        char name[NAME_SIZE];
        int dir_fd; /* the spool's */
        int fd, map_fd;
        uint64_t size_bytes;
        size_t n_chunks;
        uint8_t *map;
};

static void file_name(const Sha256 *sha256, const char *suffix, char ret[static NAME_SIZE])
{
        char hex[SHA256_HEX_SIZE];

        (void) snprintf(ret, NAME_SIZE, "%s%s", sha256_to_hex(sha256, hex), suffix);
}

/* Only names that are ours: 64 hex digits and a suffix. */
static bool is_spool_name(const char *name)
{
        return strspn(name, "0123456789abcdef") == 2 * SHA256_SIZE &&
               (streq(name + 2 * SHA256_SIZE, ".part") || streq(name + 2 * SHA256_SIZE, ".map"));
}

static void remove_old(Spool *s)
{
        int fd = openat(s->dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        DIR *dir = fd < 0 ? NULL : fdopendir(fd);
        time_t now = time(NULL);
        struct dirent *entry;
        struct stat st;

        if (!dir) {
                log_debug("Can't look for old spool files: %s", strerror(errno));
                fd_close(fd);
                return;
        }
        while ((entry = readdir(dir)))
                if (is_spool_name(entry->d_name) &&
                    fstatat(s->dir_fd, entry->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
                    now - st.st_mtim.tv_sec > SPOOL_AGE_MAX_SEC)
                        (void) unlinkat(s->dir_fd, entry->d_name, 0);
        (void) closedir(dir);
}

int spool_open(const char *path, Spool **ret, char **reterr)
{
        _cleanup_(spool_freep) Spool *s = calloc(1, sizeof(Spool));

        if (!s)
                return -ENOMEM;
        s->dir_fd = dir_open_at(AT_FDCWD, path);
        if (s->dir_fd < 0)
                return fail_errno(reterr, s->dir_fd, "can't open the spool directory %s", path);
        remove_old(s);
        *ret = TAKE_PTR(s);
        return 0;
}

Spool *spool_free(Spool *s)
{
        if (s)
                fd_close(s->dir_fd);
        free(s);
        return NULL;
}

void spool_drop(Spool *s, const Sha256 *sha256)
{
        static const char *const suffixes[] = { ".part", ".map" };
        char name[NAME_SIZE];

        for (size_t i = 0; i < ELEMENTSOF(suffixes); i++) {
                file_name(sha256, suffixes[i], name);
                if (unlinkat(s->dir_fd, name, 0) < 0 && errno != ENOENT)
                        log_warning("Can't remove %s from the spool: %s", name, strerror(errno));
        }
}

/* Opens a file of exactly this size; *ret_new tells that what it holds is of no use. */
static int open_sized(int dir_fd, const char *name, uint64_t size, int *ret_fd, bool *ret_new)
{
        _cleanup_close_ int fd =
                openat(dir_fd, name, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0600);
        struct stat st;

        if (fd < 0)
                return -errno;
        if (fstat(fd, &st) < 0)
                return -errno;
        if (!S_ISREG(st.st_mode))
                return -EINVAL;
        *ret_new = (uint64_t) st.st_size != size;
        if (*ret_new) {
                if (ftruncate(fd, 0) < 0)
                        return -errno;
                /* Room is taken now, so that a full disk shows before bytes travel. */
                if (fallocate(fd, 0, 0, size) < 0 &&
                    (errno != EOPNOTSUPP || ftruncate(fd, size) < 0))
                        return -errno;
        }
        *ret_fd = TAKE_FD(fd);
        return 0;
}

static int open_files(SpoolFile *f, const Sha256 *sha256)
{
        bool new_part, new_map;
        char map[NAME_SIZE];
        int r;

        file_name(sha256, ".part", f->name);
        file_name(sha256, ".map", map);
        r = open_sized(f->dir_fd, f->name, f->size_bytes, &f->fd, &new_part);
        if (r < 0)
                return r;
        r = open_sized(f->dir_fd, map, f->n_chunks, &f->map_fd, &new_map);
        if (r < 0)
                return r;
        if (new_part)
                return spool_file_reset(f);
        return fd_pread_exactly(f->map_fd, f->map, f->n_chunks, 0);
}

int spool_file_open(Spool *s, const Sha256 *sha256, uint64_t size_bytes, SpoolFile **ret,
                    char **reterr)
{
        _cleanup_(spool_file_freep) SpoolFile *f = calloc(1, sizeof(SpoolFile));
        int r;

        if (!f)
                return -ENOMEM;
        *f = (SpoolFile){ .dir_fd = s->dir_fd,
                          .fd = -EBADF,
                          .map_fd = -EBADF,
                          .size_bytes = size_bytes,
                          .n_chunks = (size_bytes + SPOOL_CHUNK_SIZE - 1) / SPOOL_CHUNK_SIZE };
        if (f->n_chunks == 0)
                return fail(reterr, -EINVAL, "an object of no bytes can't be fetched");
        f->map = calloc(f->n_chunks, 1);
        if (!f->map)
                return -ENOMEM;
        r = open_files(f, sha256);
        if (r < 0) {
                /* A half-made pair would only take room. */
                spool_drop(s, sha256);
                return fail_errno(reterr, r, "can't make a spool file of %llu bytes",
                                  (unsigned long long) size_bytes);
        }
        *ret = TAKE_PTR(f);
        return 0;
}

SpoolFile *spool_file_free(SpoolFile *f)
{
        if (!f)
                return NULL;
        fd_close(f->fd);
        fd_close(f->map_fd);
        free(f->map);
        free(f);
        return NULL;
}

int spool_file_fd(const SpoolFile *f)
{
        return f->fd;
}

int spool_file_open_readonly(const SpoolFile *f)
{
        int fd = openat(f->dir_fd, f->name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);

        return fd < 0 ? -errno : fd;
}

size_t spool_file_n_chunks(const SpoolFile *f)
{
        return f->n_chunks;
}

void spool_file_chunk(const SpoolFile *f, size_t n, uint64_t *ret_offset, uint64_t *ret_size)
{
        *ret_offset = n * SPOOL_CHUNK_SIZE;
        *ret_size = MIN(SPOOL_CHUNK_SIZE, f->size_bytes - *ret_offset);
}

bool spool_file_has(const SpoolFile *f, size_t n)
{
        return f->map[n] == 1;
}

int spool_file_set(SpoolFile *f, size_t n)
{
        f->map[n] = 1;
        return fd_pwrite_all(f->map_fd, &f->map[n], 1, n);
}

int spool_file_reset(SpoolFile *f)
{
        memset(f->map, 0, f->n_chunks);
        return fd_pwrite_all(f->map_fd, f->map, f->n_chunks, 0);
}
