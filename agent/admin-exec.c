/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "admin-verb.h"
#include "admin.h"
#include "err.h"
#include "fd.h"
#include "log.h"
#include "name.h"

#define RELEASES "releases/"

/* By the link alone: the service has to start also when slipwayd's configuration can't be read. */
static int find_release(const char *root, char **ret, char **reterr)
{
        _cleanup_close_ int fd = dir_open_at(AT_FDCWD, root);
        _cleanup_free_ char *target = NULL;
        int r = fd < 0 ? fd : readlink_at(fd, "current", &target);

        if (r < 0)
                return fail_errno(reterr, r, "can't read %s/current", root);
        if (strncmp(target, RELEASES, STRLEN(RELEASES)) != 0 ||
            !name_is_valid(target + STRLEN(RELEASES)))
                return fail(reterr, -EINVAL, "%s/current leads to %s, which is no release", root,
                            target);
        *ret = strdup(target + STRLEN(RELEASES));
        return *ret ? 0 : -ENOMEM;
}

/* Where it is, and in which release. */
static int enter(const char *root, char **ret_dir, char **reterr)
{
        _cleanup_free_ char *release = NULL, *dir = NULL;
        int r = find_release(root, &release, reterr);

        if (r < 0)
                return r;
        if (asprintf(&dir, "%s/" RELEASES "%s", root, release) < 0) {
                dir = NULL;
                return -ENOMEM;
        }
        if (chdir(dir) < 0)
                return fail_errno(reterr, -errno, "can't go to %s", dir);
        if (setenv("SLIPWAY_RELEASE", release, true) < 0 ||
            setenv("SLIPWAY_RELEASE_DIR", dir, true) < 0 || setenv("PWD", dir, true) < 0)
                return -errno;
        *ret_dir = TAKE_PTR(dir);
        return 0;
}

static int run(char **argv, const char *dir, char **reterr)
{
        _cleanup_free_ char *path = NULL;

        if (argv[0][0] != '/') {
                if (asprintf(&path, "%s/%s", dir, argv[0]) < 0) {
                        path = NULL;
                        return -ENOMEM;
                }
                argv[0] = path;
        }
        (void) execv(argv[0], argv);
        return fail_errno(reterr, -errno, "can't run %s", argv[0]);
}

int verb_exec(char **args)
{
        _cleanup_free_ char *dir = NULL, *err = NULL;
        int r;

        if (!args[0] || !args[1] || args[0][0] != '/' || !args[1][0]) {
                log_error("'exec' takes the root of an application, such as /srv/web, a program, "
                          "and its arguments. See: slipway --help");
                return ADMIN_USAGE;
        }
        r = enter(args[0], &dir, &err);
        if (r >= 0)
                r = run(args + 1, dir, &err);
        log_error("%s", err_text(r, err));
        return ADMIN_FAILED;
}
