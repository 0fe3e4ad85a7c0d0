/* SPDX-License-Identifier: Apache-2.0 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <stdio.h>
#include <unistd.h>

#include "admin-bus.h"
#include "admin-text.h"
#include "admin-verb.h"
#include "admin-watch.h"
#include "admin.h"
#include "dsse.h"
#include "err.h"
#include "fd.h"
#include "log.h"
#include "offline.h"

/* As in a store, beside the artifact. */
#define INDEX_NAME       "index"
#define PROVENANCE_NAMES "provenance*.json"

/* A FIFO would wait for a writer, and a device may do what it likes. */
static int open_file(const char *path, uint64_t size_max, int *ret, char **reterr)
{
        _cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
        struct stat st;

        if (fd < 0)
                return fail_errno(reterr, -errno, "%s", path);
        if (fstat(fd, &st) < 0)
                return fail_errno(reterr, -errno, "%s", path);
        if (!S_ISREG(st.st_mode))
                return fail(reterr, -EINVAL, "%s is no regular file", path);
        if ((uint64_t) st.st_size > size_max)
                return fail(reterr, -EFBIG, "%s has %llu bytes, more than %llu", path,
                            (unsigned long long) st.st_size, (unsigned long long) size_max);
        *ret = TAKE_FD(fd);
        return 0;
}

static void files_done(OrderFiles *f)
{
        fd_close(f->manifest_fd);
        fd_close(f->index_fd);
        fd_close(f->artifact_fd);
        for (size_t i = 0; i < f->n_provenances; i++)
                fd_close(f->provenance_fds[i]);
}

static char *path_beside(const char *name)
{
        const char *slash = strrchr(arg_file, '/');
        char *path = NULL;

        err_set(&path, "%.*s%s", slash ? (int) (slash + 1 - arg_file) : 0, arg_file, name);
        return path;
}

static int open_index(int *ret, char **reterr)
{
        _cleanup_free_ char *beside = path_beside(INDEX_NAME);
        int r;

        if (arg_index)
                return open_file(arg_index, INT64_MAX, ret, reterr);
        if (!beside)
                return -ENOMEM;
        r = open_file(beside, INT64_MAX, ret, reterr);
        return r == -ENOENT ? fail(reterr, r,
                                   "there is no %s: the release's index is needed too, name it by "
                                   "--index",
                                   beside)
                            : r;
}

static int open_provenance(OrderFiles *f, const char *name, char **reterr)
{
        _cleanup_free_ char *path = path_beside(name);
        int r;

        if (!path)
                return -ENOMEM;
        if (f->n_provenances == ORDER_PROVENANCES_MAX)
                return fail(reterr, -E2BIG,
                            "there are more than %d files " PROVENANCE_NAMES
                            " beside the artifact: leave there those of this release",
                            ORDER_PROVENANCES_MAX);
        r = open_file(path, INT64_MAX, &f->provenance_fds[f->n_provenances], reterr);
        f->n_provenances += r >= 0;
        return r;
}

/* Which one is the manifest's is for who verifies that. */
static int open_provenances(OrderFiles *f, char **reterr)
{
        _cleanup_free_ char *directory = path_beside(".");
        struct dirent *entry;
        DIR *d;
        int r = 0;

        if (!directory)
                return -ENOMEM;
        d = opendir(directory);
        if (!d)
                return fail_errno(reterr, -errno, "%s", directory);
        while (r >= 0 && (entry = readdir(d)))
                if (fnmatch(PROVENANCE_NAMES, entry->d_name, 0) == 0)
                        r = open_provenance(f, entry->d_name, reterr);
        (void) closedir(d);
        return r;
}

static int open_files(OrderFiles *f, char **reterr)
{
        int r = open_file(arg_manifest, ENVELOPE_SIZE_MAX, &f->manifest_fd, reterr);

        if (r >= 0)
                r = open_file(arg_file, INT64_MAX, &f->artifact_fd, reterr);
        if (r >= 0)
                r = open_index(&f->index_fd, reterr);
        return r < 0 ? r : open_provenances(f, reterr);
}

static int say(const char *app, char *text, bool waited)
{
        if (arg_json)
                return admin_print_answer(app, waited ? "release" : "text", text);
        printf("%s: %s%s\n", app, text_clean(text), waited ? " is live" : "");
        return ADMIN_OK;
}

int verb_deploy(char **args)
{
        _cleanup_(files_done) OrderFiles files = { .manifest_fd = -EBADF,
                                                   .index_fd = -EBADF,
                                                   .artifact_fd = -EBADF };
        _cleanup_known_ Known k = {};
        _cleanup_free_ char *err = NULL, *text = NULL;
        _cleanup_(watch_freep) Watch *watch = NULL;
        AgentOptions options = admin_offline_options();
        Onlooker onlooker = {};
        bool wait = arg_wait;
        char by[ADMIN_BY_SIZE_MAX];
        const cJSON *app;
        int r;

        if (!arg_file || !arg_manifest) {
                log_error(
                        "deploy needs the release and its order: --file ARTIFACT --manifest FILE");
                return ADMIN_USAGE;
        }
        r = open_files(&files, &err);
        if (r < 0) {
                log_error("cannot deploy '%s': %s", args[0], err_text(r, err));
                return ADMIN_FAILED;
        }
        admin_who(by);
        r = known_ask(&k, &err);
        if (r >= 0) {
                app = known_find_app(&k, args[0]);
                if (!app)
                        return ADMIN_NO_SUCH;
                r = admin_bus_deploy_files(k.bus, args[0], &files, by, wait,
                                           admin_change_timeout_usec(app), &text, &err);
        } else if (admin_go_offline(r, err)) {
                wait = true;
                r = watch_new_offline(args[0], &watch, &onlooker);
                if (r >= 0)
                        r = offline_deploy_files(&options, args[0], &files, by, onlooker, &text,
                                                 &err);
        }
        if (r < 0) {
                log_error("cannot deploy '%s': %s", args[0], err_text(r, err));
                return admin_exit_code(r);
        }
        return say(args[0], text, wait);
}
