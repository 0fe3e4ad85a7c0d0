/* SPDX-License-Identifier: Apache-2.0 */
#include <fcntl.h>
#include <stdio.h>

#include "beneath.h"
#include "err.h"
#include "fd.h"
#include "unit-files.h"

/* Of a larger one it is not known whether it has changed: it costs a daemon-reload. */
#define UNIT_FILE_SIZE_MAX (1024 * 1024)

/* The links */

/* Where the link of a unit file leads. */
static int link_target(const Site *s, const char *path, char **ret)
{
        char *target;

        if (asprintf(&target, "%s/current/%s", s->config->root, path) < 0)
                return -ENOMEM;
        *ret = target;
        return 0;
}

/* What has the unit's name on the host: 0 and the target of a link, NULL if nothing has; -EEXIST:
 * no link. */
static int read_link(const Site *s, const char *unit, char **ret)
{
        _cleanup_free_ char *path = NULL;
        int r;

        if (asprintf(&path, "%s/%s", s->unit_dir, unit) < 0) {
                path = NULL;
                return -ENOMEM;
        }
        r = readlink_at(AT_FDCWD, path, ret);
        if (r == -ENOENT || r == -ENOTDIR) {
                *ret = NULL;
                return 0;
        }
        return r == -EINVAL ? -EEXIST : r;
}

static bool is_ours(const Site *s, const char *target)
{
        size_t size = strlen(s->config->root);

        return strncmp(target, s->config->root, size) == 0 &&
               strncmp(target + size, "/current/", STRLEN("/current/")) == 0;
}

/* Before the switch */

static int open_file(const Site *s, const char *release, const char *path)
{
        _cleanup_(beneath_freep) Beneath *tree = NULL;
        _cleanup_close_ int tree_fd = dir_open_at(s->releases_fd, release);
        const char *name;
        int r = tree_fd < 0 ? tree_fd : beneath_new(tree_fd, &tree);

        if (r >= 0)
                r = beneath_parent(tree, path, &name);
        if (r < 0)
                return r;
        r = openat(r, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY);
        return r < 0 ? -errno : r;
}

static int check_file(const Site *s, const char *release, const char *path, char **reterr)
{
        _cleanup_close_ int fd = open_file(s, release, path);
        struct stat st;
        int r = fd < 0 ? fd : fstat(fd, &st) < 0 ? -errno : 0;

        if (r == 0 && S_ISREG(st.st_mode))
                return 0;
        if (r == 0 || r == -ENOENT || r == -ENOTDIR || r == -ELOOP)
                return fail(reterr, -EBADMSG, "\"unit_files\" names %s, which is no file in it",
                            path);
        return fail_errno(reterr, r, "can't look at its unit file %s", path);
}

static int check_link(const Site *s, const char *unit, char **reterr)
{
        _cleanup_free_ char *target = NULL;
        int r = read_link(s, unit, &target);

        if (r == -EEXIST || (r == 0 && target && !is_ours(s, target)))
                return fail(
                        reterr, -EEXIST,
                        "the release brings %s, but the host has %s/%s already: remove that, or "
                        "leave it out of \"unit_files\"",
                        unit, s->unit_dir, unit);
        return r < 0 ? fail_errno(reterr, r, "can't look at %s/%s", s->unit_dir, unit) : 0;
}

static int check_one(const Site *s, const char *release, const char *path, char **reterr)
{
        const char *unit = unit_file_name(path);
        int r;

        if (!config_allows_unit_file(s->config, unit))
                return fail(reterr, -EKEYREJECTED,
                            "it brings %s, which \"unit_files\" of app %s in the agent's "
                            "configuration does not allow",
                            path, s->config->app);
        r = check_file(s, release, path, reterr);
        return r < 0 ? r : check_link(s, unit, reterr);
}

int unit_files_check(const Site *s, const Installed *i, char **reterr)
{
        int r = 0;

        for (size_t n = 0; n < i->activate.n_unit_files && r >= 0; n++)
                r = check_one(s, i->release, i->activate.unit_files[n], reterr);
        return r;
}

