/* SPDX-License-Identifier: Apache-2.0 */
#include "tree.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "err.h"
#include "fd.h"
#include "name.h"

struct Tree {
        TreeEntry *entries;
        size_t n_entries, n_allocated;
};

/* The directories from the root to the one being read: one for each component of its path. */
typedef struct Walk {
        struct {
                DIR *dir;
                size_t path_size;
        } levels[TREE_DEPTH_MAX + 1];
        size_t n_levels;
        char path[TREE_PATH_SIZE_MAX + 1]; /* of the innermost directory, then of its entry */
} Walk;

static void entry_done(TreeEntry *e)
{
        free(e->path);
        free(e->link);
}

Tree *tree_free(Tree *t)
{
        if (!t)
                return NULL;
        for (size_t n = 0; n < t->n_entries; n++)
                entry_done(&t->entries[n]);
        free(t->entries);
        free(t);
        return NULL;
}

static void walk_leave(Walk *w)
{
        (void) closedir(w->levels[--w->n_levels].dir);
}

static void walk_done(Walk *w)
{
        while (w->n_levels > 0)
                walk_leave(w);
}

/* Takes the descriptor, in any case. */
static int walk_enter(Walk *w, int dir_fd, size_t path_size)
{
        DIR *dir = fdopendir(dir_fd);

        if (!dir) {
                int r = -errno;
                fd_close(dir_fd);
                return r;
        }
        w->levels[w->n_levels].dir = dir;
        w->levels[w->n_levels++].path_size = path_size;
        return 0;
}

static int tree_reserve(Tree *t, char **reterr)
{
        if (t->n_entries == FILES_MAX)
                return fail(reterr, -EBADMSG, "tree has more than %u files and directories",
                            FILES_MAX);
        if (t->n_entries < t->n_allocated)
                return 0;
        size_t n = MAX(2 * t->n_allocated, (size_t) 256);
        TreeEntry *larger = reallocarray(t->entries, n, sizeof(TreeEntry));
        if (!larger)
                return -ENOMEM;
        t->entries = larger;
        t->n_allocated = n;
        return 0;
}

static int read_link(int dir_fd, const char *name, TreeEntry *e, char **reterr)
{
        int r = readlink_at(dir_fd, name, &e->link);

        if (r < 0)
                return fail_errno(reterr, r, "cannot read the symlink '%s'", e->path);
        e->mode = 0777;
        e->type = FILE_SYMLINK;
        if (!tree_link_is_inside(e->path, e->link))
                return fail(
                        reterr, -EBADMSG,
                        "symlink '%s' leads out of the tree, to '%s'; make it relative or leave it "
                        "out",
                        e->path, e->link);
        return 0;
}

/* Sets type, mode and link from e->st. */
static int entry_judge(int dir_fd, const char *name, TreeEntry *e, char **reterr)
{
        mode_t mode = e->st.st_mode;

        if (S_ISLNK(mode))
                return read_link(dir_fd, name, e, reterr);
        if (!S_ISREG(mode) && !S_ISDIR(mode))
                return fail(reterr, -EBADMSG, "'%s' is a device, fifo or socket", e->path);
        if (S_ISREG(mode) && (mode & (S_ISUID | S_ISGID | S_ISVTX)))
                return fail(reterr, -EBADMSG,
                            "'%s' is setuid, setgid or sticky, which a release can't have",
                            e->path);
        e->type = S_ISDIR(mode) ? FILE_DIRECTORY : FILE_REGULAR;
        e->mode = S_ISDIR(mode) || (mode & S_IXUSR) ? 0755 : 0644;
        return 0;
}

/* A name that may hold anything, for an error text in one line. */
static void printable(char *s)
{
        for (; *s; s++)
                if ((unsigned char) *s < ' ' || *s == 0x7f)
                        *s = '?';
}

/* Appends "/name" to the walk's path. Returns the size, or a negative errno. */
static int walk_append(Walk *w, const char *name, char **reterr)
{
        size_t size = w->levels[w->n_levels - 1].path_size;
        int n = snprintf(w->path + size, sizeof(w->path) - size, "%s%s", size > 0 ? "/" : "", name);

        if (n >= 0 && (size_t) n < sizeof(w->path) - size && tree_path_is_valid(w->path))
                return size + n;
        printable(w->path);
        return fail(reterr, -EBADMSG,
                    "'%s' can't be in a release: too long, too deep, or control characters in its "
                    "name",
                    w->path);
}

