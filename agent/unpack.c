/* SPDX-License-Identifier: Apache-2.0 */
#include "unpack.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "err.h"
#include "fd.h"
#include "frame-reader.h"
#include "log.h"
#include "manifest.h"
#include "message.h"
#include "name.h"
#include "parallel.h"
#include "room.h"
#include "shared-link.h"
#include "take-over.h"
#include "tree-writer.h"

/* An index that is to be read: of the release itself, or of one that is here. */
typedef struct Load {
        Message order;
        int fd;
        Index *index;
        int result;
        char *err;
} Load;

typedef struct Unpack {
        int socket_fd, releases_fd, staging_fd, artifact_fd;
        char *staging;
        Load loads[1 + SEEDS_MAX]; /* the first is the release's own */
        size_t n_loads;
        Index *index;
        SharedPaths links;
        Seed seeds[SEEDS_MAX];
        size_t n_seeds;
        Delta *delta;
        TakenOver taken;
        uint64_t tree_bytes, own_bytes; /* on the disk */
        bool has_links, wants;
} Unpack;

static void load_done(Load *l)
{
        fd_close(l->fd);
        index_free(l->index);
        free(l->err);
}

static void unpack_done(Unpack *u)
{
        for (size_t i = 0; i < u->n_loads; i++)
                load_done(&u->loads[i]);
        fd_close(u->releases_fd);
        fd_close(u->staging_fd);
        fd_close(u->artifact_fd);
        free(u->staging);
        taken_over_done(&u->taken);
        delta_free(u->delta);
        for (size_t i = 0; i < u->n_seeds; i++)
                seed_done(&u->seeds[i]);
        index_free(u->index);
        shared_paths_done(&u->links);
}

static bool is_file_name(const char *s)
{
        return tree_path_is_valid(s) && !strchr(s, '/');
}

static int receive(int socket_fd, Message *ret, int *ret_fd, char **reterr)
{
        int r = message_receive(socket_fd, ret, ret_fd);

        if (r == 0)
                return fail(reterr, -ECONNRESET, "slipwayd is gone");
        return r < 0 ? fail_errno(reterr, r, "cannot receive from slipwayd") : 0;
}

/* The next message, which must have a descriptor. */
static int receive_with_fd(int socket_fd, Message *ret, int *ret_fd, char **reterr)
{
        _cleanup_close_ int fd = -EBADF;
        int r = receive(socket_fd, ret, &fd, reterr);

        if (r < 0)
                return r;
        if (fd < 0)
                return fail(reterr, -EPROTO, "slipwayd sent message %u without a descriptor",
                            ret->type);
        *ret_fd = TAKE_FD(fd);
        return 0;
}

static int expect_type(const Message *m, MessageType type, char **reterr)
{
        return m->type == type ? 0
                               : fail(reterr, -EPROTO, "slipwayd sent message %u instead of %u",
                                      m->type, type);
}

/* Reads the index into memory of our own before it is checked: the file may belong to others. */
static int load_index(const Message *m, int fd, Index **ret, char **reterr)
{
        Sha256 d;
        int r;

        if (m->size > INDEX_SIZE_MAX)
                return fail(reterr, -EFBIG, "index is larger than the limit");
        _cleanup_free_ void *data = malloc(m->size + 1);
        if (!data)
                return -ENOMEM;
        r = fd_pread_exactly(fd, data, m->size, 0);
        if (r < 0)
                return fail_errno(reterr, r, "cannot read the index");
        r = sha256(data, m->size, &d);
        if (r < 0)
                return r;
        if (!sha256_equal(&d, &m->sha256))
                return fail(reterr, -EKEYREJECTED, "index is not the one that was signed");
        return index_parse(data, m->size, ret, reterr);
}

