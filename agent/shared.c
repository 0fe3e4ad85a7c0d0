/* SPDX-License-Identifier: Apache-2.0 */
#include "shared.h"

#include <fcntl.h>
#include <grp.h>
#include <pwd.h>
#include <sys/stat.h>
#include <unistd.h>

#include "beneath.h"
#include "err.h"
#include "fd.h"
#include "name.h"

#define ACCOUNT_BUFFER_SIZE 16384

typedef struct Maker {
        const char *root;
        int shared_fd;
        Beneath *beneath;
        bool is_root; /* else everything belongs to us */
        char **reterr;
} Maker;

static int cannot(const Maker *m, int error, const char *what, const char *path)
{
        if (error == -ENOTDIR)
                return fail(m->reterr, error,
                            "can't %s %s/shared/%s: what it lies in is no directory (links are not "
                            "followed there: mount instead)",
                            what, m->root, path);
        return fail_errno(m->reterr, error, "can't %s %s/shared/%s", what, m->root, path);
}

/* Owners */

static int no_account(const Maker *m, const SharedLink *l, int error, const char *kind,
                      const char *name)
{
        if (error > 0 && error != ENOENT)
                return fail_errno(m->reterr, -error, "can't look up the %s %s", kind, name);
        return fail(m->reterr, -ENOENT,
                    "there is no %s %s on this host, to which %s/shared/%s is to belong: make it",
                    kind, name, m->root, l->path);
}

static int find_owner(const Maker *m, const SharedLink *l, uid_t *ret_uid, gid_t *ret_gid)
{
        char buffer[ACCOUNT_BUFFER_SIZE];
        struct passwd user, *found_user = NULL;
        struct group group, *found_group = NULL;
        uid_t uid = 0;
        gid_t gid = 0;
        int r;

        if (l->user) {
                r = getpwnam_r(l->user, &user, buffer, sizeof(buffer), &found_user);
                if (!found_user)
                        return no_account(m, l, r, "user", l->user);
                uid = user.pw_uid;
        }
        if (l->group) {
                r = getgrnam_r(l->group, &group, buffer, sizeof(buffer), &found_group);
                if (!found_group)
                        return no_account(m, l, r, "group", l->group);
                gid = group.gr_gid;
        }
        *ret_uid = uid;
        *ret_gid = gid;
        return 0;
}

/* Making */

static mode_t mode_of(const SharedLink *l)
{
        return l->mode > 0 ? l->mode : l->create == SHARED_DIRECTORY ? 0755 : 0644;
}

/* Until it has its owner it has no permission bit: what a crash leaves is known by that. A user who
 * is not root could not open that again, and has no owner to set. */
static int open_new(const Maker *m, const SharedLink *l, int parent_fd, const char *name)
{
        int fd;

        if (l->create == SHARED_DIRECTORY) {
                if (mkdirat(parent_fd, name, m->is_root ? 0 : 0700) < 0 && errno != EEXIST)
                        return -errno;
                return dir_open_at(parent_fd, name);
        }
        fd = openat(parent_fd, name, O_WRONLY | O_CREAT | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC,
                    m->is_root ? 0 : 0600);
        return fd < 0 ? -errno : fd;
}

/* Whoever owns the directory may have put another file there meanwhile, by a hard link even. */
static bool is_ours(const Maker *m, const SharedLink *l, int fd)
{
        struct stat st;

        if (fstat(fd, &st) < 0 || (m->is_root && (st.st_mode & 07777) != 0))
                return false;
        if (l->create == SHARED_DIRECTORY)
                return S_ISDIR(st.st_mode);
        return S_ISREG(st.st_mode) && st.st_nlink == 1 && st.st_size == 0;
}

static int finish(const Maker *m, const SharedLink *l, int parent_fd, const char *name)
{
        _cleanup_close_ int fd = open_new(m, l, parent_fd, name);
        uid_t uid = 0;
        gid_t gid = 0;
        int r;

        if (fd < 0)
                return cannot(m, fd, "make", l->path);
        if (!is_ours(m, l, fd))
                return 0;
        r = find_owner(m, l, &uid, &gid);
        if (r < 0)
                return r;
        if ((m->is_root || l->user || l->group) && fchown(fd, uid, gid) < 0)
                return cannot(m, -errno, "set the owner of", l->path);
        if (fchmod(fd, mode_of(l)) < 0)
                return cannot(m, -errno, "set the mode of", l->path);
        return fsync(fd) < 0 || fsync(parent_fd) < 0 ? cannot(m, -errno, "sync", l->path) : 0;
}

