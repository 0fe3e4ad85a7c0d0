/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

#include "beneath.h"
#include "delta.h"
#include "err.h"
#include "fd.h"
#include "log.h"
#include "name.h"
#include "pack.h"
#include "progress.h"
#include "provenance-object.h"
#include "publication.h"
#include "release-object.h"
#include "repack.h"
#include "result.h"
#include "source.h"
#include "spec.h"
#include "statement.h"
#include "tree.h"
#include "verbs.h"
#include "workspace.h"

#define SOURCE_TIME_MAX ((UINT64_C(1) << 33) - 1) /* see PackOptions */

/* What is to be released, and the room to work in. */
typedef struct Build {
        Workspace *workspace;
        int tree_fd, artifact_fd;
        Tree *tree;
        char *directory; /* where git is asked */
        Spec spec;
        Source source;
        uint64_t time_sec, started_sec;
        uint64_t level; /* see PackOptions */
        char *builder;  /* a URI */
        char *id;       /* NULL until it is known */
        Index *predecessor;
        const char *before; /* the channel's release; NULL: the predecessor is not that */
        PackResult packed;
} Build;

static void build_done(Build *b)
{
        pack_result_done(&b->packed);
        index_free(b->predecessor);
        source_done(&b->source);
        spec_done(&b->spec);
        free(b->id);
        free(b->builder);
        free(b->directory);
        tree_free(b->tree);
        fd_close(b->tree_fd);
        fd_close(b->artifact_fd);
        workspace_free(b->workspace);
}

/* The archive's tree, unpacked into the workspace. */
static int open_archive(const char *path, int archive_fd, Build *b, char **reterr)
{
        const char *slash = strrchr(path, '/');
        int r;

        b->directory = slash ? strndup(path, MAX(slash - path, (ptrdiff_t) 1)) : strdup(".");
        if (!b->directory)
                return -ENOMEM;
        if (mkdirat(workspace_fd(b->workspace), "tree", 0755) < 0)
                return fail_errno(reterr, -errno, "can't make a temporary directory");
        b->tree_fd = dir_open_at(workspace_fd(b->workspace), "tree");
        if (b->tree_fd < 0)
                return b->tree_fd;
        log_info("Unpacking %s.", path);
        r = repack_unpack(archive_fd, b->tree_fd, path, reterr);
        return r == -ENOSPC ? fail_prefix(reterr, r, "TMPDIR has too little room") : r;
}

static int open_tree(const char *path, Build *b, char **reterr)
{
        _cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
        struct stat st;

        if (fd < 0 || fstat(fd, &st) < 0)
                return fail_errno(reterr, -errno, "can't open %s", path);
        if (S_ISREG(st.st_mode))
                return open_archive(path, fd, b, reterr);
        if (!S_ISDIR(st.st_mode))
                return fail(reterr, -EINVAL, "%s is neither a directory nor an archive", path);
        b->tree_fd = TAKE_FD(fd);
        b->directory = strdup(path);
        return b->directory ? 0 : -ENOMEM;
}

static int load_spec(const Arguments *a, Build *b, char **reterr)
{
        int r;

        if (a->spec)
                return spec_load(AT_FDCWD, a->spec, &b->spec, reterr);
        r = spec_load(b->tree_fd, SPEC_NAME, &b->spec, reterr);
        if (r != -ENOENT) {
                if (r >= 0)
                        log_info("Using the %s in %s.", SPEC_NAME, a->operands.items[0]);
                return r;
        }
        log_warning("There is no %s in %s and no --spec: instances will switch to the release, but "
                    "restart nothing.",
                    SPEC_NAME, a->operands.items[0]);
        return spec_default(&b->spec, reterr);
}

static int scan(Build *b, char **reterr)
{
        int r = tree_scan(b->tree_fd, &b->tree, reterr);

        return r < 0 ? fail_prefix(reterr, r, "can't pack %s", b->directory) : 0;
}

static int find_source(const Arguments *a, Build *b, char **reterr)
{
        _cleanup_free_ char *problem = NULL;
        int r = source_collect(b->directory, getenv, &b->source, &b->time_sec, &problem, reterr);

        if (r < 0)
                return r;
        if (problem)
                log_warning("Git does not tell the commit of %s: %s", b->directory, problem);
        /* Without a commit's, one that is the same whenever the tree is packed. */
        if (b->time_sec == 0)
                b->time_sec = tree_newest_sec(b->tree);
        b->time_sec = MIN(b->time_sec, SOURCE_TIME_MAX);
        if (a->id)
                b->id = strdup(a->id);
        else if (b->source.commit)
                r = release_id_format(b->time_sec, b->source.commit, &b->id);
        return r < 0 ? r : (a->id && !b->id ? -ENOMEM : 0);
}