/* Staging stays closed to others until it is whole. */
static int make_staging(Unpack *u, const char *name, char **reterr)
{
        if (!is_file_name(name))
                return fail(reterr, -EPROTO, "'%s' can't be the name of a directory", name);
        /* An earlier run that could not remove its own directory has emptied it. */
        if (mkdirat(u->releases_fd, name, 0700) < 0 &&
            (errno != EEXIST || unlinkat(u->releases_fd, name, AT_REMOVEDIR) < 0 ||
             mkdirat(u->releases_fd, name, 0700) < 0))
                return fail_errno(reterr, -errno, "cannot make the directory '%s' for the release",
                                  name);
        u->staging = strdup(name);
        if (!u->staging)
                return -ENOMEM;
        u->staging_fd = dir_open_at(u->releases_fd, name);
        return u->staging_fd < 0
                       ? fail_errno(reterr, u->staging_fd, "cannot open the directory '%s'", name)
                       : 0;
}

static int load_links(const Message *m, int fd, SharedPaths *ret, char **reterr)
{
        int r = shared_links_unpack(fd, m->size, ret);

        return r < 0 ? fail_errno(reterr, r, "cannot read the list of links") : 0;
}

static int take_links(Unpack *u, const Message *m, int fd, char **reterr)
{
        u->has_links = true;
        return load_links(m, fd, &u->links, reterr);
}

static int judge_links(const Unpack *u, char **reterr)
{
        int r = 0;

        for (size_t i = 0; r >= 0 && i < u->links.n_paths; i++)
                r = shared_link_judge(u->index, u->links.paths[i], reterr);
        return r;
}

static void add_load(Unpack *u, const Message *m, int *fd)
{
        u->loads[u->n_loads++] = (Load){ .order = *m, .fd = TAKE_FD(*fd) };
}

static int take_seed(Unpack *u, const Message *m, int *fd, char **reterr)
{
        if (u->n_loads == ELEMENTSOF(u->loads) || !is_file_name(m->text))
                return fail(reterr, -EPROTO, "slipwayd named too many releases, or '%s'", m->text);
        add_load(u, m, fd);
        return 0;
}

/* The orders after INDEX, up to MESSAGE_RELEASES. */
static int take_place(Unpack *u, Message *m, char **reterr)
{
        for (;;) {
                _cleanup_close_ int fd = -EBADF;
                int r = receive_with_fd(u->socket_fd, m, &fd, reterr);

                if (r >= 0 && m->type == MESSAGE_LINKS && !u->has_links)
                        r = take_links(u, m, fd, reterr);
                else if (r >= 0 && m->type == MESSAGE_SEED)
                        r = take_seed(u, m, &fd, reterr);
                else {
                        if (r >= 0)
                                r = expect_type(m, MESSAGE_RELEASES, reterr);
                        if (r >= 0)
                                u->releases_fd = TAKE_FD(fd);
                        return r;
                }
                if (r < 0)
                        return r;
        }
}

static int load(void *worker, size_t n, char **reterr)
{
        Unpack *u = worker;
        Load *l = &u->loads[n];

        (void) reterr;
        l->result = load_index(&l->order, l->fd, &l->index, &l->err);
        l->fd = fd_close(l->fd);
        return l->result == -ENOMEM ? -ENOMEM : 0;
}

/* One that is not as it should be, or whose tree is not there, is of no use, and no harm. */
static int add_seed(Unpack *u, Load *l)
{
        _cleanup_close_ int dir_fd = -EBADF;

        if (l->result < 0) {
                log_warning("can't take anything from release %s: %s", l->order.text,
                            err_text(l->result, l->err));
                return 0;
        }
        dir_fd = dir_open_at(u->releases_fd, l->order.text);
        if (dir_fd < 0)
                return 0;
        u->seeds[u->n_seeds++] = (Seed){ .name = strdup(l->order.text),
                                         .index = TAKE_PTR(l->index),
                                         .dir_fd = TAKE_FD(dir_fd),
                                         .may_link = l->order.offset == 1 };
        return u->seeds[u->n_seeds - 1].name ? 0 : -ENOMEM;
}

/* All at once: each takes some milliseconds, and nothing else can be done meanwhile. */
static int load_indexes(Unpack *u, char **reterr)
{
        const ParallelWork work = { load, u->n_loads, 1 };
        void *workers[PARALLEL_THREADS_MAX];
        Load *own = &u->loads[0];
        int r;

        for (size_t i = 0; i < ELEMENTSOF(workers); i++)
                workers[i] = u;
        r = parallel_do(&work, workers, parallel_n_workers(&work), reterr);
        if (r < 0)
                return r;
        if (own->result < 0)
                return fail(reterr, own->result, "%s", err_text(own->result, own->err));
        u->index = TAKE_PTR(own->index);
        for (size_t i = 1; r >= 0 && i < u->n_loads; i++)
                r = add_seed(u, &u->loads[i]);
        return r;
}