bool unit_files_are_linked(const Site *s, const Activate *a)
{
        for (size_t i = 0; i < a->n_unit_files; i++) {
                const char *unit = unit_file_name(a->unit_files[i]);
                _cleanup_free_ char *target = NULL;

                if (config_allows_unit_file(s->config, unit) && read_link(s, unit, &target) == 0 &&
                    !target)
                        return false;
        }
        return true;
}

/* The plan */

static const char *find(const UnitFiles *f, const char *unit)
{
        for (size_t i = 0; f->release && i < f->activate->n_unit_files; i++)
                if (streq(unit_file_name(f->activate->unit_files[i]), unit))
                        return f->activate->unit_files[i];
        return NULL;
}

static int add(char ***list, size_t *n, const char *text)
{
        char **larger = reallocarray(*list, *n + 2, sizeof(char *));

        if (!larger)
                return -ENOMEM;
        *list = larger;
        larger[*n] = strdup(text);
        if (!larger[*n])
                return -ENOMEM;
        larger[++*n] = NULL;
        return 0;
}

static int read_file(const Site *s, const char *release, const char *path, char **ret,
                     size_t *ret_size)
{
        _cleanup_close_ int fd = open_file(s, release, path);

        return fd < 0 ? fd : fd_read_all(fd, UNIT_FILE_SIZE_MAX, ret, ret_size);
}

/* What can't be read is another one: systemd will say what is wrong with it. */
static bool is_same_file(const Site *s, const UnitFiles *to, const char *path,
                         const UnitFiles *from, const char *old_path)
{
        _cleanup_free_ char *now = NULL, *before = NULL;
        size_t now_size, before_size;

        return read_file(s, to->release, path, &now, &now_size) >= 0 &&
               read_file(s, from->release, old_path, &before, &before_size) >= 0 &&
               now_size == before_size && memcmp(now, before, now_size) == 0;
}

static int plan_one(const Site *s, const UnitFiles *to, const char *path, const UnitFiles *from,
                    UnitPlan *p)
{
        const char *unit = unit_file_name(path), *old_path = find(from, unit);
        _cleanup_free_ char *target = NULL, *link = NULL;
        int r = link_target(s, path, &target);

        if (r >= 0)
                r = read_link(s, unit, &link);
        /* The host's own, which is there since it was looked at. */
        if (r == -EEXIST)
                return 0;
        if (r < 0)
                return r;
        if (!old_path || !is_same_file(s, to, path, from, old_path))
                p->reload_systemd = true;
        /* A rollback goes to releases that came when more was allowed, perhaps. */
        if (streq_ptr(link, target) || (link && !is_ours(s, link)) ||
            !config_allows_unit_file(s->config, unit))
                return 0;
        p->reload_systemd = true;
        return add(&p->linked, &p->n_linked, target);
}

static int plan_removed(const Site *s, const UnitFiles *to, const UnitFiles *from, UnitPlan *p)
{
        int r = 0;

        for (size_t i = 0; from->release && i < from->activate->n_unit_files && r >= 0; i++) {
                const char *unit = unit_file_name(from->activate->unit_files[i]);
                _cleanup_free_ char *link = NULL;

                if (find(to, unit))
                        continue;
                p->reload_systemd = true;
                r = read_link(s, unit, &link);
                if (r == -EEXIST)
                        r = 0;
                else if (r >= 0 && link && is_ours(s, link))
                        r = add(&p->unlinked, &p->n_unlinked, unit);
        }
        return r;
}

int unit_files_plan(const Site *s, const UnitFiles *to, const UnitFiles *from, bool again,
                    UnitPlan *p)
{
        int r = plan_removed(s, to, from, p);

        for (size_t i = 0; to->release && i < to->activate->n_unit_files && r >= 0; i++) {
                p->reload_systemd |= again;
                r = plan_one(s, to, to->activate->unit_files[i], from, p);
        }
        return r;
}