static int find_builder(const Arguments *a, Build *b, char **reterr)
{
        _cleanup_free_ char *found = NULL;
        int r;

        if (a->builder && !statement_uri_is_valid(a->builder))
                return fail(reterr, -EINVAL,
                            "--builder '%s' is not a URI, like https://ci.example/jobs/web",
                            a->builder);
        r = a->builder ? 0 : source_builder(getenv, &found);
        if (r < 0)
                return r;
        b->builder = statement_uri(a->builder ? a->builder : found ? found : BUILDER_LOCAL);
        return b->builder ? 0 : -ENOMEM;
}

/* The index whose mtimes unchanged files keep. A release of the same id comes first: the same
 * commit then gives the same bytes again, whatever was released in between. None is no hindrance.
 */
static int find_predecessor(const Publication *p, Build *b, char **reterr)
{
        _cleanup_free_ char *err = NULL;
        int r = STORE_ABSENT;

        if (b->id) {
                r = release_object_find_index(p->store, p->channel.app, b->id, &b->predecessor,
                                              &err);
                if (r == 0)
                        return 0;
        }
        if ((r == STORE_ABSENT || r == -EBADMSG) && p->head.current) {
                const Manifest *m = p->head.current->manifest;
                r = release_object_read_index(p->store, m, &b->predecessor, &err);
                if (r == 0) {
                        b->before = m->release;
                        return 0;
                }
        }
        if (r == -ENOENT || r == -EKEYREJECTED || r == -EBADMSG)
                log_warning("The index of the release before is not usable, so every file gets a "
                            "new time: %s",
                            err_text(r, err));
        else if (r < 0)
                return fail(reterr, r, "%s", err_text(r, err));
        return 0;
}