static int make_directory(int parent_fd, const char *name)
{
        if (mkdirat(parent_fd, name, 0755) < 0)
                return errno == EEXIST ? 0 : -errno;
        return fsync(parent_fd) < 0 ? -errno : 0;
}

static int make_parents(const Maker *m, const SharedLink *l)
{
        char parent[TREE_PATH_SIZE_MAX + 1];

        for (const char *slash = strchr(l->path, '/'); slash; slash = strchr(slash + 1, '/')) {
                const char *name;
                int fd, r;

                memcpy(parent, l->path, slash - l->path);
                parent[slash - l->path] = '\0';
                fd = beneath_parent(m->beneath, parent, &name);
                r = fd < 0 ? fd : make_directory(fd, name);
                if (r < 0)
                        return cannot(m, r, "make the directory of", l->path);
        }
        return 0;
}

static int make(const Maker *m, const SharedLink *l)
{
        const char *name;
        int fd, r = make_parents(m, l);

        if (r < 0)
                return r;
        fd = beneath_parent(m->beneath, l->path, &name);
        return fd < 0 ? cannot(m, fd, "make", l->path) : finish(m, l, fd, name);
}

/* Looking */

/* 1: there is something, and it is finished; 0: there is not. */
static int look(const Maker *m, const SharedLink *l)
{
        const char *name;
        struct stat st;
        int fd = m->shared_fd < 0 ? -ENOENT : beneath_parent(m->beneath, l->path, &name);

        if (fd >= 0 && fstatat(fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
                fd = -errno;
        if (fd == -ENOENT)
                return 0;
        if (fd < 0)
                return cannot(m, fd, "look at", l->path);
        return l->create == SHARED_NONE || S_ISLNK(st.st_mode) || (st.st_mode & 07777) != 0;
}

static int check(const Maker *m, const SharedLink *l)
{
        uid_t uid;
        gid_t gid;
        int r = look(m, l);

        if (r != 0)
                return r;
        if (l->create != SHARED_NONE)
                return find_owner(m, l, &uid, &gid);
        return fail(m->reterr, -ENOENT,
                    "the release needs %s/shared/%s, which is missing: make it, or let the "
                    "release's slipway.json say \"create\" (links.shared)",
                    m->root, l->path);
}

static int open_shared(Maker *m, int root_fd)
{
        int r;

        m->shared_fd = dir_open_at(root_fd, "shared");
        if (m->shared_fd == -ENOENT)
                return 0;
        if (m->shared_fd < 0)
                return cannot(m, m->shared_fd, "open", "");
        r = beneath_new(m->shared_fd, &m->beneath);
        return r;
}

static int make_missing(Maker *m, int root_fd, const Activate *a)
{
        int r;

        if (m->shared_fd < 0) {
                r = make_directory(root_fd, "shared");
                if (r < 0)
                        return cannot(m, r, "make", "");
                r = open_shared(m, root_fd);
                if (r < 0)
                        return r;
        }
        for (size_t i = 0; i < a->n_shared; i++) {
                r = look(m, &a->shared[i]);
                if (r == 0)
                        r = make(m, &a->shared[i]);
                if (r < 0)
                        return r;
        }
        return 0;
}

int shared_make(const char *root, int root_fd, const Activate *a, char **reterr)
{
        Maker m = {
                .root = root, .shared_fd = -EBADF, .is_root = geteuid() == 0, .reterr = reterr
        };
        int r = 0;

        if (a->n_shared == 0)
                return 0;
        r = open_shared(&m, root_fd);
        for (size_t i = 0; r >= 0 && i < a->n_shared; i++)
                r = check(&m, &a->shared[i]);
        if (r >= 0)
                r = make_missing(&m, root_fd, a);
        beneath_free(m.beneath);
        fd_close(m.shared_fd);
        return r < 0 ? r : 0;
}
