/* SPDX-License-Identifier: Apache-2.0 */
#include <assert.h>
#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <unistd.h>

#include "err.h"
#include "fd.h"
#include "journal.h"
#include "lock.h"
#include "log.h"
#include "name.h"
#include "site.h"
#include "state-file.h"

/* About what is under way, or else about what is live. */
static JournalFields journal_fields(const Site *s, const char *id)
{
        const State *state = s->state;
        JournalFields fields = { .id = id, .app = s->config->app };
        const Installed *live;

        if (!state)
                return fields;
        fields.channel = state->channel;
        fields.phase = phase_to_string(state->phase);
        fields.release = state->current;
        live = state->current ? state_find_release(state, state->current) : NULL;
        if (state->pending.release) {
                fields.release = state->pending.release;
                fields.deployment = state->pending.deployment;
                fields.serial = state->pending.serial;
        } else if (live) {
                fields.deployment = live->deployment;
                fields.serial = live->serial;
        }
        return fields;
}

void site_log(const Site *s, int level, const char *format, ...)
{
        JournalFields fields = journal_fields(s, NULL);
        va_list ap;

        va_start(ap, format);
        journal_writev(level, &fields, format, ap);
        va_end(ap);
}

void site_event(const Site *s, int level, const char *id, const char *format, ...)
{
        JournalFields fields = journal_fields(s, id);
        va_list ap;

        va_start(ap, format);
        journal_writev(level, &fields, format, ap);
        va_end(ap);
}

Site *site_free(Site *s)
{
        if (!s)
                return NULL;
        site_unlock(s);
        state_free(s->state);
        fd_close(s->root_fd);
        fd_close(s->releases_fd);
        free(s);
        return NULL;
}

/* The link */

int site_read_current(const Site *s, char **ret)
{
        _cleanup_free_ char *target = NULL;
        char *id = NULL;
        int r = s->root_fd < 0 ? -ENOENT : readlink_at(s->root_fd, "current", &target);

        if (r < 0 && r != -ENOENT)
                return r;
        if (r >= 0) {
                if (strncmp(target, "releases/", STRLEN("releases/")) != 0 ||
                    !name_is_valid(target + STRLEN("releases/")))
                        return -EINVAL;
                id = strdup(target + STRLEN("releases/"));
                if (!id)
                        return -ENOMEM;
        }
        *ret = id;
        return 0;
}

int site_switch(Site *s, const char *release)
{
        char target[STRLEN("releases/") + NAME_MAX + 1];

        if (!release) {
                if (unlinkat(s->root_fd, "current", 0) < 0 && errno != ENOENT)
                        return -errno;
                return fsync(s->root_fd) < 0 ? -errno : 0;
        }
        (void) snprintf(target, sizeof(target), "releases/%s", release);
        return symlink_replace_at(target, s->root_fd, "current");
}

int site_reconcile(Site *s)
{
        _cleanup_free_ char *live = NULL;
        int r = site_read_current(s, &live);

        if (r < 0)
                return r;
        return state_set(&s->state->current, live);
}

/* Directories */

/* What is mounted or made in the meantime counts: the directories are opened anew at each lock. */
static int open_existing(Site *s)
{
        int r;

        s->root_fd = fd_close(s->root_fd);
        s->releases_fd = fd_close(s->releases_fd);
        r = dir_open_at(AT_FDCWD, s->config->root);

        if (r < 0)
                return r == -ENOENT ? 0 : r;
        s->root_fd = r;
        r = dir_open_at(s->root_fd, "releases");
        if (r < 0)
                return r == -ENOENT ? 0 : r;
        s->releases_fd = r;
        return 0;
}

int site_make_root(Site *s, char **reterr)
{
        const char *root = s->config->root;
        int r = mkdir_parents(root, 0755);

        if (r < 0)
                return fail_errno(
                        reterr, r,
                        "can't make %s (a root outside /srv needs ReadWritePaths= in a drop-in of slipwayd.service)",
                        root);
        s->root_fd = fd_close(s->root_fd);
        s->releases_fd = fd_close(s->releases_fd);
        r = s->root_fd = dir_open_at(AT_FDCWD, root);
        if (r < 0)
                return fail_errno(reterr, r, "can't open %s", root);
        if (mkdirat(s->root_fd, "releases", 0755) < 0 && errno != EEXIST)
                return fail_errno(reterr, -errno, "can't make %s/releases", root);
        r = s->releases_fd = dir_open_at(s->root_fd, "releases");
        if (r < 0)
                return fail_errno(reterr, r, "can't open %s/releases", root);
        if (s->unpack.change && fchown(s->releases_fd, s->unpack.uid, s->unpack.gid) < 0)
                return fail_errno(reterr, -errno, "can't give %s/releases to slipway-unpack", root);
        if (faccessat(s->root_fd, ".", W_OK, 0) < 0)
                return fail_errno(reterr, -errno, "can't write to %s", root);
        return fsync(s->root_fd) < 0 ? fail_errno(reterr, -errno, "can't sync %s", root) : 0;
}