static int compare(Unpack *u)
{
        const Index *indexes[SEEDS_MAX];

        for (size_t i = 0; i < u->n_seeds; i++)
                indexes[i] = u->seeds[i].index;
        return delta_new(u->index, indexes, u->n_seeds, &u->delta);
}

/* As far as is known before anything is taken over. */
static bool will_be_made(size_t n, void *userdata)
{
        const Unpack *u = userdata;
        DeltaSource source;

        const IndexFile *f = index_file(u->index, n);

        return !delta_file(u->delta, n, &source) || !u->seeds[source.seed].may_link ||
               source.file->mode != f->mode || source.file->mtime_sec != f->mtime_sec;
}

static bool will_be_written(size_t n, void *userdata)
{
        const Unpack *u = userdata;
        DeltaSource source;

        return index_file(u->index, n)->type == FILE_REGULAR && !delta_file(u->delta, n, &source);
}

static bool is_not_shared(size_t n, void *userdata)
{
        const Unpack *u = userdata;

        return !u->taken.linked[n];
}

static int tell_needs(Unpack *u, char **reterr)
{
        Message m = { .type = MESSAGE_NEEDS };
        int r = room_measure(u->index, u->releases_fd, will_be_made, u, &m.size, &m.offset);

        if (r >= 0)
                r = message_send(u->socket_fd, &m, -1);
        return r < 0 ? fail_errno(reterr, r, "cannot say what the release needs") : 0;
}

static int await_take(Unpack *u, char **reterr)
{
        _cleanup_close_ int fd = -EBADF;
        Message m;
        int r = receive(u->socket_fd, &m, &fd, reterr);

        return r < 0 ? r : expect_type(&m, MESSAGE_TAKE, reterr);
}

/* The orders after INDEX, up to the staging directory. */
static int take_orders(Unpack *u, char **reterr)
{
        Message place;
        int r = take_place(u, &place, reterr);

        if (r >= 0)
                r = load_indexes(u, reterr);
        if (r >= 0)
                r = judge_links(u, reterr);
        if (r >= 0)
                r = compare(u);
        if (r >= 0)
                r = tell_needs(u, reterr);
        if (r >= 0)
                r = await_take(u, reterr);
        return r < 0 ? r : make_staging(u, place.text, reterr);
}

/* Everything that needs the installed releases. */
static int take_over(Unpack *u, char **reterr)
{
        int r = tree_prepare(u->staging_fd, u->index, reterr);

        if (r >= 0)
                r = take_over_files(u->index, u->seeds, u->staging_fd, u->delta, &u->taken, reterr);
        if (r < 0)
                return r;
        delta_settle(u->delta);
        r = take_over_pieces(u->index, u->seeds, u->delta, &u->taken, reterr);
        for (size_t i = 0; i < u->n_seeds; i++)
                u->seeds[i].dir_fd = fd_close(u->seeds[i].dir_fd);
        return r;
}

static void describe_lost(const TakenOver *t, char ret[static MESSAGE_TEXT_MAX + 1])
{
        if (t->n_lost > 0)
                (void) snprintf(ret, MESSAGE_TEXT_MAX + 1,
                                "%zu files or parts of files of installed releases are missing or "
                                "not what was signed, the first is %s",
                                t->n_lost, t->first_lost);
}

/* While the file system can still be asked. */
static int measure(Unpack *u, uint64_t *ret_rest)
{
        uint64_t n_inodes;
        int r = room_measure(u->index, u->staging_fd, NULL, NULL, &u->tree_bytes, &n_inodes);

        if (r >= 0)
                r = room_measure(u->index, u->staging_fd, is_not_shared, u, &u->own_bytes,
                                 &n_inodes);
        if (r >= 0)
                r = room_measure(u->index, u->staging_fd, will_be_written, u, ret_rest, &n_inodes);
        return r;
}

