/* SPDX-License-Identifier: Apache-2.0 */
#include "shared-link.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "err.h"
#include "fd.h"
#include "name.h"

#define PACKED_SIZE_MAX (ACTIVATE_SHARED_MAX * (TREE_PATH_SIZE_MAX + 1))

int shared_link_target(const char *path, char ret[static PATH_MAX])
{
        size_t n_up = 2, size = 0;

        for (const char *s = path; *s; s++)
                n_up += *s == '/';
        if (n_up * STRLEN("../") + STRLEN("shared/") + strlen(path) >= PATH_MAX)
                return -ENAMETOOLONG;
        for (; n_up > 0; n_up--, size += STRLEN("../"))
                memcpy(ret + size, "../", STRLEN("../"));
        (void) snprintf(ret + size, PATH_MAX - size, "shared/%s", path);
        return 0;
}

/* Judging */

static const char *kind_of(const IndexFile *f)
{
        return f->type == FILE_REGULAR ? "a file" : f->type == FILE_SYMLINK ? "a link" : "more";
}

static int in_the_way(const char *path, const char *what, const char *where, char **reterr)
{
        return fail(reterr, -EBADMSG,
                    "'%s' is to be a link to shared/, but the release has %s at '%s': leave it "
                    "out of the release, or out of links.shared",
                    path, what, where);
}

/* The index's order is bytewise, so what lies in a directory need not follow it at once. */
static const IndexFile *find_below(const Index *index, const char *path)
{
        size_t size = strlen(path);

        for (size_t n = 0; n < index_n_files(index); n++) {
                const IndexFile *f = index_file(index, n);

                if (strncmp(f->path, path, size) == 0 && f->path[size] == '/')
                        return f;
        }
        return NULL;
}

int shared_link_judge(const Index *index, const char *path, char **reterr)
{
        char parent[TREE_PATH_SIZE_MAX + 1];
        const IndexFile *f = index_find(index, path), *below;

        if (f && f->type != FILE_DIRECTORY)
                return in_the_way(path, kind_of(f), f->path, reterr);
        below = f ? find_below(index, path) : NULL;
        if (below)
                return in_the_way(path, kind_of(below), below->path, reterr);
        for (const char *slash = strchr(path, '/'); slash; slash = strchr(slash + 1, '/')) {
                memcpy(parent, path, slash - path);
                parent[slash - path] = '\0';
                f = index_find(index, parent);
                if (f && f->type != FILE_DIRECTORY)
                        return in_the_way(path, kind_of(f), f->path, reterr);
        }
        return 0;
}

/* Making */

static int holds(int parent_fd, const char *name, const char *target)
{
        _cleanup_free_ char *found = NULL;
        int r = readlink_at(parent_fd, name, &found);

        if (r == -EINVAL || r == -ENOENT || r == -ENAMETOOLONG)
                return 0;
        return r < 0 ? r : streq(found, target);
}

int shared_link_is_there(Beneath *tree, const char *path)
{
        char target[PATH_MAX];
        const char *name;
        int parent_fd, r = shared_link_target(path, target);

        if (r < 0)
                return r;
        parent_fd = beneath_parent(tree, path, &name);
        if (parent_fd == -ENOENT || parent_fd == -ENOTDIR)
                return 0;
        return parent_fd < 0 ? parent_fd : holds(parent_fd, name, target);
}

static int cannot(int error, const char *path, char **reterr)
{
        if (error == -EBADMSG)
                return fail(reterr, error,
                            "'%s' is to be a link to shared/, but something else is in the way of "
                            "it in the release",
                            path);
        return fail_errno(reterr, error, "can't make the link '%s' to shared/", path);
}

/* The umask keeps others out of what is made. */
static int make_directory(int parent_fd, const char *name)
{
        _cleanup_close_ int fd = -EBADF;

        if (mkdirat(parent_fd, name, 0700) < 0)
                return errno == EEXIST ? 0 : -errno;
        fd = dir_open_at(parent_fd, name);
        if (fd < 0)
                return fd;
        return fchmod(fd, 0755) < 0 ? -errno : 0;
}

