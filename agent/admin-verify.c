/* SPDX-License-Identifier: Apache-2.0 */
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "admin-text.h"
#include "admin-verb.h"
#include "admin.h"
#include "config.h"
#include "err.h"
#include "fd.h"
#include "index-store.h"
#include "json-member.h"
#include "json-read.h"
#include "log.h"
#include "paths.h"
#include "progress.h"
#include "state-file.h"
#include "table.h"
#include "verify.h"

/* Of a tree that has nothing in common with its index, so many are named, and the rest counted. */
#define N_NAMED_MAX 1000

typedef struct Verification {
        Paths paths;
        Config *config;
        const AppConfig *app;
        State *state;
        const Installed *installed;
        Index *index;
        int state_dir_fd, releases_fd, tree_fd;
        /* what comes of it */
        cJSON *drift;
        size_t n_drift, n_files;
        uint64_t n_bytes, total_bytes;
        bool out_of_memory;
        Progress *progress;
} Verification;

static void verification_done(Verification *v)
{
        paths_done(&v->paths);
        config_free(v->config);
        state_free(v->state);
        index_free(v->index);
        fd_close(v->state_dir_fd);
        fd_close(v->releases_fd);
        fd_close(v->tree_fd);
        cJSON_Delete(v->drift);
}

/* What there is to compare */

/* What the instance's tags say counts as slipwayd saw it last. */
static int load_config(Verification *v, char **reterr)
{
        _cleanup_(config_source_freep) ConfigSource *source = NULL;
        _cleanup_(instance_freep) Instance *instance = NULL;
        _cleanup_close_ int dir_fd = dir_open_at(AT_FDCWD, v->paths.state_dir);
        int r = config_read(arg_config ? arg_config : v->paths.config_file, !arg_config, &source,
                            reterr);

        if (r < 0)
                return r;
        r = dir_fd < 0 ? dir_fd : instance_load(dir_fd, &instance);
        if (r < 0 && r != -ENOENT && r != -EACCES)
                return fail_errno(reterr, r, "can't read %s/instance", v->paths.state_dir);
        return config_resolve(source, instance, &v->config, reterr);
}

static int load_app(Verification *v, const char *name, char **reterr)
{
        int r = paths_init(arg_user, &v->paths, reterr);

        if (r >= 0)
                r = load_config(v, reterr);
        if (r < 0)
                return r;
        for (size_t i = 0; i < v->config->n_apps; i++)
                if (streq(v->config->apps[i].app, name))
                        v->app = &v->config->apps[i];
        if (!v->app)
                return fail(reterr, -ENOENT, "the configuration has no app %s", name);
        v->state_dir_fd = dir_open_at(AT_FDCWD, v->paths.state_dir);
        if (v->state_dir_fd == -EACCES)
                return fail(reterr, -EACCES, "%s is for root alone (try: sudo slipway ...)",
                            v->paths.state_dir);
        if (v->state_dir_fd < 0)
                return fail_errno(reterr, v->state_dir_fd, "%s", v->paths.state_dir);
        return state_load(v->state_dir_fd, name, &v->state, reterr);
}

static int open_releases(Verification *v, char **reterr)
{
        _cleanup_close_ int root_fd = dir_open_at(AT_FDCWD, v->app->root);

        if (root_fd < 0)
                return fail_errno(reterr, root_fd, "can't open %s", v->app->root);
        v->releases_fd = dir_open_at(root_fd, "releases");
        if (v->releases_fd < 0)
                return fail_errno(reterr, v->releases_fd, "can't open %s/releases", v->app->root);
        return 0;
}

static int load_release(Verification *v, const char *release, char **reterr)
{
        const char *app = v->app->app;
        int r;

        if (!release)
                release = v->state->current;
        if (!release)
                return fail(reterr, -ENOENT,
                            "nothing is live: name a release of slipway releases %s", app);
        v->installed = state_find_release(v->state, release);
        if (!v->installed)
                return fail(reterr, -ENOENT,
                            "release %s is not on this host: see slipway releases %s", release,
                            app);
        r = index_store_load(v->state_dir_fd, app, release, &v->installed->index_sha256, &v->index,
                             reterr);
        if (r == -ENOENT)
                return fail(
                        reterr, -ENODATA,
                        "the signed index of release %s is not on this host (the state was lost "
                        "once?): it can't be verified before it is deployed anew",
                        release);
        if (r < 0)
                return r;
        r = open_releases(v, reterr);
        if (r < 0)
                return r;
        v->tree_fd = dir_open_at(v->releases_fd, release);
        return v->tree_fd < 0 ? fail_errno(reterr, v->tree_fd,
                                           "can't open %s/releases/%s, which is to be a directory",
                                           v->app->root, release)
                              : 0;
}

/* Comparing */

static bool add_text(cJSON *object, const char *name, const char *value)
{
        _cleanup_free_ char *clean = value ? strdup(value) : NULL;

        if (!value)
                return true;
        return clean && cJSON_AddStringToObject(object, name, text_clean(clean));
}

