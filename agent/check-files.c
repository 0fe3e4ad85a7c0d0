/* SPDX-License-Identifier: Apache-2.0 */
#include <libgen.h>
#include <pwd.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "check.h"
#include "child.h"
#include "err.h"
#include "fd.h"

#define USERS_AREA "users"
#define DISK_AREA  "disk"

#define ROOM_FAIL_BYTES   (UINT64_C(64) << 20)
#define ROOM_WARN_BYTES   (UINT64_C(512) << 20)
#define ROOM_WARN_PERCENT 5
#define INODES_FAIL       1000
#define INODES_WARN       20000

/* -- users and owners */

static bool look_up(Check *c, const char *user, Identity *ret)
{
        _cleanup_free_ char *err = NULL;
        int r = identity_lookup(user, ret, &err);

        if (r >= 0)
                return true;
        findings_add(&c->findings, FINDING_FAIL, USERS_AREA, "%s", err_text(r, err));
        return false;
}

/* A directory that is there belongs to this user, and is closed to others if it is to be. */
static void check_directory(Check *c, const char *path, uid_t uid, const char *user, bool closed)
{
        struct stat st;

        if (lstat(path, &st) < 0) {
                if (errno != ENOENT)
                        findings_add(&c->findings, FINDING_FAIL, USERS_AREA,
                                     "%s can't be looked at: %s", path, strerror(errno));
                return;
        }
        if (!S_ISDIR(st.st_mode)) {
                findings_add(&c->findings, FINDING_FAIL, USERS_AREA, "%s is no directory", path);
                findings_mend(&c->findings, "move it away");
                return;
        }
        if (st.st_uid != uid) {
                findings_add(&c->findings, FINDING_WARN, USERS_AREA,
                             "%s belongs to user %u, not to %s", path, (unsigned) st.st_uid, user);
                findings_mend(&c->findings, "chown %s: %s", user, path);
        }
        if (closed && st.st_mode & 0077) {
                findings_add(&c->findings, FINDING_WARN, USERS_AREA,
                             "%s (mode %04o) is open to others", path,
                             (unsigned) st.st_mode & 07777);
                findings_mend(&c->findings, "chmod 0700 %s", path);
        }
}

static void check_releases(Check *c, const char *root, uid_t uid)
{
        _cleanup_free_ char *path = NULL;

        if (asprintf(&path, "%s/releases", root) < 0) {
                c->findings.error = -ENOMEM;
                return;
        }
        check_directory(c, path, uid, "slipway-unpack", false);
}

/* The one that is there by default need not exist where no manifest names a command. */
static void check_hook_users(Check *c, const AppConfig *a)
{
        for (size_t i = 0; i < a->n_hook_users; i++) {
                const char *user = a->hook_users[i];

                if (getpwnam(user))
                        continue;
                findings_add(&c->findings, streq(user, a->app) ? FINDING_NOTE : FINDING_WARN,
                             USERS_AREA,
                             "app %s: there is no user %s, as whom its hooks and probes may run",
                             a->app, user);
                findings_mend(&c->findings,
                              "if its manifests name commands, make the user or correct "
                              "\"hook_users\" in %s",
                              c->config_path);
        }
}

static void check_users(Check *c)
{
        Identity fetch = { .uid = geteuid() }, unpack = { .uid = geteuid() };
        size_t n = c->findings.n;
        bool known = c->user || look_up(c, "slipway", &fetch);

        known = (c->user || look_up(c, "slipway-unpack", &unpack)) && known;
        if (!known)
                return;
        check_directory(c, c->paths.state_dir, geteuid(), "root", true);
        check_directory(c, c->paths.runtime_dir, geteuid(), "root", true);
        check_directory(c, c->paths.cache_dir, fetch.uid, "slipway", true);
        check_directory(c, c->paths.fetch_state_dir, fetch.uid, "slipway", true);
        for (size_t i = 0; c->config && i < c->config->n_apps; i++)
                check_releases(c, c->config->apps[i].root, unpack.uid);
        if (c->findings.n == n)
                findings_add(&c->findings, FINDING_OK, USERS_AREA,
                             "slipwayd's users and directories are as they should be");
        for (size_t i = 0; c->config && !c->user && i < c->config->n_apps; i++)
                check_hook_users(c, &c->config->apps[i]);
}

/* -- room */

/* The directory, or what there is of its path. */
static int stat_file_system(const char *path, struct statvfs *ret)
{
        _cleanup_free_ char *part = strdup(path);

        if (!part)
                return -ENOMEM;
        while (statvfs(part, ret) < 0) {
                if (errno != ENOENT || streq(part, "/"))
                        return -errno;
                (void) dirname(part);
        }
        return 0;
}

static void check_room(Check *c, const char *path)
{
        struct statvfs v;
        uint64_t free_bytes, free_mib;
        int r = stat_file_system(path, &v);

        if (r < 0) {
                findings_add(&c->findings, FINDING_FAIL, DISK_AREA, "%s: %s", path, strerror(-r));
                return;
        }
        free_bytes = (uint64_t) v.f_bavail * v.f_frsize;
        free_mib = free_bytes >> 20;
        if (v.f_flag & ST_RDONLY) {
                findings_add(&c->findings, FINDING_FAIL, DISK_AREA,
                             "%s is on a read-only file system", path);
                findings_mend(&c->findings, "find out why (dmesg), then remount it");
                return;
        }
        if (free_bytes < ROOM_FAIL_BYTES || (v.f_files > 0 && v.f_favail < INODES_FAIL))
                findings_add(&c->findings, FINDING_FAIL, DISK_AREA,
                             "%s: %llu MiB and %llu inodes are free: too little for any deployment",
                             path, (unsigned long long) free_mib, (unsigned long long) v.f_favail);
        else if (free_bytes < ROOM_WARN_BYTES ||
                 v.f_bavail < v.f_blocks / 100 * ROOM_WARN_PERCENT ||
                 (v.f_files > 0 && v.f_favail < INODES_WARN))
                findings_add(&c->findings, FINDING_WARN, DISK_AREA,
                             "%s: only %llu MiB and %llu inodes are free", path,
                             (unsigned long long) free_mib, (unsigned long long) v.f_favail);
        else {
                findings_add(&c->findings, FINDING_OK, DISK_AREA, "%s: %llu MiB free", path,
                             (unsigned long long) free_mib);
                return;
        }
        findings_mend(&c->findings, "make room there, or keep fewer releases (\"keep\")");
}

void check_files(Check *c)
{
        check_users(c);
        check_room(c, c->paths.state_dir);
        check_room(c, c->paths.cache_dir);
        for (size_t i = 0; c->config && i < c->config->n_apps; i++)
                check_room(c, c->config->apps[i].root);
}
