/* SPDX-License-Identifier: Apache-2.0 */
#include "room.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

#include "err.h"
#include "fd.h"

#define INODE_BYTES      512
#define BLOCK_BYTES_MAX  (UINT64_C(1) << 20)
#define STAT_BLOCK_BYTES 512
/* More files than a spool ever has; slipway-fetch, which owns it, may have been taken over. */
#define SPOOL_FILES_MAX 1000

static uint64_t block_bytes(const struct statvfs *s)
{
        return s->f_frsize > 0 && s->f_frsize <= BLOCK_BYTES_MAX ? s->f_frsize : 4096;
}

static uint64_t round_up(uint64_t bytes, uint64_t block)
{
        return (bytes + block - 1) / block * block;
}

int room_measure(const Index *index, int dir_fd, room_counts_t counts, void *userdata,
                 uint64_t *ret_bytes, uint64_t *ret_inodes)
{
        uint64_t bytes, n_inodes = 1;
        struct statvfs s;

        if (fstatvfs(dir_fd, &s) < 0)
                return -errno;
        bytes = block_bytes(&s);
        for (size_t n = 0; n < index_n_files(index); n++) {
                const IndexFile *f = index_file(index, n);

                if (counts && !counts(n, userdata))
                        continue;
                n_inodes++;
                bytes += INODE_BYTES;
                if (f->type == FILE_REGULAR)
                        bytes += round_up(f->size_bytes, block_bytes(&s));
                else if (f->type == FILE_DIRECTORY)
                        bytes += block_bytes(&s);
        }
        *ret_bytes = bytes;
        *ret_inodes = n_inodes;
        return 0;
}

/* What slipway-fetch has there already is this artifact's, or gives way to it (spool.h). */
static uint64_t spooled_bytes(int cache_fd)
{
        uint64_t bytes = 0;
        int fd = openat(cache_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        DIR *dir = fd < 0 ? NULL : fdopendir(fd);
        struct dirent *entry;
        struct stat st;

        if (!dir) {
                fd_close(fd);
                return 0;
        }
        for (unsigned n = 0; n < SPOOL_FILES_MAX && (entry = readdir(dir)); n++)
                if (fstatat(cache_fd, entry->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
                    S_ISREG(st.st_mode))
                        bytes += (uint64_t) st.st_blocks * STAT_BLOCK_BYTES;
        (void) closedir(dir);
        return bytes;
}

/* For people: up for what is needed, down for what is there. */
static unsigned long long mib(uint64_t bytes, bool up)
{
        return (bytes >> 20) + (up && bytes % (1 << 20) != 0);
}

/* What slipway-unpack says it needs may be any number: more than all there is stays that. */
static uint64_t add_bytes(uint64_t a, uint64_t b)
{
        return a > UINT64_MAX - b ? UINT64_MAX : a + b;
}

typedef struct Free {
        uint64_t bytes, reserve_bytes;
        bool has_inodes; /* some file systems do not count them */
        uint64_t n_inodes;
} Free;

static int find_free(const RoomPlace *p, int fd, Free *ret)
{
        struct statvfs s;
        uint64_t share;

        if (fstatvfs(fd, &s) < 0)
                return -errno;
        share = (uint64_t) s.f_blocks * s.f_frsize / 20;
        *ret = (Free){ .bytes = (uint64_t) s.f_bavail * s.f_frsize,
                       .reserve_bytes = p->reserve_bytes == ROOM_RESERVE_DEFAULT
                                                ? MIN(share, ROOM_RESERVE_MAX_BYTES)
                                                : p->reserve_bytes,
                       .has_inodes = s.f_files > 0,
                       .n_inodes = s.f_favail };
        return 0;
}

static bool fits(const Free *f, uint64_t bytes)
{
        return bytes == 0 || (f->bytes >= f->reserve_bytes && f->bytes - f->reserve_bytes >= bytes);
}

#define WHAT_TO_DO "make room, or set a smaller \"keep\" or \"disk\" in the agent's configuration"

static int check_root(const RoomPlace *p, const RoomNeed *need, uint64_t spool_bytes, char **reterr)
{
        uint64_t bytes = add_bytes(need->tree_bytes, spool_bytes);
        Free f;
        int r = find_free(p, p->releases_fd, &f);

        if (r < 0)
                return fail_errno(reterr, r, "can't see how much room is left on %s", p->root);
        if (f.has_inodes && f.n_inodes < need->n_inodes)
                return fail(reterr, -ENOSPC,
                            "the release has %llu files and directories, but only %llu more can be "
                            "made on %s (inodes): " WHAT_TO_DO,
                            (unsigned long long) need->n_inodes, (unsigned long long) f.n_inodes,
                            p->root);
        if (fits(&f, bytes))
                return 0;
        return fail(reterr, -ENOSPC,
                    "the release needs %llu MiB on %s (%llu for its tree, %llu for the download), "
                    "but %llu MiB are free, of which %llu have to stay so: " WHAT_TO_DO,
                    mib(bytes, true), p->root, mib(need->tree_bytes, true), mib(spool_bytes, true),
                    mib(f.bytes, false), mib(f.reserve_bytes, true));
}

static int check_spool(const RoomPlace *p, int cache_fd, uint64_t bytes, char **reterr)
{
        Free f;
        int r = find_free(p, cache_fd, &f);

        if (r < 0)
                return fail_errno(reterr, r, "can't see how much room is left on %s", p->cache_dir);
        if (fits(&f, bytes))
                return 0;
        return fail(reterr, -ENOSPC,
                    "the release needs %llu MiB on %s for the download, but %llu MiB are free, of "
                    "which %llu have to stay so: make room",
                    mib(bytes, true), p->cache_dir, mib(f.bytes, false),
                    mib(f.reserve_bytes, true));
}

int room_check(const RoomPlace *p, const RoomNeed *need, char **reterr)
{
        _cleanup_close_ int cache_fd = -EBADF;
        struct stat root, cache;
        uint64_t spooled, missing;
        int r;

        if (!p->cache_dir || need->artifact_bytes == 0)
                return check_root(p, need, 0, reterr);
        cache_fd = dir_open_at(AT_FDCWD, p->cache_dir);
        if (cache_fd < 0)
                return fail_errno(reterr, cache_fd, "can't open %s", p->cache_dir);
        if (fstat(cache_fd, &cache) < 0 || fstat(p->releases_fd, &root) < 0)
                return fail_errno(reterr, -errno, "can't see what %s is on", p->cache_dir);
        spooled = spooled_bytes(cache_fd);
        missing = need->artifact_bytes > spooled ? need->artifact_bytes - spooled : 0;
        if (root.st_dev == cache.st_dev)
                return check_root(p, need, missing, reterr);
        r = check_root(p, need, 0, reterr);
        return r < 0 ? r : check_spool(p, cache_fd, missing, reterr);
}
