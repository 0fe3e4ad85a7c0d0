/* SPDX-License-Identifier: Apache-2.0 */
#include "beneath.h"

#include <limits.h>
#include <sys/stat.h>

#include "fd.h"
#include "name.h"

struct Beneath {
        int root_fd;
        char path[TREE_PATH_SIZE_MAX + 1]; /* of the innermost open directory */
        struct {
                int fd;
                size_t end; /* of its path in `path` */
        } levels[TREE_DEPTH_MAX];
        size_t n_levels;
        size_t *n_made; /* NULL: none is made */
};

int beneath_new(int root_fd, Beneath **ret)
{
        Beneath *b = malloc(sizeof(Beneath));

        if (!b)
                return -ENOMEM;
        b->root_fd = root_fd;
        b->n_levels = 0;
        b->n_made = NULL;
        *ret = b;
        return 0;
}

void beneath_make_missing(Beneath *b, size_t *n_made)
{
        b->n_made = n_made;
}

int beneath_make(int parent_fd, const char *name, size_t *n_made)
{
        if (mkdirat(parent_fd, name, 0700) < 0)
                return errno == EEXIST ? 0 : -errno;
        (*n_made)++;
        return 0;
}

static void leave(Beneath *b)
{
        fd_close(b->levels[--b->n_levels].fd);
}

Beneath *beneath_free(Beneath *b)
{
        while (b && b->n_levels > 0)
                leave(b);
        free(b);
        return NULL;
}

static int top_fd(const Beneath *b)
{
        return b->n_levels > 0 ? b->levels[b->n_levels - 1].fd : b->root_fd;
}

static size_t top_end(const Beneath *b)
{
        return b->n_levels > 0 ? b->levels[b->n_levels - 1].end : 0;
}

/* Opens the component path[start..end), which b->path then includes. */
static int enter(Beneath *b, const char *path, size_t start, size_t end)
{
        char name[NAME_MAX + 1];

        if (end - start > NAME_MAX || end > TREE_PATH_SIZE_MAX || b->n_levels == TREE_DEPTH_MAX)
                return -ENAMETOOLONG;
        memcpy(name, path + start, end - start);
        name[end - start] = '\0';
        int fd = dir_open_at(top_fd(b), name);
        if (fd == -ENOENT && b->n_made) {
                int r = beneath_make(top_fd(b), name, b->n_made);
                if (r < 0)
                        return r;
                fd = dir_open_at(top_fd(b), name);
        }
        if (fd < 0)
                return fd;
        memcpy(b->path + start, path + start, end - start);
        if (start > 0)
                b->path[start - 1] = '/';
        b->levels[b->n_levels].fd = fd;
        b->levels[b->n_levels++].end = end;
        return 0;
}

int beneath_parent(Beneath *b, const char *path, const char **ret_name)
{
        const char *slash = strrchr(path, '/');
        size_t size = slash ? (size_t) (slash - path) : 0, end;

        while ((end = top_end(b)) > 0 &&
               (end > size || path[end] != '/' || memcmp(b->path, path, end) != 0))
                leave(b);
        while (end < size) {
                size_t start = end > 0 ? end + 1 : 0;
                end = start + strcspn(path + start, "/");
                int r = enter(b, path, start, end);
                if (r < 0)
                        return r;
        }
        *ret_name = slash ? slash + 1 : path;
        return top_fd(b);
}