static int add_entry(Tree *t, Walk *w, const char *name, char **reterr)
{
        int dir_fd = dirfd(w->levels[w->n_levels - 1].dir);
        int path_size = walk_append(w, name, reterr);

        if (path_size < 0)
                return path_size;
        int r = tree_reserve(t, reterr);
        if (r < 0)
                return r;
        _cleanup_(entry_done) TreeEntry e = { .path = strdup(w->path) };
        if (!e.path)
                return -ENOMEM;
        if (fstatat(dir_fd, name, &e.st, AT_SYMLINK_NOFOLLOW) < 0)
                return fail_errno(reterr, -errno, "cannot look at '%s'", e.path);
        r = entry_judge(dir_fd, name, &e, reterr);
        if (r < 0)
                return r;
        bool is_directory = e.type == FILE_DIRECTORY;
        t->entries[t->n_entries++] = e;
        e = (TreeEntry){};
        if (!is_directory)
                return 0;
        int fd = dir_open_at(dir_fd, name);
        r = fd < 0 ? fd : walk_enter(w, fd, path_size);
        return r < 0 ? fail_errno(reterr, r, "cannot open the directory '%s'", w->path) : 0;
}

static int walk_step(Tree *t, Walk *w, char **reterr)
{
        size_t size = w->levels[w->n_levels - 1].path_size;

        w->path[size] = '\0';
        errno = 0;
        struct dirent *entry = readdir(w->levels[w->n_levels - 1].dir);
        if (!entry && errno > 0)
                return fail_errno(reterr, -errno, "cannot read the directory '%s'",
                                  size > 0 ? w->path : ".");
        if (!entry) {
                walk_leave(w);
                return 0;
        }
        if (streq(entry->d_name, ".") || streq(entry->d_name, ".."))
                return 0;
        return add_entry(t, w, entry->d_name, reterr);
}

static int compare_entries(const void *a, const void *b)
{
        return strcmp(((const TreeEntry *) a)->path, ((const TreeEntry *) b)->path);
}

int tree_scan(int tree_fd, Tree **ret, char **reterr)
{
        _cleanup_(tree_freep) Tree *t = calloc(1, sizeof(Tree));
        _cleanup_(walk_done) Walk w = {};

        if (!t)
                return -ENOMEM;
        /* A descriptor with a position of its own: fdopendir() takes it and reading moves it. */
        int fd = dir_open_at(tree_fd, ".");
        int r = fd < 0 ? fd : walk_enter(&w, fd, 0);
        if (r < 0)
                return fail_errno(reterr, r, "cannot open the tree");
        while (w.n_levels > 0) {
                r = walk_step(t, &w, reterr);
                if (r < 0)
                        return r;
        }
        if (t->n_entries > 0)
                qsort(t->entries, t->n_entries, sizeof(TreeEntry), compare_entries);
        *ret = TAKE_PTR(t);
        return 0;
}

size_t tree_n_entries(const Tree *t)
{
        return t->n_entries;
}

const TreeEntry *tree_entry(const Tree *t, size_t n)
{
        return &t->entries[n];
}

uint64_t tree_newest_sec(const Tree *t)
{
        int64_t newest_sec = 0;

        for (size_t n = 0; n < t->n_entries; n++)
                if (t->entries[n].type == FILE_REGULAR)
                        newest_sec = MAX(newest_sec, (int64_t) t->entries[n].st.st_mtim.tv_sec);
        return (uint64_t) newest_sec;
}

static bool same_time(const struct timespec *a, const struct timespec *b)
{
        return a->tv_sec == b->tv_sec && a->tv_nsec == b->tv_nsec;
}

bool tree_entry_changed(const TreeEntry *e, const struct stat *st)
{
        return st->st_dev != e->st.st_dev || st->st_ino != e->st.st_ino ||
               st->st_mode != e->st.st_mode || st->st_size != e->st.st_size ||
               !same_time(&st->st_mtim, &e->st.st_mtim) || !same_time(&st->st_ctim, &e->st.st_ctim);
}
