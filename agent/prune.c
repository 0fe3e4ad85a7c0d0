/* SPDX-License-Identifier: Apache-2.0 */
#include <dirent.h>
#include <fcntl.h>

#include "fd.h"
#include "name.h"
#include "prune.h"
#include "staging.h"

typedef struct Names {
        char **names;
        size_t n_names;
} Names;

static void names_done(Names *n)
{
        for (size_t i = 0; i < n->n_names; i++)
                free(n->names[i]);
        free(n->names);
}

static int names_add(Names *n, const char *name)
{
        char **larger = reallocarray(n->names, n->n_names + 1, sizeof(char *));

        if (!larger)
                return -ENOMEM;
        n->names = larger;
        n->names[n->n_names] = strdup(name);
        if (!n->names[n->n_names])
                return -ENOMEM;
        n->n_names++;
        return 0;
}

static bool is_held(const State *s, const char *release)
{
        return streq_ptr(s->current, release) || streq_ptr(s->last_good, release) ||
               streq_ptr(s->pinned, release) || streq_ptr(s->pending.release, release) ||
               streq_ptr(s->pending.from, release);
}

/* The list is in the order of installing: the first that nothing holds is the oldest. */
static const Installed *oldest_spare(const State *s)
{
        const Installed *oldest = NULL;

        for (size_t i = 0; i < s->n_releases; i++)
                if (!is_held(s, s->releases[i].release) &&
                    (!oldest || s->releases[i].installed_sec < oldest->installed_sec))
                        oldest = &s->releases[i];
        return oldest;
}

static bool is_leftover(const State *s, const char *name)
{
        if (strncmp(name, STAGING_PREFIX, STRLEN(STAGING_PREFIX)) == 0)
                return true;
        return name_is_valid(name) && !state_find_release(s, name) && !is_held(s, name);
}

int prune_select(int releases_fd, State *s, size_t keep, char ***ret, size_t *ret_n)
{
        _cleanup_(names_done) Names names = {};
        const Installed *spare;
        struct dirent *entry;
        int fd, r = 0;
        DIR *dir;

        while (s->n_releases > keep && (spare = oldest_spare(s)))
                state_remove_release(s, spare->release);

        fd = openat(releases_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (fd < 0)
                return -errno;
        dir = fdopendir(fd);
        if (!dir) {
                r = -errno;
                fd_close(fd);
                return r;
        }
        while (r >= 0 && (errno = 0, entry = readdir(dir)))
                if (is_leftover(s, entry->d_name))
                        r = names_add(&names, entry->d_name);
        if (r >= 0 && errno > 0)
                r = -errno;
        (void) closedir(dir);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(names.names);
        *ret_n = names.n_names;
        names.n_names = 0;
        return 0;
}
