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
#define RECORD_SIZE   sizeof(ByteRange)
/* A map is written anew when it has so many records more than it needs; a larger one is not read.
 */
#define RECORDS_SPARE 1024
#define RECORDS_MAX   65536

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
        RangeSet *have;
        size_t n_records;
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

static int open_file(int dir_fd, const char *name, struct stat *ret)
{
        _cleanup_close_ int fd =
                openat(dir_fd, name, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0600);

        if (fd < 0 || fstat(fd, ret) < 0)
                return -errno;
        return S_ISREG(ret->st_mode) ? TAKE_FD(fd) : -EINVAL;
}

/* All that is there in as few records as can be. One by one they replace what is true as well, so
 * that this may end anywhere. */
static int write_map(SpoolFile *f)
{
        size_t n = range_set_n(f->have), size = MAP_HEAD_SIZE + n * RECORD_SIZE;
        _cleanup_free_ uint8_t *map = malloc(size);
        int r;

        if (!map)
                return -ENOMEM;
        memcpy(map, &f->spool->boot_id, MAP_HEAD_SIZE);
        for (size_t i = 0; i < n; i++) {
                const ByteRange range = range_set_get(f->have, i);
                memcpy(map + MAP_HEAD_SIZE + i * RECORD_SIZE, &range, RECORD_SIZE);
        }
        r = fd_pwrite_all(f->map_fd, map, size, 0);
        if (r >= 0 && ftruncate(f->map_fd, size) < 0)
                r = -errno;
        if (r >= 0)
                f->n_records = n;
        return r;
}

/* -EBADMSG: this is no map of such an object, or none of this boot: what a crash of the kernel left
 * may be newer than the bytes. */
static int read_map(SpoolFile *f, uint64_t size)
{
        _cleanup_free_ uint8_t *map = NULL;
        int r;

        if (size < MAP_HEAD_SIZE || size > MAP_HEAD_SIZE + RECORDS_MAX * RECORD_SIZE ||
            (size - MAP_HEAD_SIZE) % RECORD_SIZE != 0)
                return -EBADMSG;
        map = malloc(size);
        r = map ? fd_pread_exactly(f->map_fd, map, size, 0) : -ENOMEM;
        if (r >= 0 && memcmp(map, &f->spool->boot_id, MAP_HEAD_SIZE) != 0)
                r = -EBADMSG;
        for (uint64_t at = MAP_HEAD_SIZE; at < size && r >= 0; at += RECORD_SIZE) {
                ByteRange range;

                memcpy(&range, map + at, RECORD_SIZE);
                r = range.offset > f->size_bytes || range.size > f->size_bytes - range.offset
                            ? -EBADMSG
                            : range_set_add(f->have, range.offset, range.size);
                f->n_records++;
        }
        return r;
}

/* Without a map nobody knows what is there. The bytes go as well, for the room they take; after
 * the map, which must not outlive them. */
static int begin_anew(SpoolFile *f)
{
        int r = spool_file_reset(f);

        if (r < 0)
                return r;
        return ftruncate(f->fd, 0) < 0 || ftruncate(f->fd, f->size_bytes) < 0 ? -errno : 0;
}

static bool has_many_records(const SpoolFile *f)
{
        return f->n_records > 2 * range_set_n(f->have) + RECORDS_SPARE;
}

static int open_files(SpoolFile *f, const Sha256 *sha256)
{
        char map[NAME_SIZE];
        struct stat st, map_st;
        int r;

        file_name(sha256, ".part", f->name);
        file_name(sha256, ".map", map);
        f->fd = open_file(f->spool->dir_fd, f->name, &st);
        if (f->fd < 0)
                return f->fd;
        f->map_fd = open_file(f->spool->dir_fd, map, &map_st);
        if (f->map_fd < 0)
                return f->map_fd;
        r = (uint64_t) st.st_size == f->size_bytes ? read_map(f, map_st.st_size) : -EBADMSG;
        if (r == -EBADMSG)
                return begin_anew(f);
        return r >= 0 && has_many_records(f) ? write_map(f) : r;
}

static bool is_full(int error)
{
        return error == -ENOSPC || error == -EDQUOT;
}

static int spool_file_new(Spool *s, uint64_t size_bytes, SpoolFile **ret)
{
        _cleanup_(spool_file_freep) SpoolFile *f = calloc(1, sizeof(SpoolFile));
        int r;

        if (!f)
                return -ENOMEM;
        *f = (SpoolFile){ .spool = s, .fd = -EBADF, .map_fd = -EBADF, .size_bytes = size_bytes };
        r = range_set_new(&f->have);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(f);
        return 0;
}

int spool_file_open(Spool *s, const Sha256 *sha256, uint64_t size_bytes, SpoolFile **ret,
                    char **reterr)
{
        _cleanup_(spool_file_freep) SpoolFile *f = NULL;
        int r;

        if (size_bytes == 0)
                return fail(reterr, -EINVAL, "an object of no bytes can't be fetched");
        do {
                spool_file_free(f);
                f = NULL;
                r = spool_file_new(s, size_bytes, &f);
                if (r >= 0)
                        r = open_files(f, sha256);
                if (is_full(r))
                        spool_drop(s, sha256); /* or it would be the oldest */
        } while (is_full(r) && drop_oldest(s));
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
        range_set_free(f->have);
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

/* Where nothing can be reserved, a full disk shows later. */
static int take_room(const SpoolFile *f, ByteRange range)
{
        if (fallocate(f->fd, 0, range.offset, range.size) < 0 && errno != EOPNOTSUPP)
                return -errno;
        return 0;
}

static int take_room_for_missing(const SpoolFile *f, const RangeSet *wanted)
{
        ByteRange gap;
        int r = 0;

        for (size_t i = 0; i < range_set_n(wanted); i++) {
                const ByteRange range = range_set_get(wanted, i);
                const uint64_t end = range.offset + range.size;

                for (uint64_t at = range.offset;
                     r >= 0 && range_set_missing(f->have, at, end, &gap);
                     at = gap.offset + gap.size)
                        r = take_room(f, gap);
        }
        return r;
}

int spool_file_take_room(SpoolFile *f, const RangeSet *wanted, char **reterr)
{
        int r;

        do
                r = take_room_for_missing(f, wanted);
        while (is_full(r) && drop_oldest(f->spool));
        return r < 0 ? fail_errno(reterr, r, "can't take room for %llu bytes in the spool",
                                  (unsigned long long) range_set_bytes(wanted))
                     : 0;
}

const RangeSet *spool_file_have(const SpoolFile *f)
{
        return f->have;
}

int spool_file_add(SpoolFile *f, uint64_t offset, uint64_t size)
{
        const ByteRange range = { offset, size };
        int r = range_set_add(f->have, offset, size);

        if (r < 0)
                return r;
        if (has_many_records(f))
                r = write_map(f);
        else {
                r = fd_pwrite_all(f->map_fd, &range, RECORD_SIZE,
                                  MAP_HEAD_SIZE + f->n_records * RECORD_SIZE);
                f->n_records += r >= 0;
        }
        /* Only another process would read it: then that fetches these bytes again. */
        if (r < 0)
                log_debug("Can't note in the spool what is there: %s", strerror(-r));
        return 0;
}

int spool_file_reset(SpoolFile *f)
{
        RangeSet *nothing;
        int r = range_set_new(&nothing);

        if (r < 0)
                return r;
        range_set_free(f->have);
        f->have = nothing;
        return write_map(f);
}