static int pack(const Publication *p, Build *b, char **reterr)
{
        _cleanup_(progress_freep) Progress *progress = NULL;
        int r = find_predecessor(p, b, reterr);

        if (r >= 0)
                r = progress_new("packing", &progress);
        if (r < 0)
                return r;
        const PackOptions options = {
                .tree = b->tree,
                .source_time_sec = b->time_sec,
                .level = b->level,
                .progress = progress_update,
                .userdata = progress,
        };
        b->artifact_fd = openat(workspace_fd(b->workspace), "artifact",
                                O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
        if (b->artifact_fd < 0)
                return fail_errno(reterr, -errno, "can't make a temporary file");
        r = pack_tree(b->tree_fd, &options, b->predecessor, b->artifact_fd, &b->packed, reterr);
        if (r < 0)
                return fail_prefix(reterr, r, "can't pack %s", b->directory);
        if (b->packed.n_files == 0)
                return fail(reterr, -EINVAL,
                            "there is nothing in it: an empty release would leave "
                            "instances without the application");
        return 0;
}

/* The host refuses it otherwise, and for good. */
static int check_unit_files(const Build *b, char **reterr)
{
        _cleanup_(beneath_freep) Beneath *tree = NULL;
        int r = beneath_new(b->tree_fd, &tree);

        for (size_t i = 0; i < b->spec.activate.n_unit_files && r >= 0; i++) {
                const char *path = b->spec.activate.unit_files[i], *name;
                struct stat st;

                r = beneath_parent(tree, path, &name);
                if (r >= 0 && fstatat(r, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
                        r = -errno;
                if (r == -ENOENT || r == -ENOTDIR || (r >= 0 && !S_ISREG(st.st_mode)))
                        return fail(reterr, -EINVAL,
                                    "\"unit_files\" names %s, which is no file in %s", path,
                                    b->directory);
        }
        return r < 0 ? fail_errno(reterr, r, "can't look for unit files in %s", b->directory) : 0;
}

static int choose_id(Build *b, char **reterr)
{
        char hex[SHA256_HEX_SIZE];
        int r = 0;

        if (!b->id)
                r = release_id_format(b->time_sec, sha256_to_hex(&b->packed.index_sha256, hex),
                                      &b->id);
        if (r >= 0 && !name_is_valid(b->id))
                r = fail(reterr, -EINVAL, "'%s' can't be the id of a release: give one with --id",
                         b->id);
        return r;
}

static void tell_packed(const Build *b, bool reused)
{
        char content[BYTES_TEXT_SIZE], artifact[BYTES_TEXT_SIZE];

        log_info("%s %s: %zu entries, %s, packed to %s%s%s.", reused ? "The store has" : "Uploaded",
                 b->id, b->packed.n_files, bytes_format(b->packed.content_bytes, content),
                 bytes_format(b->packed.artifact_size_bytes, artifact),
                 b->source.commit ? ", of commit " : "", strempty(b->source.commit));
}

/* What an instance fetches that has the release before, besides the index. */
static int find_fetch(const Build *b, uint64_t *ret_bytes, size_t *ret_n_requests, char **reterr)
{
        const Index *const seed = b->predecessor;
        _cleanup_(index_freep) Index *index = NULL;
        _cleanup_(delta_freep) Delta *delta = NULL;
        _cleanup_(range_set_freep) RangeSet *ranges = NULL;
        int r = index_parse(b->packed.index, b->packed.index_size_bytes, &index, reterr);

        if (r >= 0)
                r = delta_new(index, &seed, 1, &delta);
        if (r < 0)
                return r;
        delta_settle(delta);
        r = delta_ranges(delta, &ranges);
        if (r < 0)
                return r;
        *ret_bytes = range_set_bytes(ranges);
        *ret_n_requests = range_set_n(ranges);
        return 0;
}

static int tell_fetch(const Build *b, cJSON *result, char **reterr)
{
        char fetch[BYTES_TEXT_SIZE], artifact[BYTES_TEXT_SIZE];
        uint64_t bytes = 0;
        size_t n = 0;
        int r = b->before ? find_fetch(b, &bytes, &n, reterr) : 0;

        if (r < 0 || !b->before)
                return r;
        log_info("A host with release %s fetches %s in %zu request%s, of %s.", b->before,
                 bytes_format(bytes, fetch), n, n == 1 ? "" : "s",
                 bytes_format(b->packed.artifact_size_bytes, artifact));
        return result_add_uint(result, "fetch_bytes", bytes);
}

/* Hands over what the build has: spec and source. */
static int make_manifest(const char *app, Build *b, Manifest **ret)
{
        _cleanup_(manifest_freep) Manifest *m = calloc(1, sizeof(Manifest));

        if (!m)
                return -ENOMEM;
        *m = (Manifest){
                .app = strdup(app),
                .release = strdup(b->id),
                .source = b->source,
                .targets = b->spec.targets,
                .activate = b->spec.activate,
        };
        b->source = (Source){};
        b->spec = (Spec){};
        if (!m->app || !m->release)
                return -ENOMEM;
        int r = release_object_describe(&b->packed, m);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(m);
        return 0;
}

static int prepare(const Arguments *a, const Publication *p, Build *b, char **reterr)
{
        int r = find_builder(a, b, reterr);

        if (r >= 0)
                r = workspace_new(&b->workspace, reterr);
        if (r >= 0)
                r = open_tree(a->operands.items[0], b, reterr);
        if (r >= 0)
                r = load_spec(a, b, reterr);
        if (r >= 0)
                r = check_unit_files(b, reterr);
        if (r >= 0)
                r = scan(b, reterr);
        if (r >= 0)
                r = find_source(a, b, reterr);
        if (r >= 0)
                r = pack(p, b, reterr);
        if (r >= 0)
                r = choose_id(b, reterr);
        return r;
}

/* RELEASE_REUSED, 0 if artifact and index were uploaded. */
static int upload(const Publication *p, Build *b, Manifest *m, char **reterr)
{
        _cleanup_free_ char *provenance = NULL;
        int r, k;

        r = provenance_object_describe(p->store, &p->signers, b->builder, b->started_sec, m,
                                       &provenance, reterr);
        if (r >= 0)
                r = publication_check(p, m, reterr);
        if (r >= 0)
                r = release_object_upload(p->store, m, b->artifact_fd, &b->packed, reterr);
        if (r < 0 || !provenance)
                return r;
        k = provenance_object_create(p->store, provenance, m, reterr);
        return k < 0 ? k : r;
}

int verb_release(const Arguments *a, cJSON *result, char **reterr)
{
        _cleanup_(publication_done) Publication p = {};
        _cleanup_(build_done)
                Build b = { .tree_fd = -EBADF, .artifact_fd = -EBADF, .started_sec = now_sec() };
        _cleanup_(manifest_freep) Manifest *m = NULL;
        int r;

        if (a->level && arguments_number("level", a->level, PACK_LEVEL_MAX, &b.level, reterr) < 0)
                return PUBLISH_USAGE;
        r = publication_begin(a, a->channel, &p, reterr);
        if (r >= 0)
                r = prepare(a, &p, &b, reterr);
        if (r >= 0)
                r = make_manifest(a->app, &b, &m);
        if (r >= 0)
                r = upload(&p, &b, m, reterr);
        if (r < 0)
                return r;
        tell_packed(&b, r == RELEASE_REUSED);
        r = result_add_bool(result, "reused", r == RELEASE_REUSED);
        if (r >= 0)
                r = result_add_uint(result, "entries", b.packed.n_files);
        if (r >= 0)
                r = result_add_uint(result, "content_bytes", b.packed.content_bytes);
        if (r >= 0)
                r = tell_fetch(&b, result, reterr);
        return r < 0 ? r : publication_finish(&p, m, a, result, reterr);
}