static int make_parents(Beneath *tree, const char *path)
{
        char parent[TREE_PATH_SIZE_MAX + 1];

        for (const char *slash = strchr(path, '/'); slash; slash = strchr(slash + 1, '/')) {
                const char *name;
                int fd, r;

                memcpy(parent, path, slash - path);
                parent[slash - path] = '\0';
                fd = beneath_parent(tree, parent, &name);
                if (fd < 0)
                        return fd;
                r = make_directory(fd, name);
                if (r < 0)
                        return r;
        }
        return 0;
}

/* Something is there: an empty directory goes, the link itself may stay. */
static int replace(int parent_fd, const char *name, const char *target)
{
        int r;

        if (unlinkat(parent_fd, name, AT_REMOVEDIR) == 0)
                return symlinkat(target, parent_fd, name) < 0 ? -errno : 0;
        if (errno == ENOTEMPTY || errno == EEXIST)
                return -EBADMSG;
        if (errno != ENOTDIR)
                return -errno;
        r = holds(parent_fd, name, target);
        return r < 0 ? r : r > 0 ? 0 : -EBADMSG;
}

int shared_link_make(Beneath *tree, const char *path, char **reterr)
{
        char target[PATH_MAX];
        const char *name;
        int parent_fd, r = shared_link_target(path, target);

        if (r >= 0)
                r = make_parents(tree, path);
        if (r < 0)
                return cannot(r == -ENOTDIR ? -EBADMSG : r, path, reterr);
        parent_fd = beneath_parent(tree, path, &name);
        if (parent_fd < 0)
                return cannot(parent_fd == -ENOTDIR ? -EBADMSG : parent_fd, path, reterr);
        if (symlinkat(target, parent_fd, name) == 0)
                return 0;
        r = errno == EEXIST ? replace(parent_fd, name, target) : -errno;
        return r < 0 ? cannot(r, path, reterr) : 0;
}

/* As a list */

int shared_links_pack(const Activate *a, uint64_t *ret_size)
{
        _cleanup_free_ char *data = NULL;
        size_t size = 0;
        int fd;

        for (size_t i = 0; i < a->n_shared; i++)
                size += strlen(a->shared[i].path) + 1;
        data = malloc(size + 1);
        if (!data)
                return -ENOMEM;
        size = 0;
        for (size_t i = 0; i < a->n_shared; i++) {
                size_t n = strlen(a->shared[i].path) + 1;

                memcpy(data + size, a->shared[i].path, n);
                size += n;
        }
        fd = memfd_sealed("slipway-links", data, size);
        if (fd < 0)
                return fd;
        *ret_size = size;
        return fd;
}

static int split(SharedPaths *p, size_t size)
{
        for (size_t at = 0; at < size; at += strlen(p->data + at) + 1) {
                if (p->n_paths == ACTIVATE_SHARED_MAX || !tree_path_is_valid(p->data + at))
                        return -EPROTO;
                p->paths[p->n_paths++] = p->data + at;
        }
        return 0;
}

int shared_links_unpack(int fd, uint64_t size, SharedPaths *ret)
{
        SharedPaths p = {};
        int r;

        if (size > PACKED_SIZE_MAX)
                return -EPROTO;
        p.data = malloc(size + 1);
        if (!p.data)
                return -ENOMEM;
        p.data[size] = '\0';
        r = fd_pread_exactly(fd, p.data, size, 0);
        if (r >= 0)
                r = split(&p, size);
        if (r < 0) {
                shared_paths_done(&p);
                return r;
        }
        *ret = p;
        return 0;
}

void shared_paths_done(SharedPaths *p)
{
        free(p->data);
        *p = (SharedPaths){};
}