static int tell_wanted(Unpack *u, char **reterr)
{
        Message m = { .type = MESSAGE_WANTED, .result = u->taken.n_files };
        _cleanup_(range_set_freep) RangeSet *ranges = NULL;
        _cleanup_close_ int fd = -EBADF;
        size_t size;
        int r = delta_ranges(u->delta, &ranges);

        if (r >= 0)
                r = fd = range_set_pack(ranges, &size);
        if (r >= 0)
                r = measure(u, &m.offset);
        if (r >= 0) {
                describe_lost(&u->taken, m.text);
                u->wants = range_set_n(ranges) > 0;
                r = message_send(u->socket_fd, &m, fd);
        }
        return r < 0 ? fail_errno(reterr, r, "cannot say what of the release is wanted") : 0;
}

static int await_artifact(Unpack *u, char **reterr)
{
        Message m;
        int r = receive_with_fd(u->socket_fd, &m, &u->artifact_fd, reterr);

        if (r >= 0)
                r = expect_type(&m, MESSAGE_ARTIFACT, reterr);
        if (r >= 0 && m.size != index_artifact_size(u->index))
                r = fail(reterr, -EBADMSG, "artifact and index of the release differ in size");
        return r;
}

static int next_frame(void *userdata, const void **ret_data, size_t *ret_size, char **reterr)
{
        return frame_reader_next(userdata, ret_data, ret_size, reterr);
}

static int write_tree(Unpack *u, char **reterr)
{
        const FramePlan plan = { .index = u->index,
                                 .delta = u->delta,
                                 .piece_fds = u->taken.frame_fds,
                                 .artifact_fd = u->artifact_fd };
        _cleanup_(frame_reader_freep) FrameReader *frames = NULL;
        int r = frame_reader_new(u->socket_fd, &plan, &frames);

        if (r < 0)
                return r;
        return tree_write(u->staging_fd, u->index, u->delta, next_frame, frames, reterr);
}

static int make_links(const SharedPaths *links, int tree_fd, char **reterr)
{
        _cleanup_(beneath_freep) Beneath *tree = NULL;
        int r = beneath_new(tree_fd, &tree);

        for (size_t i = 0; r >= 0 && i < links->n_paths; i++)
                r = shared_link_make(tree, links->paths[i], reterr);
        return r;
}

/* Nothing may point to the release before all of it is on the disk. */
static int finish_staging(Unpack *u, char **reterr)
{
        if (fchmod(u->staging_fd, 0755) < 0)
                return fail_errno(reterr, -errno, "cannot open up the new release");
        if (syncfs(u->staging_fd) < 0 || fsync(u->releases_fd) < 0)
                return fail_errno(reterr, -errno, "cannot sync the new release to the disk");
        return 0;
}

static int unpack(Unpack *u, unpack_tighten_t tighten, char **reterr)
{
        int r = take_orders(u, reterr);

        if (r >= 0)
                r = take_over(u, reterr);
        if (r >= 0)
                r = tell_wanted(u, reterr);
        if (r >= 0 && tighten)
                r = tighten(u->releases_fd, u->staging_fd, reterr);
        if (r >= 0 && u->wants)
                r = await_artifact(u, reterr);
        if (r >= 0)
                r = write_tree(u, reterr);
        if (r >= 0)
                r = make_links(&u->links, u->staging_fd, reterr);
        return r < 0 ? r : finish_staging(u, reterr);
}

/* slipwayd could not be told. */
static int answered(int r, char **reterr)
{
        return r < 0 ? fail_errno(reterr, r, "cannot answer to slipwayd") : 0;
}