static void on_drift(const Drift *d, void *userdata)
{
        Verification *v = userdata;
        cJSON *object;

        if (v->n_drift++ >= N_NAMED_MAX)
                return;
        object = cJSON_CreateObject();
        if (!object || !cJSON_AddItemToArray(v->drift, object)) {
                cJSON_Delete(object);
                v->out_of_memory = true;
                return;
        }
        if (!add_text(object, "path", d->path) ||
            !add_text(object, "kind", drift_kind_to_string(d->kind)) ||
            !add_text(object, "expected", d->expected) || !add_text(object, "found", d->found))
                v->out_of_memory = true;
}

static void on_progress(size_t n_files, uint64_t n_bytes, void *userdata)
{
        Verification *v = userdata;

        v->n_files = n_files;
        v->n_bytes = n_bytes;
        progress_update(n_bytes, v->total_bytes, v->progress);
}

static uint64_t content_bytes(const Index *index)
{
        uint64_t bytes = 0;

        for (size_t n = 0; n < index_n_files(index); n++)
                bytes += index_file(index, n)->size_bytes;
        return bytes;
}

static int compare(Verification *v, char **reterr)
{
        VerifyOptions options = { .activate = &v->installed->activate,
                                  .uid = getuid(),
                                  .gid = getgid(),
                                  .drift = on_drift,
                                  .progress = on_progress,
                                  .userdata = v };
        Identity owner;
        int r = arg_user ? 0 : identity_lookup("slipway-unpack", &owner, reterr);

        if (r < 0)
                return r;
        if (!arg_user) {
                options.uid = owner.uid;
                options.gid = owner.gid;
        }
        v->drift = cJSON_CreateArray();
        if (!v->drift)
                return -ENOMEM;
        v->total_bytes = content_bytes(v->index);
        r = progress_new("verifying", &v->progress);
        if (r < 0)
                return r;
        r = verify_tree(v->tree_fd, v->index, &options, reterr);
        v->progress = progress_free(v->progress);
        return r >= 0 && v->out_of_memory ? -ENOMEM : r;
}

/* Telling */

static int print_json(Verification *v)
{
        _cleanup_json_ cJSON *o = cJSON_CreateObject();

        if (!o || !cJSON_AddStringToObject(o, "app", v->app->app) ||
            !cJSON_AddStringToObject(o, "release", v->installed->release) ||
            !cJSON_AddBoolToObject(o, "whole", v->n_drift == 0) ||
            !cJSON_AddNumberToObject(o, "entries", v->n_files) ||
            !cJSON_AddNumberToObject(o, "bytes", v->n_bytes) ||
            !cJSON_AddNumberToObject(o, "differences", v->n_drift) ||
            !cJSON_AddItemToObject(o, "drift", v->drift))
                return ADMIN_FAILED;
        v->drift = NULL;
        return admin_print_json(o);
}

static int print_table(const Verification *v)
{
        static const char *const titles[] = { "PATH", "DIFFERS IN", "SIGNED", "FOUND", NULL };
        _cleanup_(table_freep) Table *table = NULL;
        const cJSON *d;
        int r = table_new(titles, &table);

        cJSON_ArrayForEach(d, v->drift)
        {
                const char *cells[] = { json_member_text(d, "path"), json_member_text(d, "kind"),
                                        json_member_text(d, "expected"),
                                        json_member_text(d, "found") };
                if (r >= 0)
                        r = table_add(table, cells);
        }
        if (r < 0)
                return r;
        table_print(table, stdout);
        if (v->n_drift > N_NAMED_MAX)
                printf("... and %zu more\n", v->n_drift - N_NAMED_MAX);
        return 0;
}

static int print_text(const Verification *v)
{
        const char *app = v->app->app, *release = v->installed->release;
        char bytes[BYTES_TEXT_SIZE];

        if (v->n_drift == 0) {
                printf("%s: release %s is as it was signed: %zu entries, %s\n", app, release,
                       v->n_files, bytes_format(v->n_bytes, bytes));
                return ADMIN_OK;
        }
        if (print_table(v) < 0)
                return ADMIN_FAILED;
        (void) fflush(stdout); /* before what goes to stderr; admin_main() looks for errors */
        log_error("%s: release %s is not as it was signed: %zu %s; to have it anew: remove "
                  "%s/releases/%s, the next poll deploys it again if it is live",
                  app, release, v->n_drift, v->n_drift == 1 ? "difference" : "differences",
                  v->app->root, release);
        return ADMIN_OK;
}

int verb_verify(char **args)
{
        _cleanup_(verification_done) Verification v = { .state_dir_fd = -EBADF,
                                                        .releases_fd = -EBADF,
                                                        .tree_fd = -EBADF };
        _cleanup_free_ char *err = NULL;
        int r = load_app(&v, args[0], &err), code;

        if (r >= 0)
                r = load_release(&v, args[1], &err);
        if (r >= 0)
                r = compare(&v, &err);
        if (r < 0) {
                log_error("cannot verify '%s': %s", args[0], err_text(r, err));
                return admin_exit_code(r);
        }
        code = arg_json ? print_json(&v) : print_text(&v);
        return code == ADMIN_OK && v.n_drift > 0 ? ADMIN_DRIFT : code;
}
