/* SPDX-License-Identifier: Apache-2.0 */
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <systemd/sd-id128.h>
#include <time.h>
#include <unistd.h>

#include "err.h"
#include "fd.h"
#include "log.h"
#include "spool.h"

#define NAME_SIZE     (SHA256_HEX_SIZE + STRLEN(".part"))
#define MAP_HEAD_SIZE sizeof(sd_id128_t)

struct Spool {
        int dir_fd;
        sd_id128_t boot_id;
        SpoolFile *open_files;
};

struct SpoolFile {
        char name[NAME_SIZE];
        Spool *spool;
        SpoolFile *next; /* open file */
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

/* A service without /proc/sys gets it from systemd. Not told at all, no other process's files are
 * of this boot. */
static int get_boot_id(sd_id128_t *ret)
{
        const char *told = getenv("SLIPWAY_BOOT_ID");

        if (sd_id128_get_boot(ret) >= 0 || (told && sd_id128_from_string(told, ret) >= 0))
                return 0;
        return sd_id128_randomize(ret);
}

int spool_open(const char *path, Spool **ret, char **reterr)
{
        _cleanup_(spool_freep) Spool *s = calloc(1, sizeof(Spool));
        int r;

        if (!s)
                return -ENOMEM;
        s->dir_fd = dir_open_at(AT_FDCWD, path);
        if (s->dir_fd < 0)
                return fail_errno(reterr, s->dir_fd, "can't open the spool directory %s", path);
        r = get_boot_id(&s->boot_id);
        if (r < 0)
                return fail_errno(reterr, r, "can't tell this boot from others");
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

static bool is_open(const Spool *s, const char *name)
{
        for (const SpoolFile *f = s->open_files; f; f = f->next)
                if (strncmp(f->name, name, 2 * SHA256_SIZE) == 0)
                        return true;
        return false;
}

/* The oldest file that is not open; false: there is none. */
static bool find_oldest(const Spool *s, char ret[static NAME_SIZE])
{
        int fd = openat(s->dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        DIR *dir = fd < 0 ? NULL : fdopendir(fd);
        struct timespec oldest = { .tv_sec = INT64_MAX };
        struct dirent *entry;
        bool found = false;
        struct stat st;

        if (!dir) {
                fd_close(fd);
                return false;
        }
        while ((entry = readdir(dir))) {
                if (!is_spool_name(entry->d_name) || is_open(s, entry->d_name) ||
                    fstatat(s->dir_fd, entry->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0 ||
                    st.st_mtim.tv_sec > oldest.tv_sec ||
                    (st.st_mtim.tv_sec == oldest.tv_sec && st.st_mtim.tv_nsec >= oldest.tv_nsec))
                        continue;
                oldest = st.st_mtim;
                (void) stpcpy(ret, entry->d_name);
                found = true;
        }
        (void) closedir(dir);
        return found;
}

static bool drop_oldest(Spool *s)
{
        char name[NAME_SIZE];

        if (!find_oldest(s, name))
                return false;
        if (unlinkat(s->dir_fd, name, 0) < 0)
                return false;
        log_warning("The disk is full: dropped %s, which nobody fetches now", name);
        return true;
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

/* What a crash of the kernel left may be a map that is newer than the bytes: only what was fetched
 * since this boot counts. */
static int read_map(SpoolFile *f)
{
        sd_id128_t boot_id;
        int r = fd_pread_exactly(f->map_fd, &boot_id, sizeof(boot_id), 0);

        if (r < 0)
                return r;
        if (!sd_id128_equal(boot_id, f->spool->boot_id))
                return spool_file_reset(f);
        return fd_pread_exactly(f->map_fd, f->map, f->n_chunks, MAP_HEAD_SIZE);
}

static int open_files(SpoolFile *f, const Sha256 *sha256)
{
        bool new_part, new_map;
        char map[NAME_SIZE];
        int r;

        file_name(sha256, ".part", f->name);
        file_name(sha256, ".map", map);
        f->fd = fd_close(f->fd);
        f->map_fd = fd_close(f->map_fd);
        r = open_sized(f->spool->dir_fd, f->name, f->size_bytes, &f->fd, &new_part);
        if (r < 0)
                return r;
        r = open_sized(f->spool->dir_fd, map, MAP_HEAD_SIZE + f->n_chunks, &f->map_fd, &new_map);
        if (r < 0)
                return r;
        return new_part || new_map ? spool_file_reset(f) : read_map(f);
}

/* A half-made pair would only take room. */
static int open_or_drop(SpoolFile *f, const Sha256 *sha256)
{
        int r = open_files(f, sha256);

        if (r < 0)
                spool_drop(f->spool, sha256);
        return r;
}

int spool_file_open(Spool *s, const Sha256 *sha256, uint64_t size_bytes, SpoolFile **ret,
                    char **reterr)
{
        _cleanup_(spool_file_freep) SpoolFile *f = calloc(1, sizeof(SpoolFile));
        int r;

        if (!f)
                return -ENOMEM;
        *f = (SpoolFile){ .spool = s,
                          .fd = -EBADF,
                          .map_fd = -EBADF,
                          .size_bytes = size_bytes,
                          .n_chunks = (size_bytes + SPOOL_CHUNK_SIZE - 1) / SPOOL_CHUNK_SIZE };
        if (f->n_chunks == 0)
                return fail(reterr, -EINVAL, "an object of no bytes can't be fetched");
        f->map = calloc(f->n_chunks, 1);
        if (!f->map)
                return -ENOMEM;
        do
                r = open_or_drop(f, sha256);
        while (r == -ENOSPC && drop_oldest(s));
        if (r < 0)
                return fail_errno(reterr, r, "can't make a spool file of %llu bytes",
                                  (unsigned long long) size_bytes);
        f->next = s->open_files;
        s->open_files = f;
        *ret = TAKE_PTR(f);
        return 0;
}

SpoolFile *spool_file_free(SpoolFile *f)
{
        if (!f)
                return NULL;
        for (SpoolFile **link = &f->spool->open_files; *link; link = &(*link)->next)
                if (*link == f) {
                        *link = f->next;
                        break;
                }
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
        int fd = openat(f->spool->dir_fd, f->name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);

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
        return fd_pwrite_all(f->map_fd, &f->map[n], 1, MAP_HEAD_SIZE + n);
}

int spool_file_reset(SpoolFile *f)
{
        int r;

        memset(f->map, 0, f->n_chunks);
        r = fd_pwrite_all(f->map_fd, f->map, f->n_chunks, MAP_HEAD_SIZE);
        return r < 0 ? r : fd_pwrite_all(f->map_fd, &f->spool->boot_id, MAP_HEAD_SIZE, 0);
}