static int unpack_and_answer(int socket_fd, const Message *m, int *index_fd,
                             unpack_tighten_t tighten, char **reterr)
{
        _cleanup_(unpack_done) Unpack u = {
                .socket_fd = socket_fd,
                .releases_fd = -EBADF,
                .staging_fd = -EBADF,
                .artifact_fd = -EBADF,
        };
        Message done = { .type = MESSAGE_UNPACKED, .id = m->id };
        _cleanup_free_ char *err = NULL;
        int r;

        add_load(&u, m, index_fd);
        r = unpack(&u, tighten, &err);
        if (r < 0 && u.staging) {
                int q = remove_tree_at(u.releases_fd, u.staging);
                if (q < 0) {
                        _cleanup_free_ char *why = TAKE_PTR(err);
                        r = fail(&err, r, "%s (and '%s' can't be removed: %s)", err_text(r, why),
                                 u.staging, strerror(-q));
                }
        }
        done.result = MIN(r, 0);
        done.size = u.tree_bytes;
        done.offset = u.own_bytes;
        if (r < 0)
                (void) stpncpy(done.text, err_text(r, err), MESSAGE_TEXT_MAX);
        return answered(message_send(socket_fd, &done, -1), reterr);
}

/* In a release that is there. */
static int link_release(int socket_fd, const SharedPaths *links, char **reterr)
{
        _cleanup_close_ int releases_fd = -EBADF, tree_fd = -EBADF;
        Message m;
        int r = receive_with_fd(socket_fd, &m, &releases_fd, reterr);

        if (r >= 0)
                r = expect_type(&m, MESSAGE_RELEASES, reterr);
        if (r < 0)
                return r;
        if (!is_file_name(m.text))
                return fail(reterr, -EPROTO, "'%s' can't be the name of a release", m.text);
        tree_fd = dir_open_at(releases_fd, m.text);
        if (tree_fd < 0)
                return fail_errno(reterr, tree_fd, "cannot open release '%s'", m.text);
        r = make_links(links, tree_fd, reterr);
        if (r >= 0 && syncfs(tree_fd) < 0)
                r = fail_errno(reterr, -errno, "cannot sync the links of release '%s'", m.text);
        return r;
}

static int link_and_answer(int socket_fd, const Message *m, int fd, char **reterr)
{
        _cleanup_(shared_paths_done) SharedPaths links = {};
        _cleanup_free_ char *err = NULL;
        int r = load_links(m, fd, &links, &err);

        if (r >= 0)
                r = link_release(socket_fd, &links, &err);
        return answered(message_reply(socket_fd, MESSAGE_LINKED, m->id, MIN(r, 0),
                                      r < 0 ? err_text(r, err) : NULL),
                        reterr);
}

static int remove_and_answer(int socket_fd, const Message *m, int releases_fd, char **reterr)
{
        _cleanup_free_ char *err = NULL;
        int r = -EPROTO;

        if (is_file_name(m->text))
                r = remove_tree_at(releases_fd, m->text);
        if (r < 0)
                r = fail_errno(&err, r, "cannot remove '%s'", m->text);
        return answered(message_reply(socket_fd, MESSAGE_REMOVED, m->id, MIN(r, 0),
                                      r < 0 ? err_text(r, err) : m->text),
                        reterr);
}

static int out_of_turn(const Message *m, char **reterr)
{
        return fail(reterr, -EPROTO, "slipwayd sent message %u out of turn", m->type);
}

/* m and fd are the first order; takes fd. */
static int remove_until_closed(int socket_fd, Message *m, int fd, char **reterr)
{
        for (;;) {
                _cleanup_close_ int releases_fd = fd;
                if (m->type != MESSAGE_REMOVE || releases_fd < 0)
                        return out_of_turn(m, reterr);
                int r = remove_and_answer(socket_fd, m, releases_fd, reterr);
                if (r < 0)
                        return r;
                r = message_receive(socket_fd, m, &fd);
                if (r <= 0)
                        return r < 0 ? fail_errno(reterr, r, "cannot receive from slipwayd") : 0;
        }
}

int unpack_run(int socket_fd, unpack_tighten_t tighten, char **reterr)
{
        _cleanup_close_ int fd = -EBADF;
        Message m;
        int r = receive(socket_fd, &m, &fd, reterr);

        if (r < 0)
                return r;
        if (m.type == MESSAGE_INDEX && fd >= 0)
                return unpack_and_answer(socket_fd, &m, &fd, tighten, reterr);
        if (m.type == MESSAGE_LINKS && fd >= 0)
                return link_and_answer(socket_fd, &m, fd, reterr);
        return remove_until_closed(socket_fd, &m, TAKE_FD(fd), reterr);
}
