/* SPDX-License-Identifier: Apache-2.0 */
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>

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
               streq_ptr(s->pinned, release) || streq_ptr(s->staged.release, release) ||
               streq_ptr(s->pending.release, release) || streq_ptr(s->pending.from, release);
}

/* True if it was tried, or staged, and never went well. */
static bool was_bad(const State *s, const char *release)
{
        bool tried = false;

        for (size_t i = 0; i < s->n_events; i++) {
                const Event *e = &s->events[i];

                if (!streq(e->release, release))
                        continue;
                if (e->result == RESULT_DONE && e->action != ACTION_STAGE)
                        return false;
                if (e->result != RESULT_DEFERRED)
                        tried = true;
        }
        return tried;
}

/* Bad ones first, so that they push out none that can be rolled back to; then the oldest. The list
 * is in the order of installing: of the same second, the first is the oldest. */
static bool goes_before(const State *s, const Installed *a, const Installed *b)
{
        bool a_bad = was_bad(s, a->release), b_bad = was_bad(s, b->release);

        return a_bad != b_bad ? a_bad : a->installed_sec < b->installed_sec;
}

/* `kept` (may be NULL) is none. */
static const Installed *next_spare(const State *s, const char *kept)
{
        const Installed *next = NULL;

        for (size_t i = 0; i < s->n_releases; i++) {
                const Installed *spare = &s->releases[i];

                if (!is_held(s, spare->release) && !streq_ptr(s->failed, spare->release) &&
                    !streq_ptr(kept, spare->release) && (!next || goes_before(s, spare, next)))
                        next = spare;
        }
        return next;
}

/* The one that failed last is evidence, and one that is staged was not live yet: they take no place
 * from those that can be rolled back to. */
static bool takes_place(const State *s, const char *release)
{
        return !streq_ptr(s->failed, release) &&
               (!streq_ptr(s->staged.release, release) || streq_ptr(s->current, release));
}

static size_t n_counted(const State *s)
{
        size_t n = 0;

        for (size_t i = 0; i < s->n_releases; i++)
                n += takes_place(s, s->releases[i].release);
        return n;
}

static bool is_leftover(const State *s, const char *name)
{
        if (strncmp(name, STAGING_PREFIX, STRLEN(STAGING_PREFIX)) == 0)
                return true;
        return name_is_valid(name) && !state_find_release(s, name) && !is_held(s, name);
}

static uint64_t total_bytes(const State *s)
{
        uint64_t bytes = 0;

        for (size_t i = 0; i < s->n_releases; i++)
                bytes += s->releases[i].own_bytes;
        return bytes;
}

/* What goes next for the budget, which must not cost the way back. */
static const Installed *next_large(const State *s)
{
        const Installed *spare = next_spare(s, state_release_before(s));

        if (spare || !s->failed || is_held(s, s->failed))
                return spare;
        return state_find_release(s, s->failed);
}

int prune_select(int releases_fd, State *s, size_t keep, uint64_t budget_bytes, char ***ret,
                 size_t *ret_n)
{
        _cleanup_(names_done) Names names = {};
        const Installed *spare;
        struct dirent *entry;
        int fd, r = 0;
        DIR *dir;

        while (n_counted(s) > keep && (spare = next_spare(s, NULL)))
                state_remove_release(s, spare->release);
        while (budget_bytes > 0 && total_bytes(s) > budget_bytes && (spare = next_large(s)))
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

/* The name of a leftover, for a release that is to go. */
static int retire(int releases_fd, char **name)
{
        char hex[17], *retired;
        int r = random_hex(hex);

        if (r < 0)
                return r;
        if (asprintf(&retired, STAGING_PREFIX "gone.%s", hex) < 0)
                return -ENOMEM;
        if (renameat(releases_fd, *name, releases_fd, retired) < 0) {
                r = -errno;
                free(retired);
                return r;
        }
        free(*name);
        *name = retired;
        return 0;
}

int prune_retire(int releases_fd, char **names, size_t n_names)
{
        for (size_t i = 0; i < n_names; i++) {
                int r = strncmp(names[i], STAGING_PREFIX, STRLEN(STAGING_PREFIX)) == 0
                                ? 0
                                : retire(releases_fd, &names[i]);
                if (r < 0)
                        return r;
        }
        return 0;
}