bool site_has_release(const Site *s, const char *release)
{
        return s->releases_fd >= 0 &&
               faccessat(s->releases_fd, release, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

/* The state file */

static void state_file_name(const Site *s, char ret[static NAME_MAX + 1])
{
        (void) snprintf(ret, NAME_MAX + 1, "%s.json", s->config->app);
}

static void stat_state_file(const Site *s, struct stat *ret)
{
        char name[NAME_MAX + 1];

        state_file_name(s, name);
        if (fstatat(s->state_dir_fd, name, ret, 0) < 0)
                *ret = (struct stat){};
}

static bool same_file(const struct stat *a, const struct stat *b)
{
        return a->st_ino == b->st_ino && a->st_dev == b->st_dev &&
               a->st_mtim.tv_sec == b->st_mtim.tv_sec && a->st_mtim.tv_nsec == b->st_mtim.tv_nsec;
}

int site_save(Site *s)
{
        int r;

        assert(s->lock_fd >= 0);
        r = state_save(s->state, s->state_dir_fd);
        s->state_version++;
        s->unsaved = r < 0;
        stat_state_file(s, &s->state_stat);
        if (r < 0)
                site_log(s, LOG_ERR, "App %s: can't save its state: %s", s->config->app,
                         strerror(-r));
        return r;
}

/* The file is missing, or can't be understood. */
static bool is_lost(int error)
{
        return error == -ENOENT || error == -EBADMSG || error == -EFBIG;
}

/* What is in memory is better than what can be rebuilt: the next save writes it. */
static int keep_state(Site *s, int error, char **reterr)
{
        int r = error == -ENOENT ? 0 : state_set_aside(s->state_dir_fd, s->config->app);

        if (r < 0)
                return r;
        site_log(s, LOG_ERR, "App %s: %s; what this program remembers stays", s->config->app,
                 err_text(error, reterr ? *reterr : NULL));
        stat_state_file(s, &s->state_stat);
        return 0;
}

int site_refresh(Site *s, char **reterr)
{
        _cleanup_(state_freep) State *fresh = NULL;
        struct stat st;
        int r;

        stat_state_file(s, &st);
        if (same_file(&st, &s->state_stat))
                return 0;
        r = state_load(s->state_dir_fd, s->config->app, &fresh, reterr);
        if (is_lost(r))
                return keep_state(s, r, reterr);
        if (r < 0)
                return r;
        r = state_set(&fresh->channel, s->config->channel);
        if (r < 0)
                return r;
        state_free(s->state);
        s->state = TAKE_PTR(fresh);
        s->unsaved = false;
        s->state_stat = st;
        s->state_version++;
        return 0;
}

void site_reload(Site *s)
{
        _cleanup_free_ char *err = NULL;
        int r;

        s->state_stat = (struct stat){};
        r = site_refresh(s, &err);
        if (r < 0)
                site_log(s, LOG_ERR, "App %s: %s", s->config->app, err_text(r, err));
}

/* What lies in releases/ can be rolled back to. How these releases go live is taken from the
 * channel's manifest, when it comes: serial 0 marks them. */
static int add_releases_on_disk(Site *s)
{
        static const Activate nothing = { .bake_usec = BAKE_DEFAULT_USEC,
                                          .deadline_usec = DEADLINE_DEFAULT_USEC };
        static const Sha256 unknown = {};
        struct dirent *entry;
        DIR *dir;
        int fd, r = 0;

        if (s->releases_fd < 0)
                return 0;
        fd = openat(s->releases_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        dir = fd < 0 ? NULL : fdopendir(fd);
        if (!dir) {
                r = -errno;
                fd_close(fd);
                return r;
        }
        while (r >= 0 && (errno = 0, entry = readdir(dir)))
                if (name_is_valid(entry->d_name))
                        r = state_add_release(s->state, entry->d_name, 0, 0, &unknown, &nothing);
        if (r >= 0)
                r = -errno;
        (void) closedir(dir);
        return r;
}

static int rebuild(Site *s)
{
        int r = state_new(s->config->app, s->config->channel, &s->state);

        return r < 0 ? r : add_releases_on_disk(s);
}

static int set_aside_and_rebuild(Site *s, const char *why)
{
        int r = state_set_aside(s->state_dir_fd, s->config->app);

        log_error("%s; it was set aside, and the state of app %s is rebuilt from what is on disk: "
                  "serials, history and local rollbacks are forgotten",
                  why, s->config->app);
        return r < 0 ? r : rebuild(s);
}

/* What is known without the state. As the file is none that was read, each refresh looks at it. */
static int rebuild_for_show(Site *s, const char *why)
{
        int r = rebuild(s);

        log_error("%s", why);
        s->state_stat = (struct stat){};
        if (r >= 0 && site_reconcile(s) < 0)
                log_debug("App %s: 'current' is no link to a release", s->config->app);
        return r;
}

static int load(Site *s, char **reterr)
{
        _cleanup_free_ char *err = NULL;
        int r;

        stat_state_file(s, &s->state_stat);
        r = state_load(s->state_dir_fd, s->config->app, &s->state, &err);
        if (r == -ENOENT)
                r = rebuild(s);
        else if (r == -EPROTONOSUPPORT)
                r = rebuild_for_show(s, err_text(r, err));
        else if (is_lost(r)) {
                r = set_aside_and_rebuild(s, err_text(r, err));
                stat_state_file(s, &s->state_stat);
        }
        if (r >= 0)
                r = state_set(&s->state->channel, s->config->channel);
        if (r < 0)
                return fail_errno(reterr, r, "can't load the state of app %s", s->config->app);
        return 0;
}

int site_new(const AppConfig *config, sd_event *event, Bus *bus, const Identity *unpack,
             int state_dir_fd, int runtime_dir_fd, Site **ret, char **reterr)
{
        _cleanup_(site_freep) Site *s = calloc(1, sizeof(Site));
        int r;

        if (!s)
                return -ENOMEM;
        *s = (Site){ .config = config,
                     .event = event,
                     .bus = bus,
                     .unpack = *unpack,
                     .state_dir_fd = state_dir_fd,
                     .runtime_dir_fd = runtime_dir_fd,
                     .root_fd = -EBADF,
                     .releases_fd = -EBADF,
                     .lock_fd = -EBADF };
        r = open_existing(s);
        if (r < 0)
                log_warning("Can't open %s: %s", config->root, strerror(-r));
        r = load(s, reterr);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(s);
        return 0;
}

/* The lock */

/* What whoever had the lock before was killed over. */
static void remove_leftovers(Site *s)
{
        char name[NAME_MAX + 1];
        int r;

        state_file_name(s, name);
        r = replace_leftovers_remove_at(s->state_dir_fd, name);
        if (r >= 0 && s->root_fd >= 0)
                r = replace_leftovers_remove_at(s->root_fd, "current");
        if (r < 0)
                site_log(s, LOG_WARNING, "App %s: can't remove what a crash left half-written: %s",
                         s->config->app, strerror(-r));
}

int site_lock(Site *s, pid_t *ret_holder, char **reterr)
{
        _cleanup_close_ int fd = -EBADF;
        pid_t holder = 0;
        int r;

        assert(s->lock_fd < 0);
        r = lock_take(s->runtime_dir_fd, s->config->app, &fd, &holder);
        if (r == -EAGAIN) {
                if (ret_holder)
                        *ret_holder = holder;
                return fail(reterr, -EBUSY, "app %s is being changed by process %d", s->config->app,
                            (int) holder);
        }
        if (r < 0)
                return fail_errno(reterr, r, "can't take the lock of app %s", s->config->app);
        s->lock_fd = TAKE_FD(fd);
        r = open_existing(s);
        if (r < 0)
                r = fail_errno(reterr, r, "can't open %s", s->config->root);
        else
                r = site_refresh(s, reterr);
        if (r < 0)
                site_unlock(s);
        else
                remove_leftovers(s);
        return r;
}

void site_unlock(Site *s)
{
        s->lock_fd = lock_release(s->lock_fd);
}

bool site_is_locked(const Site *s)
{
        return s->lock_fd >= 0;
}

/* The mark of this boot */

static void mark_name(const Site *s, char ret[static NAME_MAX + 1])
{
        (void) snprintf(ret, NAME_MAX + 1, "%s.running", s->config->app);
}

int site_mark_running(Site *s)
{
        char name[NAME_MAX + 1];
        _cleanup_close_ int fd = -EBADF;

        mark_name(s, name);
        fd = openat(s->runtime_dir_fd, name, O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
        return fd < 0 ? -errno : 0;
}

bool site_is_marked_running(const Site *s)
{
        char name[NAME_MAX + 1];

        mark_name(s, name);
        return faccessat(s->runtime_dir_fd, name, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

void site_clear_running(Site *s)
{
        char name[NAME_MAX + 1];

        mark_name(s, name);
        if (unlinkat(s->runtime_dir_fd, name, 0) < 0 && errno != ENOENT)
                log_debug("Can't remove %s: %s", name, strerror(errno));
}
